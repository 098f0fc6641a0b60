"""Ten minutes of mixed calls: does the service keep what it should have given back?

    python benchmarks/soak_api.py [--minutes 10] [--seats 500] [--home DIR] [--clients 8] [--pause 0]

Scores, decisions, events, receipts and the same call twice, from so many connections. Every ten seconds the memory and the
open files of the worker are noted. Exit status 1 where, after the first two minutes, memory grew by more than 5 % or open
files by more than 5, or a call failed. --home: a state folder that has a model, such as the demo's, which is written to;
else simulated seats without one. --pause: seconds that each connection waits between calls.
"""

import argparse
import random
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import psutil

sys.path.insert(0, str(Path(__file__).parent))
from bench_freshness import URL, prepare, service

from features.keys import Keys, Scope
from features.log import EventLog

WARM_SECONDS = 120  # caches fill until then: model, seats' rows, SQLite's pages


def main() -> int:
    """Prepare, load, look."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seats", type=int, default=500)
    parser.add_argument("--home", type=Path)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--pause", type=float, default=0.0)
    arguments = parser.parse_args()
    with _home(arguments.home) as home:
        seats = prepare(home, arguments.seats, 60)[0] if arguments.home is None else _seats_of(home)
        log = EventLog(f"sqlite:///{home / 'log.db'}")
        _, key = Keys(log.database).create(name="soak", scopes=tuple(Scope), now=datetime.now(UTC), rate_per_second=1e6)
        log.close()
        stop, failed, calls = threading.Event(), [], [0] * arguments.clients
        with service(home, workers=1) as process:
            workers = [one for one in psutil.Process(process.pid).children(recursive=True) if "--fd" in one.cmdline()]

            def load(number: int) -> None:
                chance, receipts = random.Random(number), list[str]()
                with httpx.Client(base_url=URL, headers={"Authorization": f"Bearer {key}"}, timeout=60) as client:
                    while not stop.wait(arguments.pause):
                        calls[number] += 1
                        for answer in _one_call(client, chance, seats, receipts, f"soak-{time.time_ns()}-{number}"):
                            if not answer.is_success:
                                failed.append(f"{answer.status_code} {answer.text[:200]}")

            threads = [threading.Thread(target=load, args=(number,)) for number in range(arguments.clients)]
            for thread in threads:
                thread.start()
            noted: list[tuple[float, float, int]] = []
            started = time.monotonic()
            while time.monotonic() - started < arguments.minutes * 60:
                time.sleep(10)
                memory = sum(worker.memory_info().rss for worker in workers) / 2**20
                noted.append((time.monotonic() - started, memory, sum(worker.num_fds() for worker in workers)))
                print(f"{noted[-1][0]:5.0f} s  {memory:7.1f} MiB  {noted[-1][2]} files  {sum(calls)} calls", flush=True)
            stop.set()
            for thread in threads:
                thread.join()
        warm = next((one for one in noted if one[0] >= min(WARM_SECONDS, arguments.minutes * 15)), noted[0])
        grew, files = noted[-1][1] / warm[1] - 1, noted[-1][2] - warm[2]
        print(
            f"{sum(calls)} calls, {len(failed)} failed {failed[:1]}; memory {grew:+.1%}, files {files:+d} since {warm[0]:.0f} s"
        )
        return int(bool(failed) or grew > 0.05 or files > 5)


def _one_call(
    client: httpx.Client, chance: random.Random, seats: list[str], receipts: list[str], name: str
) -> Iterator[httpx.Response]:
    seat = chance.choice(seats)
    event = {"event_id": name, "seat_id": seat, "kind": "prompt", "occurred_at": datetime.now(UTC).isoformat()}
    match chance.choice(["score", "reasons", "decide", "events", "twice", "receipt"]):
        case "score":
            yield client.post("/v1/score", json={"seats": [seat]})
        case "reasons":
            yield client.post("/v1/score", json={"seats": [seat], "reasons": "shap"})
        case "decide":
            answer = client.post("/v1/decide", json={"seats": [seat]})
            yield answer
            receipts[:] = [
                found["decision_id"] for found in answer.json()["items"] if "decision_id" in found
            ] or receipts
        case "events":
            yield client.post("/v1/events", json={"events": [event]})
        case "twice":
            for _ in range(2):
                yield client.post("/v1/events", json={"events": [event]}, headers={"Idempotency-Key": name})
        case _ if receipts:  # none before the first decision
            yield client.get(f"/v1/decisions/{receipts[0]}")


@contextmanager
def _home(given: Path | None) -> Iterator[Path]:
    if given is not None:
        yield given
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def _seats_of(home: Path) -> list[str]:
    log = EventLog(f"sqlite:///{home / 'log.db'}")
    seats, tomorrow = log.seats().to_pylist(), datetime.now(UTC) + timedelta(days=1)
    log.close()
    return [seat["seat_id"] for seat in seats if seat["removed_at"] is None or seat["removed_at"] > tomorrow]


if __name__ == "__main__":
    sys.exit(main())
