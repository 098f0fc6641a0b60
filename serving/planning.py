"""A day's plan for one organisation: what it is solved from, and its decisions in the log, seat by seat as drawn.

The program itself and its rounding are training's (training.plan); they come in as an argument.
"""

import hashlib
import hmac
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from features.catalogue import catalogue_hash
from features.cluster import Cluster
from features.decisions import NONE, Decision
from features.estimates import EffectEstimator
from features.events import organization_of
from features.interventions import Intervention
from features.uses import Deciding, Use
from serving.advisor import Advisor, Option
from serving.policy import generator, policy_name
from serving.settings import Settings

Floats = npt.NDArray[np.float64]
Booleans = npt.NDArray[np.bool_]
Integers = npt.NDArray[np.int64]

PLAN_POLICY = "plan-1"  # the rule by which plans are solved and rounded; another rule, another name
NOBODY = -1
RECORDED_AT_ONCE = 1_000  # seats in one transaction; our choice: others who decide wait for about a second
TRIES = 3


@dataclass(frozen=True)
class Drawn:
    """What was solved and drawn from a proposal. marginals, eligible: (n, K); chosen: (n,) arm of each seat."""

    marginals: Floats
    eligible: Booleans
    chosen: Integers


Solve = Callable[["Proposal"], Drawn]


@dataclass(frozen=True)
class Proposal:
    """(n,) seats of one organisation and K arms, `none` first, as they were when the guardrails were asked.

    values: (n, K) money; targets: (n, K) number of the person whose time it takes, NOBODY for none; capacity: uses that are
    left today, by arm. catalogue: with the capacities of the day. told_by: who told the effects.
    """

    organization: str
    arms: tuple[str, ...]
    options: tuple[Option, ...]
    values: Floats
    eligible: Booleans
    targets: Integers
    capacity: Mapping[str, int]
    catalogue: tuple[Intervention, ...]
    told_by: str
    key: bytes = field(repr=False)

    @property
    def seat_ids(self) -> tuple[str, ...]:
        """The seats, in order."""
        return tuple(option.score.row.seat_id for option in self.options)

    def generator(self, day: date) -> np.random.Generator:
        """The generator of the day and these seats: the same plan is drawn again, another set of seats by other numbers, and
        nobody without the key can foresee it.
        """
        seats = hashlib.sha256("\n".join(self.seat_ids).encode()).hexdigest()
        return generator(self.key, f"plan {self.organization} {day.isoformat()} {seats}")


@dataclass(frozen=True)
class Logged:
    """What of a plan is in the decision log. left_out: seats for which something else was decided, or that may not be decided for
    any more, since it was solved.
    """

    decisions: tuple[Decision, ...]
    already: int
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class _Asked:
    """Seats of which a worker works out the options, at one moment for all."""

    home: Path
    now: datetime
    seat_ids: Sequence[str]
    catalogue: tuple[Intervention, ...]
    effects: EffectEstimator
    at_risk_from: float


def _options_on_worker(asked: _Asked) -> list[Option]:
    return _options(_advisor_of(asked.home, asked.now), asked)


@lru_cache(maxsize=1)
def _advisor_of(home: Path, now: datetime) -> Advisor:
    """A worker keeps its log, store and model from block to block; secrets come from its own environment."""
    return Advisor(Settings.from_environment({**os.environ, "REKINDLE_HOME": str(home)}), clock=lambda: now)


def _options(advisor: Advisor, asked: _Asked) -> list[Option]:
    return advisor.options(
        asked.seat_ids, catalogue=asked.catalogue, effects=asked.effects, at_risk_from=asked.at_risk_from
    )


