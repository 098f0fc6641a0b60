"""Feature building end to end: Parquet of events in, Parquet of features out; beside pandas and DuckDB in the same run.

    python benchmarks/bench_features.py [--seats 200000] [--days 120] [--keep 0.6] [--threads 2] [--home FOLDER]

Simulated events (features.connectors.simulated), weekly snapshots, the complete catalogue. The peers compute PEER_WINDOWS
only, counts over trailing windows, on the first block of seats; ours is timed on the same windows for the ratio.
"""

import argparse
import platform
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from unittest.mock import patch

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from features.catalogue import FEATURES, MEANINGFUL, PROMPTS, SESSIONS, WORK, count
from features.compute import BLOCK_SEATS, compute_blocks, compute_features
from features.connectors.rollout_model import Rollout
from features.connectors.simulated import write_parquet
from features.events import EVENT_SCHEMA, MICROSECONDS_PER_DAY
from features.history import last_days
from features.instants import to_microseconds
from features.labels import weekly_snapshots
from features.parallel import reuse_memory
from features.peers import days_needed, observe
from features.sources import Source
from features.tables import ROSTER_SCHEMA
from features.tools import load_tools

START = datetime(2026, 1, 5, tzinfo=UTC)
LAG = timedelta(days=2)
PEER_DAYS = (7, 14, 28, 56)
PEER_CHANNELS = {"session": SESSIONS, "prompt": PROMPTS, "work": WORK, "task": MEANINGFUL}
PEER_SEATS = 10_000
COLUMNS = tuple(name for name in EVENT_SCHEMA.names if name not in ("event_id", "source"))
USE_COLUMNS = ("seat_id", "kind", "occurred_at", "available_at", "workflow", "count", "guided")
TEXTS = ["seat_id", "kind", "workflow", "category"]


def generate(folder: Path, *, seats: int, days: int, keep: float) -> int:
    """Write the rollout, a share `keep` of its events, blocks of seats in files of their own; returns how many events."""
    rollout = Rollout(seats=seats, days=days, start=START, interventions=False, lag_days=LAG.days)
    folder.mkdir(parents=True, exist_ok=True)
    write_parquet(rollout, folder / "raw", workers=2)
    total = 0
    (folder / "events").mkdir()
    for path in sorted((folder / "raw" / "events").rglob("*.parquet")):
        table = pl.read_parquet(path)
        kept = table.filter(pl.col("event_id").hash(seed=3) < int(keep * 2**64)) if keep < 1 else table
        kept.write_parquet(folder / "events" / path.name)
        total += kept.height
    return total


def generated(folder: Path, *, seats: int, days: int, keep: float) -> int:
    """How many events the folder has; they are generated, by a process of its own, where it has none yet: this one's peak
    of memory is that of the features.
    """
    known = folder / "n"
    if not known.exists():
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            number = pool.submit(generate, folder, seats=seats, days=days, keep=keep).result()
        known.write_text(str(number))
    return int(known.read_text())


def roster_of(folder: Path) -> pa.Table:
    """The seats with the moment from which they were known."""
    seats = pa.concat_tables([pq.read_table(path) for path in sorted((folder / "raw" / "seats").rglob("*.parquet"))])
    return seats.append_column("known_at", seats.column("assigned_at")).cast(ROSTER_SCHEMA).sort_by("seat_id")


def every_day(until: datetime) -> np.ndarray:
    """Microseconds of every midnight from START to `until`, included."""
    return to_microseconds(START) + np.arange((until - START).days + 1) * MICROSECONDS_PER_DAY


def _read(path: Path) -> pa.Table:
    return pq.read_table(path, columns=list(COLUMNS), read_dictionary=TEXTS, use_threads=False)


def _uses(path: Path) -> pa.Table:
    """The events that may be meaningful use: what the first pass, over the peers, looks at."""
    kinds = [str(kind) for kind in load_tools()["m365_copilot"].meaningful_kinds]
    uses = pl.scan_parquet(path).filter(pl.col("kind").is_in(kinds)).select(USE_COLUMNS).collect()
    return uses.to_arrow(compat_level=pl.CompatLevel.oldest())


def _span(path: Path) -> tuple[str, str]:
    """The first and the last seat of a file, from its own statistics."""
    metadata = pq.read_metadata(path)
    column = metadata.schema.names.index("seat_id")
    groups = [metadata.row_group(n).column(column).statistics for n in range(metadata.num_row_groups)]
    return min(group.min for group in groups), max(group.max for group in groups)


