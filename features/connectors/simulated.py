"""A simulated rollout with known truth: seats, events and decisions as a real source would give them, the truth apart.

What people do and why is in features.connectors.rollout_model; here it becomes the traces that sources record.
Lag: `Rollout.lag_days` for the tool's usage, hours for tickets, none for training, surveys and decisions.
Event ids are `organization/` + seat (8 digits) + day + 100 (3 digits) + two letters for what happened.
"""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from features.connectors.rollout_model import (
    ARMS,
    FUNCTION_NAMES,
    KEPT_DAYS,
    LEADER,
    MODES,
    PEER,
    REGIONS,
    ROLE_NAMES,
    TRAITS,
    UTC_OFFSET_HOURS,
    WORRIED,
    Bools,
    Course,
    Floats,
    Ints,
    Paths,
    People,
    Rollout,
    bell,
    confident,
    course,
    effects,
    intercept,
    light_use,
    on_leave,
    people,
    shown_use,
    team_starts,
    uniforms,
    walk,
    weekly_risk,
)
from features.decisions import NONE, Decision, Stage
from features.events import EVENT_SCHEMA, MICROSECONDS_PER_DAY, SEAT_SCHEMA, USE_KINDS, Batch, Kind
from features.interventions import FailureMode
from features.tools import load_tools

__all__ = [
    "ARMS",
    "MODES",
    "POLICY",
    "Rollout",
    "Truth",
    "counterfactual",
    "open_simulated",
    "open_truth",
    "write_parquet",
    "write_truth",
]

POLICY = "simulated-logging-v1"
BLOCK_SEATS = 10_000
ROW_GROUP_DAYS = 14
US = 1_000_000  # microseconds per second
HOUR = 3600 * US
TICKET_LAG_HOURS = 4
SURVEY_EVERY_DAYS = 21
FOLLOW_UP_DAYS = 16  # a second training, except where training was one-shot
DECIDED_AT_HOUR = 6  # UTC
DAY_SHIFT = 100  # training may precede the rollout: days in ids are never negative

KINDS = tuple(str(kind) for kind in Kind)
SOURCES = ("simulated:usage", "simulated:tickets", "simulated:surveys", "simulated:training", "decisions")
USAGE, TICKETS, SURVEYS, TRAINING, DECISIONS = range(len(SOURCES))
SOURCE_KINDS: Mapping[str, tuple[Kind, ...]] = {
    SOURCES[USAGE]: (*USE_KINDS, Kind.WORK, Kind.ERROR, Kind.HELP),
    SOURCES[TICKETS]: (Kind.TICKET,),
    SOURCES[SURVEYS]: (Kind.CONFIDENCE, Kind.NPS),
    SOURCES[TRAINING]: (Kind.TRAINING,),
    SOURCES[DECISIONS]: (Kind.INTERVENTION, Kind.REACTION),
}
SURFACE_WORKFLOWS = ("formatting", "rewording")
TICKET_CATEGORIES = ("how_to", "error", "quality")
STAGES = tuple(str(stage) for stage in Stage)
CATEGORIES = (*TICKET_CATEGORIES, *ARMS, *STAGES)
NO_LATER_TRAINING = MODES.index(FailureMode.ONE_SHOT_TRAINING)
GUIDING = (ARMS.index("in_context_guidance"), ARMS.index("guided_start"))

ScalarT = TypeVar("ScalarT", bound=np.generic)
Progress = Callable[[int, int], None]  # seats done, seats in all
Forced = Mapping[tuple[int, int], int]  # (seat number, day) of a logged decision to the arm taken instead
NOTHING_FORCED: Mapping[str, str] = {}
Seconds = NDArray[np.float64]


def _silent(done: int, total: int) -> None:
    del done, total


@dataclass(frozen=True)
class Truth:
    """What no source shows, for the seats of one block.

    seats: traits, planted mode, first silent day, leave, log-odds that each intervention takes off the daily hazard.
    weeks: per seat and week of the rollout, the probability that silence has begun by H days if nothing more is done.
    decisions: per logged decision, the effect of each intervention on the probability of being active 28 days later,
    and whether the seat would have been (other logged decisions staying as they are).
    """

    seats: pa.Table
    weeks: pa.Table
    decisions: pa.Table


@dataclass(frozen=True)
class _Block:
    rollout: Rollout
    workflows: tuple[str, ...]
    group: People
    paths: Paths
    odds: Floats
    came: Course

    def names(self, letter: str, number: Ints | None = None) -> pa.Array:
        number = self.group.number if number is None else number
        prefix = f"{self.rollout.organization}/{letter}".encode()
        return _strings([np.frombuffer(prefix, dtype=np.uint8), _digits(number, 8)])

    def workflow_of(self, u: Floats, seat: Ints) -> Ints:
        """A high-value workflow: the seat's favourite in about half of the cases, always where there is but one."""
        many = len(self.workflows)
        favourite = self.group.number[seat] % many
        single = self.group.mode[seat] == MODES.index(FailureMode.NO_ROLE_USE_CASES)
        return np.where(single | (u < 0.5), favourite, (u * 7919 * many).astype(np.int64) % many)