def propose(
    advisor: Advisor,
    seat_ids: Sequence[str],
    *,
    organization: str,
    capacity: Mapping[str, int],
    at_risk_from: float,
    cluster: Cluster | None = None,
) -> Proposal | None:
    """What the plan of these seats is solved from, or None where none of them has features and such a risk.

    capacity: uses in the day, over that of the catalogue; what was used today is taken off. cluster: works the options
    out; its workers reach the same log, online store and registry, and read the same settings from their own environment.
    Raises ValueError for the capacity of an unknown intervention.
    """
    catalogue = _with_capacity(advisor.catalogue, capacity)
    estimator = advisor.effects.current
    size, home, now = advisor.settings.max_batch, advisor.settings.home, advisor.now
    parts = (
        _Asked(home, now, seat_ids[start : start + size], catalogue, estimator, at_risk_from)
        for start in range(0, len(seat_ids), size)
    )
    found = (_options(advisor, part) for part in parts) if cluster is None else cluster.map(_options_on_worker, parts)
    options = [option for some in found for option in some]
    if not options:
        return None
    arms = tuple(intervention.id for intervention in catalogue)
    used = options[-1].facts.used_today  # the latest read
    means = np.array([[option.effects[arm].mean for arm in arms] for option in options])
    cost = np.array([intervention.cost for intervention in catalogue])
    return Proposal(
        organization=organization,
        arms=arms,
        options=tuple(options),
        values=means * advisor.settings.terms.seat_value - cost,
        eligible=np.array([[arm not in option.guardrails for arm in arms] for option in options]),
        targets=_targets(options, catalogue),
        capacity={
            i.id: max(i.capacity_per_day - used.get(i.id, 0), 0) for i in catalogue if i.capacity_per_day is not None
        },
        catalogue=catalogue,
        told_by=estimator.label,
        key=advisor.plan_key,
    )


def log_plan(
    advisor: Advisor,
    seat_ids: Sequence[str],
    *,
    organization: str,
    capacity: Mapping[str, int],
    at_risk_from: float,
    day: date,
    solve: Solve,
    cluster: Cluster | None = None,
) -> tuple[Logged, Proposal | None, Drawn | None]:
    """Solve the plan of the day and write its decisions, each seat once a day however often it is called.

    The log is free while the plan is solved. Before a part of it is written, inside the transaction, uses, objections and erasures
    of its seats and persons are read again: a seat for which they changed is left out whatever was drawn for it; where others
    took capacity that the plan counts on, the rest is solved and drawn again. Neither asks what was drawn, so what is logged
    keeps its probabilities. Raises ValueError for another day than today (UTC), which has its own uses and features.
    """
    if day != advisor.now.date():
        raise ValueError(
            f"--date: a plan is logged on its own day, {advisor.now.date()} (UTC); came {day}: add --dry-run"
        )
    made: list[Decision] = []
    left_out: list[str] = []
    before = _logged_before(advisor, seat_ids, day)
    proposal, drawn = None, None
    for _ in range(TRIES):
        done = before | {decision.seat_id for decision in made} | set(left_out)
        waiting = [seat_id for seat_id in seat_ids if seat_id not in done]
        proposal = propose(
            advisor,
            waiting,
            organization=organization,
            capacity=capacity,
            at_risk_from=at_risk_from,
            cluster=cluster,
        )
        if proposal is None:
            break
        drawn = solve(proposal)
        if _write(advisor, proposal, drawn, day, made, left_out):
            break
    else:
        raise ValueError("others decide so much that the plan cannot keep its capacity: run it again")
    return Logged(tuple(made), len(before), tuple(left_out)), proposal, drawn


def decision_id_of(advisor: Advisor, seat_id: str, day: date) -> str:
    """The id of the seat's decision in the plan of the day: the same again, so that it is written once."""
    digest = hmac.new(advisor.plan_key, f"{day.isoformat()} {seat_id}".encode(), hashlib.sha256).hexdigest()
    return f"plan-{day:%Y%m%d}-{digest[:24]}"


def _logged_before(advisor: Advisor, seat_ids: Sequence[str], day: date) -> set[str]:
    ids = {decision_id_of(advisor, seat_id, day): seat_id for seat_id in seat_ids}
    return {ids[found] for found in advisor.log.known_decisions(ids)}


