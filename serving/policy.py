"""decide(...) -> Decision: which intervention a seat is given, if any. Pure: clock and random generator are arguments.

What an intervention does for a seat is told to it (features.estimates); what may be done is decided here.
"""

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from itertools import accumulate

import numpy as np
import numpy.typing as npt

from features.catalogue import catalogue_hash
from features.decisions import HOLDOUT_DAYS, LIKELY_HARM, NONE, Decision
from features.estimates import EffectEstimate, Estimates
from features.holdout import epoch_end, epoch_number
from features.interventions import Intervention
from features.scorer import PRODUCT_HORIZON_DAYS
from features.uses import Use

Floats = npt.NDArray[np.float64]

POLICY = "greedy-2"  # the rule by which probabilities are made; another rule, another name
MAX_CONTACTS = 4  # our choice: more than one a week is nagging
CONTACTS_WITHIN = timedelta(days=28)
DISMISSAL_REST = timedelta(days=14)  # our choice: who has just said no is left in peace for two weeks
_PRODUCT = str(PRODUCT_HORIZON_DAYS)


@dataclass(frozen=True)
class Terms:
    """What the policy decides by.

    epsilon: share of decisions that explores, in total, in (0, 1]. seat_value: money per kept seat, same unit as costs.
    harm_bound: an intervention that harms with more than this probability is not eligible.
    """

    epsilon: float
    seat_value: float
    harm_bound: float
    holdout_share: float
    holdout_days: int
    expiry: timedelta

    def numbers(self) -> dict[str, float]:
        """What of the terms is logged with a decision: by what it was made, and when its team is drawn anew."""
        return {
            "epsilon": self.epsilon,
            "seat_value": self.seat_value,
            "harm_bound": self.harm_bound,
            HOLDOUT_DAYS: self.holdout_days,
        }


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
    organisation; wanted: the interventions that were asked for, None for all; objected: those of the three persons who
    want nothing decided about them; workflow: what an intervention should be about.
    """

    person_id: str
    manager_person_id: str | None = None
    champion_person_id: str | None = None
    role: str | None = None
    uses: tuple[Use, ...] = ()
    used_today: Mapping[str, int] = field(default_factory=dict)
    dismissed_at: datetime | None = None
    objected: frozenset[str] = frozenset()
    wanted: frozenset[str] | None = None
    workflow: str | None = None
    in_holdout: bool = False

    @property
    def has_objected(self) -> bool:
        """Whether the seat's own person objected to decisions."""
        return self.person_id in self.objected

    def target(self, intervention: Intervention) -> str | None:
        """The person whose time the intervention takes."""
        if intervention.id == NONE:
            return None
        if intervention.target == "seat":
            return self.person_id
        return self.manager_person_id if intervention.target == "manager" else self.champion_person_id

    def is_known(self, requirement: str) -> bool:
        """Whether there is what an intervention may require, or whom it may ask."""
        known = {
            "seat": self.person_id,
            "manager": self.manager_person_id,
            "champion": self.champion_person_id,
            "role": self.role,
            "workflow": self.workflow,
        }
        return known[requirement] is not None


def decide(
    snapshot: Snapshot,
    facts: Facts,
    *,
    effects: Estimates,
    catalogue: Sequence[Intervention],
    terms: Terms,
    decision_id: str,
    now: datetime,
    rng: np.random.Generator,
    policy: str = POLICY,
    effects_model: str = "",
    key_id: str = "",
) -> Decision:
    """One intervention for one seat, with the probability of every one that could have been chosen.

    effects: of every intervention of the catalogue. rng: generator(key, decision_id), so that a replay draws the same.
    policy: policy_name(...); effects_model and key_id say whence the effects are and which key drew: for the log.
    """
    guardrails = removals(catalogue, facts, effects=effects, seat_id=snapshot.seat_id, terms=terms, now=now)
    eligible = {item.id: item for item in catalogue if item.id not in guardrails}
    means = {name: effect.mean for name, effect in effects.items()}
    costs = {item.id: item.cost for item in catalogue}
    probabilities = epsilon_greedy(list(eligible), means, costs, epsilon=terms.epsilon, seat_value=terms.seat_value)
    chosen = draw(probabilities, rng)
    return Decision(
        decision_id=decision_id,
        seat_id=snapshot.seat_id,
        decided_at=now,
        intervention=chosen,
        probabilities=probabilities,
        workflow=None if chosen == NONE else facts.workflow,
        target_person_id=facts.target(eligible[chosen]),
        holdout=facts.in_holdout,
        policy=policy,
        model=snapshot.model,
        as_of=snapshot.as_of,
        expires_at=now + terms.expiry,
        features=tuple(snapshot.vector.tolist()),
        categories=snapshot.categories,
        catalogue_hash=catalogue_hash(),
        risk=snapshot.risk,
        effects=means,
        deviations={name: effect.deviation for name, effect in effects.items()},
        costs=costs,
        terms=terms.numbers(),
        guardrails=guardrails,
        effects_model=effects_model,
        key_id=key_id,
    )


