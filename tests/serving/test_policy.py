"""The laws of the policy, over random catalogues and facts."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features.catalogue import BY_NAME, NUMERIC
from features.decisions import NONE, Decision
from features.estimates import EffectEstimate, Estimates, ExpertEstimator
from features.interventions import SHIPPED, FailureMode, Intervention, load_interventions
from features.uses import Use
from serving.policy import (
    MAX_CONTACTS,
    Facts,
    Snapshot,
    Terms,
    best_of,
    decide,
    generator,
    in_holdout,
    key_id,
    policy_name,
    replay,
)

# a busy machine is slow to draw, which says nothing of the laws
LAWS = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
NOW = datetime(2026, 6, 1, 6, tzinfo=UTC)
KEY = b"k" * 32
TERMS = Terms(
    epsilon=0.1, seat_value=360.0, harm_bound=0.5, holdout_share=0.1, holdout_days=56, expiry=timedelta(hours=72)
)
CATALOGUE = load_interventions(SHIPPED)
SEAT = "acme/s-1"
PERSON = "acme/p-1"
MANAGER = "acme/p-manager"
CHAMPION = "acme/p-champion"
EVERYONE = Facts(
    person_id=PERSON,
    manager_person_id=MANAGER,
    champion_person_id=CHAMPION,
    role="analyst",
    workflow="proposal_draft",
)
BENIGN = {item.id: EffectEstimate(0.05 * (item.id != NONE), 0.02 * (item.id != NONE)) for item in CATALOGUE}


def struggling() -> np.ndarray:
    """A vector on which the silent struggle shows in full."""
    vector = np.full(len(NUMERIC), np.nan)
    for name, value in {"quick_close_share_28": 1.0, "open_streak": 9.0, "tickets_28": 0.0}.items():
        vector[NUMERIC.index(BY_NAME[name])] = value
    return vector


def snapshot(risk: float = 0.5, vector: np.ndarray | None = None) -> Snapshot:
    vector = struggling() if vector is None else vector
    return Snapshot(SEAT, NOW - timedelta(hours=1), vector, ("m365_copilot", "", "", ""), {"28": risk}, "rule")


def decided(
    facts: Facts = EVERYONE,
    *,
    catalogue: tuple[Intervention, ...] = CATALOGUE,
    terms: Terms = TERMS,
    risk: float = 0.5,
    decision_id: str = "d-1",
    now: datetime = NOW,
    effects: Estimates | None = None,
) -> Decision:
    seen = snapshot(risk)
    expected = ExpertEstimator().estimate(seen.vector[None], [seen.categories], np.array([risk]), catalogue)[0]
    return decide(
        seen,
        facts,
        effects=expected if effects is None else effects,
        catalogue=catalogue,
        terms=terms,
        decision_id=decision_id,
        now=now,
        rng=generator(KEY, decision_id),
        policy=policy_name(catalogue, terms, effects_model="expert"),
        effects_model="expert",
        key_id=key_id(KEY),
    )


NAMES = tuple(f"i{number}" for number in range(6))
effect = st.floats(-0.3, 0.3)


@st.composite
def catalogues(draw: st.DrawFn) -> tuple[Intervention, ...]:
    def one(name: str) -> Intervention:
        return Intervention(
            id=name,
            title=name,
            channel="test",
            target=draw(st.sampled_from(["seat", "manager", "champion"])),
            cost=draw(st.floats(0, 50)),
            capacity_per_day=draw(st.none() | st.integers(0, 5)),
            cooldown_days=draw(st.integers(0, 60)),
            base_effect=draw(effect),
            answers=draw(st.dictionaries(st.sampled_from(list(FailureMode)), effect, max_size=3)),
            requires=tuple(draw(st.sets(st.sampled_from(["manager", "champion", "role", "workflow"])))),
        )

    none = Intervention(
        id=NONE, title="none", channel="none", target="seat", cost=0, capacity_per_day=None, cooldown_days=0,
        base_effect=0, answers={},
    )  # fmt: skip
    names = draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=len(NAMES)))
    items = [one(name) for name in names]
    items.insert(draw(st.integers(0, len(items))), none)
    return tuple(items)


uses = st.lists(
    st.builds(
        Use,
        intervention=st.sampled_from(NAMES),
        at=st.integers(0, 90).map(lambda days: NOW - timedelta(days=days)),
        seat_id=st.sampled_from([SEAT, "acme/s-2"]),
        person_id=st.sampled_from([PERSON, MANAGER, CHAMPION]),
    ),
    max_size=8,
).map(tuple)
facts = st.builds(
    Facts,
    person_id=st.just(PERSON),
    manager_person_id=st.sampled_from([None, MANAGER]),
    champion_person_id=st.sampled_from([None, CHAMPION]),
    uses=uses,
    used_today=st.dictionaries(st.sampled_from(NAMES), st.integers(0, 6)),
    dismissed_at=st.none() | st.integers(0, 30).map(lambda days: NOW - timedelta(days=days)),
    role=st.sampled_from([None, "analyst"]),
    objected=st.frozensets(st.sampled_from([PERSON, MANAGER, CHAMPION]), max_size=2),
    wanted=st.none() | st.frozensets(st.sampled_from(NAMES)),
    workflow=st.sampled_from([None, "proposal_draft"]),
    in_holdout=st.booleans(),
)
terms = st.builds(lambda epsilon: replace(TERMS, epsilon=epsilon), st.floats(1e-6, 1.0))
ids = st.uuids().map(str)
believed = st.builds(EffectEstimate, st.floats(-0.5, 0.5), st.floats(0, 0.3))


@st.composite
def learned(draw: st.DrawFn) -> tuple[tuple[Intervention, ...], Estimates]:
    """A catalogue, and what some model believes of it."""
    catalogue = draw(catalogues())
    return catalogue, {item.id: EffectEstimate(0.0, 0.0) if item.id == NONE else draw(believed) for item in catalogue}


@LAWS
@given(catalogue=catalogues(), facts=facts, terms=terms, risk=st.floats(0, 1), decision_id=ids)
def test_probabilities_sum_to_one_and_none_is_below_its_share_of_exploration(
    catalogue: tuple[Intervention, ...], facts: Facts, terms: Terms, risk: float, decision_id: str
) -> None:
    decision = decided(facts, catalogue=catalogue, terms=terms, risk=risk, decision_id=decision_id)

    assert sum(decision.probabilities.values()) == pytest.approx(1, abs=1e-12)
    assert min(decision.probabilities.values()) >= terms.epsilon / len(decision.probabilities)
    assert set(decision.probabilities) | set(decision.guardrails) == {item.id for item in catalogue}
    assert not set(decision.probabilities) & set(decision.guardrails)


def may_be_given(item: Intervention, facts: Facts, believed: EffectEstimate) -> bool:
    """The rules of docs/decisions.md, one after the other, said again without the policy's code."""
    whose = {"seat": facts.person_id, "manager": facts.manager_person_id, "champion": facts.champion_person_id}
    target = whose[item.target]
    there = {"role": facts.role, "workflow": facts.workflow, **whose}
    recent = [use for use in facts.uses if use.intervention != NONE and use.at > NOW - timedelta(days=28)]
    same = [
        use for use in facts.uses if use.intervention == item.id and (use.seat_id == SEAT or use.person_id == target)
    ]
    return all(
        (
            not facts.in_holdout,
            facts.person_id not in facts.objected and target not in facts.objected,
            facts.wanted is None or item.id in facts.wanted,
            target is not None and all(there[name] is not None for name in item.requires),
            item.target == "manager" or facts.dismissed_at is None or facts.dismissed_at <= NOW - timedelta(days=14),
            len([use for use in recent if use.seat_id == SEAT]) < 4,
            len([use for use in recent if use.person_id == target]) < 4,
            all(use.at <= NOW - timedelta(days=item.cooldown_days) for use in same),
            item.capacity_per_day is None or facts.used_today.get(item.id, 0) < item.capacity_per_day,
            believed.mean
            >= 0,  # the bound of TERMS is one half: more than half of a normal lies below zero with its mean
        )
    )


