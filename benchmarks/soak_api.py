"""Ten minutes of mixed calls: does the service keep what it should have given back?

    python benchmarks/soak_api.py [--minutes 10] [--seats 500]

Scores, decisions, events and receipts from eight connections. Every ten seconds the memory and the open files of the worker are
noted. Exit status 1 where, after the first minute, memory grew by more than 5 % or open files by more than 5, or a call failed.
"""

import argparse
import random
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import httpx
import psutil

sys.path.insert(0, str(Path(__file__).parent))
from bench_freshness import URL, prepare, service

from features.keys import Keys, Scope
from features.log import EventLog


def main() -> int:
    """Prepare, load, look."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seats", type=int, default=500)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        seats = prepare(home, arguments.seats, 60)
        log = EventLog(f"sqlite:///{home / 'log.db'}")
        _, key = Keys(log.database).create(name="soak", scopes=tuple(Scope), now=datetime.now(UTC), rate_per_second=1e6)
        log.close()
        stop, failed, calls = threading.Event(), [], [0] * 8
        with service(home) as process:
            workers = [one for one in psutil.Process(process.pid).children(recursive=True) if "--fd" in one.cmdline()]

            def load(number: int) -> None:
                chance = random.Random(number)
                with httpx.Client(base_url=URL, headers={"Authorization": f"Bearer {key}"}, timeout=30) as client:
                    while not stop.is_set():
                        seat, calls[number] = chance.choice(seats), calls[number] + 1
                        event = {
                            "event_id": f"soak-{number}-{calls[number]}",
                            "seat_id": seat,
                            "kind": "prompt",
                            "occurred_at": datetime.now(UTC).isoformat(),
                        }
                        path, body = chance.choice(
                            [
                                ("/v1/score", {"seats": [seat]}),
                                ("/v1/score", {"seats": [seat], "reasons": "shap"}),
                                ("/v1/decide", {"seats": [seat]}),
                                ("/v1/events", {"events": [event]}),
                            ]
                        )
                        answer = client.post(path, json=body)
                        if not answer.is_success:
                            failed.append(answer.text)

            threads = [threading.Thread(target=load, args=(number,)) for number in range(8)]
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
        warm = next((one for one in noted if one[0] >= min(60, arguments.minutes * 15)), noted[0])
        grew, files = noted[-1][1] / warm[1] - 1, noted[-1][2] - warm[2]
        print(
            f"{sum(calls)} calls, {len(failed)} failed {failed[:1]}; memory {grew:+.1%}, files {files:+d} since {warm[0]:.0f} s"
        )
        return int(bool(failed) or grew > 0.05 or files > 5)


if __name__ == "__main__":
    sys.exit(main())