def _write(
    advisor: Advisor, proposal: Proposal, drawn: Drawn, day: date, made: list[Decision], left_out: list[str]
) -> bool:
    """Write the decisions in parts; adds to `made` and `left_out`. False where capacity is no longer what it was."""
    decisions = _decisions(advisor, proposal, drawn, day)
    own: set[Use] = set()
    reserved = _reserved(proposal, drawn)
    for start in range(0, len(decisions), RECORDED_AT_ONCE):
        part = decisions[start : start + RECORDED_AT_ONCE]
        options = proposal.options[start : start + RECORDED_AT_ONCE]
        with advisor.log.deciding() as deciding:
            now = advisor.now
            if not _has_room(deciding, proposal, reserved, own=own, now=now):
                return False
            changed = _changed(deciding, options, own=own, now=now) | _barred(deciding, options)
            there = deciding.decided([item.decision_id for item in part])  # by another run of the same plan
            changed |= {item.seat_id for item in part if item.decision_id in there}
            kept = [replace(item, decided_at=now) for item in part if item.seat_id not in changed]
            deciding.record(kept)
        made += kept
        own |= {_use(decision) for decision in kept if decision.intervention != NONE}
        left_out += sorted(changed)
    return True


def _reserved(proposal: Proposal, drawn: Drawn) -> dict[str, int]:
    """By capped arm, the most uses that the rounding can have drawn: the expected ones, rounded up."""
    spent = np.ceil(drawn.marginals.sum(axis=0) - 1e-6).astype(int).tolist()
    return {arm: uses for arm, uses in zip(proposal.arms, spent, strict=True) if arm in proposal.capacity and uses}


def _has_room(
    deciding: Deciding, proposal: Proposal, reserved: Mapping[str, int], *, own: Set[Use], now: datetime
) -> bool:
    """Whether today's capacity, less what others used of it, still holds the plan however it may have been drawn: were it asked
    of what was drawn, plans that drew more would be drawn again more often, and no probability would be as logged.
    """
    limit = {i.id: i.capacity_per_day for i in proposal.catalogue if i.capacity_per_day is not None}
    used = deciding.used_on_day([proposal.organization], list(limit), now=now)[proposal.organization]
    ours = Counter(use.intervention for use in own)
    return all(used.get(arm, 0) - ours[arm] + count <= limit[arm] for arm, count in reserved.items())


def _barred(deciding: Deciding, options: Sequence[Option]) -> set[str]:
    """The seats of which a person has objected, or was erased, since the guardrails were asked."""
    persons = {option.score.row.seat_id: _persons(option) for option in options}
    everybody = {person for own in persons.values() for person in own}
    gone = deciding.objected(everybody) | deciding.erased({*everybody, *persons})
    return {
        option.score.row.seat_id
        for option in options
        if gone.intersection((option.score.row.seat_id, *_persons(option))) - option.facts.objected
    }


def _changed(deciding: Deciding, options: Sequence[Option], *, own: Set[Use], now: datetime) -> set[str]:
    """The seats of which, or of whose persons, there are other uses than the guardrails were told, save the plan's own:
    it takes nobody's time for two seats.
    """
    persons = {option.score.row.seat_id: _persons(option) for option in options}
    everybody = {person for own in persons.values() for person in own}
    by_seat: dict[str, set[Use]] = {seat_id: set() for seat_id in persons}
    by_person: dict[str, set[Use]] = {person: set() for person in everybody}
    for use in deciding.uses(list(persons), everybody, now=now):
        by_seat.get(use.seat_id, set()).add(use)
        if use.person_id is not None:
            by_person.get(use.person_id, set()).add(use)
    changed = set()
    for option in options:
        seat_id = option.score.row.seat_id
        present = by_seat[seat_id].union(*(by_person[person] for person in persons[seat_id]))
        if present - own - set(option.facts.uses):
            changed.add(seat_id)
    return changed


