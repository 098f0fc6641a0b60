"""What is believed of an intervention's effect at a seat, and who may tell it: the experts, or a learned model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Protocol

import numpy as np
import numpy.typing as npt

from features.decisions import NONE
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