def open_simulated(
    rollout: Rollout,
    *,
    forced: Mapping[str, str] = NOTHING_FORCED,
    block_seats: int = BLOCK_SEATS,
    progress: Progress = _silent,
) -> Iterator[Batch]:
    """Batches of whole teams, about `block_seats` seats each: their seats, all their events, their decisions.

    forced: decision_id to the intervention taken in place of the drawn one, the random numbers staying the same: what
    differs is its effect. The logging policy then reacts to what it sees, so later decisions at that seat may differ.
    Raises ValueError for a tool without high-value workflows and for a forced decision that cannot be.
    """
    done = 0
    for block in _blocks(rollout, _arms(rollout, forced), block_seats):
        lags = {
            SOURCES[USAGE]: timedelta(days=rollout.lag_days),
            SOURCES[TICKETS]: timedelta(hours=TICKET_LAG_HOURS),
        }
        events = _events(block).cast(EVENT_SCHEMA)
        yield Batch(_seats(block), events, decisions=_decisions(block), lags=lags, kinds=SOURCE_KINDS)
        done += len(block.group.number)
        progress(done, rollout.seats)


def open_truth(
    rollout: Rollout,
    *,
    forced: Mapping[str, str] = NOTHING_FORCED,
    block_seats: int = BLOCK_SEATS,
    progress: Progress = _silent,
) -> Iterator[Truth]:
    """The truth behind each batch of `open_simulated` with the same arguments."""
    done = 0
    for block in _blocks(rollout, _arms(rollout, forced), block_seats):
        yield _plain(_truth(block))
        done += len(block.group.number)
        progress(done, rollout.seats)


def counterfactual(
    rollout: Rollout, *, forced: Mapping[str, str] = NOTHING_FORCED, block_seats: int = BLOCK_SEATS
) -> pa.Table:
    """Every logged decision with its true effects and what would have come of each intervention (see Truth.decisions).

    Joined with the segment that decides the sign of an effect: `mode`, `confident`, `worried`.
    """
    tables = []
    for truth in open_truth(rollout, forced=forced, block_seats=block_seats):
        seats = truth.seats.select(["seat_id", "mode", "confident"]).append_column(
            "worried", pc.greater(truth.seats["worry"], WORRIED)
        )
        tables.append(truth.decisions.join(seats, "seat_id"))
    return pa.concat_tables(tables).sort_by("decision_id")


def _arms(rollout: Rollout, forced: Mapping[str, str]) -> Forced:
    arms: dict[tuple[int, int], int] = {}
    prefix = f"{rollout.organization}/d"
    for decision_id, intervention in forced.items():
        digits = decision_id.removeprefix(prefix)
        if not (decision_id.startswith(prefix) and len(digits) == 11 and digits.isdigit()):
            raise ValueError(f"forced: expected the id of a decision of this rollout, came {decision_id!r}")
        if intervention not in ARMS:
            raise ValueError(f"forced: expected one of {', '.join(ARMS)}, came {intervention!r}")
        arms[int(digits[:8]), int(digits[8:]) - DAY_SHIFT] = ARMS.index(intervention)
    return arms