def _use(decision: Decision) -> Use:
    return Use(decision.intervention, decision.decided_at, decision.seat_id, decision.target_person_id)


def _persons(option: Option) -> list[str]:
    facts = option.facts
    return [who for who in (facts.person_id, facts.manager_person_id, facts.champion_person_id) if who is not None]


def _decisions(advisor: Advisor, proposal: Proposal, drawn: Drawn, day: date) -> list[Decision]:
    terms, now = advisor.settings.terms, advisor.now
    by_id = {intervention.id: intervention for intervention in proposal.catalogue}
    costs = {intervention.id: intervention.cost for intervention in proposal.catalogue}
    policy = policy_name(proposal.catalogue, terms, effects_model=proposal.told_by, rule=PLAN_POLICY)
    found = []
    for row, option in enumerate(proposal.options):
        score, marginals = option.score, drawn.marginals[row].tolist()
        chosen = proposal.arms[int(drawn.chosen[row])]
        withdrawn = {
            arm: _why(arm, proposal)
            for column, arm in enumerate(proposal.arms)
            if proposal.eligible[row, column] and not drawn.eligible[row, column]
        }
        found.append(
            Decision(
                decision_id=decision_id_of(advisor, score.row.seat_id, day),
                seat_id=score.row.seat_id,
                decided_at=now,
                intervention=chosen,
                probabilities={arm: share for arm, share in zip(proposal.arms, marginals, strict=True) if share > 0},
                workflow=None if chosen == NONE else option.facts.workflow,
                target_person_id=option.facts.target(by_id[chosen]),
                holdout=option.facts.in_holdout,
                policy=policy,
                model=score.model.label,
                as_of=score.row.as_of,
                expires_at=now + terms.expiry,
                features=tuple(score.row.vector.tolist()),
                categories=score.row.categories,
                catalogue_hash=catalogue_hash(),
                risk=score.risk,
                effects={arm: effect.mean for arm, effect in option.effects.items()},
                deviations={arm: effect.deviation for arm, effect in option.effects.items()},
                costs=costs,
                terms=terms.numbers(),
                guardrails={**option.guardrails, **withdrawn},
                effects_model=proposal.told_by,
                key_id=advisor.key_id,
            )
        )
    return found


def _why(arm: str, proposal: Proposal) -> str:
    if not proposal.capacity.get(arm, 1):
        limit = next(i.capacity_per_day for i in proposal.catalogue if i.id == arm)
        return f"today's {limit} are taken"
    return "the person whose time it takes is planned for at another seat"


def _with_capacity(catalogue: Sequence[Intervention], capacity: Mapping[str, int]) -> tuple[Intervention, ...]:
    """The catalogue, `none` first, with the capacities of the day."""
    ordered = sorted(catalogue, key=lambda intervention: intervention.id != NONE)
    names = [intervention.id for intervention in ordered]
    for name in capacity:
        if name not in names[1:]:
            raise ValueError(f"--capacity: expected one of {', '.join(names[1:])}, came {name!r}")
    return tuple(
        intervention.model_copy(update={"capacity_per_day": capacity[intervention.id]})
        if intervention.id in capacity
        else intervention
        for intervention in ordered
    )


def _targets(options: Sequence[Option], catalogue: Sequence[Intervention]) -> Integers:
    numbers: dict[str, int] = {}
    rows = [
        [
            NOBODY if (who := option.facts.target(intervention)) is None else numbers.setdefault(who, len(numbers))
            for intervention in catalogue
        ]
        for option in options
    ]
    return np.array(rows, np.int64)


def by_organization(seat_ids: Sequence[str]) -> dict[str, list[str]]:
    """The seats of each organisation: capacity is an organisation's own."""
    found: dict[str, list[str]] = {}
    for seat_id in seat_ids:
        found.setdefault(organization_of(seat_id), []).append(seat_id)
    return found
