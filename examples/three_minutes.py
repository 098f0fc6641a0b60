"""Three minutes with the API: a seat, what happens at it, its risk, the next step.

rekindle serve                               # prints a key at the first start
REKINDLE_KEY=rk_… python examples/three_minutes.py
"""

import os
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from client import Client

SEAT = "acme/s-1"


def is_struggling(score: dict[str, Any]) -> bool:
    """Whether something goes wrong within the hour; features that are older know nothing of it."""
    return score["live_friction"] is not None and score["live_friction"]["is_struggling"]


def main() -> int:
    """Put a seat, send three quick closes, and ask what to do."""
    url, now = os.environ.get("REKINDLE_URL", "http://127.0.0.1:3000"), datetime.now(UTC)
    with Client(url, os.environ["REKINDLE_KEY"], purpose="three_minutes") as rekindle:
        rekindle.put_seat(
            SEAT,
            person_id="p-1",
            tool="m365_copilot",
            role="analyst",
            team="finance-1",
            assigned_at=(now - timedelta(days=20)).isoformat(),
        )
        quick_closes = [
            {
                "event_id": f"three-minutes-{now:%Y%m%d%H%M%S%f}-{number}",
                "seat_id": SEAT,
                "kind": "session",
                "occurred_at": (now - timedelta(minutes=number)).isoformat(),
                "value": 5,
                "completed": False,
            }
            for number in range(3)
        ]
        print([item["status"] for item in rekindle.send(quick_closes)])
        (score,) = rekindle.score(SEAT, explain=True)
        for _ in range(20):  # an event is in the features within seconds
            if is_struggling(score):
                break
            time.sleep(0.5)
            (score,) = rekindle.score(SEAT, explain=True)
        print(f"risk within 28 days: {score['risk']['28']:.0%} ({score['model']['method']})")
        print("struggling now:", is_struggling(score))
        (decision,) = rekindle.decide(SEAT)
        print(f"next step: {decision['title']} (drawn with probability {decision['probability']:.2f})")
        print("receipt:", rekindle.decision(decision["decision_id"])["decision_id"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
