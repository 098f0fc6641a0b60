"""What is believed of an intervention's effect at a seat, and who may tell it: the experts, or a learned model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Protocol

import numpy as np
import numpy.typing as npt

from features.decisions import NONE
from features.effects import EffectModel, prior_of, seen
from features.expert import PRIOR_DEVIATION, even_risk_slope, expert_effects
from features.interventions import Intervention

Floats = npt.NDArray[np.float64]

_NORMAL = NormalDist()
_95 = _NORMAL.inv_cdf(0.975)


@dataclass(frozen=True)
class EffectEstimate:
    """Change in the probability of keeping the seat against `none`, in [-1, 1]: normal with this mean and deviation."""

    mean: float
    deviation: float

    @property
    def interval(self) -> tuple[float, float]:
        """The middle 95 %, within [-1, 1]."""
        return max(self.mean - _95 * self.deviation, -1.0), min(self.mean + _95 * self.deviation, 1.0)

    @property
    def chance_of_harm(self) -> float:
        """Probability that the effect is below zero."""
        return _NORMAL.cdf(-self.mean / self.deviation) if self.deviation > 0 else float(self.mean < 0)


Estimates = Mapping[str, EffectEstimate]  # by intervention


class EffectEstimator(Protocol):
    """Tells effects. label: names it in the decision log, version included."""

    @property
    def label(self) -> str: ...

    def estimate(
        self,
        vectors: Floats,
        categories: Sequence[Sequence[str]],
        risk: Floats,
        catalogue: Sequence[Intervention],
    ) -> list[Estimates]:
        """Per seat an estimate for every intervention of the catalogue; `none` has 0 and 0.

        vectors: (n, n_numeric) in catalogue order; categories: n rows of names; risk: (n,) at the product horizon.
        """
        ...


class ExpertEstimator:
    """The catalogue's experts, with the spread of a guess that nobody has measured."""

    label = "expert"

    def estimate(
        self,
        vectors: Floats,
        categories: Sequence[Sequence[str]],
        risk: Floats,
        catalogue: Sequence[Intervention],
    ) -> list[Estimates]:
        """By seat; the categories change nothing, for experts speak of failure modes."""
        del categories
        deviations = (PRIOR_DEVIATION * even_risk_slope(risk)).tolist()
        return [
            {name: EffectEstimate(mean, 0.0 if name == NONE else deviation) for name, mean in effects.items()}
            for effects, deviation in zip(expert_effects(vectors, risk, catalogue), deviations, strict=True)
        ]


class LearnedEstimator:
    """A learned model, told of seats as it was when it learned."""

    def __init__(self, model: EffectModel, label: str, catalogue: Sequence[Intervention]) -> None:
        """label: `name/version`. Raises ValueError where the catalogue is not the one that the model learned: other
        interventions, or other expectations of the experts, from which the learned effects depart.
        """
        _check_arms(model, catalogue)
        self._model = model
        self.label = label

    def estimate(
        self,
        vectors: Floats,
        categories: Sequence[Sequence[str]],
        risk: Floats,
        catalogue: Sequence[Intervention],
    ) -> list[Estimates]:
        """By seat; `none` has 0 and 0."""
        by_id = {intervention.id: intervention for intervention in catalogue}
        told = self._model.effects(seen(vectors, categories, risk, [by_id[arm] for arm in self._model.arms]))
        place = [(name, self._model.arms.index(name)) for name in by_id]
        return [
            {name: EffectEstimate(means[column], deviations[column]) for name, column in place}
            for means, deviations in zip(told.mean.tolist(), told.deviation.tolist(), strict=True)
        ]


def _check_arms(model: EffectModel, catalogue: Sequence[Intervention]) -> None:
    by_id = {intervention.id: intervention for intervention in catalogue}
    if set(model.arms) != set(by_id):
        strange = ", ".join(sorted(set(model.arms) ^ set(by_id)))
        raise ValueError(
            f"the effects were learned of other interventions than those of the catalogue ({strange}): learn again"
        )
    now = prior_of([by_id[arm] for arm in model.arms])
    if model.prior and model.prior != now:
        raise ValueError(
            f"what experts expect of the interventions has changed since the effects were learned ({model.prior}, now {now}): "
            "learn again"
        )
