"""Friction at this moment: what went wrong for a seat within the last hour, while guidance can still help."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from features.catalogue import BY_NAME, NUMERIC

Floats = npt.NDArray[np.float64]

SEVERAL = 3  # our choice: one quick close is a glance, three within the hour are a struggle
HOUR_SECONDS = 3_600
_IS_OF_THE_HOUR = np.array([feature.window == "1 hour" for feature in NUMERIC])
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


def is_current(age_s: float) -> bool:
    """Whether the hour before features of that age, in seconds, can still be spoken of as this one."""
    return age_s <= HOUR_SECONDS


def as_current(vectors: Floats, ages_s: Sequence[float]) -> Floats:
    """The vectors, with nothing said of the last hour where they are older than one.

    vectors: (n, n_numeric) in catalogue order; ages_s: (n,) in seconds.
    """
    shown = vectors.copy()
    old = np.array([not is_current(age_s) for age_s in ages_s], bool)
    shown[old[:, None] & _IS_OF_THE_HOUR] = np.nan
    return shown


def live_friction(vector: Floats) -> LiveFriction:
    """What the features of one seat say of the hour before them. vector: (n_numeric,) in catalogue order."""
    values = [float(vector[column]) for column in _COLUMN.values()]
    quick, failed, errors = (0 if value != value else int(value) for value in values)
    return LiveFriction(quick, failed, errors, max(quick, failed) + errors >= SEVERAL)
