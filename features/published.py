"""Figures as they may be published: so coarse that no two of them, taken from each other, tell of a small group.

Sets of people lie within each other: those who use a tool among those who hold a seat, those who answered among those who use
it. Exact numbers of both would give the rest, be it one person. So every number of people that is published goes through
`Grain`, wherever it stands: it is rounded to a multiple of the minimum group size, a share is worked out from two such
numbers, and a mean is rounded to what one seat more or less in its group would move it by.

What can be said then of the rest, A less B within it: from the two numbers it lies in a range as wide as twice the
minimum, which holds nobody or a group that is large enough. The same is true of a whole less its parts: a number that
may be smaller than the minimum is only said to be below one and a half of it, which holds both.
"""

import math
from dataclasses import dataclass

import numpy as np

from features.diagnosis import SHOWS_FROM
from features.history import Floats
from features.intervals import Estimate, Survival, wilson
from features.interventions import FailureMode
from features.segments import FULLY_AT, SegmentFinding

CURVE_DAYS = 7
# In minima: from the first on a share is said to be over or under a half, from the second in figures; curves from the third
FEW_STEPS, ENOUGH_STEPS, CURVE_STEPS = 2, 4, 5
UNDECIDED = 1.5  # in minima: what may be less is not said


@dataclass(frozen=True)
class Curve:
    """A survival curve on the days 0, 7, 14 …, as far as enough people were followed.

    seats, silences: rounded; silences is None where they are few. survival, low, high: rounded to what so many seats can tell.
    """

    seats: int
    silences: int | None
    times: Floats
    survival: Floats
    low: Floats
    high: Floats

    @property
    def followed_days(self) -> float:
        """The last day that something is said of."""
        return float(self.times[-1])


@dataclass(frozen=True)
class Grain:
    """How coarse figures are. least: the minimum group size."""

    least: int

    def count(self, n: int) -> int:
        """The number of people or seats, rounded to a multiple of the minimum. n: of a group that may be shown."""
        return self.least * ((2 * n + self.least) // (2 * self.least))

    def part(self, n: int) -> int | None:
        """As `count`, of a part that may be any size: None below one and a half of the minimum, and none at all is below."""
        return None if n < UNDECIDED * self.least else self.count(n)

    def share(self, hits: int, n: int) -> Estimate | None:
        """The share of `hits` in a group of `n` that may be shown, with its 95 % interval, which allows for the rounding too.

        Where the value is NaN, low and high are bounds of these seats' own share: of few seats that it is over or under a
        half, of more that those who do, or those who do not, are few. None where nothing can be said.
        """
        whole, some = self.count(n), self.count(hits)
        if whole < FEW_STEPS * self.least:
            return None
        if whole < ENOUGH_STEPS * self.least:
            return Estimate(np.nan, *((0.5, 1.0) if 2 * hits >= n else (0.0, 0.5)), whole)
        half = self.least / 2
        fewest, most = whole - half, whole + half
        bound = math.ceil(100 * UNDECIDED * self.least / fewest) / 100
        if hits < UNDECIDED * self.least:
            return Estimate(np.nan, 0.0, bound, whole)
        if whole - some <= self.least:
            return Estimate(np.nan, 1 - bound, 1.0, whole)
        low, high = wilson(some - half, most)[0], wilson(min(some + half, fewest), fewest)[1]
        return Estimate(some / whole, low, high, whole)

    def mean(self, found: Estimate, unit: float) -> Estimate:
        """A mean, ratio or time, rounded; its interval too. unit: by what one seat's least change moves the sum over seats."""
        whole = self.count(found.n)
        step = max(2 * unit / whole, 0.01)

        def rounded(value: float) -> float:
            return round(round(value / step) * step, 6) if math.isfinite(value) else value

        return Estimate(rounded(found.value), rounded(found.low), rounded(found.high), whole)

    def rate(self, per_100: float, seats: int) -> float:
        """So many per 100 of the seats, rounded to what two more would move it by."""
        step = 200 / self.count(seats)
        return round(round(per_100 / step) * step, 6)

    def curve(self, found: Survival) -> Curve | None:
        """The curve; None where too few were followed for it to have steps."""
        whole = self.count(found.n)
        times = np.arange(0.0, found.last + 1, CURVE_DAYS)
        times = times[: int((found.followed(times) >= UNDECIDED * self.least).sum())]
        if whole < CURVE_STEPS * self.least or len(times) < 2:
            return None
        step = self.least / whole
        place = np.searchsorted(found.times, times, side="right")
        survival, low, high = (np.append(1.0, part)[place] for part in (found.survival, found.low, found.high))
        silent = np.round((1 - survival) * found.n, 6)
        lost = np.floor(silent / self.least + 0.5)
        is_few = silent < UNDECIDED * self.least  # nobody or few: the same curve and band
        said = np.where(is_few, 1.0, np.maximum(1 - lost * step, 0.0))
        low = np.where(is_few, 1 - UNDECIDED * step, np.minimum(np.floor(low / step) * step, said))
        high = np.where(is_few, 1.0, np.clip(np.ceil(high / step) * step, said, 1))
        parts = (np.round(part, 6).astype(np.float64) for part in (said, np.maximum(low, 0.0), high))
        return Curve(whole, self.part(found.events), times, *parts)

    def finding(self, found: SegmentFinding) -> SegmentFinding | None:
        """What may be said of a failure mode that shows; of one that does not, None: a small share would be told apart."""
        seats = self.count(found.seats)
        if not found.shows or seats < FEW_STEPS * self.least:
            return None
        is_of_leaders = found.mode is FailureMode.LEADERSHIP_ABSENT
        if (self.count(found.shown) if is_of_leaders else seats) < CURVE_STEPS * self.least:
            said = (
                "use is clearly less common among the leaders than in their teams"
                if is_of_leaders
                else f"shows at one in five or more of about {seats:,} seats in use"
            )
            return SegmentFinding(found.mode, SHOWS_FROM, None, seats, True, said)
        share = math.floor(10 * (found.share or 0.0) + 0.5) / 10
        if is_of_leaders:
            said = f"use is {share:.0%} as common among about {self.count(found.shown):,} leaders as in their teams"
            return SegmentFinding(found.mode, _tenths(found.strength), share, seats, True, said)
        typical = found.typical if self.count(found.shown) >= FEW_STEPS * self.least else ()
        said = f"shows at about {share:.0%} of about {seats:,} seats in use"
        words = f"{said}; typically {', '.join(typical)}" if typical else said
        return SegmentFinding(found.mode, _tenths(share / FULLY_AT), share, seats, True, words, typical=typical)


def _tenths(strength: float) -> float:
    """Of what shows: from SHOWS_FROM to 1."""
    return round(min(max(strength, SHOWS_FROM), 1.0), 1)