def write_truth(rollout: Rollout, folder: Path, *, progress: Progress = _silent) -> None:
    """Write the truth as `seats.parquet`, `weeks.parquet` and `decisions.parquet` in `folder`, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    writers: dict[str, pq.ParquetWriter] = {}
    try:
        for truth in open_truth(rollout, progress=progress):
            for name, table in (("seats", truth.seats), ("weeks", truth.weeks), ("decisions", truth.decisions)):
                if name not in writers:
                    writers[name] = _writer(folder / f"{name}.parquet", table.schema)
                writers[name].write_table(table)
    finally:
        for writer in writers.values():
            writer.close()


def write_parquet(
    rollout: Rollout,
    folder: Path,
    *,
    workers: int = 1,
    block_seats: int = BLOCK_SEATS,
    progress: Progress = _silent,
) -> None:
    """Write `seats/`, `events/`, `decisions/` and `truth/{seats,weeks,decisions}/`, one file per block of teams.

    Events have one row group per fortnight, so that a reader of a range of days skips the rest. workers: processes.
    Raises ValueError if there are events in `folder` already: blocks of two rollouts must not mix.
    """
    if any((folder / "events").glob("*.parquet")):
        raise ValueError(f"folder: expected one without events, came {folder}")
    for name in ("seats", "events", "decisions", "truth/seats", "truth/weeks", "truth/decisions"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    starts = team_starts(rollout)
    spans = _spans(starts, block_seats)
    write = partial(_write_block, rollout, folder, block_seats, intercept(rollout))
    done = 0
    if workers == 1:
        for number in range(len(spans)):
            done += write(number)
            progress(done, rollout.seats)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for finished in as_completed([pool.submit(write, number) for number in range(len(spans))]):
            done += finished.result()
            progress(done, rollout.seats)


def _write_block(rollout: Rollout, folder: Path, block_seats: int, level: float, number: int) -> int:
    starts = team_starts(rollout)
    block = _simulate(rollout, starts, _spans(starts, block_seats)[number], level, {})
    file = f"block-{number:05d}.parquet"
    truth = _truth(block)
    parts = {
        "seats": _seats(block),
        "decisions": _decision_table(block),
        "truth/seats": truth.seats,
        "truth/weeks": truth.weeks,
        "truth/decisions": truth.decisions,
    }
    for name, table in parts.items():
        with _writer(folder / name / file, table.schema) as writer:
            writer.write_table(table)
    kinds = [_table(block, rows) for rows in _rows(block)]
    with _writer(folder / "events" / file, kinds[0].schema) as writer:
        for group in _fortnights(block, kinds):
            writer.write_table(group)
    return len(block.group.number)


def _writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    # store_schema would bring dictionary columns back as such: a reader shall see plain strings, as in EVENT_SCHEMA.
    plain = [name for name in ("event_id", "decision_id") if name in schema.names]
    return pq.ParquetWriter(
        path,
        schema,
        compression="zstd",
        compression_level=1,
        store_schema=False,
        use_dictionary=[name for name in schema.names if name not in plain],
        column_encoding=dict.fromkeys(plain, "DELTA_BYTE_ARRAY"),
    )


def _spans(starts: Ints, block_seats: int) -> list[tuple[int, int]]:
    """First and last team of each block."""
    spans, first = [], 0
    while first < len(starts) - 1:
        last = max(first + 1, int(np.searchsorted(starts, starts[first] + block_seats, side="right")) - 1)
        spans.append((first, last))
        first = last
    return spans


def _blocks(rollout: Rollout, forced: Forced, block_seats: int) -> Iterator[_Block]:
    starts, level = team_starts(rollout), intercept(rollout)
    for span in _spans(starts, block_seats):
        yield _simulate(rollout, starts, span, level, forced)


def _simulate(rollout: Rollout, starts: Ints, span: tuple[int, int], level: float, forced: Forced) -> _Block:
    profile = load_tools().get(rollout.tool)
    if profile is None or not profile.high_value_workflows:
        raise ValueError(f"tool: expected one with high-value workflows in tools.yaml, came {rollout.tool!r}")
    group = people(rollout, starts, *span)
    paths = walk(rollout, group)
    odds = paths.odds * np.float32(np.exp(level))
    came = course(rollout, group, paths, odds, forced)
    return _Block(rollout, tuple(profile.high_value_workflows), group, paths, odds, came)


def _digits(number: Ints, width: int) -> NDArray[np.uint8]:
    """(n, width) ASCII digits."""
    powers = 10 ** np.arange(width - 1, -1, -1)
    digits: NDArray[np.uint8] = (number[:, None] // powers % 10 + ord("0")).astype(np.uint8)
    return digits


def _strings(parts: list[NDArray[np.uint8]]) -> pa.Array:
    """Strings of one width from byte columns (n, width) or constants (width,), without a loop over rows."""
    n = max(len(part) for part in parts if part.ndim == 2)
    width = sum(part.shape[-1] for part in parts)
    out, at = np.empty((n, width), dtype=np.uint8), 0
    for part in parts:
        out[:, at : at + part.shape[-1]] = part
        at += part.shape[-1]
    offsets = np.arange(n + 1, dtype=np.int32) * width
    return pa.StringArray.from_buffers(n, pa.py_buffer(offsets), pa.py_buffer(out))


@dataclass(frozen=True)
class _Rows:
    """Events of one sort, by day: seat is the position in the block, at the microsecond of the day. None: all null."""

    code: str
    kind: Kind
    seat: Ints
    day: Ints
    at: Ints
    source: int = USAGE
    lag: int = 0  # microseconds
    workflow: Ints | None = None
    value: Floats | Seconds | None = None
    count: Ints | None = None
    completed: Bools | None = None
    frustration: Floats | None = None
    uncertainty: Floats | None = None
    category: Ints | None = None
    guided: bool = False


_WORD = pa.dictionary(pa.int32(), pa.string())


def _words(index: Ints | int | None, words: pa.Array, n: int) -> pa.Array:
    if index is None:
        return pa.nulls(n, _WORD)
    return pa.DictionaryArray.from_arrays(np.broadcast_to(np.asarray(index, dtype=np.int32), n).copy(), words)


def _numbers(values: NDArray[np.generic] | None, kind: pa.DataType, n: int) -> pa.Array:
    return pa.nulls(n, kind) if values is None else pa.array(values).cast(kind)


def _table(block: _Block, rows: _Rows) -> pa.Table:
    """The rows in the columns of EVENT_SCHEMA, words as dictionaries (cheap to write and to cast)."""
    n, instant = len(rows.seat), EVENT_SCHEMA.field("occurred_at").type
    prefix = np.frombuffer(f"{block.rollout.organization}/".encode(), dtype=np.uint8)
    seat_digits, day_digits = _digits(block.group.number, 8), _digits(np.arange(1000), 3)
    event_id = (
        _strings(
            [
                prefix,
                seat_digits[rows.seat],
                day_digits[rows.day + DAY_SHIFT],
                np.frombuffer(rows.code.encode(), np.uint8),
            ]
        )
        if n
        else pa.array([], pa.string())
    )
    occurred = _midnight(block.rollout) + rows.day * MICROSECONDS_PER_DAY + rows.at
    workflows = pa.array([*block.workflows, *SURFACE_WORKFLOWS])
    columns = {
        "event_id": event_id,
        "seat_id": _words(rows.seat, block.names("s"), n),
        "kind": _words(KINDS.index(rows.kind), pa.array(KINDS), n),
        "occurred_at": pa.array(occurred).cast(instant),
        "available_at": pa.array(occurred + rows.lag).cast(instant),
        "source": _words(rows.source, pa.array(SOURCES), n),
        "workflow": _words(rows.workflow, workflows, n),
        "value": _numbers(rows.value, pa.float64(), n),
        "count": pa.array(np.ones(n, dtype=np.int64) if rows.count is None else rows.count),
        "completed": _numbers(rows.completed, pa.bool_(), n),
        "frustration": _numbers(rows.frustration, pa.float64(), n),
        "uncertainty": _numbers(rows.uncertainty, pa.float64(), n),
        "category": _words(rows.category, pa.array(CATEGORIES), n),
        "guided": pa.array(np.full(n, rows.guided)),
    }
    return pa.table(columns)


def _fortnights(block: _Block, kinds: list[pa.Table]) -> Iterator[pa.Table]:
    edges = [
        _midnight(block.rollout) + day * MICROSECONDS_PER_DAY for day in range(0, block.rollout.days, ROW_GROUP_DAYS)
    ]
    days = [table["occurred_at"].chunk(0).cast(pa.int64()).to_numpy() // MICROSECONDS_PER_DAY for table in kinds]
    cuts = [np.searchsorted(day, [edge // MICROSECONDS_PER_DAY for edge in edges[1:]]) for day in days]
    bounds = [np.concatenate([[0], cut, [len(day)]]) for cut, day in zip(cuts, days, strict=True)]
    for bucket in range(len(edges)):
        yield pa.concat_tables(
            table.slice(bound[bucket], bound[bucket + 1] - bound[bucket])
            for table, bound in zip(kinds, bounds, strict=True)
        )


def _events(block: _Block) -> pa.Table:
    return pa.concat_tables(_table(block, rows) for rows in _rows(block))


def _midnight(rollout: Rollout) -> int:
    return int(rollout.start.timestamp()) * US


def _rows(block: _Block) -> Iterator[_Rows]:
    yield from _usage(block)
    yield _work(block)
    yield from _voice(block)
    yield from _trainings(block)
    yield from _interventions(block)


def _opening(block: _Block, seat: Ints) -> Ints:
    """Microsecond of the UTC day at which the seat's working day begins (9:00 local time)."""
    return (9 - np.array(UTC_OFFSET_HOURS))[block.group.region[seat]] * HOUR