def ours(folder: Path, roster: pa.Table, sources: Sequence[Source], *, days: int, threads: int) -> tuple[float, int]:
    """Seconds and snapshots from reading the events to the written features."""
    started = time.perf_counter()
    files = sorted((folder / "events").glob("*.parquet"))
    seats = roster.drop_columns(["known_at"])
    until = START + timedelta(days=days)
    tools = load_tools()
    peers = observe(
        (_uses(path) for path in files),
        roster=roster,
        sources=sources,
        tools=tools,
        days=days_needed(every_day(until)),
        threads=threads,
    )
    spans = [_span(path) for path in files]
    file_of = {low: path for path, (low, _) in zip(files, spans, strict=True)}
    ids = seats.column("seat_id").to_numpy()
    firsts = [*np.searchsorted(ids, [low for low, _ in spans]), len(ids)]
    rows = 0
    blocks = compute_blocks(
        (seats.slice(first, stop - first) for first, stop in pairwise(firsts)),
        snapshots=lambda block: weekly_snapshots(block, until=until),
        read_events=lambda seat_ids: _read(file_of[seat_ids[0]]),
        roster=roster,
        sources=sources,
        tools=tools,
        peers=peers,
        threads=threads,
    )
    for number, block in enumerate(blocks):
        texts = [feature.name for feature in FEATURES if feature.is_category]
        pq.write_table(
            block.to_arrow(),
            folder / f"features-{number}.parquet",
            compression="lz4",
            use_dictionary=["seat_id", *texts],
        )
        rows += block.height
    return time.perf_counter() - started, rows


def peers(folder: Path, roster: pa.Table, sources: Sequence[Source], *, days: int) -> dict[str, float]:
    """Seconds of each engine for the same windows on the same seats, events in memory; all answers are compared."""
    seats = roster.column("seat_id").slice(0, PEER_SEATS)
    inside = pl.scan_parquet(folder / "events" / "*.parquet").filter(
        pl.col("seat_id").is_in(pl.Series(seats).implode())
    )
    events = inside.collect()
    known = roster.slice(0, PEER_SEATS)
    snapshots = weekly_snapshots(known.drop_columns(["known_at"]), until=START + timedelta(days=days))
    answers: dict[str, np.ndarray] = {}
    seconds: dict[str, float] = {}

    def run(name: str, function: Callable[[], np.ndarray]) -> None:
        started = time.perf_counter()
        answers[name] = function()
        seconds[name] = time.perf_counter() - started

    run("Rekindle, the same windows", lambda: _windows_of_ours(snapshots, events, known, sources))
    run("DuckDB SQL", lambda: _windows_of_duckdb(snapshots, events))
    run("pandas", lambda: _windows_of_pandas(snapshots, events))
    (mine, *others) = answers.values()
    for name, other in zip(list(answers)[1:], others, strict=True):
        assert np.array_equal(mine, other), f"{name} disagrees"
    return seconds


def _instants(snapshots: pl.DataFrame) -> np.ndarray:
    return snapshots["as_of"].cast(pl.Int64).to_numpy()


def _windows_of_ours(
    snapshots: pl.DataFrame, events: pl.DataFrame, roster: pa.Table, sources: Sequence[Source]
) -> np.ndarray:
    import features.compute

    wanted = [
        replace(FEATURES[0], name=f"{kind}_{days}", compute=count(channel, last_days(days)))
        for kind, channel in PEER_CHANNELS.items()
        for days in PEER_DAYS
    ]
    dtypes = {feature.name: pl.Float64 for feature in wanted}
    with patch.multiple(features.compute, FEATURES=tuple(wanted), FEATURE_DTYPES=dtypes):
        table = events.to_arrow(compat_level=pl.CompatLevel.oldest())
        nobody = observe([], roster=roster, sources=sources, tools=load_tools(), days=days_needed(_instants(snapshots)))
        frame = compute_features(
            snapshots, events=table, roster=roster, sources=sources, tools=load_tools(), peers=nobody
        )
    return frame.drop("seat_id", "as_of").to_numpy()


def _is_of(kind: str) -> str:
    workflows = ", ".join(f"'{name}'" for name in load_tools()["m365_copilot"].high_value_workflows)
    return f"kind = 'task' AND NOT guided AND workflow IN ({workflows})" if kind == "task" else f"kind = '{kind}'"


