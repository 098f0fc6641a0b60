"""How soon an event is in the features: real HTTP, the embedded default, events at a steady rate.

    python benchmarks/bench_freshness.py [--seats 4000] [--rate 200] [--seconds 60] [--kills 0] [--workers 1]

Simulated seats with their history. Single events are posted to /v1/events at the rate, from connections that are kept.
Every fortieth is a quick close at a seat that gets no other event; by turns its score or a decision is asked for until the
live counts show it: the time from the acknowledgement is the freshness that a caller sees. With --kills the
service is killed (SIGKILL) so often at random moments and started again. At the end every acknowledged event must be in
the log exactly once, and the service by itself must have caught up: the online features of every seat that got events are
at least as new as the last of them, and equal to the bit what is computed from the log anew.
"""

import argparse
import os
import platform
import queue
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import polars as pl
import psutil

from features.connectors.rollout_model import Rollout
from features.connectors.simulated import open_simulated
from features.keys import Keys, Scope
from features.log import EventLog
from features.refresh import Refresher
from features.store import FeatureStore, OnlineRow
from features.tools import load_tools
from features.touched import CLAIM

PORT = int(os.environ.get("REKINDLE_PORT", "3917"))
URL = f"http://127.0.0.1:{PORT}"
WATCH_EVERY = 40
SENDERS = 8
WATCHERS = 8
POLL_SECONDS = 0.1


@dataclass
class Sent:
    """What was acknowledged, and how long each watched event took."""

    acknowledged: list[str] = field(default_factory=list)
    answer_s: list[float] = field(default_factory=list)
    visible_s: dict[str, list[float]] = field(default_factory=lambda: {"score": [], "decide": []})
    unanswered: int = 0
    not_seen: int = 0


def prepare(home: Path, seats: int, days: int) -> tuple[list[str], str]:
    """A simulated rollout in the log, its features online; the seats, and a key of the API."""
    log = EventLog(f"sqlite:///{home / 'log.db'}")
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    rollout = Rollout(seats=seats, days=days, seed=7, start=today - timedelta(days=days))
    for batch in open_simulated(rollout):
        log.append(batch, now=datetime.now(UTC), source="simulated")
    store = FeatureStore(home)
    store.apply()
    for _ in Refresher(log, store, load_tools()).sweep(datetime.now(UTC)):
        pass
    refresher = Refresher(log, store, load_tools())
    while refresher.refresh(at_most=1_000, clock=lambda: datetime.now(UTC)):  # what the import touched
        pass
    found = log.seats().column("seat_id").to_pylist()
    _, key = Keys(log.database).create(name="bench", scopes=Scope, rate_per_second=1e6, now=datetime.now(UTC))
    log.close()
    return found, key


@contextmanager
def service(home: Path, *, workers: int) -> Iterator[subprocess.Popen[bytes]]:
    """The service on its state folder, ready; every process of it is killed in the end."""
    environ = {**os.environ, "REKINDLE_HOME": str(home), "REKINDLE_PORT": str(PORT), "REKINDLE_WORKERS": str(workers)}
    with (home / "service.log").open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", "import rekindle; rekindle.main()", "serve"],
            env=environ, stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
        try:
            wait_until_ready()
            yield process
        finally:
            family = [
                process,
                *psutil.Process(process.pid).children(recursive=True),
            ]  # workers have groups of their own
            for member in family:
                member.send_signal(signal.SIGKILL)
            for member in family:
                member.wait()


