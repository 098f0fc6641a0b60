"""The learned effects of interventions as one value: what is known of a seat in, effect by arm with its interval out.

The same model runs in evaluation and in production. It is written as plain JSON and LightGBM's own text, no pickle.
Training fits it, the registry keeps it, serving loads it.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import lightgbm as lgb
import numpy as np
import numpy.typing as npt

from features.catalogue import BY_NAME, NUMERIC, catalogue_hash
from features.diagnosis import mode_strengths
from features.expert import PRIOR_DEVIATION, even_risk_slope, expert_matrix
from features.interventions import FailureMode, Intervention
from features.line import Line
from features.needs import Needs
from features.scorer import one_hot

Floats = npt.NDArray[np.float64]
Booleans = npt.NDArray[np.bool_]
Integers = npt.NDArray[np.int64]

REGISTERED_EFFECTS = "rekindle-effects"  # the name under which training registers and serving looks
EFFECTS_ARTIFACT = "effects"  # folder of the registered model that EffectModel.save wrote
EFFECTS_FILE = "effects.json"
# Our choice: plain features, each over the value at which it counts in full, by which effects may differ beside the modes:
# how well the seat fares, and so how much a contact interrupts it. Missing counts half.
BASIS_FEATURES: Mapping[str, float] = MappingProxyType(
    {
        "meaningful_28": 12, "used_share_28": 1, "confidence_last": 10, "help_28": 6, "prompt_length_28": 200,
        "quick_close_share_28": 1, "frustration": 1, "errors_28": 6, "surface_days_28": 10, "assisted_share_28": 1,
    }
)  # fmt: skip
_BASIS_COLUMNS = [NUMERIC.index(BY_NAME[name]) for name in BASIS_FEATURES]
_BASIS_FULL = np.array(list(BASIS_FEATURES.values()), np.float64)
MAX_BASIS_LEVELS = 12  # our choice: a category with more names (roles) has too few decisions for each
_95 = 1.959964


class Learner(StrEnum):
    """Where the effects come from. Names as in Künzel et al. 2019; `prior_r` is the Bayesian R-learner, `take_up` learns
    from what people accepted."""

    EXPERT = "expert"
    LOGISTIC_T = "logistic_t"
    S = "s"
    X = "x"
    S_DR = "s_dr"
    PRIOR_R = "prior_r"
    TAKE_UP = "take_up"


@dataclass(frozen=True)
class Seen:
    """What is known of (n,) seats when a step is chosen.

    vectors: (n, p) numbers, NaN where missing; categories: n rows of names; expert: (n, K) effects that experts expect, 0
    in the column of `none`; strengths: (n, q) few plain columns in about [0, 1] by which effects may differ (failure
    modes); slope: (n,) in [0, 1], how much can change at all, 1 at even risk.
    """

    vectors: Floats
    categories: list[list[str]]
    expert: Floats
    strengths: Floats
    slope: Floats

    def __len__(self) -> int:
        return len(self.vectors)

    def take(self, rows: Integers) -> "Seen":
        """The chosen seats."""
        return Seen(
            self.vectors[rows],
            [self.categories[row] for row in rows.tolist()],
            self.expert[rows],
            self.strengths[rows],
            self.slope[rows],
        )


def seen(vectors: Floats, categories: Sequence[Sequence[str]], risk: Floats, catalogue: Sequence[Intervention]) -> Seen:
    """What the effects are learned and told from. vectors: (n, n_numeric); risk: (n,) at the product horizon."""
    modes = mode_strengths(vectors)
    plain = np.clip(vectors[:, _BASIS_COLUMNS] / _BASIS_FULL, 0, 1)
    plain[np.isnan(plain)] = 0.5
    strengths = np.concatenate((np.stack(list(modes.values()), axis=1), plain), axis=1)
    names = [list(row) for row in categories]
    return Seen(vectors, names, expert_matrix(vectors, risk, catalogue, modes), strengths, even_risk_slope(risk))


@dataclass(frozen=True)
class Effects:
    """Change in the probability of keeping against `none`, with its 95 % interval: (n, K) each, in [-1, 1].

    deviation: of the posterior on the basis, and PRIOR_DEVIATION for what the basis does not tell between seats.
    """

    mean: Floats
    low: Floats
    high: Floats
    deviation: Floats


@dataclass(frozen=True)
class EffectModel:
    """Fitted effects of `arms`, of which the first is `none`.

    weights: (K,) w = n / (n + m) by arm: how far the effect departs from the expert's toward the learned one.
    correction: (K, q) on the basis times the slope, added to what the learner says. covariance: (K, q, q) of the effect on
    the basis, in units of even risk; empty where nothing was learned. boosters: one for S, one by arm for X, for PRIOR_R that
    of what any contact does, where it was learned. contact: how much of what those trees say is believed, and its deviation.
    decisions: (K,) matured ones that taught each arm. trained_until: ISO 8601, empty for never. prior: prior_of(...) the
    interventions it learned, empty where it is not known.
    """

    learner: Learner
    arms: tuple[str, ...]
    weights: tuple[float, ...]
    levels: tuple[tuple[str, ...], ...] = ()
    line: Line | None = None
    boosters: tuple[lgb.Booster, ...] = ()
    correction: tuple[tuple[float, ...], ...] = ()
    covariance: tuple[tuple[tuple[float, ...], ...], ...] = ()
    contact: tuple[float, float] = (0.0, 0.0)
    needs: Needs | None = None
    taken_up: tuple[float, float] = (0.0, 0.0)
    unneeded: float = 0.0
    decisions: tuple[int, ...] = ()
    note: str = ""
    trained_until: str = ""
    catalogue: str = field(default_factory=catalogue_hash)
    prior: str = ""

    def effects(self, at: Seen) -> Effects:
        """Effect of every arm at every seat; 0 for `none`, and within [risk - 1, risk] only as far as the learner is."""
        mean = at.expert.copy()
        deviation = np.repeat((PRIOR_DEVIATION * at.slope)[:, None], len(self.arms), axis=1)
        weight = np.asarray(self.weights)
        if weight.any():
            codes = self.codes(at.categories)
            contact = self._contact(at, codes)
            mean = mean + weight * (self._learned(at, codes, contact) - mean)
            if self.covariance:
                columns = self.basis(at, codes)
                half = (columns @ self._spread).reshape(len(at), len(self.arms), -1)
                spread = (half * columns[:, None]).sum(axis=2)
                known = np.sqrt(np.maximum(spread, 0) + PRIOR_DEVIATION**2) * at.slope[:, None]
                known = np.hypot(known, (self.contact[1] * contact)[:, None])
                deviation = np.where(weight > 0, known, deviation)
        mean[:, 0], deviation[:, 0] = 0.0, 0.0
        mean = np.clip(mean, -1, 1)
        low, high = (np.clip(mean + sign * _95 * deviation, -1, 1) for sign in (-1, 1))
        return Effects(mean, low, high, deviation)

    def codes(self, categories: Sequence[Sequence[str]]) -> Floats:
        """(n, n_categories) category codes; NaN for a missing or never seen one."""
        tables = [{name: code for code, name in enumerate(names)} for names in self.levels]
        coded = [[table.get(name, np.nan) for table, name in zip(tables, row, strict=True)] for row in categories]
        return np.asarray(coded, np.float64).reshape(len(categories), len(self.levels))

    def basis(self, at: Seen, codes: Floats) -> Floats:
        """(n, q) the constant, the strengths, and the one-hot names of categories with few of them."""
        few = [position for position, names in enumerate(self.levels) if len(names) <= MAX_BASIS_LEVELS]
        names = one_hot(codes[:, few], [len(self.levels[position]) for position in few]) if few else at.strengths[:, :0]
        return np.concatenate((np.ones((len(at), 1)), at.strengths, names), axis=1)

    def rows(self, at: Seen, codes: Floats) -> Floats:
        """(n, inputs) what the trees read, without the arm."""
        return np.concatenate((at.vectors, at.strengths, codes), axis=1)

    def _learned(self, at: Seen, codes: Floats, contact: Floats) -> Floats:
        """(n, K) the learner's effects before shrinkage."""
        if self.learner is Learner.LOGISTIC_T:
            assert self.line is not None
            chances = self.line.chances(self.line.design(at.vectors, codes, [len(names) for names in self.levels]))
            return np.asarray(chances - chances[:, :1])
        if self.learner is Learner.X:
            rows = self.rows(at, codes)
            parts = [np.asarray(booster.predict(rows, num_threads=1)) for booster in self.boosters]
            return np.stack([np.zeros(len(at)), *parts], axis=1)
        if self.learner is Learner.TAKE_UP:
            assert self.needs is not None
            chances = self.needs.chances(at.strengths, at.vectors, codes, [len(names) for names in self.levels])
            strength, contacted = self.taken_up
            contact = (contacted + self.unneeded * chances[:, :1]) * (np.arange(len(self.arms)) > 0)
            return np.asarray(at.slope[:, None] * (strength * chances @ np.asarray(self.needs.relief) + contact))
        raw = at.expert if self.learner is Learner.PRIOR_R else np.zeros_like(at.expert)
        if self.learner is Learner.PRIOR_R:
            raw = raw + (self.contact[0] * contact)[:, None] * (np.arange(len(self.arms)) > 0)
        if self.learner in (Learner.S, Learner.S_DR):
            chances = arm_chances(self.boosters[0], self.rows(at, codes), len(self.arms))
            raw = chances - chances[:, :1]
        if self.correction:
            raw = raw + at.slope[:, None] * (self.basis(at, codes) @ self._corrections)
        return np.asarray(raw)

    @cached_property
    def _spread(self) -> Floats:
        """(q, K * q) the covariance side by side: one seat is told in one product, and as an array is made of it once."""
        covariance = np.asarray(self.covariance)
        return np.ascontiguousarray(covariance.transpose(1, 0, 2)).reshape(covariance.shape[1], -1)

    @cached_property
    def _corrections(self) -> Floats:
        """(q, K)."""
        return np.asarray(self.correction).T

    def _contact(self, at: Seen, codes: Floats) -> Floats:
        """(n,) what trees say that any contact does beyond what the experts expect; 0 where none were grown."""
        if self.learner is not Learner.PRIOR_R or not self.boosters:
            return np.zeros(len(at))
        return np.asarray(self.boosters[0].predict(self.rows(at, codes), num_threads=1), np.float64)

    def save(self, folder: Path) -> None:
        """Write the model into the folder, which must exist."""
        document = {
            "learner": str(self.learner),
            **{name: getattr(self, name) for name in _PLAIN},
            "line": None if self.line is None else asdict(self.line),
            "needs": None if self.needs is None else asdict(self.needs),
            "boosters": len(self.boosters),
        }
        (folder / EFFECTS_FILE).write_text(json.dumps(document), encoding="utf-8")
        for number, booster in enumerate(self.boosters):
            (folder / f"booster-{number}.txt").write_text(booster.model_to_string(), encoding="utf-8")

    @staticmethod
    def load(folder: Path) -> "EffectModel":
        """The model in the folder. Raises ValueError where it was fitted on other features than today's FEATURES."""
        document = json.loads((folder / EFFECTS_FILE).read_text(encoding="utf-8"))
        if document["catalogue"] != catalogue_hash():
            raise ValueError(
                f"the effects were learned on another feature catalogue ({document['catalogue']}, now {catalogue_hash()}): "
                "learn them again"
            )
        line, needs = document["line"], document.get("needs")
        return EffectModel(
            learner=Learner(document["learner"]),
            line=None if line is None else _line(line),
            needs=None if needs is None else Needs(**{**_nested(needs), "line": _line(needs["line"])}),
            boosters=tuple(
                lgb.Booster(model_file=str(folder / f"booster-{number}.txt")) for number in range(document["boosters"])
            ),
            **{name: _tuples(document[name]) for name in _PLAIN if name in document},
        )


