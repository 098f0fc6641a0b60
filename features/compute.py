"""Events before `as_of` to features: the same functions for one seat online and a million in a batch."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime

import numpy as np
import polars as pl
import pyarrow as pa

from features.catalogue import CATEGORIES, FEATURES, MISSING_CATEGORY, NUMERIC, REACTION_STAGES, Snapshots
from features.events import Kind
from features.history import FIXED_POINT, KIND_CODES, Events, History, Integers
from features.log import Source, to_microseconds
from features.tools import ToolProfile

BLOCK_SEATS = 10_000  # our choice: about 1.3 GB a block at 100 events a seat, 16 snapshots each and 80 features
SNAPSHOT_SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {"seat_id": pl.String, "as_of": pl.Datetime("us", "UTC")}
FEATURE_DTYPES: dict[str, type[pl.DataType]] = {
    feature.name: pl.String if feature.is_category else pl.Float64 for feature in FEATURES
}


def compute_features(
    snapshots: pl.DataFrame,
    *,
    events: pa.Table,
    roster: pa.Table,
    sources: Sequence[Source],
    tools: Mapping[str, ToolProfile],
) -> pl.DataFrame:
    """`seat_id`, `as_of` and every feature of FEATURES, one row per snapshot in the order given.

    snapshots: SNAPSHOT_SCHEMA; events: EVENT_SCHEMA (`event_id` and `source` may be left out); roster: ROSTER_SCHEMA,
    every seat of the snapshots in it.
    A snapshot uses an event if it occurred before `as_of - lag` and was available at `as_of`, where lag is that of the
    slowest source of the seat's organisation and tool known by then. Raises ValueError for a seat not in the roster.
    """
    numbered = snapshots.select("seat_id", "as_of").with_row_index("row")
    seats = numbered.select(pl.col("seat_id").unique()).sort("seat_id").with_row_index("seat")
    rows = numbered.join(seats, on="seat_id").sort("seat", "as_of")
    coded = _coded_events(events, seats, _current(roster, seats), tools)
    parts = []
    for first in range(0, seats.height, BLOCK_SEATS):
        block = rows.filter(pl.col("seat").is_between(first, first + BLOCK_SEATS, closed="left"))
        inside = coded.filter(pl.col("seat").is_between(first, first + BLOCK_SEATS, closed="left"))
        parts.append(_block(inside, first, _roster_at(block, roster), sources))
    if not parts:
        return pl.DataFrame(schema={**SNAPSHOT_SCHEMA, **FEATURE_DTYPES})
    return pl.concat(parts).sort("row").drop("row")


def compute_blocks(
    snapshots: pl.DataFrame,
    *,
    read_events: Callable[[Sequence[str]], pa.Table],
    roster: pa.Table,
    sources: Sequence[Source],
    tools: Mapping[str, ToolProfile],
    block_seats: int = BLOCK_SEATS,
    threads: int = 1,
) -> Iterator[pl.DataFrame]:
    """What compute_features gives, block by block of seats, so that memory holds `threads` blocks and not the whole.

    snapshots: sorted by seat. read_events: the events of the seats, called once a block.
    """
    seats = snapshots["seat_id"].unique(maintain_order=True)
    blocks = [seats[first : first + block_seats] for first in range(0, seats.len(), block_seats)]

    def one(block: pl.Series) -> pl.DataFrame:
        inside = snapshots.filter(pl.col("seat_id").is_in(block.implode()))
        return compute_features(
            inside, events=read_events(block.to_list()), roster=roster, sources=sources, tools=tools
        )

    if threads == 1:
        yield from map(one, blocks)
        return
    with ThreadPoolExecutor(threads) as pool:  # NumPy and Polars let go of the interpreter's lock
        waiting = deque[Future[pl.DataFrame]]()
        for block in blocks:
            waiting.append(pool.submit(one, block))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def pack(features: pl.DataFrame) -> tuple[np.ndarray, list[list[str]]]:
    """The packed rows: (n, n_numeric) float64 in catalogue order, and n lists of the category names in their order."""
    vectors = features.select([feature.name for feature in NUMERIC]).to_numpy()
    categories = features.select([feature.name for feature in CATEGORIES]).rows()
    return np.ascontiguousarray(vectors, dtype=np.float64), [list(row) for row in categories]


def lag_at(sources: Sequence[Source], organization: np.ndarray, tool: np.ndarray, as_of: Integers) -> Integers:
    """(n,) lag in microseconds: that of the slowest source of the organisation and tool that was known at `as_of`."""
    lag = np.zeros(as_of.shape, np.int64)
    for source in sources:
        if source.lag:
            is_known = as_of >= to_microseconds(source.first_available_at)
            applies = is_known & (organization == source.organization) & (tool == source.tool)
            lag = np.where(applies, np.maximum(lag, to_microseconds_delta(source)), lag)
    return lag


def to_microseconds_delta(source: Source) -> int:
    """The lag of a source in microseconds."""
    return round(source.lag.total_seconds() * 1_000_000)


def _current(roster: pa.Table, seats: pl.DataFrame) -> pl.DataFrame:
    """Each wanted seat with its tool: a seat never changes its tool."""
    known = pl.DataFrame(pl.from_arrow(roster.select(["seat_id", "tool"]))).unique("seat_id")
    current = seats.join(known, on="seat_id", how="left").sort("seat")
    unknown = current.filter(pl.col("tool").is_null())
    if unknown.height:
        raise ValueError(f"seat {unknown['seat_id'][0]!r} was never assigned; send its seat first")
    return current


def _coded_events(
    events: pa.Table, seats: pl.DataFrame, current: pl.DataFrame, tools: Mapping[str, ToolProfile]
) -> pl.DataFrame:
    """The events of the wanted seats as integers, sorted so that neither arrival nor batching can be seen."""
    workflows = pl.DataFrame(
        [
            (tool, workflow, number)
            for tool, profile in tools.items()
            for number, workflow in enumerate(profile.high_value_workflows)
        ],
        schema={"tool": pl.String, "workflow": pl.String, "number": pl.Int8},
        orient="row",
    )
    coded = (
        pl.DataFrame(pl.from_arrow(events))
        .lazy()
        .join(seats.lazy(), on="seat_id")
        .join(current.lazy().select("seat", "tool"), on="seat")
        .join(workflows.lazy(), on=["tool", "workflow"], how="left")
        .select(
            pl.col("seat").cast(pl.Int64),
            pl.col("occurred_at").cast(pl.Int64).alias("at"),
            pl.col("available_at").cast(pl.Int64).alias("available"),
            pl.col("kind").replace_strict({str(k): c for k, c in KIND_CODES.items()}, return_dtype=pl.Int8),
            pl.col("count"),
            (pl.col("value") * FIXED_POINT).round().cast(pl.Int64).fill_null(-1),
            pl.col("number").fill_null(-1).alias("workflow"),
            pl.col("completed").cast(pl.Int8).fill_null(-1),
            (pl.col("frustration") * FIXED_POINT).round().cast(pl.Int64).fill_null(-1),
            (pl.col("uncertainty") * FIXED_POINT).round().cast(pl.Int64).fill_null(-1),
            pl.col("category")
            .replace_strict({s: c for c, s in enumerate(REACTION_STAGES)}, default=-1, return_dtype=pl.Int8)
            .fill_null(-1),
            "guided",
            "tool",
        )
    )
    return _ordered(_judged(coded, tools).collect())


_TIES = ("kind", "value", "completed", "workflow", "count", "available", "frustration", "uncertainty", "category", "guided")  # fmt: skip


def _ordered(coded: pl.DataFrame) -> pl.DataFrame:
    """Sorted by seat and instant, and those of one instant by what they say: only they need the slow sort."""
    by_instant = coded.sort("seat", "at")
    seat, at = by_instant["seat"].to_numpy(), by_instant["at"].to_numpy()
    is_same = (seat[1:] == seat[:-1]) & (at[1:] == at[:-1])
    is_tied = np.append(is_same, False) | np.append(False, is_same)
    if not is_tied.any():
        return by_instant
    tied = np.flatnonzero(is_tied)
    order = np.arange(by_instant.height)
    among = by_instant[tied].with_row_index("place").sort("seat", "at", *_TIES)["place"].to_numpy()
    order[tied] = tied[among]
    return by_instant[order]


def _judged(coded: pl.LazyFrame, tools: Mapping[str, ToolProfile]) -> pl.LazyFrame:
    """Adds what the tool's profile makes of each event: meaningful, opportunity, quick close."""

    def kinds(names: Sequence[Kind]) -> list[int]:
        return [KIND_CODES[name] for name in names]

    meaningful, opportunity, quick = pl.lit(False), pl.lit(False), pl.lit(False)
    for tool, profile in tools.items():
        is_tool = pl.col("tool") == tool
        counts = pl.lit(profile.any_workflow) | (pl.col("workflow") >= 0)
        meaningful |= is_tool & pl.col("kind").is_in(kinds(profile.meaningful_kinds)) & counts & ~pl.col("guided")
        opportunity |= is_tool & pl.col("kind").is_in(kinds(profile.opportunity_kinds))
        limit = round(profile.quick_close_seconds * FIXED_POINT)
        is_short = pl.col("value").is_between(0, limit, closed="left") & (pl.col("completed") != 1)
        quick |= is_tool & (pl.col("kind") == KIND_CODES[Kind.SESSION]) & is_short
    return coded.with_columns(
        meaningful.alias("is_meaningful"), opportunity.alias("is_opportunity"), quick.alias("is_quick_close")
    ).drop("tool")