def wait_until_ready(seconds: float = 60) -> None:
    """Returns when the service says that it is ready. Raises TimeoutError."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if httpx.get(f"{URL}/readyz", timeout=1).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.05)
    raise TimeoutError("the service did not become ready")


def send(seats: list[str], *, key: str, run: str, rate: float, stop: threading.Event, sent: Sent) -> None:
    """Post single events at the rate until `stop`. seats: those that are watched are taken off its end."""
    wanted: queue.Queue[tuple[int, str] | None] = queue.Queue()
    watched: queue.Queue[tuple[str, float, str] | None] = queue.Queue()
    senders = [threading.Thread(target=_sender, args=(key, run, wanted, watched, sent)) for _ in range(SENDERS)]
    watchers = [threading.Thread(target=_watcher, args=(key, watched, sent)) for _ in range(WATCHERS)]
    for thread in (*senders, *watchers):
        thread.start()
    generator = random.Random(run)
    started, number = time.perf_counter(), 0
    while not stop.is_set():
        number += 1
        wanted.put((number, seats.pop() if number % WATCH_EVERY == 0 else seats[generator.randrange(len(seats) // 2)]))
        time.sleep(max(0.0, started + number / rate - time.perf_counter()))
    for _ in senders:
        wanted.put(None)
    for thread in senders:
        thread.join()
    for _ in watchers:
        watched.put(None)
    for thread in watchers:
        thread.join()


def _sender(key: str, run: str, wanted: "queue.Queue[Any]", watched: "queue.Queue[Any]", sent: Sent) -> None:
    with httpx.Client(base_url=URL, headers={"Authorization": f"Bearer {key}"}, timeout=5) as client:
        while (item := wanted.get()) is not None:
            number, seat = item
            event = {
                "event_id": f"bench-{run}-{number}",
                "seat_id": seat,
                "kind": "session",
                "occurred_at": datetime.now(UTC).isoformat(),
                "value": 4.0,
                "completed": False,
            }
            started = time.perf_counter()
            try:
                answer = client.post("/v1/events", json={"events": [event]})
            except httpx.HTTPError:
                sent.unanswered += 1
                continue
            if answer.status_code != 202:
                sent.unanswered += 1
                continue
            done = time.perf_counter()
            sent.answer_s.append(done - started)
            sent.acknowledged.append(answer.json()["items"][0]["event_id"])
            if number % WATCH_EVERY == 0:
                watched.put((seat, done, ("score", "decide")[number // WATCH_EVERY % 2]))


def _watcher(key: str, watched: "queue.Queue[Any]", sent: Sent) -> None:
    with httpx.Client(base_url=URL, headers={"Authorization": f"Bearer {key}"}, timeout=5) as client:
        while (item := watched.get()) is not None:
            seat, done, call = item
            while time.perf_counter() - done < 30:
                try:
                    (answer,) = client.post(f"/v1/{call}", json={"seats": [seat]}).json()["items"]
                    if answer["live_friction"]["quick_closes"] > 0:
                        sent.visible_s[call].append(time.perf_counter() - done)
                        break
                except (httpx.HTTPError, ValueError, KeyError, TypeError):
                    pass
                time.sleep(POLL_SECONDS)
            else:
                sent.not_seen += 1


def check(home: Path, sent: Sent) -> tuple[int, int, int]:
    """Acknowledged events that are not in the log, those that are there more than once, and seats with events whose
    online features are older than these or other than what the log says.
    """
    log = EventLog(f"sqlite:///{home / 'log.db'}")
    events = pl.DataFrame(pl.from_arrow(log.events(columns=("event_id", "seat_id", "available_at"))))
    ours = events.filter(pl.col("event_id").str.contains("/bench-"))
    lost = set(sent.acknowledged) - set(ours["event_id"])
    last = dict(ours.group_by("seat_id").agg(pl.col("available_at").max()).iter_rows())
    behind = not_caught_up(log, FeatureStore(home), last)
    log.close()
    return len(lost), ours.height - ours["event_id"].n_unique(), behind


def not_caught_up(log: EventLog, store: FeatureStore, last: dict[str, datetime]) -> int:
    """How many seats are online without what was known last, or with other features than the log gives at that instant.

    last: when the last event of each seat was known.
    """
    refresher = Refresher(log, store, load_tools())
    by_instant: dict[datetime, list[OnlineRow]] = defaultdict(list)
    behind = 0
    for seat, row in zip(last, store.online(list(last)), strict=True):
        if row is None or row.as_of < last[seat]:
            behind += 1
        else:
            by_instant[row.as_of].append(row)
    for as_of, rows in by_instant.items():
        anew = {row.seat_id: row for row in refresher.rows([row.seat_id for row in rows], as_of=as_of)}
        behind += sum(
            not np.array_equal(row.vector, anew[row.seat_id].vector, equal_nan=True)
            or row.categories != anew[row.seat_id].categories
            for row in rows
        )
    return behind


def main() -> None:
    """Prepare, send, measure, print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seats", type=int, default=4_000)
    parser.add_argument("--days", type=int, default=120)
    parser.add_argument("--rate", type=float, default=200)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        seats, key = prepare(home, arguments.seats, arguments.days)
        sent = Sent()
        generator = random.Random(7)
        for life in range(arguments.kills + 1):
            is_last = life == arguments.kills
            with service(home, workers=arguments.workers):
                stop = threading.Event()
                threading.Timer(arguments.seconds if is_last else generator.uniform(0.3, 4), stop.set).start()
                if is_last:
                    send(seats, key=key, run=str(life), rate=arguments.rate, stop=stop, sent=sent)
                    wait_for_refresh(home)
                else:
                    sending = threading.Thread(
                        target=send, args=(seats,),
                        kwargs={"key": key, "run": str(life), "rate": arguments.rate, "stop": stop, "sent": sent},
                    )  # fmt: skip
                    sending.start()
                    stop.wait()
            if not is_last:
                sending.join()
        lost, twice, behind = check(home, sent)
        measured = {"answer (durable)": sent.answer_s} | {f"visible to {c}": s for c, s in sent.visible_s.items()}
        print(
            f"{arguments.seats:,} seats, {arguments.rate:.0f} events/s for {arguments.seconds:.0f} s, {arguments.kills} kills,"
        )
        print(
            f"{arguments.workers} workers, Python {platform.python_version()}: {len(sent.acknowledged):,} acknowledged,"
        )
        print(f"{lost} lost, {twice} twice, {sent.unanswered} without an answer, {sent.not_seen} not seen within 30 s,")
        print(f"{behind} seats whose online features the service had not brought up to the log\n")
        print("| | n | p50 s | p95 s | p99 s | max s |\n|---|---|---|---|---|---|")
        for label, values in measured.items():
            quantiles = (
                " | ".join(f"{v:.3f}" for v in np.quantile(values, (0.5, 0.95, 0.99, 1))) if len(values) else "–"
            )
            print(f"| {label} | {len(values):,} | {quantiles} |")
        if lost or twice or behind:
            sys.exit("the promise was not kept")


def wait_for_refresh(home: Path, seconds: float = 60) -> None:
    """Returns when no seat waits any more. Raises TimeoutError."""
    log = EventLog(f"sqlite:///{home / 'log.db'}")
    deadline = time.monotonic() + seconds
    while log.touched.is_any_due(now=datetime.now(UTC) + 2 * CLAIM):  # claimed ones, too
        if time.monotonic() > deadline:
            raise TimeoutError("touched seats were not refreshed")
        time.sleep(0.1)
    log.close()


if __name__ == "__main__":
    main()