_PLAIN = (
    "arms",
    "weights",
    "levels",
    "correction",
    "covariance",
    "contact",
    "taken_up",
    "unneeded",
    "decisions",
    "note",
    "trained_until",
    "catalogue",
    "prior",
)


def arm_chances(booster: lgb.Booster, rows: Floats, arms: int) -> Floats:
    """(n, K) probability of keeping under each arm, of trees whose last inputs are the arms' indicators."""
    chances = []
    for arm in range(arms):
        told = np.zeros((len(rows), arms))
        told[:, arm] = 1
        chances.append(np.asarray(booster.predict(np.concatenate((rows, told), axis=1), num_threads=1)))
    return np.stack(chances, axis=1)


def expert_model(arms: Sequence[str], *, note: str = "", decisions: Mapping[str, int] | None = None) -> EffectModel:
    """The model that says what the experts say."""
    counts = tuple((decisions or {}).get(arm, 0) for arm in arms)
    return EffectModel(Learner.EXPERT, tuple(arms), (0.0,) * len(arms), decisions=counts, note=note)


def answered_modes(catalogue: Sequence[Intervention]) -> tuple[FailureMode, ...]:
    """All failure modes that any intervention answers, in the order of `answers`."""
    return tuple(sorted({mode for intervention in catalogue for mode in intervention.answers}))


def answers(catalogue: Sequence[Intervention]) -> Floats:
    """(K, n_modes) the expert effect by mode, in the order of `answered_modes`."""
    modes = answered_modes(catalogue)
    return np.array([[intervention.answers.get(mode, 0.0) for mode in modes] for intervention in catalogue])


def prior_of(catalogue: Sequence[Intervention]) -> str:
    """Twelve letters that change with what the experts expect of the interventions; costs and limits do not matter."""
    told = [
        [one.id, one.base_effect, sorted((str(mode), effect) for mode, effect in one.answers.items())]
        for one in catalogue
    ]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:12]


def _nested(document: Mapping[str, Any]) -> dict[str, Any]:  # as JSON has it
    return {name: _tuples(values) for name, values in document.items()}


def _line(document: Mapping[str, Any]) -> Line:  # as JSON has it
    return Line(**_nested(document))


def _tuples(value: Any) -> Any:  # nested to any depth, as JSON has it
    return tuple(_tuples(part) for part in value) if isinstance(value, list) else value
