"""What the catalogue's experts expect of an intervention at a seat: the prior from which learned effects depart."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from features.diagnosis import mode_strengths
from features.interventions import FailureMode, Intervention

Floats = npt.NDArray[np.float64]

# Our choice: standard deviation of the expert's effect at even risk. Two points is as much as most effects themselves,
# for nobody has measured them yet.
PRIOR_DEVIATION = 0.02


def expert_matrix(
    vectors: Floats,
    risk: Floats,
    catalogue: Sequence[Intervention],
    strengths: Mapping[FailureMode, Floats] | None = None,
) -> Floats:
    """(n, n_interventions) what the catalogue's experts expect of each intervention, in the catalogue's order.

    vectors: (n, n_numeric) in catalogue order; risk: (n,) at the product horizon; strengths: `mode_strengths` of the vectors,
    where they are known already. The experts' effect is stated for even
    risk and moved on the log-odds scale, where the slope of the probability is r (1 - r): 4 r (1 - r) times its own. Our
    choice: it makes effects small where the seat is as good as kept or lost. No more can be kept than would be lost.
    """
    strengths = mode_strengths(vectors) if strengths is None else strengths
    slope = even_risk_slope(risk)
    columns = []
    for intervention in catalogue:
        stated = np.full(len(vectors), intervention.base_effect)
        for mode, effect in intervention.answers.items():
            if mode in strengths:
                stated = stated + effect * strengths[mode]
        columns.append(np.clip(stated * slope, risk - 1, risk))
    return np.stack(columns, axis=1)


def expert_effects(vectors: Floats, risk: Floats, catalogue: Sequence[Intervention]) -> list[dict[str, float]]:
    """By snapshot, the row of `expert_matrix` under the interventions' names."""
    names = [intervention.id for intervention in catalogue]
    return [dict(zip(names, row, strict=True)) for row in expert_matrix(vectors, risk, catalogue).tolist()]


def even_risk_slope(risk: Floats) -> Floats:
    """4 r (1 - r): 1 at even risk, 0 at certainty."""
    return np.asarray(4 * risk * (1 - risk))