@LAWS
@given(told=learned(), facts=facts, terms=terms, decision_id=ids)
def test_what_can_be_chosen_is_what_the_rules_leave_and_nothing_else(
    told: tuple[tuple[Intervention, ...], Estimates], facts: Facts, terms: Terms, decision_id: str
) -> None:
    catalogue, drawn = told
    effects = {
        name: replace(one, mean=round(one.mean, 6)) for name, one in drawn.items()
    }  # else it may be as good as 0
    decision = decided(facts, catalogue=catalogue, terms=terms, decision_id=decision_id, effects=effects)

    left = {item.id for item in catalogue if item.id != NONE and may_be_given(item, facts, effects[item.id])}
    assert set(decision.probabilities) == {NONE, *left}
    assert decision.intervention in {NONE, *left}


@LAWS
@given(catalogue=catalogues(), seed=ids)
def test_no_more_of_an_intervention_is_given_in_a_day_than_its_capacity(
    catalogue: tuple[Intervention, ...], seed: str
) -> None:
    limit = {item.id: item.capacity_per_day for item in catalogue if item.capacity_per_day is not None}
    explores = replace(TERMS, epsilon=1.0, harm_bound=1.0)
    used: dict[str, int] = {}
    for number in range(25):
        given = decided(
            replace(EVERYONE, used_today=dict(used)),
            catalogue=catalogue,
            terms=explores,
            decision_id=f"{seed}-{number}",
        )
        used[given.intervention] = used.get(given.intervention, 0) + 1

    assert all(used.get(name, 0) <= most for name, most in limit.items())