def _of_mode(attribute: str, mode: Ints) -> Floats:
    return np.array([getattr(TRAITS[name], attribute) for name in MODES], dtype=np.float32)[mode]


def _cut(column: NDArray[ScalarT] | None, where: Ints) -> NDArray[ScalarT] | None:
    return None if column is None else column[where]


def _usage(block: _Block) -> Iterator[_Rows]:
    """What the tool's telemetry says: sessions, prompts, answers taken and refused, tasks, errors, help."""
    group, paths, days = block.group, block.paths, block.rollout.days
    light, keeps_light = light_use(group)
    silent = block.came.silent[:days]
    day, seat = np.nonzero(shown_use(group, paths, silent, slice(0, days), light))
    mode, key, gone = group.mode[seat], group.key[seat], silent[day, seat]
    succeeded = paths.succeeded[day, seat] & ~gone
    failed = paths.attempted[day, seat] & ~gone & ~succeeded
    confidence = paths.confidence[day, seat]
    u_start, u_surface = uniforms(key, day, 5)
    u_extra, u_quick = uniforms(key, day, 6)
    u_error, u_help = uniforms(key, day, 7)
    u_length, u_prompts = uniforms(key, day, 8)
    u_accepted, u_rejected = uniforms(key, day, 9)
    u_workflow, u_minutes = uniforms(key, day, 10)
    surface = u_surface < _of_mode("surface", mode) * np.where(gone & ~keeps_light[seat], 0.3, 1)
    quick = ~succeeded & ~surface & (u_quick < _of_mode("quick_close", mode))
    start = _opening(block, seat) + (u_start * 6.5 * HOUR).astype(np.int64)
    lag = block.rollout.lag_days * MICROSECONDS_PER_DAY
    end_of_day = np.full(len(seat), MICROSECONDS_PER_DAY - 1)  # a daily total

    def of(
        code: str,
        kind: Kind,
        chosen: Bools,
        at: Ints,
        *,
        workflow: Ints | None = None,
        value: Floats | None = None,
        count: Ints | None = None,
        completed: Bools | None = None,
    ) -> _Rows:
        where = np.flatnonzero(chosen)
        return _Rows(
            code,
            kind,
            seat[where],
            day[where],
            at[where],
            USAGE,
            lag,
            workflow=_cut(workflow, where),
            value=_cut(value, where),
            count=_cut(count, where),
            completed=_cut(completed, where),
        )

    first_seconds = np.where(quick, 4 + 22 * u_length, 90 + 1500 * u_length**2)
    extra = _of_mode("extra_session", mode)
    for slot in range(3):
        seconds = first_seconds
        if slot:
            u_slot, u_gap = uniforms(key, day, 20 + slot)
            seconds = np.where(quick, 4 + 22 * u_slot, 60 + 900 * u_slot**2)
            # Retries come within the hour where the tool was closed at once, else later in the day.
            gap = np.where(quick, 3 + 12 * u_gap, 30 + 10 * u_gap) * slot * 60 * US
            at = start + gap.astype(np.int64)
        else:
            at = start
        opened = u_extra < extra**slot
        done = (succeeded | surface) if slot == 0 else np.zeros(len(seat), dtype=bool)
        yield of(f"s{slot}", Kind.SESSION, opened, at, value=seconds.astype(np.float32), completed=done)
    finished = start + (first_seconds * US).astype(np.int64)
    prompts = 1 + np.minimum(-np.log(u_prompts) * (_of_mode("prompts", mode) - 1) * np.where(failed, 1.5, 1), 60)
    characters = _of_mode("prompt_characters", mode) * (0.6 + 0.8 * confidence) * (0.8 + 0.4 * u_rejected)
    asked = ~quick | (u_accepted < 0.5)
    yield of("pr", Kind.PROMPT, asked, end_of_day, value=characters, count=prompts.astype(np.int64))
    taken = (succeeded | surface) & (u_accepted < 0.5)
    yield of("ac", Kind.ACCEPTED, taken, end_of_day, count=1 + (u_accepted * 8).astype(np.int64))
    yield of("rj", Kind.REJECTED, failed & (u_rejected < 0.6), end_of_day, count=1 + (u_rejected * 5).astype(np.int64))
    workflow = block.workflow_of(u_workflow, seat)
    yield of("tk", Kind.TASK, succeeded, finished, workflow=workflow, value=5 + 35 * u_minutes)
    light_workflow = len(block.workflows) + (u_workflow < 0.3).astype(np.int64)
    yield of("sf", Kind.TASK, surface, finished, workflow=light_workflow, value=1 + 4 * u_minutes)
    erred = u_error < _of_mode("errors", mode) * np.where(failed, 1.6, 0.7)
    yield of("er", Kind.ERROR, erred, start + 3 * US)
    yield of("hp", Kind.HELP, (u_help < _of_mode("helps", mode)) & ~gone, start + 40 * US)


