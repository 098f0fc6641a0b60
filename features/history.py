"""A block of seats' histories with exact window queries: what happened in `[start, end)`, for many snapshots at once.

Events are sorted by seat and instant; a window is two binary searches on one composite key (seat, instant), shared by
every feature that uses the same bound; a count is a difference of two prefix sums. Every sum is an integer (values are
held in fixed point), so the answer does not depend on block size, order of arrival or the origin of the sum: one seat
online and a million in a batch agree to the bit.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeVar, cast

import numpy as np
import numpy.typing as npt

from features.decisions import Stage
from features.events import MICROSECONDS_PER_DAY, Kind
from features.interventions import KINDS as INTERVENTION_KINDS

Integers = npt.NDArray[np.int64]
Positions = npt.NDArray[np.int32]  # a block holds far fewer than two thousand million events
Floats = npt.NDArray[np.float64]
Small = npt.NDArray[np.int8]
Booleans = npt.NDArray[np.bool_]
Number = TypeVar("Number", np.int64, np.float64)

FIXED_POINT = 1_000  # values are kept to a thousandth
MAX_WORKFLOWS = 5
HOUR = 3_600_000_000
DAY = MICROSECONDS_PER_DAY
LINE_ORIGIN_DAY = 20_000  # 2024-10-04: near the data, so that sums of squares of days stay exact in a float
KIND_CODES: Mapping[str, int] = {str(kind): code for code, kind in enumerate(Kind)}
CATEGORY_CODES: Mapping[str, int] = {
    name: code for code, name in enumerate((*map(str, Stage), *INTERVENTION_KINDS))
}  # of reactions and of interventions: no other category is a feature


@dataclass(frozen=True, eq=False)
class Events:
    """Columns of the events of a block, sorted by seat and instant. Equal only to itself.

    seat: (n,) index into the block's seats, ascending. at: (n,) microseconds since 1970 UTC.
    value: (n,) in thousandths, -1 where missing. workflow: (n,) index of the high-value workflow, -1 for any other.
    completed: (n,) 1, 0 or -1 for missing. category: (n,) one of CATEGORY_CODES or -1.
    is_high_value: (n,) whether it is of a workflow that the tool was bought for (of any, where the tool counts any).
    """

    seat: Integers
    at: Integers
    available: Integers
    kind: Small
    count: Integers
    value: Integers
    workflow: Small
    completed: Small
    frustration: Integers
    uncertainty: Integers
    category: Small
    guided: Booleans
    is_meaningful: Booleans
    is_opportunity: Booleans
    is_quick_close: Booleans
    is_high_value: Booleans


Anchor = Literal["end", "as_of", "date", "birth", "voice", "decided", "seat"]
Clock = Literal["end", "voice", "decided"]


class Bound(NamedTuple):
    """One end of a window: `offset` microseconds from an anchor of the snapshot.

    `end` is `as_of - lag`, where the data is complete; `as_of` itself is for what is live, and may miss what is late.
    `date` is the midnight that begins the UTC date of `end`, so that all dates before it are whole; `birth` the one that
    begins the date of assignment. `voice` and `decided` are `as_of` less the lag of the sources of tickets and surveys,
    and of interventions and reactions: what is known sooner is not held back by the slowest source.
    """

    anchor: Anchor
    offset: int


class Window(NamedTuple):
    """Half-open: from `start` (included) to `stop` (excluded), never past where its anchor's data ends."""

    start: Bound
    stop: Bound


END = Bound("end", 0)
BEGINNING = Bound("seat", 0)
EVER = Window(BEGINNING, END)
LAST_HOUR = Window(Bound("as_of", -HOUR), Bound("as_of", 0))


def ever(clock: Clock) -> Window:
    """Everything so far, to where the data of the clock ends."""
    return Window(BEGINNING, Bound(clock, 0))


def last_days(days: int, until: int = 0, clock: Clock = "end") -> Window:
    """The `days` times 24 hours that end `until` of them before the snapshot's end, to the moment."""
    return Window(Bound(clock, -(days + until) * DAY), Bound(clock, -until * DAY))


def last_dates(dates: int, until: int = 0) -> Window:
    """The last `dates` whole UTC dates before the date of the snapshot's end, less the last `until` of them.

    Whatever the hour, a seat that is used Monday to Friday has five of seven.
    """
    return Window(Bound("date", -(dates + until) * DAY), Bound("date", -until * DAY))


def first_dates(start: int, stop: int) -> Window:
    """UTC dates `start` to `stop` of the seat, that of its assignment being 0, as far as they lie before the end."""
    return Window(Bound("birth", start * DAY), Bound("birth", stop * DAY))


Mask = Callable[[Events], Booleans]