def replay(decision: Decision, *, key: bytes) -> Decision:
    """The decision, computed again from what was logged with it and nothing else: what was eligible, what was believed of
    effects, costs and terms. Equal to it, or something has been tampered with.

    Raises ValueError where it was made by another rule than POLICY, or drawn with another key.
    """
    rule = decision.policy.split(":")[0]
    if rule != POLICY or not decision.terms:
        raise ValueError(f"made by policy {decision.policy or 'unknown'}; only {POLICY} can be computed again")
    if decision.key_id != key_id(key):
        raise ValueError(f"drawn with key {decision.key_id}, now {key_id(key)}: it cannot be drawn again")
    missing = [name for name in decision.probabilities if name not in decision.effects or name not in decision.costs]
    if missing:
        raise ValueError(f"nothing was logged of the effect or cost of {', '.join(missing)}")
    probabilities = epsilon_greedy(
        list(decision.probabilities),
        decision.effects,
        decision.costs,
        epsilon=decision.terms["epsilon"],
        seat_value=decision.terms["seat_value"],
    )
    return replace(
        decision,
        intervention=draw(probabilities, generator(key, decision.decision_id)),
        probabilities=probabilities,
    )


def removals(
    catalogue: Sequence[Intervention], facts: Facts, *, effects: Estimates, seat_id: str, terms: Terms, now: datetime
) -> dict[str, str]:
    """Why each intervention that may not be chosen for the seat may not."""
    found = {}
    for intervention in catalogue:
        reason = removal(intervention, facts, effects=effects, seat_id=seat_id, terms=terms, now=now)
        if reason is not None:
            found[intervention.id] = reason
    return found


def removal(
    intervention: Intervention, facts: Facts, *, effects: Estimates, seat_id: str, terms: Terms, now: datetime
) -> str | None:
    """Why the intervention may not be chosen for the seat, or None. `none` always may."""
    if intervention.id == NONE:
        return None
    if facts.in_holdout:
        return f"the team is left alone for comparison until {epoch_end(now, terms.holdout_days).date()}"
    if facts.has_objected:
        return "the person objected to decisions"
    if facts.wanted is not None and intervention.id not in facts.wanted:
        return "not among the interventions asked for"
    for requirement in (*intervention.requires, intervention.target):
        if not facts.is_known(requirement):
            return f"no {requirement} is known"
    target = facts.target(intervention)
    if target in facts.objected:
        return f"the {intervention.target} objected to decisions"
    return (
        _rest(intervention, facts, now=now)
        or _limit(intervention, facts, seat_id=seat_id, target=target, now=now)
        or _harm(effects[intervention.id], terms)
    )


def _rest(intervention: Intervention, facts: Facts, *, now: datetime) -> str | None:
    dismissed = facts.dismissed_at
    if dismissed is not None and now - dismissed < DISMISSAL_REST and intervention.target != "manager":
        return f"an offer was dismissed on {dismissed.date()}; {DISMISSAL_REST.days} days of rest"
    return None


