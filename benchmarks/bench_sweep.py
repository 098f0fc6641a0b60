"""The nightly sweep: features of every seat now, computed from the log in SQLite and written to the online store.

    python benchmarks/bench_sweep.py [--seats 200000] [--days 120] [--keep 0.6] [--threads 2] [--home FOLDER]

Simulated events. The log is filled first, which is not timed; with --home it is kept there and used again.
"""

import argparse
import platform
import resource
import sqlite3
import tempfile
import time
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import polars as pl
from bench_features import LAG, START, generate, roster_of

from features.events import Batch, Event, events_table
from features.log import EventLog
from features.parallel import reuse_memory
from features.refresh import Refresher
from features.sources import EXTERNAL_KINDS
from features.store import FeatureStore
from features.tools import load_tools


def fill(home: Path, *, seats: int, days: int, keep: float) -> None:
    """A log with the seats and events of a rollout, written past the log's own checks: that is not what is timed."""
    folder = home / "parquet"
    generate(folder, seats=seats, days=days, keep=keep)
    roster = roster_of(folder)
    log = EventLog(f"sqlite:///{home / 'log.db'}")
    until = START + timedelta(days=days)
    empty = events_table([])
    for first in range(0, roster.num_rows, 20_000):
        log.append(Batch(roster.slice(first, 20_000).drop_columns(["known_at"]), empty), now=until)
    seat = roster.column("seat_id")[0].as_py()
    heartbeat = Event(
        event_id="simulated/heartbeat", seat_id=seat, kind="help", occurred_at=until - LAG, available_at=until,
        source="simulated:usage",
    )  # fmt: skip
    log.append(
        Batch(
            roster.slice(0, 0).drop_columns(["known_at"]),
            events_table([heartbeat]),
            lags={"simulated:usage": LAG},
            kinds={"simulated:usage": EXTERNAL_KINDS},
        ),
        now=until,
    )
    log.close()
    with closing(sqlite3.connect(home / "log.db")) as connection:
        connection.execute("PRAGMA synchronous=OFF")
        for path in sorted((folder / "events").glob("*.parquet")):
            frame = pl.read_parquet(path).with_columns(
                pl.col("occurred_at", "available_at", "completed", "guided").cast(pl.Int64)
            )
            names = ", ".join(frame.columns)
            marks = ", ".join("?" * len(frame.columns))
            connection.executemany(f"INSERT INTO events ({names}) VALUES ({marks})", frame.iter_rows())
            connection.commit()


def sweep(home: Path, *, days: int, threads: int) -> tuple[float, int]:
    """Seconds and seats."""
    log, store = EventLog(f"sqlite:///{home / 'log.db'}"), FeatureStore(home)
    store.apply()
    started = time.perf_counter()
    pushed = sum(Refresher(log, store, load_tools()).sweep(START + timedelta(days=days), threads=threads))
    seconds = time.perf_counter() - started
    log.close()
    return seconds, pushed


def main() -> None:
    """Fill, sweep, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seats", type=int, default=200_000)
    parser.add_argument("--days", type=int, default=120)
    parser.add_argument("--keep", type=float, default=0.6)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--home", type=Path)
    parser.add_argument("--fill-only", action="store_true")
    arguments = parser.parse_args()
    reuse_memory()
    with tempfile.TemporaryDirectory() as name:
        home = arguments.home or Path(name)
        if not (home / "log.db").exists():
            home.mkdir(parents=True, exist_ok=True)
            fill(home, seats=arguments.seats, days=arguments.days, keep=arguments.keep)
        if arguments.fill_only:
            return
        for suffix in ("", "-wal", "-shm"):
            (home / "feast" / f"online.db{suffix}").unlink(missing_ok=True)
        processor = time.process_time()
        seconds, pushed = sweep(home, days=arguments.days, threads=arguments.threads)
        processor = time.process_time() - processor
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        size = (home / "log.db").stat().st_size / 2**30
        print(
            f"{pushed:,} seats from a log of {size:.1f} GiB, {arguments.threads} threads, Python {platform.python_version()}:"
        )
        print(
            f"{seconds:.1f} s ({processor:.1f} s of processor time), {pushed / seconds:,.0f} seats/s, peak {peak:.1f} GiB"
        )


if __name__ == "__main__":
    main()