@LAWS
@given(told=learned(), facts=facts, terms=terms, decision_id=ids)
def test_nobody_is_given_what_is_likelier_to_harm_than_the_bound(
    told: tuple[tuple[Intervention, ...], Estimates], facts: Facts, terms: Terms, decision_id: str
) -> None:
    catalogue, effects = told
    decision = decided(facts, catalogue=catalogue, terms=terms, decision_id=decision_id, effects=effects)

    assert all(effects[name].chance_of_harm <= terms.harm_bound for name in decision.probabilities)
    assert sum(decision.probabilities.values()) == pytest.approx(1, abs=1e-12)


@LAWS
@given(told=learned(), facts=facts, terms=terms, decision_id=ids)
def test_replay_reproduces_the_decision_from_the_log_alone_whoever_told_the_effects(
    told: tuple[tuple[Intervention, ...], Estimates], facts: Facts, terms: Terms, decision_id: str
) -> None:
    catalogue, effects = told
    decision = decided(facts, catalogue=catalogue, terms=terms, decision_id=decision_id, effects=effects)

    assert replay(decision, key=KEY) == decision


@LAWS
@given(catalogue=catalogues(), gaps=st.lists(st.integers(0, 20), min_size=1, max_size=30))
def test_no_sequence_of_decisions_breaks_a_cooldown_or_the_cap(
    catalogue: tuple[Intervention, ...], gaps: list[int]
) -> None:
    cooldown = {item.id: timedelta(days=item.cooldown_days) for item in catalogue}
    now, given_at = NOW, list[Use]()
    for number, gap in enumerate(gaps):
        now += timedelta(days=gap)
        decision = decided(
            replace(EVERYONE, uses=tuple(given_at)),
            catalogue=catalogue,
            terms=replace(TERMS, epsilon=1.0, harm_bound=1.0),
            decision_id=f"d-{number}",
            now=now,
        )
        given_at += [Use(decision.intervention, now, SEAT, decision.target_person_id)] * (decision.intervention != NONE)

    for later, use in enumerate(given_at):
        before = [other for other in given_at[:later] if other.intervention == use.intervention]
        assert all(use.at - other.at >= cooldown[use.intervention] for other in before)
        assert sum(use.at - other.at < timedelta(days=28) for other in given_at[:later]) < MAX_CONTACTS


@LAWS
@given(probabilities=st.lists(st.floats(0.01, 1), min_size=1, max_size=8), decision_id=ids)
def test_the_draw_belongs_to_the_key_and_the_decision(probabilities: list[float], decision_id: str) -> None:
    first, second = generator(KEY, decision_id).random(), generator(KEY, decision_id).random()

    assert first == second
    assert first != generator(b"another", decision_id).random()
    assert first != generator(KEY, decision_id + "x").random()


