"""The fitted risk model as one value: features in, a calibrated risk curve with its interval out.

The same scorer runs in evaluation and in production. It is written as plain JSON and LightGBM's own text, no pickle.
Training fits it, the registry keeps it, serving loads it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
import numpy.typing as npt

from features.calibration import Band, Calibrator, log_odds, probability
from features.catalogue import CATEGORIES, NUMERIC, catalogue_hash
from features.rules import (
    COLD_START_DAYS,
    RuleRates,
    Stratum,
    ages,
    expert_rates,
    expert_rates_elsewhere,
    strata,
    warnings_of,
)

Floats = npt.NDArray[np.float64]

REGISTERED_MODEL = "rekindle-risk"  # the name under which training registers and serving looks
CHAMPION = "champion"  # the alias of the version that serves
SCORER_ARTIFACT = "scorer"  # folder of the registered model that Scorer.save wrote
SCORER_FILE, BOOSTER_FILE, LATER_FILE, ACTIVATION_FOLDER = "scorer.json", "booster.txt", "later.txt", "activation"
REFERENCE_ARTIFACT = "reference"  # folder with reference.parquet: training snapshots, FEATURES and `risk_28`

HORIZONS_DAYS = (0, 7, 14, 28)
PRODUCT_HORIZON_DAYS = 28
WEEKS = 8
PERIOD_ENDS_DAYS = tuple(range(0, 7 * WEEKS + 1, 7))  # T = 0, then each later week
PERIODS = len(PERIOD_ENDS_DAYS)
_ENDS = np.asarray(PERIOD_ENDS_DAYS, np.float64)
HORIZON_PERIODS = tuple(PERIOD_ENDS_DAYS.index(days) for days in HORIZONS_DAYS)
# How old the seat is when the period ends: else what passes with age, as the dip of the first weeks does, would be
# learned as a property of looking ahead, and carried over to seats that are past it.
AGE_COLUMN, PERIOD_COLUMN = "age_then", "period"
AGE_FEATURE = "life_days"
INPUTS = (*(feature.name for feature in NUMERIC), *(feature.name for feature in CATEGORIES), AGE_COLUMN, PERIOD_COLUMN)
MAX_DEPARTURE = 4.0  # standard deviations; our choice: beyond what was seen, a line must not run on
BLOCK_ROWS = 10_000  # snapshots scored at once: nine rows each, so that a million seats fit the memory


class Method(StrEnum):
    """What the risk comes from: the hazard model, its fallback below 200 abandonments, or the rule."""

    LIGHTGBM = "lightgbm_hazard"
    LOGISTIC = "logistic_hazard"
    RULE = "rule"


@dataclass(frozen=True)
class Risk:
    """Risk of (n,) snapshots under `none`.

    risk, low, high: (n, len(HORIZONS_DAYS)) in [0, 1], never falling with the horizon; low and high bound with 95 % the
    share that will be abandoned among seats scored alike at a later time (features.calibration.Band), 0 and 1 where too
    little is known to say. curve: (n, PERIODS). expected_days: (n,) mean of the days to
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
class Voice:
    """What speaks of one snapshot; note: why it is not the model of seats in use, empty where it is."""

    method: Method
    note: str = ""


_NOT_IN_USE = "the model speaks of seats in use; for this one the rule does"
_TOO_YOUNG = (
    f"the seat is younger than {COLD_START_DAYS} days and too few as young were seen in training: the rule speaks, with "
    "the rates of seats as young"
)
_ACTIVATION = "the seat has not been used in earnest yet: the model of seats that never started speaks"