def _work(block: _Block) -> _Rows:
    """Work done without the tool: the opportunity, whether or not the person is silent. Daily totals."""
    group, days = block.group, block.rollout.days
    u_needed, u_minutes = uniforms(group.key, np.arange(days)[:, None], 11)
    present = block.paths.workday[:days] & (np.arange(days)[:, None] < group.removed_day)
    day, seat = np.nonzero(present & (u_needed < group.need))
    u = u_minutes[day, seat]
    lag = block.rollout.lag_days * MICROSECONDS_PER_DAY
    at = np.full(len(seat), MICROSECONDS_PER_DAY - 1)
    workflow = block.workflow_of((u * 97) % 1, seat)
    return _Rows(
        "wk", Kind.WORK, seat, day, at, USAGE, lag, workflow=workflow, value=15 + 75 * u, count=1 + (u * 3).astype(int)
    )


def _voice(block: _Block) -> Iterator[_Rows]:
    """Tickets, already scored, and surveys, which the disheartened leave unanswered more often."""
    group, paths, days, noise = block.group, block.paths, block.rollout.days, block.rollout.noise
    here = paths.workday[:days] & (np.arange(days)[:, None] < group.removed_day)
    silent = block.came.silent[:days]

    upset = paths.frustration + paths.uncertainty
    chance = np.float32(0.012) * _of_mode("tickets", group.mode) * (np.float32(0.2) + upset)
    day, seat = np.nonzero(paths.used & here & ~silent)
    u_ticket, u_at = uniforms(group.key[seat], day, 12)
    wrote = u_ticket < chance[day, seat]
    day, seat, u_at = day[wrote], seat[wrote], u_at[wrote]
    noises = [np.float32(0.12 * noise) * bell(u) for u in uniforms(group.key[seat], day, 13)]
    scores = [
        np.clip(level[day, seat] * np.float32(1.3) + blur, 0, 1)
        for level, blur in zip((paths.frustration, paths.uncertainty), noises, strict=True)
    ]
    category = np.where(scores[1] > 0.5, 0, np.where(scores[0] > 0.4, 2, 1))
    at = _opening(block, seat) + (u_at * 8 * HOUR).astype(np.int64)
    yield _Rows(
        "ti",
        Kind.TICKET,
        seat,
        day,
        at,
        TICKETS,
        TICKET_LAG_HOURS * HOUR,
        frustration=scores[0],
        uncertainty=scores[1],
        category=category,
    )

    valid = [d for d in range(SURVEY_EVERY_DAYS) if (block.rollout.start.weekday() + d) % 7 < 5]
    offset = np.array(valid)[group.team % len(valid)]
    due = (np.arange(days)[:, None] - offset) % SURVEY_EVERY_DAYS == 0
    due &= np.arange(days)[:, None] >= group.assigned_day + 10
    day, seat = np.nonzero(due & here)
    u_answer, u_nps = uniforms(group.key[seat], day, 14)
    gone = silent[day, seat]
    felt = paths.confidence[day, seat] - np.float32(0.12) * gone
    answers = u_answer < 0.35 + 0.45 * felt - 0.2 * group.worry[seat] - 0.15 * gone
    asked_at = _opening(block, seat) + 3 * HOUR
    for id_letters, kind, unanswered in (("cn", Kind.CONFIDENCE, ~answers), ("nn", Kind.NPS, ~answers & (u_nps < 0.5))):
        yield _Rows(id_letters, kind, seat[unanswered], day[unanswered], asked_at[unanswered], SURVEYS)
    day, seat, felt, u_nps = day[answers], seat[answers], felt[answers], u_nps[answers]
    blurs = [np.float32(0.08 * noise) * bell(u) for u in uniforms(group.key[seat], day, 15)]
    at = _opening(block, seat) + 3 * HOUR + group.number[seat] % 60 * 60 * US
    confidence = np.clip(np.rint(10 * (felt + blurs[0])), 0, 10)
    yield _Rows("cf", Kind.CONFIDENCE, seat, day, at, SURVEYS, value=confidence)
    nps = np.clip(np.rint(10 * (felt + 0.15 - 0.5 * paths.frustration[day, seat] + blurs[1])), 0, 10)
    both = u_nps < 0.5
    yield _Rows("np", Kind.NPS, seat[both], day[both], at[both] + 60 * US, SURVEYS, value=nps[both])