def _windows_of_duckdb(snapshots: pl.DataFrame, events: pl.DataFrame) -> np.ndarray:
    sums = ", ".join(
        f"coalesce(sum(e.count) FILTER (WHERE {_is_of(kind)} AND e.occurred_at >= s.as_of - INTERVAL {days + LAG.days} DAY), 0)"
        for kind in PEER_CHANNELS
        for days in PEER_DAYS
    )
    query = f"""
        SELECT s.seat_id, s.as_of, {sums} FROM snapshots s LEFT JOIN events e
        ON e.seat_id = s.seat_id AND e.occurred_at < s.as_of - INTERVAL {LAG.days} DAY
        AND e.occurred_at >= s.as_of - INTERVAL {max(PEER_DAYS) + LAG.days} DAY AND e.available_at <= s.as_of
        GROUP BY s.seat_id, s.as_of ORDER BY s.seat_id, s.as_of
    """
    connection = duckdb.connect()
    connection.register("snapshots", snapshots.to_arrow())
    connection.register("events", events.to_arrow())
    result = connection.sql(query).to_arrow_table()
    return np.column_stack([np.asarray(column, np.float64) for column in result.columns[2:]])


def _windows_of_pandas(snapshots: pl.DataFrame, events: pl.DataFrame) -> np.ndarray:
    """The vectorised way that people write: join, mask, group; window by window."""
    keyed = snapshots.with_row_index("row").to_pandas()
    narrow = events.select("seat_id", "kind", "workflow", "guided", "count", "occurred_at", "available_at").to_pandas()
    workflows = set(load_tools()["m365_copilot"].high_value_workflows)
    columns = []
    for kind in PEER_CHANNELS:
        chosen = narrow[narrow["kind"] == kind]
        if kind == "task":
            chosen = chosen[~chosen["guided"] & chosen["workflow"].isin(workflows)]
        joined = keyed.merge(chosen, on="seat_id")
        age = joined["as_of"] - LAG - joined["occurred_at"]
        seen = joined[(age > timedelta(0)) & (joined["available_at"] <= joined["as_of"])]
        age = age[seen.index]
        for days in PEER_DAYS:
            sums = seen[age <= timedelta(days=days)].groupby("row")["count"].sum()
            columns.append(sums.reindex(range(len(keyed)), fill_value=0).to_numpy(np.float64))
    return np.column_stack(columns)


def main() -> None:
    """Generate, measure, print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seats", type=int, default=200_000)
    parser.add_argument("--days", type=int, default=120)
    parser.add_argument("--keep", type=float, default=0.6, help="share of the simulated events that is kept")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--home", type=Path, help="where the events are kept, and used again")
    parser.add_argument("--generate-only", action="store_true")
    arguments = parser.parse_args()
    reuse_memory()
    with tempfile.TemporaryDirectory() as name:
        folder = arguments.home or Path(name)
        events = generated(folder, seats=arguments.seats, days=arguments.days, keep=arguments.keep)
        if arguments.generate_only:
            return
        roster = roster_of(folder)
        feeds = (("simulated:usage", LAG),)
        sources = [
            Source("simulated", "m365_copilot", source, lag, START, START + timedelta(days=arguments.days))
            for source, lag in feeds
        ]
        processor = time.process_time()
        seconds, rows = ours(folder, roster, sources, days=arguments.days, threads=arguments.threads)
        processor = time.process_time() - processor
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"{events:,} events, {arguments.seats:,} seats, {rows:,} snapshots x {len(FEATURES)} features, blocks of")
        print(f"{BLOCK_SEATS:,} seats, {arguments.threads} threads, Python {platform.python_version()}:")
        print(f"{seconds:.1f} s, {events / seconds / 1e6:.2f} million events/s, peak {peak:.1f} GiB,")
        print(f"{processor:.1f} s of processor time, {events / processor / 1e6:.2f} million events for each of them")
        timed = peers(folder, roster, sources, days=arguments.days)
        mine = next(iter(timed.values()))
        print(
            f"\n| {PEER_SEATS:,} seats, {len(PEER_CHANNELS) * len(PEER_DAYS)} windows | s | times ours |\n|---|---|---|"
        )
        for engine, spent in timed.items():
            print(f"| {engine} | {spent:.2f} | {spent / mine:.1f} |")


if __name__ == "__main__":
    main()