@dataclass(frozen=True)
class Scorer:
    """A fitted risk model. `note` says in one sentence why it is not the hazard model, where it is not.

    rule: of seats in use; elsewhere: by stratum, the rule of the others, whose silence has begun or never ended; young:
    by stratum, the rule of seats younger than COLD_START_DAYS. speaks_from_days: the age at which the learned model takes
    over from the rule of the young: 0 where it has seen enough of them. booster and linear: the log-odds of the hazard
    are tree_weight times those of the trees plus the rest times those of the line. later: the trees of the later weeks,
    where `booster` speaks of T = 0 alone; None where it speaks of all weeks. activation: the model of seats
    that never started, where one was learned. trained_until: ISO 8601, the instant up to which the training knew, empty for
    none.
    """

    method: Method
    rule: RuleRates = field(default_factory=expert_rates)
    elsewhere: Mapping[str, RuleRates] = field(default_factory=expert_rates_elsewhere)
    young: Mapping[str, RuleRates] = field(default_factory=dict)
    speaks_from_days: float = 0.0
    levels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    calibrator: Calibrator = field(default_factory=Calibrator)
    band: Band = field(default_factory=Band)
    booster: lgb.Booster | None = None
    later: lgb.Booster | None = None
    linear: LinearHazard | None = None
    tree_weight: float = 1.0
    activation: "Scorer | None" = None
    note: str = ""
    trained_until: str = ""
    catalogue: str = field(default_factory=catalogue_hash)

    def score(self, vectors: Floats, categories: Sequence[Sequence[str]]) -> Risk:
        """Calibrated risk. vectors: (n, n_numeric) in catalogue order; categories: n rows of names in their order.

        The learned models speak of seats in use and of those that never started; for the others, for the very young
        where too few of them were seen, and without a learned model, the rule speaks.
        """
        risk, low, high = self._rule_risk(vectors)
        curve = _interpolated(risk)
        for model, rows in self._learned(vectors):
            for start in range(0, len(rows), BLOCK_ROWS):
                block = rows[start : start + BLOCK_ROWS]
                names = [categories[row] for row in block.tolist()]
                hazards = model.hazards(vectors[block], model.codes(names))
                curve[block] = cumulative(model.calibrator.apply(hazards))
                risk[block] = curve[block][:, HORIZON_PERIODS]
                low[block], high[block] = model.band.around(risk[block])
        return Risk(risk, low, high, curve, restricted_mean(curve))

    def speaks_for(self, vectors: Floats) -> npt.NDArray[np.bool_]:
        """(n,) whether a learned model, and not the rule, scores the snapshot."""
        is_learned = np.zeros(len(vectors), bool)
        for _, rows in self._learned(vectors):
            is_learned[rows] = True
        return is_learned

    def voices(self, vectors: Floats) -> list[Voice]:
        """What speaks of each of (n,) snapshots, and why where it is not the model of seats in use."""
        is_in_use = strata(vectors) == str(Stratum.IN_USE)
        rule = Voice(Method.RULE, "" if self.method is Method.RULE else _NOT_IN_USE)
        voices = [rule] * len(vectors)
        for row in np.flatnonzero(self._is_young(vectors) & (is_in_use | (self.activation is not None))).tolist():
            voices[row] = Voice(Method.RULE, _TOO_YOUNG)
        for model, rows in self._learned(vectors):
            note = "" if model is self else "; ".join(part for part in (_ACTIVATION, model.note) if part)
            for row in rows.tolist():
                voices[row] = Voice(model.method, note)
        return voices

    def _learned(self, vectors: Floats) -> list[tuple["Scorer", npt.NDArray[np.int64]]]:
        """Each learned model with the rows of which it speaks."""
        stratum = strata(vectors)
        spoken = [(self, Stratum.IN_USE)] if self.method is not Method.RULE else []
        if self.activation is not None:
            spoken.append((self.activation, Stratum.NOT_STARTED))
        chosen = [(model, np.flatnonzero((stratum == str(of)) & ~model._is_young(vectors))) for model, of in spoken]
        return [(model, rows) for model, rows in chosen if rows.size]

    def _is_young(self, vectors: Floats) -> npt.NDArray[np.bool_]:
        with np.errstate(invalid="ignore"):
            return np.asarray((self.speaks_from_days > 0) & (ages(vectors) < self.speaks_from_days))

    def _rule_risk(self, vectors: Floats) -> tuple[Floats, Floats, Floats]:
        number = warnings_of(vectors).sum(axis=1)
        risk, low, high = self.rule.risk_of(number)
        stratum = strata(vectors)
        with np.errstate(invalid="ignore"):
            is_young = ages(vectors) < COLD_START_DAYS
        chosen = [(rates, stratum == name) for name, rates in self.elsewhere.items()]
        chosen += [(rates, (stratum == name) & is_young) for name, rates in self.young.items()]
        for rates, mask in chosen:
            if mask.any():
                rows = np.flatnonzero(mask)
                risk[rows], low[rows], high[rows] = rates.risk_of(number[rows])
        return risk, low, high

    def codes(self, categories: Sequence[Sequence[str]]) -> Floats:
        """(n, n_categories) category codes; NaN for a missing or never seen one."""
        coded = np.empty((len(categories), len(CATEGORIES)))
        for position, table in enumerate(self._code_tables):
            coded[:, position] = [table.get(row[position], np.nan) for row in categories]
        return coded

    @cached_property
    def _code_tables(self) -> list[dict[str, int]]:
        return [{name: code for code, name in enumerate(self.levels.get(f.name, ()))} for f in CATEGORIES]

    def hazards(self, vectors: Floats, codes: Floats, *, threads: int = 1) -> Floats:
        """(n, PERIODS) raw hazards of the learned model."""
        if self.booster is None and self.linear is None:
            raise ValueError(f"a scorer of method {self.method} has no hazards")
        if self.booster is None:
            return probability(self._linear_odds(vectors, codes))
        odds = self._tree_odds(self.booster, person_periods(vectors, codes), threads=threads)
        if self.linear is not None:
            odds = self.tree_weight * odds + (1 - self.tree_weight) * self._linear_odds(vectors, codes)
        return probability(odds)

    def _tree_odds(self, booster: lgb.Booster, rows: Floats, *, threads: int) -> Floats:
        """(n, PERIODS) log-odds of the hazard by the trees. rows: (n * PERIODS, len(INPUTS))."""
        if self.later is None:
            return np.asarray(booster.predict(rows, raw_score=True, num_threads=threads), np.float64).reshape(
                -1, PERIODS
            )
        apart = rows.reshape(-1, PERIODS, rows.shape[1])
        odds = np.empty(apart.shape[:2])
        for trees, weeks in ((booster, slice(0, 1)), (self.later, slice(1, None))):
            asked = apart[:, weeks].reshape(-1, rows.shape[1])
            raw = np.asarray(trees.predict(asked, raw_score=True, num_threads=threads), np.float64)
            odds[:, weeks] = raw.reshape(len(odds), -1)
        return odds

    def _linear_odds(self, vectors: Floats, codes: Floats) -> Floats:
        assert self.linear is not None
        linear = self.linear.design(vectors, codes, self._level_counts()) @ np.asarray(self.linear.weights)
        return np.asarray(linear[:, None] + np.asarray(self.linear.intercepts))

    def _level_counts(self) -> list[int]:
        return [len(self.levels.get(feature.name, ())) for feature in CATEGORIES]

    def contributions(self, vectors: Floats, categories: Sequence[Sequence[str]]) -> dict[str, Floats]:
        """By feature, (n,) what it adds to the raw log-odds that the silence begins now (T = 0), and the `base`.

        The parts and the base sum to the raw score. Trees: SHAP values (Lundberg 2020); line: weight times departure from
        the mean; both: their weighted sum. NaN where the rule speaks, which has none; empty where it speaks of all.
        """
        parts: dict[str, Floats] = {}
        for model, rows in self._learned(vectors):
            own = model._contributions(vectors[rows], model.codes([categories[row] for row in rows.tolist()]))
            for name, values in own.items():
                parts.setdefault(name, np.full(len(vectors), np.nan))[rows] = values
        return parts

    def raw_score(self, vectors: Floats, categories: Sequence[Sequence[str]]) -> Floats:
        """(n,) the log-odds, before calibration, that the silence begins now; NaN where the rule speaks."""
        raw = np.full(len(vectors), np.nan)
        for model, rows in self._learned(vectors):
            codes = model.codes([categories[row] for row in rows.tolist()])
            raw[rows] = log_odds(model.hazards(vectors[rows], codes)[:, 0])
        return raw

    def _contributions(self, vectors: Floats, codes: Floats) -> dict[str, Floats]:
        trees = {} if self.booster is None else self._tree_parts(vectors, codes)
        if self.linear is None:
            return trees
        line = self._linear_parts(vectors, codes)
        if not trees:
            return line
        return {name: self.tree_weight * trees[name] + (1 - self.tree_weight) * line[name] for name in trees}

    def _tree_parts(self, vectors: Floats, codes: Floats) -> dict[str, Floats]:
        assert self.booster is not None
        rows = period_rows(vectors, codes, np.zeros(len(vectors), np.int64))
        parts = np.asarray(self.booster.predict(rows, pred_contrib=True, num_threads=1))
        named = dict(zip(INPUTS, parts.T, strict=False))
        base = parts[:, -1] + named.pop(PERIOD_COLUMN)
        named[AGE_FEATURE] = named[AGE_FEATURE] + named.pop(AGE_COLUMN)  # at T = 0 they are one and the same
        return {**named, "base": base}

    def _linear_parts(self, vectors: Floats, codes: Floats) -> dict[str, Floats]:
        assert self.linear is not None
        counts = self._level_counts()
        parts = self.linear.design(vectors, codes, counts) * np.asarray(self.linear.weights)
        named = {feature.name: parts[:, position] for position, feature in enumerate(NUMERIC)}
        start = len(NUMERIC)
        for feature, levels in zip(CATEGORIES, counts, strict=True):
            named[feature.name] = parts[:, start : start + levels].sum(axis=1)
            start += levels
        return {**named, "base": np.full(len(vectors), self.linear.intercepts[0])}

    def save(self, folder: Path) -> None:
        """Write the scorer into the folder, which must exist."""
        document = {
            "method": str(self.method),
            "rule": asdict(self.rule),
            "elsewhere": {name: asdict(rates) for name, rates in self.elsewhere.items()},
            "young": {name: asdict(rates) for name, rates in self.young.items()},
            "speaks_from_days": self.speaks_from_days,
            "levels": {name: list(levels) for name, levels in self.levels.items()},
            "calibrator": asdict(self.calibrator),
            "band": asdict(self.band),
            "linear": None if self.linear is None else asdict(self.linear),
            "tree_weight": self.tree_weight,
            "note": self.note,
            "trained_until": self.trained_until,
            "catalogue": self.catalogue,
            "inputs": list(INPUTS),
        }
        (folder / SCORER_FILE).write_text(json.dumps(document), encoding="utf-8")
        if self.booster is not None:
            (folder / BOOSTER_FILE).write_text(self.booster.model_to_string(), encoding="utf-8")
        if self.later is not None:
            (folder / LATER_FILE).write_text(self.later.model_to_string(), encoding="utf-8")
        if self.activation is not None:
            (folder / ACTIVATION_FOLDER).mkdir(exist_ok=True)
            self.activation.save(folder / ACTIVATION_FOLDER)

    @staticmethod
    def load(folder: Path) -> "Scorer":
        """The scorer in the folder. Raises ValueError where it was fitted on other features than today's FEATURES."""
        document = json.loads((folder / SCORER_FILE).read_text(encoding="utf-8"))
        if document["catalogue"] != catalogue_hash() or tuple(document["inputs"]) != INPUTS:
            raise ValueError(
                f"the model was trained on another feature catalogue ({document['catalogue']}, now {catalogue_hash()}): "
                "build features and train again"
            )
        booster, later = folder / BOOSTER_FILE, folder / LATER_FILE
        activation, linear = folder / ACTIVATION_FOLDER, document["linear"]
        return Scorer(
            method=Method(document["method"]),
            rule=_rates(document["rule"]),
            elsewhere={name: _rates(rates) for name, rates in document["elsewhere"].items()},
            young={name: _rates(rates) for name, rates in document["young"].items()},
            speaks_from_days=document["speaks_from_days"],
            levels={name: tuple(levels) for name, levels in document["levels"].items()},
            calibrator=Calibrator.from_document(document["calibrator"]),
            band=Band.from_document(document["band"]),
            booster=lgb.Booster(model_file=str(booster)) if booster.exists() else None,
            later=lgb.Booster(model_file=str(later)) if later.exists() else None,
            linear=None if linear is None else LinearHazard(**{name: tuple(v) for name, v in linear.items()}),
            tree_weight=document["tree_weight"],
            activation=Scorer.load(activation) if activation.exists() else None,
            note=document["note"],
            trained_until=document["trained_until"],
            catalogue=document["catalogue"],
        )