def _limit(intervention: Intervention, facts: Facts, *, seat_id: str, target: str | None, now: datetime) -> str | None:
    """The caps of the seat and of the person whose time it takes, the cooldown of both, the capacity of the day."""
    contacts = [use for use in facts.uses if use.intervention != NONE and now - use.at < CONTACTS_WITHIN]
    if sum(use.seat_id == seat_id for use in contacts) >= MAX_CONTACTS:
        return f"{MAX_CONTACTS} interventions in {CONTACTS_WITHIN.days} days already"
    if sum(use.person_id == target for use in contacts) >= MAX_CONTACTS:
        whose = "person" if intervention.target == "seat" else intervention.target
        return f"the {whose} has had {MAX_CONTACTS} in {CONTACTS_WITHIN.days} days already"
    cooldown = timedelta(days=intervention.cooldown_days)
    for use in facts.uses:
        is_same = use.intervention == intervention.id and (use.seat_id == seat_id or use.person_id == target)
        if is_same and now - use.at < cooldown:
            return f"given on {use.at.date()}; {intervention.cooldown_days} days of cooldown"
    if intervention.capacity_per_day is not None:
        used = facts.used_today.get(intervention.id, 0)
        if used >= intervention.capacity_per_day:
            return f"today's {intervention.capacity_per_day} are taken"
    return None


def _harm(effect: EffectEstimate, terms: Terms) -> str | None:
    """Whom contact would probably harm is not explored on, either."""
    if effect.chance_of_harm > terms.harm_bound:
        return f"{LIKELY_HARM} {terms.harm_bound:.0%}: {effect.chance_of_harm:.1%}"
    return None


def epsilon_greedy(
    eligible: Sequence[str],
    effects: Mapping[str, float],
    costs: Mapping[str, float],
    *,
    epsilon: float,
    seat_value: float,
) -> dict[str, float]:
    """pi(a) = epsilon / K + (1 - epsilon) [a is best] over the K eligible interventions, in their order."""
    best = best_of(eligible, effects, costs, seat_value=seat_value)
    floor = epsilon / len(eligible)
    return {name: floor + (1 - epsilon) * (name == best) for name in eligible}


def best_of(
    eligible: Sequence[str], effects: Mapping[str, float], costs: Mapping[str, float], *, seat_value: float
) -> str:
    """The intervention of the greatest value, effect times seat value less cost; `none` where none is above zero."""
    best, best_value = NONE, 0.0
    for name in eligible:
        value = effects[name] * seat_value - costs[name]
        if value > best_value:
            best, best_value = name, value
    return best


def draw(probabilities: Mapping[str, float], rng: np.random.Generator) -> str:
    """One of the names, each with its probability."""
    drawn = rng.random()
    for name, so_far in zip(probabilities, accumulate(probabilities.values()), strict=True):
        if drawn < so_far:
            return name
    return name  # a sum that rounding left below 1


def generator(key: bytes, decision_id: str) -> np.random.Generator:
    """The generator of one decision: nobody without the key can foresee or steer what it draws."""
    return np.random.default_rng(int.from_bytes(_keyed(key, "draw", decision_id), "big"))


def in_holdout(key: bytes, *, organization: str, team: str, now: datetime, terms: Terms) -> bool:
    """Whether the team is left alone in the present epoch of `holdout_days`."""
    digest = _keyed(key, "holdout", organization, team, str(epoch_number(now, terms.holdout_days)))
    return int.from_bytes(digest[:8], "big") / 2**64 < terms.holdout_share


def key_id(key: bytes) -> str:
    """Which key it is; nothing of the key itself."""
    return _keyed(key, "id").hex()[:12]


def policy_name(catalogue: Sequence[Intervention], terms: Terms, *, effects_model: str, rule: str = POLICY) -> str:
    """`rule:effects:digest`, the digest of the interventions and terms that it decides by."""
    told = repr([intervention.model_dump(mode="json") for intervention in catalogue]) + repr(asdict(terms))
    return f"{rule}:{effects_model}:{hashlib.sha256(told.encode()).hexdigest()[:12]}"


def _keyed(key: bytes, *parts: str) -> bytes:
    return hmac.new(key, "\x1f".join(parts).encode(), hashlib.sha256).digest()