def _roster_at(block: pl.DataFrame, roster: pa.Table) -> pl.DataFrame:
    """What the roster said of each snapshot's seat at `as_of` (its first version where it says nothing that early)."""
    versions = pl.DataFrame(pl.from_arrow(roster)).join(block.select("seat_id").unique(), on="seat_id", how="semi")
    versions = versions.sort("seat_id", "known_at")
    first = versions.group_by("seat_id", maintain_order=True).first()
    earliest = first.with_columns(
        pl.lit(datetime(1970, 1, 1)).dt.replace_time_zone("UTC").cast(pl.Datetime("us", "UTC")).alias("known_at")
    )
    versions = pl.concat([earliest.select(versions.columns), versions]).sort("known_at")
    return (
        block.sort("as_of")
        .join_asof(versions, left_on="as_of", right_on="known_at", by="seat_id", check_sortedness=False)
        .sort("seat", "as_of", "row")
    )


def _block(coded: pl.DataFrame, first_seat: int, at: pl.DataFrame, sources: Sequence[Source]) -> pl.DataFrame:
    as_of = at["as_of"].cast(pl.Int64).to_numpy()
    organization, tool = at["organization"].to_numpy(), at["tool"].to_numpy()
    end = as_of - lag_at(sources, organization, tool, as_of)
    seat = at["seat"].cast(pl.Int64).to_numpy() - first_seat
    events = Events(
        **{name: coded[name].to_numpy() for name in coded.columns} | {"seat": coded["seat"].to_numpy() - first_seat}
    )
    events, seat = _hide_unavailable(events, seat=seat, end=end, as_of=as_of)
    history = History(events, seat=seat, end=end, as_of=as_of, assigned=at["assigned_at"].cast(pl.Int64).to_numpy())
    hired = at["hired_on"].cast(pl.Datetime("us")).cast(pl.Int64).cast(pl.Float64).fill_null(float("nan")).to_numpy()
    snapshots = Snapshots(
        history=history,
        **{name: at[name].fill_null(MISSING_CATEGORY).to_numpy() for name in ("tool", "role", "function", "region")},
        hired=hired,
        has_manager=at["manager_person_id"].is_not_null().cast(pl.Float64).to_numpy(),
    )
    columns = {feature.name: feature.compute(snapshots) for feature in FEATURES}
    return at.select("row", "seat_id", "as_of").with_columns(
        pl.Series(name, values, dtype=FEATURE_DTYPES[name]) for name, values in columns.items()
    )


