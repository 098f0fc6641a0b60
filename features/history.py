"""A block of seats' histories with exact window queries: what happened in `[start, end)`, for many snapshots at once.

Events are sorted by seat and instant; a window is two binary searches on one composite key (seat, instant), shared by
every feature that uses the same bound; a count is a difference of two prefix sums. Every sum is an integer (values are
held in fixed point), so the answer does not depend on block size, order of arrival or the origin of the sum: one seat
online and a million in a batch agree to the bit.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from features.events import MICROSECONDS_PER_DAY, Kind

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Small = npt.NDArray[np.int8]
Booleans = npt.NDArray[np.bool_]
Number = TypeVar("Number", np.int64, np.float64)

FIXED_POINT = 1_000  # values are kept to a thousandth
MAX_WORKFLOWS = 5
HOUR = 3_600_000_000
DAY = MICROSECONDS_PER_DAY
KIND_CODES: Mapping[Kind, int] = {kind: code for code, kind in enumerate(Kind)}


@dataclass(frozen=True)
class Events:
    """Columns of the events of a block, sorted by seat and instant.

    seat: (n,) index into the block's seats, ascending. at: (n,) microseconds since 1970 UTC.
    value: (n,) in thousandths, -1 where missing. workflow: (n,) index of the high-value workflow, -1 for any other.
    completed: (n,) 1, 0 or -1 for missing. category: (n,) code of the reaction stage or -1.
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


class Bound(NamedTuple):
    """One end of a window: `offset` microseconds from an anchor of the snapshot."""

    anchor: Literal["end", "assigned", "seat"]
    offset: int


class Window(NamedTuple):
    """Half-open: from `start` (included) to `stop` (excluded), never past the snapshot's end."""

    start: Bound
    stop: Bound


END = Bound("end", 0)
BEGINNING = Bound("seat", 0)
EVER = Window(BEGINNING, END)
LAST_HOUR = Window(Bound("end", -HOUR), END)


def last_days(days: int, until: int = 0) -> Window:
    """The `days` days that end `until` days before the snapshot's end."""
    return Window(Bound("end", -(days + until) * DAY), Bound("end", -until * DAY))


def life_days(start: int, stop: int) -> Window:
    """Days `start` to `stop` after the seat was assigned, as far as they lie before the snapshot's end."""
    return Window(Bound("assigned", start * DAY), Bound("assigned", stop * DAY))


