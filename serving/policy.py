"""decide(...) -> Decision: which intervention a seat is given, if any. Pure: clock and random generator are arguments.

The expert rule: what the catalogue expects of an intervention, by the failure modes that show at the seat.
"""

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from features.catalogue import catalogue_hash
from features.decisions import NONE, Decision
from features.expert import PRIOR_DEVIATION, expert_effects
from features.interventions import Intervention
from features.scorer import PRODUCT_HORIZON_DAYS

Floats = npt.NDArray[np.float64]

POLICY = "expert-1"
MAX_CONTACTS = 4  # our choice: more than one a week is nagging
CONTACTS_WITHIN = timedelta(days=28)
DISMISSAL_REST = timedelta(days=14)  # our choice: who has just said no is left in peace for two weeks
_NORMAL = NormalDist()
_95 = _NORMAL.inv_cdf(0.975)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PRODUCT = str(PRODUCT_HORIZON_DAYS)


@dataclass(frozen=True)
class Terms:
    """What the policy decides by.

    epsilon: share of decisions that explores, in total, in (0, 1]. seat_value: money per kept seat, same unit as costs.
    harm_bound: `none` wins where the best intervention harms with more than this probability.
    """

    epsilon: float
    seat_value: float
    harm_bound: float
    holdout_share: float
    holdout_days: int
    expiry: timedelta


@dataclass(frozen=True)
class Effect:
    """Change in the probability of keeping the seat against `none`, in [-1, 1], with its 95 % interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Use:
    """An intervention that was chosen for a seat, about a person, at some time."""

    intervention: str
    at: datetime
    seat_id: str
    person_id: str | None


@dataclass(frozen=True)
class Snapshot:
    """What the decision is made on: the seat's features at `as_of` and its risk by horizon in days."""

    seat_id: str
    as_of: datetime
    vector: Floats
    categories: tuple[str, ...]
    risk: Mapping[str, float]
    model: str


@dataclass(frozen=True)
class Facts:
    """What is known around the seat and restrains what may be done.

    uses: of the seat, and of any of the three persons at any seat, the last year of them; used_today: in the seat's
    organisation; wanted: the interventions that were asked for, None for all.
    """

    person_id: str
    manager_person_id: str | None = None
    champion_person_id: str | None = None
    uses: tuple[Use, ...] = ()
    used_today: Mapping[str, int] = field(default_factory=dict)
    dismissed_at: datetime | None = None
    has_objected: bool = False
    wanted: frozenset[str] | None = None
    workflow: str | None = None
    in_holdout: bool = False

    def target(self, intervention: Intervention) -> str | None:
        """The person whose time the intervention takes."""
        persons = {"seat": self.person_id, "manager": self.manager_person_id, "champion": self.champion_person_id}
        return None if intervention.id == NONE else persons[intervention.target]


def decide(
    snapshot: Snapshot,
    facts: Facts,
    *,
    effects: Mapping[str, float],
    catalogue: Sequence[Intervention],
    terms: Terms,
    decision_id: str,
    now: datetime,
    rng: np.random.Generator,
) -> Decision:
    """One intervention for one seat, with the probability of every one that could have been chosen.

    effects: by intervention, expert_effects. rng: generator(key, decision_id), so that a replay draws the same.
    """
    guardrails = {}
    for intervention in catalogue:
        reason = removal(intervention, facts, seat_id=snapshot.seat_id, terms=terms, now=now)
        if reason is not None:
            guardrails[intervention.id] = reason
    eligible = [intervention for intervention in catalogue if intervention.id not in guardrails]
    probabilities = epsilon_greedy(eligible, effects, risk=snapshot.risk[_PRODUCT], terms=terms)
    chosen = draw(probabilities, rng)
    return Decision(
        decision_id=decision_id,
        seat_id=snapshot.seat_id,
        decided_at=now,
        intervention=chosen,
        probabilities=probabilities,
        workflow=None if chosen == NONE else facts.workflow,
        target_person_id=next(facts.target(intervention) for intervention in eligible if intervention.id == chosen),
        holdout=facts.in_holdout,
        policy=policy_name(catalogue, terms),
        model=snapshot.model,
        as_of=snapshot.as_of,
        expires_at=now + terms.expiry,
        features=tuple(snapshot.vector.tolist()),
        categories=snapshot.categories,
        catalogue_hash=catalogue_hash(),
        risk=snapshot.risk,
        effects=effects,
        guardrails=guardrails,
    )


def replay(decision: Decision, *, catalogue: Sequence[Intervention], terms: Terms, key: bytes) -> Decision:
    """The decision, computed again from what was logged with it: equal to it, or something has been tampered with.

    Raises ValueError where it was made by another policy, on other interventions or terms.
    """
    if decision.policy != policy_name(catalogue, terms):
        raise ValueError(f"made by policy {decision.policy}, now {policy_name(catalogue, terms)}: not comparable")
    risk = decision.risk[_PRODUCT]
    effects = expert_effects(np.asarray([decision.features]), np.array([risk]), catalogue)[0]
    eligible = [intervention for intervention in catalogue if intervention.id not in decision.guardrails]
    probabilities = epsilon_greedy(eligible, effects, risk=risk, terms=terms)
    chosen = draw(probabilities, generator(key, decision.decision_id))
    return replace(decision, intervention=chosen, probabilities=probabilities, effects=effects)


