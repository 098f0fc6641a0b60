"""What a day's plan is solved from: the worth of each intervention at each seat, who could get it, whose time it takes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

import numpy as np
import numpy.typing as npt

from features.decisions import NONE
from features.effects import EffectModel, seen
from features.interventions import Intervention
from serving.advisor import Advisor, Option
from serving.policy import generator
from serving.scores import PRODUCT_HORIZON

NOBODY = -1


@dataclass(frozen=True)
class Proposal:
    """(n,) seats and K arms, `none` first. values: (n, K) money; targets: (n, K) number of a person, NOBODY for none."""

    arms: tuple[str, ...]
    seat_ids: tuple[str, ...]
    values: npt.NDArray[np.float64]
    eligible: npt.NDArray[np.bool_]
    targets: npt.NDArray[np.int64]
    capacity: Mapping[str, int]
    key: bytes = field(repr=False)

    def generator(self, day: date) -> np.random.Generator:
        """The generator of the day: the same plan is drawn again, and nobody without the key can foresee it."""
        return generator(self.key, f"plan {day.isoformat()}")


def plan_day(
    advisor: Advisor,
    seat_ids: Sequence[str],
    *,
    effects: Callable[[tuple[str, ...]], EffectModel],
    capacity: Mapping[str, int],
) -> Proposal:
    """The options of the seats with features. effects: of the arms in order; capacity: over that of the catalogue.

    Raises ValueError where no seat has features, and for the capacity of an unknown intervention.
    """
    catalogue = sorted(advisor.catalogue, key=lambda intervention: intervention.id != NONE)
    arms = tuple(intervention.id for intervention in catalogue)
    for name in capacity:
        if name not in arms[1:]:
            raise ValueError(f"--capacity: expected one of {', '.join(arms[1:])}, came {name!r}")
    size = advisor.settings.max_batch
    options = [
        option for start in range(0, len(seat_ids), size) for option in advisor.options(seat_ids[start : start + size])
    ]
    if not options:
        raise ValueError("no seat has features online: run `rekindle features push` first")
    vectors = np.stack([option.score.row.vector for option in options])
    risk = np.array([option.score.risk[PRODUCT_HORIZON] for option in options])
    told = effects(arms).effects(seen(vectors, [list(o.score.row.categories) for o in options], risk, catalogue))
    cost = np.array([intervention.cost for intervention in catalogue])
    return Proposal(
        arms=arms,
        seat_ids=tuple(option.score.row.seat_id for option in options),
        values=told.mean * advisor.settings.terms.seat_value - cost,
        eligible=np.array([[arm in option.eligible for arm in arms] for option in options]),
        targets=_targets(options, catalogue),
        capacity={i.id: i.capacity_per_day for i in catalogue if i.capacity_per_day is not None} | dict(capacity),
        key=advisor.plan_key,
    )


def _targets(options: Sequence[Option], catalogue: Sequence[Intervention]) -> npt.NDArray[np.int64]:
    numbers: dict[str, int] = {}
    rows = [
        [
            NOBODY if (who := option.facts.target(intervention)) is None else numbers.setdefault(who, len(numbers))
            for intervention in catalogue
        ]
        for option in options
    ]
    return np.array(rows, np.int64)