Mask = Callable[[Events], Booleans]


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
        instants = np.concatenate((events.at, end))
        self._low = int(instants.min()) if instants.size else 0
        self._span = int(instants.max(initial=self._low)) - self._low + 2
        self._ranked: Integers | None = None
        seats = int(max(seat.max(initial=0), events.seat.max(initial=0))) + 1
        if seats * self._span >= 2**63:  # too many seats over too long a time for one key: ranks instead of instants
            self._ranked = np.unique(events.at)
            self._span = self._ranked.size + 1
        self._keys = events.seat * self._span + self._place(events.at)
        self._index: dict[Bound, Integers] = {}
        self._sums: dict[Channel, Integers] = {}
        self._compact: dict[Mask, tuple[npt.NDArray[np.int32], Integers]] = {}
        self._bounds: dict[tuple[Mask, Bound], Integers] = {}
        self._days: dict[Mask, tuple[Integers, Integers]] = {}

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
                anchor = self.end if bound.anchor == "end" else self.assigned
                instant = np.minimum(anchor + bound.offset, self.end)
                key = self.seat * self._span + self._place(instant)
            self._index[bound] = np.searchsorted(self._keys, key, side="left").astype(np.int64)
        return self._index[bound]

    def total(self, channel: Channel, window: Window) -> Integers:
        """(n,) sum of the channel over the window."""
        if channel not in self._sums:
            _, events = self._compacted(channel.mask)
            sums = np.zeros(events.size + 1, np.int64)
            np.cumsum(channel.amount(self._events)[events], out=sums[1:])
            self._sums[channel] = sums
        sums = self._sums[channel]
        start, stop = self._positions(channel.mask, window)
        return np.asarray(sums[stop] - sums[start])

    def count(self, channel: Channel, window: Window) -> Floats:
        """(n,) the same as a float: counts are features."""
        return self.total(channel, window).astype(np.float64)

    def mean(self, amount: Channel, weight: Channel, window: Window) -> Floats:
        """(n,) mean of a fixed-point amount over the window; NaN where there is no weight."""
        return ratio(self.count(amount, window) / FIXED_POINT, self.count(weight, window))

    def days(self, mask: Mask, window: Window) -> Floats:
        """(n,) number of distinct UTC days in the window on which an event of the mask happened."""
        first, last = self._ranks(mask, window)
        rank, _ = self._day_ranks(mask)
        return np.where(last >= first, take(rank, last) - take(rank, first) + 1, 0).astype(np.float64)

    def day_gaps(self, mask: Mask, window: Window) -> tuple[Floats, Floats]:
        """Mean and standard deviation, in days, of the gaps between the days counted by `days`; NaN below two gaps."""
        first, last = self._ranks(mask, window)
        rank, day = self._day_ranks(mask)
        squares = np.zeros(day.size + 1, np.int64)
        squares[2:] = np.cumsum(np.diff(day) ** 2)
        lower, upper = take(rank, first), take(rank, last)
        gaps = np.where(last >= first, upper - lower, 0).astype(np.float64)
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
        _, events = self._compacted(mask)
        has = stop - back > start
        return np.where(has, take(self._events.value[events], stop - 1 - back), np.nan) / FIXED_POINT

    def streak(self, mask: Mask, breaks: Mask) -> Floats:
        """(n,) how many (by count) of the latest of the mask came after the last one that is also of `breaks`."""
        start, stop = self._positions(mask, EVER)
        _, events = self._compacted(mask)
        broken = np.where(breaks(self._events)[events], np.arange(1, events.size + 1), 0)
        latest = np.concatenate(([0], np.maximum.accumulate(broken))) if events.size else np.zeros(1, np.int64)
        total = np.concatenate(([0], np.cumsum(self._events.count[events], dtype=np.int64)))
        return np.asarray(total[stop] - total[np.maximum(latest[stop], start)], np.float64)

    def _elapsed(self, mask: Mask, window: Window, *, first: bool, unit: int) -> Floats:
        return (self.end - self._instant(mask, window, first=first)) / unit

    def _instant(self, mask: Mask, window: Window, *, first: bool) -> Floats:
        start, stop = self._positions(mask, window)
        _, events = self._compacted(mask)
        position = start if first else stop - 1
        return np.where(stop > start, take(self._events.at[events], position), np.nan)

    def _positions(self, mask: Mask, window: Window) -> tuple[Integers, Integers]:
        """Half-open range of the window among the events of the mask."""
        return self._position(mask, window.start), self._position(mask, window.stop)

    def _position(self, mask: Mask, bound: Bound) -> Integers:
        """(n,) how many events of the mask lie before the bound (and in all seats before)."""
        if (mask, bound) not in self._bounds:
            before, _ = self._compacted(mask)
            self._bounds[mask, bound] = before[self.index(bound)].astype(np.int64)
        return self._bounds[mask, bound]

    def _ranks(self, mask: Mask, window: Window) -> tuple[Integers, Integers]:
        start, stop = self._positions(mask, window)
        return start, stop - 1

    def _compacted(self, mask: Mask) -> tuple[npt.NDArray[np.int32], Integers]:
        """How many events of the mask lie before each position, and where they are."""
        if mask not in self._compact:
            chosen = mask(self._events)
            before = np.zeros(chosen.size + 1, np.int32)
            np.cumsum(chosen, out=before[1:])
            self._compact[mask] = before, np.flatnonzero(chosen)
        return self._compact[mask]

    def _day_ranks(self, mask: Mask) -> tuple[Integers, Integers]:
        """Of each event of the mask, the rank of its (seat, day); and of each such day, its number since 1970."""
        if mask not in self._days:
            _, events = self._compacted(mask)
            day, seat = self._events.at[events] // DAY, self._events.seat[events]
            is_new = np.ones(events.size, bool)
            is_new[1:] = (day[1:] != day[:-1]) | (seat[1:] != seat[:-1])
            self._days[mask] = np.cumsum(is_new, dtype=np.int64) - 1, day[is_new]
        return self._days[mask]


def take(values: npt.NDArray[Number], position: Integers) -> npt.NDArray[Number]:
    """values[position] with positions out of range brought to the nearest; zeros where there are no values."""
    if values.size == 0:
        return np.zeros(position.shape, values.dtype)
    return values[np.clip(position, 0, values.size - 1)]


def ratio(part: Floats, whole: Floats) -> Floats:
    """part / whole; NaN where whole is 0."""
    return np.asarray(np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=whole != 0))
