"""What of the MLflow registry serves: the champion risk model, without one the rule; and the effects, without them the
experts'.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from features.catalogue import BY_NAME, CATEGORIES, MISSING_CATEGORY, NUMERIC
from features.effects import REGISTERED_EFFECTS, EffectModel
from features.estimates import EffectEstimator, ExpertEstimator, LearnedEstimator
from features.interventions import Intervention
from features.scorer import REGISTERED_MODEL, SCORER_ARTIFACT, Method, Scorer
from serving.alias import Alias
from serving.meters import Meters

NO_CHAMPION = "no model has been promoted yet"
RULE_VERSION = "rule"


@dataclass(frozen=True)
class LoadedModel:
    """The scorer that serves, with its version in the registry; RULE_VERSION where the rule serves."""

    scorer: Scorer
    version: str = RULE_VERSION
    name: str = REGISTERED_MODEL

    @property
    def label(self) -> str:
        """How the log names it: `rekindle-risk/3` or `rule`."""
        return RULE_VERSION if self.version == RULE_VERSION else f"{self.name}/{self.version}"


class Champion:
    """The risk model that serves now. `refresh` belongs to one thread; the rest to all."""

    def __init__(self, home: Path, meters: Meters) -> None:
        self._meters = meters
        self._alias = Alias(
            home,
            name=REGISTERED_MODEL,
            artifact=f"artifacts/{SCORER_ARTIFACT}",
            load=_scorer,
            without=LoadedModel(Scorer(Method.RULE, note=NO_CHAMPION)),
            refused=meters.model_refused,
        )

    def refresh(self) -> bool:
        """Serve the registry's champion if it is another than the current one; returns whether that changed."""
        changed = self._alias.refresh()
        if changed:
            self._meters.model_loaded(self.current.scorer.method)
        return changed

    @property
    def current(self) -> LoadedModel:
        """The model that serves."""
        return self._alias.current

    @property
    def refusal(self) -> str:
        """Why the registry's champion does not serve, where it does not."""
        return self._alias.refusal

    @property
    def note(self) -> str:
        """What a reply has to say of the model: why it is not the hazard model, or not the champion."""
        return "; ".join(part for part in (self.current.scorer.note, self.refusal) if part)


class EffectsChampion:
    """Who tells effects now: the learned model that was promoted, or the experts. `refresh` belongs to one thread."""

    def __init__(self, home: Path, catalogue: Sequence[Intervention], meters: Meters) -> None:
        """catalogue: the interventions that are decided among; a model that learned others is refused."""

        def load(folder: Path, version: str) -> EffectEstimator:
            estimator = LearnedEstimator(EffectModel.load(folder), f"{REGISTERED_EFFECTS}/{version}", catalogue)
            warm_effects(estimator, catalogue)
            return estimator

        experts: EffectEstimator = ExpertEstimator()
        self._meters = meters
        self._alias = Alias(
            home,
            name=REGISTERED_EFFECTS,
            artifact="",  # it is registered at its own folder
            load=load,
            without=experts,
            refused=meters.effects_refused,
        )

    def refresh(self) -> bool:
        """Serve the promoted effects if they are others than the current ones; returns whether that changed."""
        changed = self._alias.refresh()
        if changed:
            self._meters.effects_loaded(is_learned=isinstance(self.current, LearnedEstimator))
        return changed

    @property
    def current(self) -> EffectEstimator:
        """Who tells effects. Take it once for a decision: it may be another one the next time."""
        return self._alias.current

    @property
    def refusal(self) -> str:
        """Why the promoted effects do not serve, where they do not."""
        return self._alias.refusal


def warm(scorer: Scorer) -> None:
    """Score a seat in use once, so that no request pays for the first time. Raises ValueError for an impossible risk."""
    risk = scorer.score(_seat_in_use(), [[MISSING_CATEGORY] * len(CATEGORIES)]).risk[0]
    if not (np.isfinite(risk).all() and (risk >= 0).all() and (risk <= 1).all() and (np.diff(risk) >= 0).all()):
        raise ValueError(f"its risk by horizon is {risk.tolist()}: expected four numbers in [0, 1] that never fall")


def warm_effects(estimator: EffectEstimator, catalogue: Sequence[Intervention]) -> None:
    """Tell the effects at a seat in use once. Raises ValueError for effects that cannot be."""
    categories = [[MISSING_CATEGORY] * len(CATEGORIES)]
    (told,) = estimator.estimate(_seat_in_use(), categories, np.array([0.5]), catalogue)
    for name, effect in told.items():
        if not (-1 <= effect.mean <= 1 and 0 <= effect.deviation < np.inf):
            raise ValueError(f"its effect of {name} is {effect}: expected a mean in [-1, 1] and a finite deviation")


def _seat_in_use() -> np.ndarray:
    vector = np.zeros((1, len(NUMERIC)))
    for name in ("meaningful_28", "meaningful_ever"):  # in use: the learned model speaks
        vector[0, NUMERIC.index(BY_NAME[name])] = 1
    return vector


def _scorer(folder: Path, version: str) -> LoadedModel:
    scorer = Scorer.load(folder)
    warm(scorer)
    return LoadedModel(scorer, version)