def person_periods(vectors: Floats, codes: Floats) -> Floats:
    """(n * PERIODS, len(INPUTS)) what the trees are shown of each snapshot and period; the periods of a snapshot adjoin."""
    numbers, width = vectors.shape[1], vectors.shape[1] + codes.shape[1]
    rows = np.empty((len(vectors), PERIODS, width + 2))
    rows[:, :, :numbers], rows[:, :, numbers:width] = vectors[:, None], codes[:, None]
    rows[:, :, width] = ages(vectors)[:, None] + _ENDS
    rows[:, :, width + 1] = np.arange(PERIODS)
    return rows.reshape(-1, width + 2)


def period_rows(vectors: Floats, codes: Floats, period: npt.NDArray[np.int64]) -> Floats:
    """(n, len(INPUTS)) the same for (n,) snapshots, each with one period."""
    numbers, width = vectors.shape[1], vectors.shape[1] + codes.shape[1]
    rows = np.empty((len(vectors), width + 2))
    rows[:, :numbers], rows[:, numbers:width] = vectors, codes
    rows[:, width], rows[:, width + 1] = ages(vectors) + _ENDS[period], period
    return rows


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


_DAYS = np.asarray(HORIZONS_DAYS, np.float64)
_LEFT = np.searchsorted(_DAYS, PERIOD_ENDS_DAYS, "right") - 1  # of each period's end, the horizon before it
_RIGHT = np.minimum(_LEFT + 1, len(_DAYS) - 1)
_SPAN = np.where(_RIGHT > _LEFT, _DAYS[_RIGHT] - _DAYS[_LEFT], 1.0)
_SHARE = np.where(_RIGHT > _LEFT, (np.asarray(PERIOD_ENDS_DAYS) - _DAYS[_LEFT]) / _SPAN, 0.0)


def _interpolated(risk: Floats) -> Floats:
    """(n, PERIODS) a curve through the risks at the horizons; flat after the last."""
    return np.asarray(risk[:, _LEFT] + _SHARE * (risk[:, _RIGHT] - risk[:, _LEFT]))


def _rates(document: Mapping[str, Any]) -> RuleRates:
    tables = {name: _tuples(document[name]) for name in ("rates", "low", "high")}
    return RuleRates(**tables, learned_from=document["learned_from"])


def _tuples(values: list[object]) -> tuple:  # type: ignore[type-arg]  # nested to any depth, as JSON has it
    return tuple(_tuples(value) if isinstance(value, list) else value for value in values)
