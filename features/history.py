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


Anchor = Literal["end", "as_of", "assigned", "seat"]


class Bound(NamedTuple):
    """One end of a window: `offset` microseconds from an anchor of the snapshot.

    `end` is `as_of - lag`, where the data is complete; `as_of` itself is for what is live, and may miss what is late.
    """

    anchor: Anchor
    offset: int


class Window(NamedTuple):
    """Half-open: from `start` (included) to `stop` (excluded), never past the snapshot's end (or its `as_of`)."""

    start: Bound
    stop: Bound


END = Bound("end", 0)
BEGINNING = Bound("seat", 0)
EVER = Window(BEGINNING, END)
LAST_HOUR = Window(Bound("as_of", -HOUR), Bound("as_of", 0))


def last_days(days: int, until: int = 0) -> Window:
    """The `days` days that end `until` days before the snapshot's end."""
    return Window(Bound("end", -(days + until) * DAY), Bound("end", -until * DAY))


def life_days(start: int, stop: int) -> Window:
    """Days `start` to `stop` after the seat was assigned, as far as they lie before the snapshot's end."""
    return Window(Bound("assigned", start * DAY), Bound("assigned", stop * DAY))


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

    def __init__(self, events: Events, *, seat: Integers, end: Integers, as_of: Integers, assigned: Integers) -> None:
        """seat: (n,) index of each snapshot's seat; end: (n,) events before it count; all instants in microseconds."""
        self.seat, self.end, self.as_of, self.assigned = seat, end, as_of, assigned
        self._events = events
        instants = [extreme(part) for part in (events.at, end, as_of) for extreme in (np.min, np.max) if part.size]
        self._low = int(min(instants, default=0))
        self._span = int(max(instants, default=0)) - self._low + 2
        self._ranked: Integers | None = None
        seats = int(max(seat.max(initial=0), events.seat.max(initial=0))) + 1
        if seats * self._span >= 2**63:  # too many seats over too long a time for one key: ranks instead of instants
            self._ranked = np.unique(events.at)
            self._span = self._ranked.size + 1
        self._keys = events.seat * self._span + self._place(events.at)
        self._index: dict[Bound, Integers] = {}
        self._sums: dict[Channel, Integers] = {}
        self._totals: dict[tuple[Channel, Window], Integers] = {}
        self._places: dict[Mask, Integers] = {}
        self._locals: dict[Mask, Integers] = {}
        self._subsets: dict[Mask, Events] = {}
        self._counts: dict[Mask, npt.NDArray[np.int32]] = {}
        self._bounds: dict[tuple[Mask, Bound], Integers] = {}
        self._grids: dict[Anchor, _Grid] = {}
        self._days: dict[tuple[Mask, Anchor], tuple[Integers | None, npt.NDArray[np.int32], Integers]] = {}

    def _place(self, instant: Integers) -> Integers:
        if self._ranked is not None:
            return np.searchsorted(self._ranked, instant, side="left").astype(np.int64)
        return np.clip(instant - self._low, 0, self._span - 1)

    def index(self, bound: Bound) -> Integers:
        """(n,) how many events of the block lie before the bound in each snapshot's seat (and in all seats before)."""
        if bound not in self._index:
            if bound.anchor == "seat":
                key = self.seat * self._span
            else:
                anchor = {"end": self.end, "as_of": self.as_of, "assigned": self.assigned}[bound.anchor]
                limit = self.as_of if bound.anchor == "as_of" else self.end
                instant = np.minimum(anchor + bound.offset, limit)
                key = self.seat * self._span + self._place(instant)
            self._index[bound] = np.searchsorted(self._keys, key, side="left").astype(np.int64)
        return self._index[bound]

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
        """(n,) on how many days of the window an event of the mask happened, at most as many as the window has.

        A day is 24 hours, counted from the window's anchor: back from the snapshot's end, or on from the assignment.
        """
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

    def since_last(self, mask: Mask, unit: int = DAY) -> Floats:
        """(n,) time from the last event of the mask to the snapshot's end, in `unit`; NaN where there was none."""
        return self._elapsed(mask, EVER, first=False, unit=unit)

    def first_at(self, mask: Mask, window: Window = EVER) -> Floats:
        """(n,) instant of the first event of the mask in the window, in microseconds; NaN where there was none."""
        return self._instant(mask, window, first=True)

    def last_value(self, mask: Mask, back: int = 0) -> Floats:
        """(n,) the value of the last event of the mask (or `back` events before it); NaN where there was none."""
        start, stop = self._positions(mask, EVER)
        has = stop - back > start
        return np.where(has, take(self._chosen(mask).value, stop - 1 - back), np.nan) / FIXED_POINT

    def spread(self, amount: Channel, square: Channel, weight: Channel, window: Window, *, least: int) -> Floats:
        """(n,) standard deviation of a fixed-point amount over the window; NaN where there are fewer than `least`."""
        number = self.count(weight, window)
        mean = ratio(self.count(amount, window), np.where(number >= least, number, 0))
        mean_square = ratio(self.count(square, window), number)
        return np.sqrt(np.maximum(mean_square - mean * mean, 0)) / FIXED_POINT

    def streak(self, channel: Channel, breaks: Mask) -> Floats:
        """(n,) the channel's sum since the last event of `breaks` (of all time where there was none)."""
        sums = self._sum(channel)
        start, stop = self._positions(breaks, EVER)
        has_broken = stop > start
        broken = take(self._rows(breaks), stop - 1)
        after_break = self._before(channel.mask, np.where(has_broken, broken + 1, self.index(BEGINNING)))
        _, last = self._positions(channel.mask, EVER)
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

    def _elapsed(self, mask: Mask, window: Window, *, first: bool, unit: int) -> Floats:
        return (self.end - self._instant(mask, window, first=first)) / unit

    def _instant(self, mask: Mask, window: Window, *, first: bool) -> Floats:
        start, stop = self._positions(mask, window)
        position = start if first else stop - 1
        return np.where(stop > start, take(self._chosen(mask).at, position), np.nan)

    def _positions(self, mask: Mask, window: Window) -> tuple[Integers, Integers]:
        """Half-open range of the window among the events of the mask."""
        return self._position(mask, window.start), self._position(mask, window.stop)

    def _position(self, mask: Mask, bound: Bound) -> Integers:
        """(n,) how many events of the mask lie before the bound (and in all seats before)."""
        if (mask, bound) not in self._bounds:
            if isinstance(mask, Within):
                found = self._counted(mask)[self._position(mask.base, bound)]
            else:
                found = self._counted(mask)[self.index(bound)]
            self._bounds[mask, bound] = found.astype(np.int64)
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

    def _counted(self, mask: Mask) -> npt.NDArray[np.int32]:
        """How many of the mask's events lie before each position of all events, or of the base's where it has one."""
        if mask not in self._counts:
            rows = self._local(mask)
            size = self._rows(mask.base).size if isinstance(mask, Within) else self._events.at.size
            edges = np.diff(rows, prepend=-1, append=size)
            self._counts[mask] = np.repeat(np.arange(rows.size + 1, dtype=np.int32), edges)
        return self._counts[mask]

    def _in_days(self, mask: Mask, window: Window) -> tuple[Integers, Integers, npt.NDArray[np.int32], Integers]:
        """The window's range among the mask's events; before each of them, how many days with one began; each such day.

        A window of whole days from its anchor begins where a day begins, so the days inside are a difference of two
        counts. Numbers of days tell apart within a seat only.
        """
        anchor: Anchor = "assigned" if window.start.anchor == "assigned" else "end"
        grid = self._grid(anchor)
        start, stop = self._positions(mask, window)
        if (mask, anchor) not in self._days:
            self._days[mask, anchor] = grid.days_of(self._rows(mask), self._events)
        shift, begun, day = self._days[mask, anchor]
        if shift is not None:
            start, stop = start + shift[grid.copy], stop + shift[grid.copy]
        return start, stop, begun, day

    def _grid(self, anchor: Anchor) -> "_Grid":
        if anchor not in self._grids:
            instant = self.assigned if anchor == "assigned" else self.end
            self._grids[anchor] = _Grid.of(self.seat, instant, self._events)
        return self._grids[anchor]


