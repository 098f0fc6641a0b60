"""The fitted risk model as one value: features in, a calibrated risk curve with its interval out.

The same scorer runs in evaluation and in production. It is written as plain JSON and LightGBM's own text, no pickle.
Training fits it, the registry keeps it, serving loads it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
import numpy.typing as npt

from features.catalogue import CATEGORIES, NUMERIC, catalogue_hash
from features.rules import RuleRates, Stratum, expert_rates, expert_rates_elsewhere, strata

Floats = npt.NDArray[np.float64]

REGISTERED_MODEL = "rekindle-risk"  # the name under which training registers and serving looks
CHAMPION = "champion"  # the alias of the version that serves
SCORER_ARTIFACT = "scorer"  # folder of the registered model that Scorer.save wrote
REFERENCE_ARTIFACT = "reference"  # folder with reference.parquet: training snapshots, FEATURES and `risk_28`

HORIZONS_DAYS = (0, 7, 14, 28)
PRODUCT_HORIZON_DAYS = 28
WEEKS = 8
PERIOD_ENDS_DAYS = tuple(range(0, 7 * WEEKS + 1, 7))  # T = 0, then each later week
PERIODS = len(PERIOD_ENDS_DAYS)
HORIZON_PERIODS = tuple(PERIOD_ENDS_DAYS.index(days) for days in HORIZONS_DAYS)
PERIOD_COLUMN = "period"
INPUTS = (*(feature.name for feature in NUMERIC), *(feature.name for feature in CATEGORIES), PERIOD_COLUMN)
MAX_DEPARTURE = 4.0  # standard deviations; our choice: beyond what was seen, a line must not run on
_TINY = 1e-9


class Method(StrEnum):
    """What the risk comes from: the hazard model, its fallback below 200 abandonments, or the rule."""

    LIGHTGBM = "lightgbm_hazard"
    LOGISTIC = "logistic_hazard"
    RULE = "rule"


@dataclass(frozen=True)
class Risk:
    """Risk of (n,) snapshots under `none`.

    risk, low, high: (n, len(HORIZONS_DAYS)) in [0, 1], never falling with the horizon; low and high are the 95 % spread
    of the calibration over resampled people, 0 and 1 where too little is known to say. curve: (n, PERIODS). expected_days: (n,) mean of the days to
    abandonment, counted to 56 at most.
    """

    risk: Floats
    low: Floats
    high: Floats
    curve: Floats
    expected_days: Floats


@dataclass(frozen=True)
class LinearHazard:
    """Regularised logistic hazard on standardised, squashed features: sign(x) log(1 + |x|).

    fill, mean, scale: (n_numeric,); weights: (n_numeric + one-hot levels,); intercepts: (PERIODS,).
    """

    fill: tuple[float, ...]
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    weights: tuple[float, ...]
    intercepts: tuple[float, ...]

    def design(self, vectors: Floats, codes: Floats, levels: Sequence[int]) -> Floats:
        """(n, n_weights) standardised features; codes: (n, n_categories), NaN where unknown."""
        filled = np.where(np.isnan(vectors), np.asarray(self.fill), vectors)
        numeric = np.clip(
            (squash(filled) - np.asarray(self.mean)) / np.asarray(self.scale), -MAX_DEPARTURE, MAX_DEPARTURE
        )
        return np.concatenate((numeric, one_hot(codes, levels)), axis=1)


@dataclass(frozen=True)
class Calibrator:
    """Beta calibration of the hazards: logit(h') = a ln h - b ln(1 - h) + c, apart for T = 0 and for later weeks.

    parameters: (2, 3) of a, b, c; resampled: (n_resamples, 2, 3), the same fitted on resampled people: the spread.
    Source: Kull, Silva Filho, Flach 2017, eq. 5.
    """

    kind: str = "none"
    parameters: tuple[tuple[float, float, float], ...] = ((1.0, 1.0, 0.0), (1.0, 1.0, 0.0))
    resampled: tuple[tuple[tuple[float, float, float], ...], ...] = ()

    def apply(self, hazards: Floats) -> Floats:
        """(n, PERIODS) calibrated hazards."""
        return np.asarray(calibrate(hazards, np.asarray(self.parameters)[None])[0])

    def spread(self, hazards: Floats) -> Floats:
        """(n_resamples, n, PERIODS) what the resampled calibrators say; none and all where there are none to ask."""
        if not self.resampled:
            return np.stack((np.zeros_like(hazards), np.ones_like(hazards)))
        return calibrate(hazards, np.asarray(self.resampled))


def calibrate(hazards: Floats, parameters: Floats) -> Floats:
    """(m, n, PERIODS) beta-calibrated hazards for (m, 2, 3) parameters."""
    clipped = np.clip(hazards, _TINY, 1 - _TINY)
    log_h, log_rest = np.log(clipped), np.log1p(-clipped)
    stage = np.minimum(np.arange(hazards.shape[1]), 1)
    a, b, c = (parameters[:, stage, part][:, None, :] for part in range(3))
    return np.asarray(1 / (1 + np.exp(-(a * log_h - b * log_rest + c))))


@dataclass(frozen=True)
class Scorer:
    """A fitted risk model. `note` says in one sentence why it is not the hazard model, where it is not.

    rule: of seats in use; elsewhere: by stratum, the rule of the others, whose silence has begun or never ended.
    """

    method: Method
    rule: RuleRates = field(default_factory=expert_rates)
    elsewhere: Mapping[str, RuleRates] = field(default_factory=expert_rates_elsewhere)
    levels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    calibrator: Calibrator = field(default_factory=Calibrator)
    booster: lgb.Booster | None = None
    linear: LinearHazard | None = None
    note: str = ""
    catalogue: str = field(default_factory=catalogue_hash)

    def score(self, vectors: Floats, categories: Sequence[Sequence[str]]) -> Risk:
        """Calibrated risk. vectors: (n, n_numeric) in catalogue order; categories: n rows of names in their order.

        The learned model speaks of seats in use; for the others, and without one, the rule speaks.
        """
        risk, low, high = self.rule.risk(vectors)
        stratum = strata(vectors)
        for name, rates in self.elsewhere.items():
            rows = np.flatnonzero(stratum == name)
            risk[rows], low[rows], high[rows] = rates.risk(vectors[rows])
        curve = _interpolated(risk)
        is_learned = self.speaks_for(vectors)
        if is_learned.any():
            rows = np.flatnonzero(is_learned)
            hazards = self.hazards(vectors[rows], self.codes([categories[row] for row in rows.tolist()]))
            curve[rows] = cumulative(self.calibrator.apply(hazards))
            risk[rows] = curve[rows][:, HORIZON_PERIODS]
            spread = cumulative(self.calibrator.spread(hazards))[:, :, HORIZON_PERIODS]
            bounds = np.quantile(spread, (0.025, 0.975), axis=0) if self.calibrator.resampled else spread
            low[rows], high[rows] = np.minimum(bounds[0], risk[rows]), np.maximum(bounds[1], risk[rows])
        return Risk(risk, low, high, curve, restricted_mean(curve))

    def speaks_for(self, vectors: Floats) -> npt.NDArray[np.bool_]:
        """(n,) whether the learned model, and not the rule, scores the snapshot."""
        if self.method is Method.RULE:
            return np.zeros(len(vectors), bool)
        return np.asarray(strata(vectors) == str(Stratum.IN_USE))

    def codes(self, categories: Sequence[Sequence[str]]) -> Floats:
        """(n, n_categories) category codes; NaN for a missing or never seen one."""
        tables = [{name: code for code, name in enumerate(self.levels.get(f.name, ()))} for f in CATEGORIES]
        coded = [[table.get(name, np.nan) for table, name in zip(tables, row, strict=True)] for row in categories]
        return np.asarray(coded, np.float64).reshape(len(categories), len(CATEGORIES))

    def hazards(self, vectors: Floats, codes: Floats) -> Floats:
        """(n, PERIODS) raw hazards of the learned model."""
        if self.booster is not None:
            rows = person_periods(vectors, codes)
            return np.asarray(self.booster.predict(rows, num_threads=1), np.float64).reshape(-1, PERIODS)
        if self.linear is None:
            raise ValueError(f"a scorer of method {self.method} has no hazards")
        level_counts = [len(self.levels.get(feature.name, ())) for feature in CATEGORIES]
        linear = self.linear.design(vectors, codes, level_counts) @ np.asarray(self.linear.weights)
        return np.asarray(1 / (1 + np.exp(-(linear[:, None] + np.asarray(self.linear.intercepts)))))

    def contributions(self, vectors: Floats, categories: Sequence[Sequence[str]]) -> dict[str, Floats]:
        """By feature, (n,) what it adds to the raw log-odds that the silence begins now (T = 0), and the `base`.

        The parts and the base sum to the raw score. LightGBM: SHAP values (Lundberg 2020); logistic: weight times
        departure from the mean; the rule has none.
        """
        codes = self.codes(categories)
        if self.booster is not None:
            rows = np.column_stack((vectors, codes, np.zeros(len(vectors))))
            parts = np.asarray(self.booster.predict(rows, pred_contrib=True, num_threads=1))
            named = dict(zip(INPUTS, parts.T, strict=False))
            base = parts[:, -1] + named.pop(PERIOD_COLUMN)
            return {**named, "base": base}
        if self.linear is None:
            return {}
        level_counts = [len(self.levels.get(feature.name, ())) for feature in CATEGORIES]
        parts = self.linear.design(vectors, codes, level_counts) * np.asarray(self.linear.weights)
        named = {feature.name: parts[:, position] for position, feature in enumerate(NUMERIC)}
        start = len(NUMERIC)
        for feature, levels in zip(CATEGORIES, level_counts, strict=True):
            named[feature.name] = parts[:, start : start + levels].sum(axis=1)
            start += levels
        return {**named, "base": np.full(len(vectors), self.linear.intercepts[0])}

    def save(self, folder: Path) -> None:
        """Write the scorer into the folder, which must exist."""
        document = {
            "method": str(self.method),
            "rule": asdict(self.rule),
            "elsewhere": {name: asdict(rates) for name, rates in self.elsewhere.items()},
            "levels": {name: list(levels) for name, levels in self.levels.items()},
            "calibrator": asdict(self.calibrator),
            "linear": None if self.linear is None else asdict(self.linear),
            "note": self.note,
            "catalogue": self.catalogue,
            "inputs": list(INPUTS),
        }
        (folder / "scorer.json").write_text(json.dumps(document), encoding="utf-8")
        if self.booster is not None:
            (folder / "booster.txt").write_text(self.booster.model_to_string(), encoding="utf-8")

    @staticmethod
    def load(folder: Path) -> "Scorer":
        """The scorer in the folder. Raises ValueError where it was fitted on other features than today's FEATURES."""
        document = json.loads((folder / "scorer.json").read_text(encoding="utf-8"))
        if document["catalogue"] != catalogue_hash() or tuple(document["inputs"]) != INPUTS:
            raise ValueError(
                f"the model was trained on another feature catalogue ({document['catalogue']}, now {catalogue_hash()}): "
                "build features and train again"
            )
        booster = folder / "booster.txt"
        calibrator = document["calibrator"]
        return Scorer(
            method=Method(document["method"]),
            rule=_rates(document["rule"]),
            elsewhere={name: _rates(rates) for name, rates in document["elsewhere"].items()},
            levels={name: tuple(levels) for name, levels in document["levels"].items()},
            calibrator=Calibrator(
                calibrator["kind"], _tuples(calibrator["parameters"]), _tuples(calibrator["resampled"])
            ),
            booster=lgb.Booster(model_file=str(booster)) if booster.exists() else None,
            linear=None
            if document["linear"] is None
            else LinearHazard(**{name: tuple(values) for name, values in document["linear"].items()}),
            note=document["note"],
            catalogue=document["catalogue"],
        )


def person_periods(vectors: Floats, codes: Floats) -> Floats:
    """(n * PERIODS, len(INPUTS)) one row per snapshot and period, the period last; the periods of a snapshot adjoin."""
    inputs = np.column_stack((vectors, codes))
    period = np.tile(np.arange(PERIODS, dtype=np.float64), len(inputs))
    return np.column_stack((np.repeat(inputs, PERIODS, axis=0), period))


def cumulative(hazards: Floats) -> Floats:
    """Risk by the end of each period from the hazards, along the last axis: 1 - prod(1 - h)."""
    return np.asarray(1 - np.cumprod(1 - hazards, axis=-1))


def restricted_mean(curve: Floats) -> Floats:
    """(n,) mean days to abandonment, counted to the end of the curve at most: the area under the survival curve."""
    survival = 1 - curve
    return np.asarray(7 * (survival[:, :-1] + survival[:, 1:]).sum(axis=1) / 2)


def squash(values: Floats) -> Floats:
    """sign(x) log(1 + |x|): counts and durations are skewed."""
    return np.asarray(np.sign(values) * np.log1p(np.abs(values)))


def one_hot(codes: Floats, levels: Sequence[int]) -> Floats:
    """(n, sum(levels)) indicator columns of (n, n_categories) codes; none for NaN."""
    return np.concatenate([codes[:, [c]] == np.arange(count) for c, count in enumerate(levels)], axis=1).astype(float)


def _interpolated(risk: Floats) -> Floats:
    """(n, PERIODS) a curve through the risks at the horizons; flat after the last."""
    return (
        np.stack([np.interp(PERIOD_ENDS_DAYS, HORIZONS_DAYS, row) for row in risk])
        if len(risk)
        else np.empty((0, PERIODS))
    )


def _rates(document: Mapping[str, Any]) -> RuleRates:
    tables = {name: _tuples(document[name]) for name in ("rates", "low", "high")}
    return RuleRates(**tables, learned_from=document["learned_from"])


def _tuples(values: list[object]) -> tuple:  # type: ignore[type-arg]  # nested to any depth, as JSON has it
    return tuple(_tuples(value) if isinstance(value, list) else value for value in values)
