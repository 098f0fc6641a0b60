"""The seats of a rollout as they stand at one moment, with what happened at them: what adoption is measured on."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

import numpy as np
import polars as pl
import pyarrow as pa

from features.catalogue import IS_USE, MISSING_CATEGORY
from features.coding import code_events
from features.history import DAY, KIND_CODES, Booleans, Events, Floats, Integers
from features.instants import from_microseconds, to_microseconds
from features.parallel import in_order
from features.roster import NEVER, Roster
from features.sources import Source
from features.tools import ToolProfile

TENURE_BANDS = ((0.5, "under 6 months"), (2.0, "6 months to 2 years"), (5.0, "2 to 5 years"))  # years, our choice
TENURE_BEYOND, YEAR_DAYS = "5 years and more", 365.25
DIMENSIONS = ("role", "function", "tenure", "team", "cohort_week", "region", "tool")
BLOCK_SEATS = 10_000


@dataclass(frozen=True)
class SeatDays:
    """Days on which something happened, by seat and day: each pair once. count: how much on that day."""

    seat: Integers
    day: Integers
    count: Integers

    @staticmethod
    def of(seat: Integers, at: Integers, count: Integers) -> "SeatDays":
        """seat: (n,) number; at: (n,) microseconds since 1970; count: (n,)."""
        day = at // DAY
        low = int(day.min(initial=0))
        span = int(day.max(initial=0)) - low + 1
        keys, place = np.unique(seat * span + (day - low), return_inverse=True)
        return SeatDays(keys // span, keys % span + low, np.bincount(place, count, len(keys)).astype(np.int64))

    def where(self, chosen: Booleans) -> "SeatDays":
        """Those rows alone."""
        return SeatDays(self.seat[chosen], self.day[chosen], self.count[chosen])


@dataclass(frozen=True)
class Population:
    """Seats of one moment. Arrays are (n_seats,) in the order of `seats`; instants in microseconds since 1970.

    seats: SEAT_SCHEMA with the DIMENSIONS, those of the roster as it was known at `as_of`. end: until when the data of a
    seat is complete; lag: of its sources, in microseconds. person: number of the seat's person. events: of these seats, before each one's end.
    silence_days: W of the tool's profile. is_joined: whether the seat's person is known to hold seats of
    several tools. sees_work: whether the seat's organisation and tool report work without AI.
    """

    as_of: datetime
    seats: pl.DataFrame
    assigned: Integers
    removed: Integers
    end: Integers
    lag: Integers
    person: Integers
    silence_days: Integers
    sees_work: Booleans
    is_joined: Booleans
    events: Events

    def __len__(self) -> int:
        return self.seats.height

    @property
    def is_held(self) -> Booleans:
        """Whether the seat is assigned and not removed where its data ends: the denominator of every rate."""
        return (self.assigned < self.end) & (self.removed > self.end)

    @property
    def life_days(self) -> Floats:
        """Days from assignment to the end of the data or removal."""
        return (np.minimum(self.end, self.removed) - self.assigned) / DAY

    @cached_property
    def is_stale(self) -> Booleans:
        """Whether the seat's data ends more than W days before `as_of`: what has become of it since, nobody can tell."""
        return np.asarray(to_microseconds(self.as_of) - self.end > self.silence_days * DAY + self.lag)

    @cached_property
    def data_until(self) -> dict[str, datetime]:
        """By tool, until when its data is complete; of several organisations the earliest."""
        ends = (
            self.seats.select("tool").with_columns(end=self.end).group_by("tool").agg(pl.col("end").min()).sort("tool")
        )
        return {tool: from_microseconds(end) for tool, end in ends.iter_rows()}

    @cached_property
    def uses(self) -> SeatDays:
        """Days of use of any kind and the uses on them."""
        return self._days(IS_USE(self.events))

    @cached_property
    def meaningful(self) -> SeatDays:
        """Days of meaningful use and the uses on them."""
        return self._days(self.events.is_meaningful)

    @cached_property
    def opportunities(self) -> SeatDays:
        """Days with evidence of work that the tool could have helped with."""
        return self._days(self.events.is_opportunity)

    def of_kind(self, *kinds: str) -> Integers:
        """Rows of the events of these kinds."""
        return np.flatnonzero(np.isin(self.events.kind, [KIND_CODES[kind] for kind in kinds]))

    def total(self, rows: Integers, *, days: int | None = None, weights: Integers | None = None) -> Floats:
        """Sum over each seat's events of `rows`: of their counts, or of `weights`; of the last `days` days only."""
        seat = self.events.seat[rows]
        values = self.events.count[rows] if weights is None else weights
        if days is not None:
            late = self.events.at[rows] >= self.end[seat] - days * DAY
            seat, values = seat[late], values[late]
        return np.bincount(seat, values, len(self)).astype(np.float64)

    def last_value(self, rows: Integers, *, days: int) -> Floats:
        """The latest value among each seat's events of `rows` in the last `days` days; NaN where there is none."""
        seat, value = self.events.seat[rows], self.events.value[rows]
        chosen = (value >= 0) & (self.events.at[rows] >= self.end[seat] - days * DAY)
        found = np.full(len(self), np.nan)
        found[seat[chosen]] = value[chosen] / 1000  # events are in the order of time: the last one stays
        return found

    def days_in(self, days: SeatDays, *, last: int, until: int = 0) -> Floats:
        """On how many of the `last` days that end `until` days before the seat's data does."""
        return self._in(days, last=last, until=until, weights=None)

    def count_in(self, days: SeatDays, *, last: int, until: int = 0) -> Floats:
        """How much in the `last` days that end `until` days before the seat's data does."""
        return self._in(days, last=last, until=until, weights=days.count)

    def _in(self, days: SeatDays, *, last: int, until: int, weights: Integers | None) -> Floats:
        age = self.end_day[days.seat] - days.day
        chosen = (age > until) & (age <= last + until)
        counted = None if weights is None else weights[chosen]
        return np.bincount(days.seat[chosen], counted, len(self)).astype(np.float64)

    @cached_property
    def end_day(self) -> Integers:
        """The first day (since 1970) that is not complete any more."""
        return self.end // DAY

    def _days(self, mask: Booleans) -> SeatDays:
        rows = np.flatnonzero(mask)
        return SeatDays.of(self.events.seat[rows], self.events.at[rows], self.events.count[rows])