@dataclass(frozen=True)
class _Grid:
    """Where days begin: for each seat at the same time of day where all of its snapshots agree on it (`number`: (n,) of
    each event its seat's and its day's number), else for each copy of a seat that some of them agree on.

    copy: (n,) each snapshot's copy; seat, phase: (n_copies,) its seat, and the microseconds of a UTC day at which its
    days begin.
    """

    number: Integers | None
    copy: Integers
    seat: Integers
    phase: Integers

    @staticmethod
    def of(seat: Integers, instant: Integers, events: Events) -> "_Grid":
        """The days from which the instants are whole days away. seat, instant: (n,) of the snapshots."""
        phase = instant % DAY
        of_seat = np.zeros(int(max(seat.max(initial=-1), events.seat.max(initial=-1))) + 1, np.int64)
        of_seat[seat] = phase
        nothing = np.zeros(0, np.int64)
        if (of_seat[seat] == phase).all():
            same = int(phase[0]) if phase.size and (phase == phase[0]).all() else of_seat[events.seat]
            day = (events.at - same) // DAY
            low = int(day.min(initial=0))
            span = int(day.max(initial=0)) - low + 2
            return _Grid(events.seat * span + (day - low), nothing, nothing, nothing)
        copies, copy = np.unique(seat * DAY + phase, return_inverse=True)
        return _Grid(None, copy, copies // DAY, copies % DAY)

    def days_of(self, chosen: Integers, events: Events) -> tuple[Integers | None, npt.NDArray[np.int32], Integers]:
        """By how much a position among the chosen events is moved for each copy (None: not at all), before each position
        how many days began, and each day's number.
        """
        shift: Integers | None = None
        if self.number is not None:
            number = self.number[chosen]
        else:
            of_seat = events.seat[chosen]
            first = np.searchsorted(of_seat, self.seat, side="left")
            lengths = np.searchsorted(of_seat, self.seat, side="right") - first
            shift = np.cumsum(lengths) - lengths - first
            owner = np.repeat(np.arange(self.seat.size), lengths)
            position = np.arange(lengths.sum()) - shift[owner]
            day = (events.at[chosen][position] - self.phase[owner]) // DAY
            low = int(day.min(initial=0))
            number = owner * (int(day.max(initial=0)) - low + 2) + (day - low)
        is_new = np.ones(number.size, bool)
        np.not_equal(number[1:], number[:-1], out=is_new[1:])
        begun = np.zeros(number.size + 1, np.int32)
        np.cumsum(is_new, out=begun[1:])
        return shift, begun, number[is_new]


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


def take(values: npt.NDArray[Number], position: Integers) -> npt.NDArray[Number]:
    """values[position] with positions out of range brought to the nearest; zeros where there are no values."""
    if values.size == 0:
        return np.zeros(position.shape, values.dtype)
    return values[np.clip(position, 0, values.size - 1)]


def ratio(part: Floats, whole: Floats) -> Floats:
    """part / whole; NaN where whole is 0."""
    return np.asarray(np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=whole != 0))
