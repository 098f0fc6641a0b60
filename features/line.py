"""A linear model of what is known of a seat: standardised, squashed numbers and one-hot names."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from features.calibration import probability
from features.scorer import MAX_DEPARTURE, one_hot, squash

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Line:
    """A logistic regression of keeping for each arm on standardised, squashed numbers and one-hot names.

    fill, mean, scale: (p,); weights: (K, p + one-hot levels); intercepts: (K,).
    """

    fill: tuple[float, ...]
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    weights: tuple[tuple[float, ...], ...] = ()
    intercepts: tuple[float, ...] = ()

    def design(self, vectors: Floats, codes: Floats, levels: Sequence[int]) -> Floats:
        """(n, n_weights) standardised inputs; codes: (n, n_categories), NaN where unknown."""
        filled = np.where(np.isnan(vectors), np.asarray(self.fill), vectors)
        numbers = (squash(filled) - np.asarray(self.mean)) / np.asarray(self.scale)
        return np.concatenate((np.clip(numbers, -MAX_DEPARTURE, MAX_DEPARTURE), one_hot(codes, levels)), axis=1)

    def chances(self, design: Floats) -> Floats:
        """(n, K) probability of keeping under each arm."""
        return probability(design @ np.asarray(self.weights).T + np.asarray(self.intercepts))