def removal(intervention: Intervention, facts: Facts, *, seat_id: str, terms: Terms, now: datetime) -> str | None:
    """Why the intervention may not be chosen for the seat, or None. `none` always may."""
    if intervention.id == NONE:
        return None
    if facts.in_holdout:
        return f"the team is left alone for comparison until {_holdout_until(now, terms).date()}"
    if facts.has_objected:
        return "the person objected to decisions"
    if facts.wanted is not None and intervention.id not in facts.wanted:
        return "not among the interventions asked for"
    needed = {"manager": facts.manager_person_id, "champion": facts.champion_person_id}
    for role in (*intervention.requires, intervention.target):
        if role in needed and needed[role] is None:
            return f"no {role} is known"
    contacts = [use for use in facts.uses if use.seat_id == seat_id and use.intervention != NONE]
    if sum(now - use.at < CONTACTS_WITHIN for use in contacts) >= MAX_CONTACTS:
        return f"{MAX_CONTACTS} interventions in {CONTACTS_WITHIN.days} days already"
    if (
        facts.dismissed_at is not None
        and now - facts.dismissed_at < DISMISSAL_REST
        and intervention.target != "manager"
    ):
        return f"an offer was dismissed on {facts.dismissed_at.date()}; {DISMISSAL_REST.days} days of rest"
    target = facts.target(intervention)
    for use in facts.uses:
        is_same = use.intervention == intervention.id and (use.seat_id == seat_id or use.person_id == target)
        if is_same and now - use.at < timedelta(days=intervention.cooldown_days):
            return f"given on {use.at.date()}; {intervention.cooldown_days} days of cooldown"
    if intervention.capacity_per_day is not None:
        used = facts.used_today.get(intervention.id, 0)
        if used >= intervention.capacity_per_day:
            return f"today's {intervention.capacity_per_day} are taken"
    return None


def effect_interval(name: str, mean: float, *, risk: float) -> Effect:
    """The expert's effect with its interval; `none` is the arm against which effects are measured, so it has none."""
    spread = 0.0 if name == NONE else _95 * PRIOR_DEVIATION * 4 * risk * (1 - risk)
    return Effect(mean, max(mean - spread, -1.0), min(mean + spread, 1.0))


def epsilon_greedy(
    eligible: Sequence[Intervention], effects: Mapping[str, float], *, risk: float, terms: Terms
) -> dict[str, float]:
    """pi(a) = epsilon / K + (1 - epsilon) [a is best] over the K eligible interventions, in their order."""
    best = best_of(eligible, effects, risk=risk, terms=terms)
    floor = terms.epsilon / len(eligible)
    return {item.id: floor + (1 - terms.epsilon) * (item.id == best) for item in eligible}


def best_of(eligible: Sequence[Intervention], effects: Mapping[str, float], *, risk: float, terms: Terms) -> str:
    """The intervention of the greatest value; `none` where no value is above zero or harm is likelier than the bound."""
    best, best_value = NONE, 0.0
    for intervention in eligible:
        effect = effects[intervention.id]
        value = effect * terms.seat_value - intervention.cost
        if value > best_value and chance_of_harm(effect, risk=risk) <= terms.harm_bound:
            best, best_value = intervention.id, value
    return best


def chance_of_harm(effect: float, *, risk: float) -> float:
    """Probability that the effect is below zero under the expert's normal prior."""
    deviation = PRIOR_DEVIATION * 4 * risk * (1 - risk)
    return _NORMAL.cdf(-effect / deviation) if deviation > 0 else float(effect < 0)


def draw(probabilities: Mapping[str, float], rng: np.random.Generator) -> str:
    """One of the names, each with its probability."""
    names = list(probabilities)
    position = int(np.searchsorted(np.cumsum(list(probabilities.values())), rng.random(), side="right"))
    return names[min(position, len(names) - 1)]


def generator(key: bytes, decision_id: str) -> np.random.Generator:
    """The generator of one decision: nobody without the key can foresee or steer what it draws."""
    return np.random.default_rng(int.from_bytes(_keyed(key, "draw", decision_id), "big"))


def in_holdout(key: bytes, *, organization: str, team: str, now: datetime, terms: Terms) -> bool:
    """Whether the team is left alone in the present epoch of `holdout_days`."""
    digest = _keyed(key, "holdout", organization, team, str(_holdout_epoch(now, terms)))
    return int.from_bytes(digest[:8], "big") / 2**64 < terms.holdout_share


def policy_name(catalogue: Sequence[Intervention], terms: Terms) -> str:
    """The policy with a digest of the interventions and terms that it decides by."""
    told = repr([intervention.model_dump(mode="json") for intervention in catalogue]) + repr(asdict(terms))
    return f"{POLICY}-{hashlib.sha256(told.encode()).hexdigest()[:12]}"


def _keyed(key: bytes, *parts: str) -> bytes:
    return hmac.new(key, "\x1f".join(parts).encode(), hashlib.sha256).digest()


def _holdout_epoch(now: datetime, terms: Terms) -> int:
    return (now - _EPOCH) // timedelta(days=terms.holdout_days)


def _holdout_until(now: datetime, terms: Terms) -> datetime:
    return _EPOCH + (_holdout_epoch(now, terms) + 1) * timedelta(days=terms.holdout_days)