def _hide_unavailable(events: Events, *, seat: Integers, end: Integers, as_of: Integers) -> tuple[Events, Integers]:
    """Gives each snapshot that an event came too late for a history of its own, without what was not yet available.

    Snapshots are sorted by seat and `as_of`. Such snapshots are few: every other shares its seat's one history.
    """
    troubled = _snapshots_with_late_events(events, seat=seat, end=end, as_of=as_of)
    if not troubled.size:
        return events, seat
    starts = np.searchsorted(events.seat, seat[troubled], side="left")
    lengths = np.searchsorted(events.seat, seat[troubled], side="right") - starts
    owner = np.repeat(np.arange(troubled.size), lengths)
    position = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths) + np.repeat(starts, lengths)
    is_known = events.available[position] <= as_of[troubled][owner]
    owner, position = owner[is_known], position[is_known]
    new_seats = int(max(events.seat.max(initial=0), seat.max(initial=0))) + 1
    columns = {name: np.concatenate((column, column[position])) for name, column in vars(events).items()}
    columns["seat"] = np.concatenate((events.seat, new_seats + owner))
    moved = seat.copy()
    moved[troubled] = new_seats + np.arange(troubled.size)
    return Events(**columns), moved


def _snapshots_with_late_events(events: Events, *, seat: Integers, end: Integers, as_of: Integers) -> Integers:
    """Positions of the snapshots for which some event occurred before `end` but was not available at `as_of`.

    With the snapshot's lag L these are the `as_of` in (occurred + L, available): one range a late event and lag.
    """
    lag = as_of - end
    is_troubled = np.zeros(as_of.size, bool)
    for one_lag in np.unique(lag):
        late = np.flatnonzero(events.available - events.at > one_lag + 1)
        group = np.flatnonzero(lag == one_lag)
        if not late.size:
            continue
        low = int(as_of[group].min())
        span = int(as_of[group].max()) - low + 2
        keys = seat[group] * span + (as_of[group] - low)
        owner = events.seat[late] * span
        first = np.searchsorted(keys, owner + np.clip(events.at[late] + one_lag + 1 - low, 0, span - 1))
        stop = np.searchsorted(keys, owner + np.clip(events.available[late] - low, 0, span - 1))
        marks = np.zeros(group.size + 1, np.int64)
        np.add.at(marks, first, 1)
        np.add.at(marks, np.maximum(stop, first), -1)
        is_troubled[group] = np.cumsum(marks[:-1]) > 0
    return np.flatnonzero(is_troubled)
