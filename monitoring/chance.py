"""What distances chance alone makes: windows resampled from the reference, at the size of the one that was served.

A resampled window is one moment of the reference, seen through as many teams as were served, drawn with replacement; it is
compared with the rest of the reference, whose teams are drawn with replacement too. So it differs as an unchanged window
would: by who is in it (people of a team share what happens to them) and by the week (surveys, holidays, the rollout's age).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from monitoring.distances import jensen_shannon, psi, wasserstein

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

DRAWS = 200  # our choice: enough for a mean and a deviation, from which the tail is read
CHUNK_BINS = 400  # of 20 000 snapshots 32 MB
MISSING = -1


@dataclass(frozen=True)
class Binned:
    """One column of the reference in bins. reference: (n,) bin of each snapshot, MISSING where null.

    place: (bins,) where each bin lies on the line, ascending; None for names. is_share: of two bins only the share of the
    second matters.
    """

    reference: Integers
    bins: int
    place: Floats | None = None
    is_share: bool = False


@dataclass(frozen=True)
class Blocks:
    """(n_reference,) of each snapshot of the reference: its weight, its team and its moment, from 0."""

    weight: Floats
    team: Integers
    moment: Integers


def distances(current: Floats, reference: Floats, place: Floats | None) -> dict[str, Floats]:
    """By measure, the distance of (…, bins) shares."""
    found = {"psi": psi(current, reference), "jensenshannon": jensen_shannon(current, reference)}
    return found if place is None else {**found, "wasserstein": wasserstein(current, reference, place)}


def by_chance(
    columns: Mapping[str, Binned], blocks: Blocks, *, teams: int, seed: int, draws: int = DRAWS
) -> dict[str, dict[str, Floats]]:
    """By column and measure, (draws,) distances of resampled windows. teams: of the served window."""
    rows = np.flatnonzero(blocks.weight > 0)
    weight = blocks.weight[rows]
    _, team = np.unique(blocks.team[rows], return_inverse=True)
    _, moment = np.unique(blocks.moment[rows], return_inverse=True)
    windows, rests = _resampled(weight, team, moment, teams=teams, seed=seed, draws=draws)
    found = {}
    for chunk in _chunks(
        columns
    ):  # many columns at a time: one large product of matrices is far faster than many small ones
        ends = np.cumsum([column.bins for column in chunk.values()])
        hot = np.zeros((len(rows), int(ends[-1])), np.float32)
        for column, end in zip(chunk.values(), ends.tolist(), strict=True):
            bins = column.reference[rows]
            known = np.flatnonzero(bins != MISSING)
            hot[known, end - column.bins + bins[known]] = 1
        now, before = (np.split(counts @ hot, ends[:-1], axis=1) for counts in (windows, rests))
        for (name, column), one, other in zip(chunk.items(), now, before, strict=True):
            found[name] = _distances(column, _shares(one), _shares(other))
    return found


def _distances(column: Binned, now: Floats, before: Floats) -> dict[str, Floats]:
    return {"share": np.abs(now[:, 1] - before[:, 1])} if column.is_share else distances(now, before, column.place)


def _chunks(columns: Mapping[str, Binned]) -> Iterator[dict[str, Binned]]:
    """The columns in groups of about CHUNK_BINS bins."""
    chunk: dict[str, Binned] = {}
    for name, column in columns.items():
        chunk[name] = column
        if sum(one.bins for one in chunk.values()) >= CHUNK_BINS:
            yield chunk
            chunk = {}
    if chunk:
        yield chunk


def _resampled(
    weight: Floats, team: Integers, moment: Integers, *, teams: int, seed: int, draws: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """(draws, n) weights of resampled windows, and of what each is compared with."""
    rng = np.random.default_rng(seed)
    mass = np.bincount(moment, weight)
    n_teams = int(team.max()) + 1
    windows, rests = (np.empty((draws, len(weight)), np.float32) for _ in range(2))
    for draw, chosen in enumerate(rng.choice(len(mass), draws, p=mass / mass.sum())):
        inside = moment == chosen
        there = np.unique(team[inside])
        times = np.bincount(rng.choice(there, teams), minlength=n_teams)
        windows[draw] = np.where(inside, weight * times[team], 0)
        again = np.bincount(rng.integers(0, n_teams, n_teams), minlength=n_teams)
        others = ~inside if len(mass) > 1 else np.ones(len(weight), bool)
        rests[draw] = np.where(others, weight * again[team], 0)
    return windows, rests


def _shares(counts: npt.NDArray[np.float32]) -> Floats:
    total = counts.sum(axis=-1, keepdims=True, dtype=np.float64)
    return np.asarray(np.divide(counts, total, out=np.full(counts.shape, 1 / counts.shape[-1]), where=total > 0))


def limit(distance: Floats, alpha: float) -> float:
    """The distance that chance alone exceeds with a chance of alpha.

    A gamma law with the mean and the deviation of the resampled distances (Box 1954, theorem 3.1: a sum of unequal
    chi-squares is nearly a scaled one); alpha is far beyond what draws alone could reach.
    """
    mean, variance = float(distance.mean()), float(distance.var(ddof=1))
    if mean <= 0 or variance <= 0:
        return mean
    return float(stats.gamma.isf(alpha, mean**2 / variance, scale=variance / mean))
