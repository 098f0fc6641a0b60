"""Calibration of hazards and the band around a risk, as plain numbers that a scorer carries: nothing is refitted to serve.

Training fits both (training.calibration); here they are applied.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

NONE, BETA, VENN_ABERS = "none", "beta", "venn_abers"
STAGES = 2  # T = 0, and the later weeks
Parameters = tuple[tuple[float, float, float], tuple[float, float, float]]
UNCHANGED: Parameters = ((1.0, 1.0, 0.0), (1.0, 1.0, 0.0))
_TINY = 1e-9


@dataclass(frozen=True)
class Steps:
    """Venn–Abers for one stage: the two isotonic steps between which the rate lies, as functions of the raw hazard.

    below: p0 is below_values[k] from the k-th of below_from on (included); above: p1 likewise, beyond above_from
    (excluded). The values have one more entry than the places.
    Source: Vovk and Petej 2014, "Venn-Abers predictors", section 2; Vovk, Petej, Fedorova 2015, algorithms 5 and 6.
    """

    below_from: tuple[float, ...]
    below_values: tuple[float, ...]
    above_from: tuple[float, ...]
    above_values: tuple[float, ...]

    def bounds(self, hazards: Floats) -> tuple[Floats, Floats]:
        """p0 and p1 of each hazard, p0 at most p1."""
        below = np.asarray(self.below_values)[np.searchsorted(self.below_from, hazards, "right")]
        above = np.asarray(self.above_values)[np.searchsorted(self.above_from, hazards, "left")]
        return below, above

    def merged(self, hazards: Floats) -> Floats:
        """One probability of the two that minimises the regret of the log loss: p1 / (1 - p0 + p1)."""
        below, above = self.bounds(hazards)
        return np.asarray(above / (1 - below + above))


@dataclass(frozen=True)
class Calibrator:
    """Calibration of the hazards, apart for T = 0 and for later weeks.

    beta: logit(h') = a ln h - b ln(1 - h) + c with (a, b, c) = parameters of the stage (Kull, Silva Filho, Flach 2017,
    eq. 5). venn_abers: the steps of the stage.
    """

    kind: str = NONE
    parameters: Parameters = UNCHANGED
    steps: tuple[Steps, ...] = ()

    def apply(self, hazards: Floats) -> Floats:
        """(n, PERIODS) calibrated hazards in [0, 1], so that the risk never falls with the horizon."""
        if self.kind == VENN_ABERS:
            first, later = self.steps
            return np.concatenate((first.merged(hazards[:, :1]), later.merged(hazards[:, 1:])), axis=1)
        return calibrate(hazards, self.parameters)

    @staticmethod
    def from_document(document: Mapping[str, Any]) -> "Calibrator":
        """The calibrator that `asdict` wrote, back from JSON."""
        steps = tuple(Steps(**{name: tuple(values) for name, values in one.items()}) for one in document["steps"])
        first, later = (tuple(part) for part in document["parameters"])
        return Calibrator(document["kind"], (first, later), steps)


@dataclass(frozen=True)
class Band:
    """The 95 % interval around a risk: the share that will be abandoned among seats scored alike, at a later time.

    It is no statement about one seat, whose outcome is 0 or 1. places: (n_horizons, k) log-odds of risk, ascending;
    half_widths: (n_horizons, k) on the log-odds scale, linear between the places, level outside. Empty: nothing is known, and
    the interval is [0, 1]. How it is measured: training.calibration.
    """

    places: tuple[tuple[float, ...], ...] = ()
    half_widths: tuple[tuple[float, ...], ...] = ()

    def around(self, risk: Floats) -> tuple[Floats, Floats]:
        """Lower and upper bound of (n, n_horizons) risks, neither falling with the horizon."""
        if not self.places:
            return np.zeros_like(risk), np.ones_like(risk)
        odds = log_odds(risk)
        columns = zip(odds.T, self.places, self.half_widths, strict=True)
        width = np.stack([np.interp(column, places, widths) for column, places, widths in columns], axis=1)
        low, high = (np.maximum.accumulate(probability(odds + sign * width), axis=1) for sign in (-1, 1))
        return np.minimum(low, risk), np.maximum(high, risk)

    @staticmethod
    def from_document(document: Mapping[str, Any]) -> "Band":
        """The band that `asdict` wrote, back from JSON."""
        return Band(*(tuple(tuple(row) for row in document[name]) for name in ("places", "half_widths")))


def calibrate(hazards: Floats, parameters: Parameters) -> Floats:
    """(n, m) beta-calibrated hazards: the first column by the first parameters, the others by the second."""
    clipped = np.clip(hazards, _TINY, 1 - _TINY)
    stage = np.minimum(np.arange(hazards.shape[1]), 1)
    a, b, c = np.asarray(parameters)[stage].T
    return probability(a * np.log(clipped) - b * np.log1p(-clipped) + c)


def settled(values: Floats) -> tuple[float, ...]:
    """The values to eight significant digits. The last ones of a sum by BLAS differ with its threads and with where the rows lie
    in memory; what is fitted is cut here, so that the same data and seed give the same bytes.
    """
    return tuple(float(f"{value:.8g}") for value in values)


def log_odds(chance: Floats) -> Floats:
    """ln(p / (1 - p)), finite at 0 and 1."""
    clipped = np.clip(chance, _TINY, 1 - _TINY)
    return np.asarray(np.log(clipped) - np.log1p(-clipped))


def probability(odds: Floats) -> Floats:
    """1 / (1 + exp(-odds))."""
    return np.asarray(1 / (1 + np.exp(-odds)))