def read_population(
    as_of: datetime,
    *,
    roster: pa.Table,
    read_events: Callable[[Sequence[str]], pa.Table],
    sources: Sequence[Source],
    tools: Mapping[str, ToolProfile],
    threads: int = 1,
    progress: Callable[[int], None] = lambda _: None,
) -> Population:
    """The population at `as_of`: every seat that was assigned by then, with what was available by then.

    A seat's data is complete until `as_of`, or until what its tool's sources told last where that is earlier, less the
    lag of the slowest of them. sources: those that tell of use (`EventLog.sources_of_use`), for a fresh ticket says nothing of
    who used a tool. roster: ROSTER_SCHEMA; read_events: the events of some seats, EVENT_SCHEMA. Raises ValueError where
    nobody has a seat.
    """
    book = Roster.of(roster)
    moment = to_microseconds(as_of)
    every = np.arange(len(book))
    version = book.at(every, np.full(len(book), moment))
    lag = book.lag(sources, version, np.full(len(book), moment))
    end = _told_until(book, sources, moment)[book.feed[version]] - lag
    chosen = np.flatnonzero(book.assigned_at[version] < end)
    if not len(chosen):
        raise ValueError(f"no seat was assigned before {as_of.isoformat()}")
    book = book.take(chosen)
    version, end = book.at(np.arange(len(book)), np.full(len(book), moment)), end[chosen]
    lag = lag[chosen]
    seats = book.frame[version].drop("known_at")

    def one(start: int) -> Events:
        numbers = np.arange(start, min(start + BLOCK_SEATS, len(book)))
        part = book.take(numbers)
        coded = code_events(read_events(part.seat_ids.to_list()), part, tools)
        known = np.flatnonzero((coded.at < end[numbers][coded.seat]) & (coded.available <= moment))
        progress(len(numbers))
        columns = {name: column[known] for name, column in vars(coded).items()}
        return Events(**{**columns, "seat": columns["seat"] + start})

    parts = list(in_order(one, range(0, len(book), BLOCK_SEATS), threads=threads))
    events = Events(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in vars(parts[0])})
    feed = book.feed[version]
    works = np.unique(feed[events.seat[events.kind == KIND_CODES["work"]]])
    return Population(
        as_of=as_of,
        seats=_with_dimensions(seats, end),
        assigned=book.assigned_at[version],
        removed=np.minimum(book.removed_at[version], NEVER),
        end=end,
        lag=lag,
        person=seats["person_id"].rank("dense").cast(pl.Int64).to_numpy() - 1,
        silence_days=np.array([tools[tool].silence_days for tool in seats["tool"]], np.int64),
        sees_work=np.isin(feed, works),
        is_joined=_is_joined(seats),
        events=events,
    )


def _told_until(book: Roster, sources: Sequence[Source], moment: int) -> Integers:
    """(n_feeds,) `moment`, or the end of what any source of the organisation and tool has told, where that is earlier."""
    told: dict[tuple[str, str], int] = {}
    for source in sources:
        key = source.organization, source.tool
        told[key] = max(told.get(key, 0), to_microseconds(source.watermark) + 1)
    return np.array([min(moment, told.get(feed, moment)) for feed in book.feeds.iter_rows()], np.int64)


def _is_joined(seats: pl.DataFrame) -> Booleans:
    """An alias alone would not do: many exports give one to a person who is in no other."""
    return (seats.select(pl.col("tool").n_unique().over("person_id"))["tool"] > 1).to_numpy()


def latest_kept(read: Callable[[Sequence[str]], pa.Table]) -> Callable[[Sequence[str]], pa.Table]:
    """The same reader of events, which gives the last table again when the same seats are asked for: read once, used twice."""
    kept: dict[tuple[str, ...], pa.Table] = {}

    def reader(seat_ids: Sequence[str]) -> pa.Table:
        key = tuple(seat_ids)
        if key not in kept:
            kept.clear()
            kept[key] = read(seat_ids)
        return kept[key]

    return reader


def _with_dimensions(seats: pl.DataFrame, end: Integers) -> pl.DataFrame:
    day = pl.Series("day", end // DAY).cast(pl.Int32).cast(pl.Date)
    years = (day - seats["hired_on"]).dt.total_days() / YEAR_DAYS
    tenure = pl.lit(TENURE_BEYOND)
    for below, name in reversed(TENURE_BANDS):
        tenure = pl.when(pl.lit(years) < below).then(pl.lit(name)).otherwise(tenure)
    return seats.with_columns(
        pl.when(pl.lit(years).is_null()).then(pl.lit(MISSING_CATEGORY)).otherwise(tenure).alias("tenure"),
        pl.col("assigned_at").dt.strftime("%G-W%V").alias("cohort_week"),
        *(pl.col(name).fill_null(MISSING_CATEGORY) for name in ("role", "function", "team", "region")),
    )
