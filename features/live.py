"""Friction at this moment: what went wrong for a seat within the last hour, while guidance can still help."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from features.catalogue import BY_NAME, NUMERIC

Floats = npt.NDArray[np.float64]

SEVERAL = 3  # our choice: one quick close is a glance, three within the hour are a struggle
_COLUMN = {name: NUMERIC.index(BY_NAME[name]) for name in ("quick_closes_1h", "failed_attempts_1h", "errors_1h")}


@dataclass(frozen=True)
class LiveFriction:
    """Counts of the hour before `as_of`, and whether they are several."""

    quick_closes: int
    failed_attempts: int
    errors: int
    is_struggling: bool


def live_strength(vectors: Floats) -> Floats:
    """(n,) in [0, 1]: 1 from SEVERAL on, 0 where nothing is known. A quick close may be a failed attempt, too, and
    counts once.

    vectors: (n, n_numeric) in catalogue order.
    """
    quick, failed, errors = (np.nan_to_num(vectors[:, column]) for column in _COLUMN.values())
    return np.asarray(np.clip((np.maximum(quick, failed) + errors) / SEVERAL, 0, 1))


def live_friction(vector: Floats) -> LiveFriction:
    """What the features of one seat say of the last hour. vector: (n_numeric,) in catalogue order."""
    values = [float(vector[column]) for column in _COLUMN.values()]
    quick, failed, errors = (0 if value != value else int(value) for value in values)
    return LiveFriction(quick, failed, errors, max(quick, failed) + errors >= SEVERAL)