def test_interventions_are_drawn_as_often_as_their_probabilities_say() -> None:
    chosen = [decided(decision_id=f"d-{number}", terms=replace(TERMS, epsilon=0.5)) for number in range(2000)]

    share = np.mean([decision.intervention == "in_context_guidance" for decision in chosen])
    # five standard errors of a share near 0.56 over 2 000 draws
    assert share == pytest.approx(chosen[0].probabilities["in_context_guidance"], abs=0.056)


@pytest.mark.parametrize(
    ("change", "intervention", "reason"),
    [
        ({"uses": (Use("refresher", NOW - timedelta(days=27), SEAT, PERSON),)}, "refresher", "28 days of cooldown"),
        ({"manager_person_id": None}, "leader_participation", "no manager is known"),
        ({"champion_person_id": None}, "peer_champion", "no champion is known"),
        ({"used_today": {"coach_call": 5}}, "coach_call", "today's 5 are taken"),
        ({"objected": frozenset({PERSON})}, "refresher", "the person objected to decisions"),
        ({"objected": frozenset({MANAGER})}, "leader_participation", "the manager objected to decisions"),
        ({"objected": frozenset({CHAMPION})}, "peer_champion", "the champion objected to decisions"),
        ({"role": None}, "role_use_cases", "no role is known"),
        ({"workflow": None}, "refresher", "no workflow is known"),
        ({"dismissed_at": NOW - timedelta(days=13)}, "safe_practice", "dismissed"),
        ({"wanted": frozenset({"refresher"})}, "coach_call", "not among the interventions asked for"),
        ({"in_holdout": True}, "refresher", "left alone for comparison"),
        (
            {"uses": tuple(Use(name, NOW - timedelta(days=8), SEAT, PERSON) for name in ("a", "b", "c", "d"))},
            "refresher",
            "4 interventions in 28 days already",
        ),
        (
            {"uses": tuple(Use(name, NOW - timedelta(days=8), "acme/s-2", PERSON) for name in ("a", "b", "c", "d"))},
            "refresher",
            "the person has had 4 in 28 days already",  # at their other seat
        ),
        (
            {"uses": tuple(Use(name, NOW - timedelta(days=8), "acme/s-3", MANAGER) for name in ("a", "b", "c", "d"))},
            "leader_participation",
            "the manager has had 4 in 28 days already",
        ),
        (
            {"uses": (Use("leader_participation", NOW, "acme/s-2", MANAGER),)},  # asked for another seat of the team
            "leader_participation",
            "28 days of cooldown",
        ),
    ],
)
def test_guardrail_removes_the_intervention_and_says_why(
    change: Mapping[str, object], intervention: str, reason: str
) -> None:
    decision = decided(replace(EVERYONE, **change), effects=BENIGN)  # type: ignore[arg-type]

    assert reason in decision.guardrails[intervention]
    assert intervention not in decision.probabilities


def test_cooldown_ends_on_its_day() -> None:
    decision = decided(
        replace(EVERYONE, uses=(Use("refresher", NOW - timedelta(days=28), SEAT, PERSON),)), effects=BENIGN
    )

    assert "refresher" in decision.probabilities


def test_a_dismissal_leaves_the_manager_free() -> None:
    decision = decided(replace(EVERYONE, dismissed_at=NOW), effects=BENIGN)

    assert set(decision.probabilities) == {NONE, "leader_participation"}


def test_none_wins_where_nothing_is_worth_its_cost() -> None:
    costs = {NONE: 0.0, "coach_call": 40.0}

    assert best_of(list(costs), {NONE: 0, "coach_call": 0.1}, costs, seat_value=360) == NONE
    assert best_of(list(costs), {NONE: 0, "coach_call": 0.12}, costs, seat_value=360) == "coach_call"