def _trainings(block: _Block) -> Iterator[_Rows]:
    group, days, weekday = block.group, block.rollout.days, block.rollout.start.weekday()
    away = on_leave(group, days)
    first = group.assigned_day - group.training_lead
    second = np.where(group.team_mode == NO_LATER_TRAINING, days, group.assigned_day + FOLLOW_UP_DAYS)
    for code, day, minutes in (("tr", first, 120), ("t2", second, 30)):
        day = day - np.maximum((weekday + day) % 7 - 4, 0)  # not at a weekend: the Friday before
        inside = (day < days) & ~((day >= 0) & away[np.clip(day, 0, days - 1), np.arange(len(day))])
        seat = np.flatnonzero(inside)
        seat = seat[np.argsort(day[seat], kind="stable")]
        at = _opening(block, seat) + 2 * HOUR
        yield _Rows(code, Kind.TRAINING, seat, day[seat], at, TRAINING, value=np.full(len(seat), float(minutes)))


def _interventions(block: _Block) -> Iterator[_Rows]:
    """What the decision log writes: the intervention, then how far the person followed it."""
    acted = np.flatnonzero(block.came.logged.arm > 0)
    seat, day, arm = (column[acted] for column in _logged(block))
    workflow = _decision_workflow(block, seat, day)
    decided = np.full(len(seat), DECIDED_AT_HOUR * HOUR)
    yield _Rows("iv", Kind.INTERVENTION, seat, day, decided, DECISIONS, workflow=workflow, category=3 + arm)
    u_seen, u_after = uniforms(block.group.key[seat], day, 16)
    u_accepted, _ = uniforms(block.group.key[seat], day, 17)
    seen = u_seen < 0.75
    welcome = np.where(block.group.relief[seat, arm] > 0, 0.6, 0.25)
    accepted = seen & (u_accepted < welcome)
    dismissed = seen & ~accepted & (u_accepted > 0.6)
    hours = decided + ((1 + 5 * u_after) * HOUR).astype(np.int64)
    reactions = (
        (Stage.DELIVERED, np.ones(len(seat), dtype=bool), decided + 300 * US),
        (Stage.SEEN, seen, hours),
        (Stage.ACCEPTED, accepted, hours + 60 * US),
        (Stage.DISMISSED, dismissed, hours + 30 * US),
    )
    for stage, chosen, at in reactions:
        category = np.full(chosen.sum(), len(TICKET_CATEGORIES) + len(ARMS) + STAGES.index(stage))
        yield _Rows(
            f"r{stage[0]}" if stage is not Stage.DISMISSED else "rx",
            Kind.REACTION,
            seat[chosen],
            day[chosen],
            at[chosen],
            DECISIONS,
            workflow=workflow[chosen],
            category=category,
        )
    led = accepted & np.isin(arm, GUIDING)
    lag = block.rollout.lag_days * MICROSECONDS_PER_DAY
    yield _Rows(
        "gd", Kind.TASK, seat[led], day[led], hours[led] + 1200 * US, USAGE, lag, workflow=workflow[led], guided=True
    )


