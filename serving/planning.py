"""What a day's plan is solved from: the worth of each intervention at each seat, who could get it, whose time it takes."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from features.cluster import Cluster
from features.decisions import NONE
from features.effects import EffectModel, seen
from features.interventions import Intervention
from serving.advisor import Advisor
from serving.policy import generator
from serving.scores import PRODUCT_HORIZON
from serving.settings import Settings

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


@dataclass(frozen=True)
class Part:
    """The options of some seats, as in Proposal; targets: by seat and arm, whose time it takes."""

    seat_ids: tuple[str, ...]
    values: npt.NDArray[np.float64]
    eligible: npt.NDArray[np.bool_]
    targets: tuple[tuple[str | None, ...], ...]


def plan_day(
    advisor: Advisor,
    seat_ids: Sequence[str],
    *,
    effects: Callable[[tuple[str, ...]], EffectModel],
    capacity: Mapping[str, int],
    cluster: Cluster | None = None,
) -> Proposal:
    """The options of the seats with features. effects: of the arms in order; capacity: over that of the catalogue.

    cluster: works the options out; its workers reach the same log, online store and registry, and read the same settings
    from their own environment. Raises ValueError where no seat has features, and for the capacity of an unknown intervention.
    """
    catalogue = _arms_first(advisor)
    arms = tuple(intervention.id for intervention in catalogue)
    for name in capacity:
        if name not in arms[1:]:
            raise ValueError(f"--capacity: expected one of {', '.join(arms[1:])}, came {name!r}")
    size, model = advisor.settings.max_batch, effects(arms)
    chunks = [seat_ids[start : start + size] for start in range(0, len(seat_ids), size)]
    if cluster is None:
        parts = [plan_part(advisor, chunk, model) for chunk in chunks]
    else:
        home, now = advisor.settings.home, advisor.now
        parts = list(cluster.map(_plan_on_worker, (_Planning(home, now, tuple(chunk), model) for chunk in chunks)))
    parts = [part for part in parts if part.seat_ids]
    if not parts:
        raise ValueError("no seat has features online: run `rekindle features push` first")
    return Proposal(
        arms=arms,
        seat_ids=tuple(seat_id for part in parts for seat_id in part.seat_ids),
        values=np.concatenate([part.values for part in parts]),
        eligible=np.concatenate([part.eligible for part in parts]),
        targets=_numbered(parts),
        capacity={i.id: i.capacity_per_day for i in catalogue if i.capacity_per_day is not None} | dict(capacity),
        key=advisor.plan_key,
    )


def plan_part(advisor: Advisor, seat_ids: Sequence[str], model: EffectModel) -> Part:
    """The options of those of the seats that have features. At most as many as a request may name."""
    catalogue = _arms_first(advisor)
    options = advisor.options(seat_ids)
    if not options:
        return Part((), np.zeros((0, len(catalogue))), np.zeros((0, len(catalogue)), bool), ())
    vectors = np.stack([option.score.row.vector for option in options])
    risk = np.array([option.score.risk[PRODUCT_HORIZON] for option in options])
    told = model.effects(seen(vectors, [list(o.score.row.categories) for o in options], risk, catalogue))
    cost = np.array([intervention.cost for intervention in catalogue])
    return Part(
        seat_ids=tuple(option.score.row.seat_id for option in options),
        values=told.mean * advisor.settings.terms.seat_value - cost,
        eligible=np.array([[arm.id in option.eligible for arm in catalogue] for option in options]),
        targets=tuple(tuple(option.facts.target(intervention) for intervention in catalogue) for option in options),
    )


@dataclass(frozen=True)
class _Planning:
    """Seats for a worker to plan for, at one moment for all."""

    home: Path
    now: datetime
    seat_ids: tuple[str, ...]
    model: EffectModel


def _plan_on_worker(task: _Planning) -> Part:
    return plan_part(_advisor_of(task.home, task.now), task.seat_ids, task.model)


@lru_cache(maxsize=1)
def _advisor_of(home: Path, now: datetime) -> Advisor:
    """A worker keeps its log, store and model from block to block; secrets come from its own environment."""
    return Advisor(Settings.from_environment({**os.environ, "REKINDLE_HOME": str(home)}), clock=lambda: now)


def _arms_first(advisor: Advisor) -> list[Intervention]:
    return sorted(advisor.catalogue, key=lambda intervention: intervention.id != NONE)


def _numbered(parts: Sequence[Part]) -> npt.NDArray[np.int64]:
    numbers: dict[str, int] = {}
    rows = [
        [NOBODY if who is None else numbers.setdefault(who, len(numbers)) for who in row]
        for part in parts
        for row in part.targets
    ]
    return np.array(rows, np.int64)