class Within:
    """A mask that looks only at the events of another one: most are of one kind, a tenth of all events."""

    def __init__(self, base: Mask, refine: Mask) -> None:
        """refine: which of the base's events it has."""
        self.base, self.refine = base, refine

    def __call__(self, events: Events) -> Booleans:
        """(n,) the same, looking at all events."""
        chosen = self.base(events).copy()
        chosen[chosen] = self.refine(subset(events, np.flatnonzero(chosen)))
        return chosen


class _Subset:
    """Some rows of events; each column is taken when it is asked for."""

    def __init__(self, events: Events, rows: Integers) -> None:
        self._events, self._rows = events, rows

    def __getattr__(self, name: str) -> npt.NDArray[np.generic]:
        column: npt.NDArray[np.generic] = getattr(self._events, name)[self._rows]
        self.__dict__[name] = column
        return column


def subset(events: Events, rows: Integers) -> Events:
    """Those rows alone. rows: ascending."""
    return cast(Events, _Subset(events, rows))


class Channel(NamedTuple):
    """What is summed: an amount of each event of a mask; (n,) integers, in thousandths where it is a value or score."""

    mask: Mask
    amount: Callable[[Events], Integers]


class History:
    """Window queries over a block of events, for (n,) snapshots. Answers are cached by their arguments."""

    def __init__(
        self,
        events: Events,
        *,
        seat: Integers,
        end: Integers,
        as_of: Integers,
        assigned: Integers,
        voice: Integers | None = None,
        decided: Integers | None = None,
    ) -> None:
        """seat: (n,) index of each snapshot's seat; end: (n,) events before it count, `voice` and `decided` likewise, by
        default `end`; all instants in microseconds.
        """
        self.seat, self.end, self.as_of, self.assigned = seat, end, as_of, assigned
        self.date, self.birth = end // DAY * DAY, assigned // DAY * DAY
        self._clocks: dict[Clock, Integers] = {
            "end": end,
            "voice": end if voice is None else voice,
            "decided": end if decided is None else decided,
        }
        self._anchors: dict[Anchor, Integers] = {
            "end": end,
            "voice": self._clocks["voice"],
            "decided": self._clocks["decided"],
            "as_of": as_of,
            "date": self.date,
            "birth": self.birth,
        }
        self._events = events
        ends = (events.at, as_of, *self._clocks.values())
        instants = [extreme(part) for part in ends for extreme in (np.min, np.max) if part.size]
        self._low = int(min(instants, default=0))
        self._span = int(max(instants, default=0)) - self._low + 2
        self._ranked: Integers | None = None
        seats = int(max(seat.max(initial=0), events.seat.max(initial=0))) + 1
        if seats * self._span >= 2**63:  # too many seats over too long a time for one key: ranks instead of instants
            self._ranked = np.unique(events.at)
            self._span = self._ranked.size + 1
        self._keys = events.seat * self._span + self._place(events.at)
        self._index: dict[Bound, Integers] = {}
        self._asked: dict[Bound, Integers] = {}
        self._sums: dict[Channel, Integers] = {}
        self._totals: dict[tuple[Channel, Window], Integers] = {}
        self._places: dict[Mask, Integers] = {}
        self._locals: dict[Mask, Integers] = {}
        self._subsets: dict[Mask, Events] = {}
        self._counts: dict[Mask, Positions] = {}
        self._bounds: dict[tuple[Mask, Bound], Positions] = {}  # half the bytes: they are most of what a block holds
        self._date_of: Integers | None = None
        self._days: dict[Mask, tuple[Positions, Integers]] = {}

    def _place(self, instant: Integers) -> Integers:
        if self._ranked is not None:
            return np.searchsorted(self._ranked, instant, side="left").astype(np.int64)
        return np.clip(instant - self._low, 0, self._span - 1)

    def index(self, bound: Bound) -> Integers:
        """(n,) how many events of the block lie before the bound in each snapshot's seat (and in all seats before)."""
        if bound not in self._index:
            self._index[bound] = np.searchsorted(self._keys, self._key(bound), side="left").astype(np.int64)
        return self._index[bound]

    def _key(self, bound: Bound) -> Integers:
        """(n,) the bound's place among the keys of all events."""
        if bound.anchor == "seat":
            return self.seat * self._span
        anchor = self._anchors[bound.anchor]
        limit = self.end if bound.anchor in ("date", "birth") else anchor
        return self.seat * self._span + self._place(np.minimum(anchor + bound.offset, limit))

    def total(self, channel: Channel, window: Window) -> Integers:
        """(n,) sum of the channel over the window."""
        if (channel, window) not in self._totals:
            sums = self._sum(channel)
            start, stop = self._positions(channel.mask, window)
            self._totals[channel, window] = sums[stop] - sums[start]
        return self._totals[channel, window]

    def _sum(self, channel: Channel) -> Integers:
        """Of the channel's events, the sum of those before each."""
        if channel not in self._sums:
            amount = channel.amount(self._chosen(channel.mask))
            sums = np.zeros(amount.size + 1, np.int64)
            np.cumsum(amount, out=sums[1:])
            self._sums[channel] = sums
        return self._sums[channel]

    def count(self, channel: Channel, window: Window) -> Floats:
        """(n,) the same as a float: counts are features."""
        return self.total(channel, window).astype(np.float64)

    def mean(self, amount: Channel, weight: Channel, window: Window) -> Floats:
        """(n,) mean of a fixed-point amount over the window; NaN where there is no weight."""
        return ratio(self.count(amount, window) / FIXED_POINT, self.count(weight, window))

    def days(self, mask: Mask, window: Window) -> Floats:
        """(n,) on how many UTC dates of the window an event of the mask happened. window: begins at a midnight."""
        start, stop, begun, _ = self._in_days(mask, window)
        return (begun[stop] - begun[start]).astype(np.float64)

    def day_gaps(self, mask: Mask, window: Window) -> tuple[Floats, Floats]:
        """Mean and standard deviation, in days, of the gaps between the days counted by `days`; NaN below two gaps."""
        start, stop, begun, day = self._in_days(mask, window)
        squares = np.zeros(day.size + 1, np.int64)
        squares[2:] = np.cumsum(np.diff(day) ** 2)
        lower, upper = begun[start].astype(np.int64), begun[stop].astype(np.int64) - 1
        gaps = np.maximum(upper - lower, 0).astype(np.float64)
        enough = gaps >= 2
        total = (take(day, upper) - take(day, lower)).astype(np.float64)
        mean = ratio(total, np.where(enough, gaps, 0))
        square = ratio(
            (take(squares, upper + 1) - take(squares, lower + 1)).astype(np.float64), np.where(enough, gaps, 0)
        )
        return mean, np.sqrt(np.maximum(square - mean * mean, 0))

    def since_last(self, mask: Mask, clock: Clock = "end") -> Floats:
        """(n,) days from the last event of the mask to where the clock's data ends; NaN where there was none."""
        return (self._clocks[clock] - self._instant(mask, ever(clock), first=False)) / DAY

    def first_at(self, mask: Mask, window: Window = EVER) -> Floats:
        """(n,) instant of the first event of the mask in the window, in microseconds; NaN where there was none."""
        return self._instant(mask, window, first=True)

    def last_value(self, mask: Mask, back: int = 0, window: Window = EVER) -> Floats:
        """(n,) the value of the last event of the mask (or `back` events before it); NaN where there was none."""
        start, stop = self._positions(mask, window)
        has = stop - back > start
        return np.where(has, take(self._chosen(mask).value, stop - 1 - back), np.nan) / FIXED_POINT

    def spread(self, amount: Channel, square: Channel, weight: Channel, window: Window, *, least: int) -> Floats:
        """(n,) standard deviation of a fixed-point amount over the window; NaN where there are fewer than `least`."""
        number = self.count(weight, window)
        mean = ratio(self.count(amount, window), np.where(number >= least, number, 0))
        mean_square = ratio(self.count(square, window), number)
        return np.sqrt(np.maximum(mean_square - mean * mean, 0)) / FIXED_POINT

    def streak(self, channel: Channel, breaks: Mask, window: Window = EVER) -> Floats:
        """(n,) the channel's sum since the last event of `breaks` (of all time where there was none)."""
        sums = self._sum(channel)
        start, stop = self._positions(breaks, window)
        has_broken = stop > start
        broken = take(self._rows(breaks), stop - 1)
        after_break = self._before(channel.mask, np.where(has_broken, broken + 1, self.index(BEGINNING)))
        _, last = self._positions(channel.mask, window)
        return np.asarray(sums[last] - sums[after_break], np.float64)

    def trend_line(self, mask: Mask, window: Window) -> Floats:
        """(n,) least-squares slope of the value of the mask's events over their UTC days, in values a day.

        NaN where the events lie on fewer than two days. Source: the normal equations, in integers, so that the day
        that counting starts from cannot be seen.
        """
        n, x, y, xx, xy = (
            self.total(Channel(mask, amount), window).astype(np.float64)
            for amount in (_ones, _day, _value, _day_squared, _day_times_value)
        )
        spread = n * xx - x * x
        return ratio(n * xy - x * y, spread) / FIXED_POINT

    def _instant(self, mask: Mask, window: Window, *, first: bool) -> Floats:
        start, stop = self._positions(mask, window)
        position = start if first else stop - 1
        return np.where(stop > start, take(self._chosen(mask).at, position), np.nan)

    def _positions(self, mask: Mask, window: Window) -> tuple[Positions, Positions]:
        """Half-open range of the window among the events of the mask."""
        return self._position(mask, window.start), self._position(mask, window.stop)

    def _position(self, mask: Mask, bound: Bound) -> Positions:
        """(n,) how many events of the mask lie before the bound (and in all seats before)."""
        if (mask, bound) not in self._bounds:
            found: Integers | Positions
            if isinstance(mask, Within):
                found = self._counted(mask)[self._position(mask.base, bound)]
            elif bound.anchor in ("voice", "decided"):  # few events, and few that ask: searched among them alone
                if bound not in self._asked:
                    self._asked[bound] = self._key(bound)
                found = np.searchsorted(self._keys[self._rows(mask)], self._asked[bound], side="left")
            else:
                found = self._counted(mask)[self.index(bound)]
            self._bounds[mask, bound] = found.astype(np.int32, copy=False)
        return self._bounds[mask, bound]

    def _before(self, mask: Mask, position: Integers) -> Integers:
        """How many events of the mask lie before each position among all events."""
        if isinstance(mask, Within):
            position = self._before(mask.base, position)
        return self._counted(mask)[position].astype(np.int64)

    def _rows(self, mask: Mask) -> Integers:
        """Where the events of the mask are among all events, ascending."""
        if not isinstance(mask, Within):
            return self._local(mask)
        if mask not in self._places:
            self._places[mask] = self._rows(mask.base)[self._local(mask)]
        return self._places[mask]

    def _local(self, mask: Mask) -> Integers:
        """Where they are among those of the mask's base, or among all events where it has none."""
        if mask not in self._locals:
            chosen = mask.refine(self._chosen(mask.base)) if isinstance(mask, Within) else mask(self._events)
            self._locals[mask] = np.flatnonzero(chosen)
        return self._locals[mask]

    def _chosen(self, mask: Mask) -> Events:
        """The events of the mask."""
        if mask not in self._subsets:
            self._subsets[mask] = subset(self._events, self._rows(mask))
        return self._subsets[mask]

    def _counted(self, mask: Mask) -> Positions:
        """How many of the mask's events lie before each position of all events, or of the base's where it has one."""
        if mask not in self._counts:
            rows = self._local(mask)
            size = self._rows(mask.base).size if isinstance(mask, Within) else self._events.at.size
            edges = np.diff(rows, prepend=-1, append=size)
            self._counts[mask] = np.repeat(np.arange(rows.size + 1, dtype=np.int32), edges)
        return self._counts[mask]

    def _in_days(self, mask: Mask, window: Window) -> tuple[Positions, Positions, Positions, Integers]:
        """The window's range among the mask's events; before each of them, how many dates with one began; each such date.

        A window that begins at a midnight begins where a date begins, so the dates inside are a difference of two
        counts. Numbers of dates tell apart within a seat only.
        """
        start, stop = self._positions(mask, window)
        if mask not in self._days:
            self._days[mask] = self._begun(self._rows(mask))
        begun, date = self._days[mask]
        return start, stop, begun, date

    def _begun(self, rows: Integers) -> tuple[Positions, Integers]:
        if self._date_of is None:
            date = self._events.at // DAY
            low = int(date.min(initial=0))
            self._date_of = self._events.seat * (int(date.max(initial=0)) - low + 2) + (date - low)
        number = self._date_of[rows]
        is_new = np.ones(number.size, bool)
        np.not_equal(number[1:], number[:-1], out=is_new[1:])
        begun = np.zeros(number.size + 1, np.int32)
        np.cumsum(is_new, out=begun[1:])
        return begun, number[is_new]


def _ones(events: Events) -> Integers:
    return np.ones(events.at.size, np.int64)


def _value(events: Events) -> Integers:
    return events.value


def _day(events: Events) -> Integers:
    return np.asarray(events.at // DAY - LINE_ORIGIN_DAY)


def _day_squared(events: Events) -> Integers:
    return _day(events) ** 2


def _day_times_value(events: Events) -> Integers:
    return _day(events) * events.value


def take(values: npt.NDArray[Number], position: npt.NDArray[np.signedinteger]) -> npt.NDArray[Number]:
    """values[position] with positions out of range brought to the nearest; zeros where there are no values."""
    if values.size == 0:
        return np.zeros(position.shape, values.dtype)
    taken: npt.NDArray[Number] = values[np.clip(position, 0, values.size - 1)]
    return taken


def ratio(part: Floats, whole: Floats) -> Floats:
    """part / whole; NaN where whole is 0."""
    return np.asarray(np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=whole != 0))