def _logged(block: _Block) -> tuple[Ints, Ints, Ints]:
    logged = block.came.logged
    return logged.seat, logged.day, logged.arm


def _decision_workflow(block: _Block, seat: Ints, day: Ints) -> Ints:
    u, _ = uniforms(block.group.key[seat], day, 18)
    return (u * len(block.workflows)).astype(np.int64)


def _decision_ids(block: _Block, seat: Ints, day: Ints) -> pa.Array:
    if not len(seat):
        return pa.array([], pa.string())
    prefix = np.frombuffer(f"{block.rollout.organization}/d".encode(), dtype=np.uint8)
    return _strings([prefix, _digits(block.group.number[seat], 8), _digits(day + DAY_SHIFT, 3)])


def _instants(block: _Block, day: Ints, at: int = 0) -> pa.Array:
    micros = _midnight(block.rollout) + day * MICROSECONDS_PER_DAY + at
    return pa.array(micros).cast(EVENT_SCHEMA.field("occurred_at").type)


def _dates(rollout: Rollout, day: Ints, known: Bools | None = None) -> pa.Array:
    first = rollout.start.date().toordinal() - datetime(1970, 1, 1).toordinal()
    mask = None if known is None else ~known
    return pa.array((first + day).astype(np.int32), mask=mask).cast(pa.date32())


def _people_ids(block: _Block, number: Ints) -> pa.Array:
    """Person ids, null where the number is -1."""
    ids = block.names("p", np.maximum(number, 0))
    return pc.if_else(pa.array(number >= 0), ids, pa.scalar(None, pa.string()))


def _seats(block: _Block) -> pa.Table:
    rollout, group = block.rollout, block.group
    n = len(group.number)
    removed = pa.array(group.removed_day < rollout.days)
    columns = {
        "seat_id": block.names("s"),
        "person_id": block.names("p"),
        "organization": pa.array([rollout.organization] * n),
        "tool": pa.array([rollout.tool] * n),
        "role": pa.array(ROLE_NAMES).take(pa.array(group.role)),
        "function": pa.array(FUNCTION_NAMES).take(pa.array(group.function)),
        "team": _strings([np.frombuffer(b"team-", dtype=np.uint8), _digits(group.team, 7)]),
        "manager_person_id": _people_ids(block, np.where(group.is_manager, group.director, group.manager)),
        "region": pa.array(REGIONS).take(pa.array(group.region)),
        "hired_on": _dates(rollout, -group.tenure_days),
        "assigned_at": _instants(block, group.assigned_day),
        "removed_at": pc.if_else(
            removed, _instants(block, group.removed_day), pa.scalar(None, SEAT_SCHEMA.field("removed_at").type)
        ),
    }
    return pa.table(columns).cast(SEAT_SCHEMA)


def _targets(block: _Block, seat: Ints, arm: Ints) -> Ints:
    group = block.group
    own = np.where(arm == PEER, group.champion[seat], group.number[seat])
    return np.where(arm == 0, -1, np.where(arm == LEADER, group.manager[seat], own))


def _decision_table(block: _Block) -> pa.Table:
    """Decisions as columns; `probability_<intervention>` is null where it was not eligible."""
    seat, day, arm = _logged(block)
    probabilities = block.came.logged.probabilities
    columns = {
        "decision_id": _decision_ids(block, seat, day),
        "seat_id": _words(seat, block.names("s"), len(seat)),
        "decided_at": _instants(block, day, DECIDED_AT_HOUR * HOUR),
        "intervention": _words(arm, pa.array(ARMS), len(seat)),
        "workflow": _words(_decision_workflow(block, seat, day), pa.array(block.workflows), len(seat)),
        "target_person_id": _people_ids(block, _targets(block, seat, arm)) if len(seat) else pa.nulls(0, pa.string()),
        "holdout": pa.array(block.group.holdout[seat]),
        "policy": _words(0, pa.array([POLICY]), len(seat)),
    }
    for number, name in enumerate(ARMS):
        chance = np.ascontiguousarray(probabilities[:, number])
        columns[f"probability_{name}"] = pa.array(chance, mask=chance <= 0)
    return pa.table(columns)


