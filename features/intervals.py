"""Estimates with intervals: a share, a mean or ratio over people, a survival curve and its median."""

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from features.history import Booleans, Floats, Integers

LEVEL = 0.95
RESAMPLES = 400  # our choice: the ends of a 95 % interval then move by about a twentieth of its width
_Z = NormalDist().inv_cdf((1 + LEVEL) / 2)


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval, and over how many seats; NaN where it cannot be said."""

    value: float
    low: float
    high: float
    n: int


def wilson(hits: float, n: float) -> tuple[float, float]:
    """Interval of a share of `hits` in `n`; NaN where n is 0. Source: Wilson 1927; Brown, Cai, DasGupta 2001, eq. 4."""
    if not n:
        return np.nan, np.nan
    share, z2 = hits / n, _Z * _Z
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z / (1 + z2 / n) * np.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return max(middle - half, 0.0), min(middle + half, 1.0)


def ratios(
    numerator: Floats, denominator: Floats, person: Integers, group: Integers, groups: int, *, seed: int
) -> tuple[Floats, Floats, Floats]:
    """Sum of numerators over sum of denominators in each group, with the ends of a bootstrap interval over people.

    numerator, denominator, person, group: (n,) by seat, group -1 belongs to none; three arrays (groups,), NaN where the
    denominators add up to 0. The seats of one person are drawn together. Source: Efron 1979 (percentile interval), with
    weights from the Poisson distribution of mean 1 in place of draws (Hanley, MacGibbon 2006).
    """
    chosen = np.flatnonzero(group >= 0)
    order = chosen[np.argsort(group[chosen], kind="stable")]
    rng = np.random.default_rng(seed)
    people, own = np.unique(person[order], return_inverse=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        value = _sums(numerator[order], group[order], groups) / _sums(denominator[order], group[order], groups)
        drawn = np.empty((RESAMPLES, groups))
        for row in range(RESAMPLES):
            weight = rng.poisson(1.0, len(people))[own]
            top = _sums(weight * numerator[order], group[order], groups)
            drawn[row] = top / _sums(weight * denominator[order], group[order], groups)
    low, high = np.full(groups, np.nan), np.full(groups, np.nan)
    known = np.isfinite(value)
    if known.any():
        ends = np.nanquantile(
            np.where(np.isfinite(drawn), drawn, value)[:, known], [(1 - LEVEL) / 2, (1 + LEVEL) / 2], 0
        )
        low[known], high[known] = ends
    return np.where(known, value, np.nan), low, high


def _sums(values: Floats, group: Integers, groups: int) -> Floats:
    return np.asarray(np.bincount(group, values, groups), np.float64)


@dataclass(frozen=True)
class Survival:
    """A Kaplan–Meier curve: a step at each time at which something happened, from 1 down; low and high are its interval.

    Arrays (k,) of times in days. n: how many were followed; events: to how many it happened; last: the longest time
    anybody was followed. Beyond `last` nothing is known. ends: (n,) ascending, how long each was followed.
    """

    times: Floats
    survival: Floats
    low: Floats
    high: Floats
    at_risk: Integers
    n: int
    events: int
    last: float
    ends: Floats

    def followed(self, times: Floats) -> Integers:
        """(m,) how many were followed for as long as each of the `times`."""
        return np.asarray(self.n - np.searchsorted(self.ends, times), np.int64)

    def at(self, days: float) -> Estimate:
        """The share to which nothing has happened by `days`; NaN beyond the longest follow-up."""
        if days > self.last:
            return Estimate(np.nan, np.nan, np.nan, self.n)
        place = int(np.searchsorted(self.times, days, side="right")) - 1
        if place < 0:
            return Estimate(1.0, 1.0, 1.0, self.n)
        return Estimate(float(self.survival[place]), float(self.low[place]), float(self.high[place]), self.n)

    def quantile(self, share: float = 0.5) -> Estimate:
        """The time by which it has happened to the share, infinite where it has not; its interval are the times at which
        the curve's own does. Source: Brookmeyer, Crowley 1982.
        """
        value, low, high = (self._first_below(curve, 1 - share) for curve in (self.survival, self.low, self.high))
        return Estimate(value, low, high, self.n)

    def _first_below(self, curve: Floats, level: float) -> float:
        below = np.flatnonzero(curve <= level)
        return float(self.times[below[0]]) if len(below) else np.inf


def kaplan_meier(days: Floats, happened: Booleans) -> Survival:
    """The survival curve of times that were seen to end (`happened`) or were still going on (not).

    days: (n,) not negative. Source: Kaplan, Meier 1958; variance Greenwood 1926; interval on the log(-log) scale
    (Kalbfleisch, Prentice 1980, section 1.4), so that it stays within [0, 1].
    """
    n = len(days)
    times, place = np.unique(days, return_inverse=True)
    ended = np.bincount(place, happened, len(times))
    at_risk = n - np.concatenate(([0], np.cumsum(np.bincount(place, minlength=len(times)))[:-1]))
    chosen = ended > 0
    times, ended, at_risk = times[chosen], ended[chosen], at_risk[chosen].astype(np.int64)
    survival = np.cumprod(1 - ended / at_risk)
    with np.errstate(divide="ignore", invalid="ignore"):
        greenwood = np.cumsum(ended / (at_risk * (at_risk - ended)))
        spread = _Z * np.sqrt(greenwood) / np.log(survival)
        low, high = survival ** np.exp(-spread), survival ** np.exp(spread)
    gone = survival == 0
    low, high = np.where(gone, 0.0, low), np.where(gone, 0.0, high)
    return Survival(
        times, survival, low, high, at_risk, n, int(ended.sum()), float(np.max(days, initial=0.0)), np.sort(days)
    )