def test_what_is_likelier_to_harm_than_the_bound_is_not_even_explored() -> None:
    effects = {**BENIGN, "in_context_guidance": EffectEstimate(-0.004, 0.02)}

    bound = decided(effects=effects)
    free = decided(effects=effects, terms=replace(TERMS, harm_bound=0.6))

    assert bound.guardrails["in_context_guidance"] == "likelier to harm than 50%: 57.9%"
    assert "in_context_guidance" not in bound.probabilities
    assert "in_context_guidance" in free.probabilities


def test_when_everything_is_ruled_out_it_is_none_and_says_so() -> None:
    capped = tuple(item.model_copy(update={"capacity_per_day": None if item.id == NONE else 0}) for item in CATALOGUE)

    decision = decided(catalogue=capped, effects=BENIGN)

    assert decision.probabilities == {NONE: 1.0}
    assert decision.guardrails["refresher"] == "today's 0 are taken"
    assert decision.note == "all 8 interventions are ruled out, each for the reason under guardrails"


def test_a_catalogue_of_one_arm_gives_none_and_says_so() -> None:
    decision = decided(catalogue=tuple(item for item in CATALOGUE if item.id == NONE))

    assert (decision.probabilities, decision.note) == ({NONE: 1.0}, "there is no intervention but 'none'")


def test_replay_refuses_another_rule_another_key_and_what_tells_too_little() -> None:
    decision = decided()

    with pytest.raises(ValueError, match="made by policy greedy-1:expert:abc"):
        replay(replace(decision, policy="greedy-1:expert:abc"), key=KEY)
    with pytest.raises(ValueError, match="cannot be drawn again"):
        replay(decision, key=b"another")
    with pytest.raises(ValueError, match="effect or cost of none"):
        replay(replace(decision, effects={}), key=KEY)


def test_replay_shows_a_forged_choice() -> None:
    decision = decided()
    forged = replace(decision, intervention=NONE)

    assert replay(forged, key=KEY) != forged


def test_replay_shows_forged_probabilities() -> None:
    decision = decided(effects=BENIGN)
    forged = replace(decision, probabilities=dict.fromkeys(decision.probabilities, 1 / len(decision.probabilities)))

    assert replay(forged, key=KEY) != forged


def test_the_name_of_a_policy_changes_with_what_it_decides_by() -> None:
    names = {
        policy_name(CATALOGUE, TERMS, effects_model="expert"),
        policy_name(CATALOGUE, TERMS, effects_model="rekindle-effects/3"),
        policy_name(CATALOGUE, replace(TERMS, epsilon=0.2), effects_model="expert"),
        policy_name(CATALOGUE[:-1], TERMS, effects_model="expert"),
    }

    assert len(names) == 4
    assert KEY.hex() not in key_id(KEY)


def test_holdout_is_whole_teams_in_their_share_and_changes_with_the_epoch() -> None:
    teams = [f"t-{number}" for number in range(3000)]

    def held(now: datetime) -> list[bool]:
        return [in_holdout(KEY, organization="acme", team=team, now=now, terms=TERMS) for team in teams]

    # five standard errors of a share of 0.1 over 3 000 teams
    assert np.mean(held(NOW)) == pytest.approx(0.1, abs=0.028)
    assert held(NOW) == held(NOW + timedelta(hours=1))
    assert held(NOW) != held(NOW + timedelta(days=56))


def test_holdout_gives_none_with_certainty() -> None:
    decision = decided(replace(EVERYONE, in_holdout=True))

    assert decision.probabilities == {NONE: pytest.approx(1)}
    assert decision.holdout
    assert decision.note == "the team is left alone for comparison"
    assert decision.target_person_id is None


def test_decision_is_about_a_workflow_and_a_person_only_where_something_is_done() -> None:
    something = decided(replace(EVERYONE, wanted=frozenset({"guided_start"})), decision_id="d-2", effects=BENIGN)
    nothing = decided(replace(EVERYONE, wanted=frozenset()))

    assert (something.intervention, something.workflow, something.target_person_id) == (
        "guided_start",
        "proposal_draft",
        PERSON,
    )
    assert (nothing.intervention, nothing.workflow, nothing.target_person_id) == (NONE, None, None)