def _decisions(block: _Block) -> tuple[Decision, ...]:
    rows = _decision_table(block).to_pylist()
    return tuple(
        Decision(
            decision_id=row["decision_id"],
            seat_id=row["seat_id"],
            decided_at=row["decided_at"],
            intervention=row["intervention"],
            probabilities={name: p for name in ARMS if (p := row[f"probability_{name}"]) is not None},
            workflow=row["workflow"] if row["intervention"] != NONE else None,
            target_person_id=row["target_person_id"],
            holdout=row["holdout"],
            policy=POLICY,
            as_of=row["decided_at"],
        )
        for row in rows
    )


def _truth(block: _Block) -> Truth:
    return Truth(_true_seats(block), _true_weeks(block), _true_decisions(block))


def _plain(truth: Truth) -> Truth:
    """The same with strings in place of dictionaries, for readers who compare them."""
    tables = (truth.seats, truth.weeks, truth.decisions)
    return Truth(
        *(
            table.cast(
                pa.schema([(f.name, pa.string() if pa.types.is_dictionary(f.type) else f.type) for f in table.schema])
            )
            for table in tables
        )
    )


def _true_seats(block: _Block) -> pa.Table:
    rollout, group, came = block.rollout, block.group, block.came
    shown = came.silent[1 : rollout.days + 1]
    left: Bools = np.any(shown, axis=0)
    away = on_leave(group, rollout.days).T
    offsets = np.concatenate([[0], np.cumsum(away.sum(axis=1))]).astype(np.int32)
    words = pa.array(MODES)
    columns = {
        "seat_id": block.names("s"),
        "mode": words.take(pa.array(group.mode)),
        "team_mode": words.take(pa.array(group.team_mode)),
        "confident": pa.array(confident(group.mode, group.skill) | group.is_champion),
        "worry": pa.array(group.worry),
        "skill": pa.array(group.skill),
        "need": pa.array(group.need),
        "hidden": pa.array(group.hidden),
        "untraced": pa.array(group.untraced),
        "is_champion": pa.array(group.is_champion),
        "is_manager": pa.array(group.is_manager),
        "holdout": pa.array(group.holdout),
        "abandoned_on": _dates(rollout, shown.argmax(axis=0), left),
        "leave": pa.ListArray.from_arrays(pa.array(offsets), _dates(rollout, np.nonzero(away)[1])),
    }
    for arm, name in enumerate(ARMS):
        columns[f"relief_{name}"] = pa.array(group.relief[:, arm] * np.float32(rollout.effect_size))
    return pa.table(columns)


def _true_weeks(block: _Block) -> pa.Table:
    group, came = block.group, block.came
    weeks = (block.rollout.days + 6) // 7
    risk = weekly_risk(block.odds, came, weeks)
    week, seat = np.nonzero(7 * np.arange(weeks)[:, None] >= group.assigned_day)
    columns = {
        "seat_id": _words(seat, block.names("s"), len(seat)),
        "as_of": _instants(block, 7 * week),
        "silent": pa.array(came.silent[7 * week, seat]),
    }
    for horizon, probability in risk.items():
        columns[f"risk_{horizon}"] = pa.array(probability[week, seat])
        fell = np.array([came.silent[7 * w : 7 * w + horizon + 1].any(axis=0) for w in range(weeks)])
        columns[f"abandoned_{horizon}"] = pa.array(fell[week, seat])
    return pa.table(columns)


def _true_decisions(block: _Block) -> pa.Table:
    seat, day, arm = _logged(block)
    true = effects(block.rollout, block.group, block.odds, block.came)
    columns = {
        "decision_id": _decision_ids(block, seat, day),
        "seat_id": _words(seat, block.names("s"), len(seat)),
        "intervention": _words(arm, pa.array(ARMS), len(seat)),
        "silent": pa.array(block.came.silent[day, seat]),
        "kept": pa.array(~block.came.silent[day + KEPT_DAYS, seat]),
        "chance_none": pa.array(np.ascontiguousarray(true.kept[:, 0])),
    }
    for number, name in enumerate(ARMS):
        if number:
            columns[f"effect_{name}"] = pa.array(true.kept[:, number] - true.kept[:, 0])
        columns[f"kept_{name}"] = pa.array(np.ascontiguousarray(true.realised[:, number]))
    return pa.table(columns)
