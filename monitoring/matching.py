"""Like with like: the reference as it would look if its seats were as old as those that were served.

What people do with a tool changes with the weeks since they got it, so a rollout that merely grows older would look like
one that changed. Each served seat is compared with training snapshots of about its own week of life.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

NEAR_WEEKS = 4  # our choice: so many weeks to either side count as the same age, so that several moments are compared
ENOUGH_ROWS = 200  # of the reference for one week of life; where there are fewer, further weeks are taken in


@dataclass(frozen=True)
class Match:
    """weight: (n_reference,) of each snapshot of the reference, sums to 1.

    older: share of the served seats that are more than NEAR_WEEKS older than any snapshot of the reference: they are
    compared with its oldest.
    """

    weight: Floats
    older: float


def match(reference_week: Integers, current_week: Integers) -> Match:
    """Weights that give the reference the served seats' weeks of life. (n_reference,), (n_current,): whole weeks."""
    weeks, counts = np.unique(reference_week, return_counts=True)
    wanted, seats = np.unique(current_week, return_counts=True)
    by_week = np.zeros(len(weeks))
    for week, share in zip(wanted, seats / seats.sum(), strict=True):
        near = _near(weeks, counts, int(week))
        by_week[near] += share / counts[near].sum()
    older = seats[wanted > weeks[-1] + NEAR_WEEKS].sum() / seats.sum()
    return Match(by_week[np.searchsorted(weeks, reference_week)], float(older))


def _near(weeks: Integers, counts: Integers, week: int) -> npt.NDArray[np.bool_]:
    """The weeks of the reference that speak of a week: those around the nearest there are, until there is enough."""
    centre = int(np.clip(week, weeks[0] + NEAR_WEEKS, max(weeks[-1] - NEAR_WEEKS, weeks[0])))
    reach = NEAR_WEEKS
    while True:
        near = np.abs(weeks - centre) <= reach
        if counts[near].sum() >= ENOUGH_ROWS or near.all():
            return near
        reach += 1


def matched_sample(weight: Floats, size: int) -> Integers:
    """(size,) rows of the reference, as often as their weight says; the same at every call.

    Source: systematic resampling, Kitagawa 1996.
    """
    ends = np.cumsum(weight)
    points = (np.arange(size) + 0.5) / size * ends[-1]
    return np.asarray(np.searchsorted(ends, points), np.int64)
