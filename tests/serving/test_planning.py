"""The plan of a day, solved by the real program, into the real log."""

from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from features.decisions import NONE, Decision
from features.people import People
from serving.advisor import Advisor
from serving.planning import Drawn, Proposal, decision_id_of, log_plan, propose
from serving.policy import Terms
from serving.settings import Settings
from training.plan import round_plan, solve_plan

pytestmark = pytest.mark.filterwarnings(  # MLflow 3.17 on SQLAlchemy 2.1
    "ignore:The ``noload`` loader strategy is deprecated:sqlalchemy.exc.SADeprecationWarning"
)

SEATS = [f"acme/s-{name}" for name in ("busy", "quiet", "old")]
TODAY = date(2026, 6, 1)
Solve = Callable[[Proposal], Drawn]


def solve_as(terms: Terms, day: date = TODAY) -> Solve:
    def solve(proposal: Proposal) -> Drawn:
        plan = solve_plan(
            proposal.arms,
            proposal.values,
            proposal.eligible,
            proposal.capacity,
            epsilon=terms.epsilon,
            targets=proposal.targets,
        )
        return Drawn(plan.marginals, plan.eligible, round_plan(plan, proposal.generator(day)))

    return solve


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Everything is explored alike, so that plans do something."""
    return replace(settings, epsilon=1.0)


def plan(advisor: Advisor, *, solve: Solve | None = None, day: date = TODAY, **capacity: int) -> Any:
    return log_plan(
        advisor,
        SEATS,
        organization="acme",
        capacity=capacity,
        at_risk_from=0.0,
        day=day,
        solve=solve or solve_as(advisor.settings.terms, day),
    )


def test_a_plan_is_in_the_log_with_its_marginals_its_policy_and_who_told_the_effects(
    advisor: Advisor, now: datetime
) -> None:
    logged, proposal, drawn = plan(advisor)

    stored = {item.seat_id: item for item in advisor.log.decisions()}
    assert stored.keys() == set(SEATS)
    assert len(logged.decisions) == 3
    for row, option in enumerate(proposal.options):
        decision = stored[option.score.row.seat_id]
        told = {arm: p for arm, p in zip(proposal.arms, drawn.marginals[row].tolist(), strict=True) if p > 0}
        assert decision.probabilities == told
        assert set(told) | set(decision.guardrails) == set(proposal.arms)
        assert decision.intervention == proposal.arms[drawn.chosen[row]]
        assert decision.policy.startswith("plan-1:expert:")
        assert (decision.effects_model, decision.decided_at, decision.holdout) == ("expert", now, False)
    acted = sum(decision.intervention != NONE for decision in stored.values())
    assert advisor.log.events(kinds=["intervention"]).num_rows == acted


def test_the_same_plan_again_adds_nothing(advisor: Advisor) -> None:
    plan(advisor)
    before = [decision.document() for decision in advisor.log.decisions()]

    logged, proposal, _ = plan(advisor)

    assert (logged.decisions, logged.already, proposal) == ((), 3, None)
    assert [decision.document() for decision in advisor.log.decisions()] == before


def test_a_plan_that_was_cut_off_is_completed_within_what_is_left_of_its_capacity(advisor: Advisor) -> None:
    first = log_plan(
        advisor, SEATS[1:2], organization="acme", capacity={"guided_start": 1}, at_risk_from=0.0, day=TODAY,
        solve=always("guided_start"),
    )[0]  # fmt: skip
    assert first.decisions[0].intervention == "guided_start"

    logged, proposal, drawn = plan(advisor, guided_start=1)

    assert logged.already == 1
    assert proposal.capacity["guided_start"] == 0
    assert "guided_start" not in [proposal.arms[arm] for arm in drawn.chosen]
    assert all(decision.guardrails["guided_start"] == "today's 1 are taken" for decision in logged.decisions)


def always(arm: str) -> Solve:
    """A plan that gives the arm to whom it may be given."""

    def solve(proposal: Proposal) -> Drawn:
        column = proposal.arms.index(arm)
        chosen = np.where(proposal.eligible[:, column], column, 0)
        return Drawn(np.eye(len(proposal.arms))[chosen], proposal.eligible, chosen)

    return solve


def meanwhile(advisor: Advisor, decision: Decision, first: Solve, then: Solve) -> Solve:
    """A plan while which, the first time it is solved, somebody else decides."""
    solves = [then, first]

    def solve(proposal: Proposal) -> Drawn:
        advisor.log.record_decisions([decision])  # again it is known
        return solves.pop()(proposal) if len(solves) > 1 else solves[0](proposal)

    return solve


@pytest.fixture
def other(now: datetime) -> Decision:
    """What somebody else decides for a seat of the plan."""
    return Decision(
        "else", SEATS[0], now, "guided_start", {"guided_start": 0.5, NONE: 0.5}, target_person_id="acme/p-busy"
    )


def test_a_seat_for_which_something_was_done_while_the_plan_was_solved_is_left_out(
    advisor: Advisor, other: Decision
) -> None:
    logged, _, _ = plan(advisor, solve=meanwhile(advisor, other, always("refresher"), always("refresher")))

    assert logged.left_out == (SEATS[0],)
    assert {decision.seat_id for decision in logged.decisions} == set(SEATS[1:])


def test_capacity_that_others_took_while_the_plan_was_solved_is_not_given_again(
    advisor: Advisor, other: Decision
) -> None:
    elsewhere = replace(other, seat_id="acme/s-new", target_person_id="acme/p-new")

    solve = meanwhile(advisor, elsewhere, always("guided_start"), solve_as(advisor.settings.terms))

    logged, _, _ = plan(advisor, solve=solve, guided_start=3)

    given = [item for item in advisor.log.decisions() if item.intervention == "guided_start"]
    assert len(given) <= 3
    assert len(logged.decisions) == 3


@pytest.mark.parametrize("count", [2, 3])
def test_whether_a_plan_is_drawn_again_does_not_depend_on_what_was_drawn(
    advisor: Advisor, other: Decision, count: int
) -> None:
    """Three may be given it, 2.5 are expected; somebody else takes one. Whether two or three were drawn must not matter."""
    elsewhere = replace(other, seat_id="acme/s-new", target_person_id="acme/p-new")
    solved = 0

    def solve(proposal: Proposal) -> Drawn:
        nonlocal solved
        solved += 1
        if solved > 1:
            return always(NONE)(proposal)
        advisor.log.record_decisions([elsewhere])
        column = proposal.arms.index("guided_start")
        marginals = np.zeros((3, len(proposal.arms)))
        marginals[:, [0, column]] = [[0.0, 1.0], [0.0, 1.0], [0.5, 0.5]]
        return Drawn(marginals, proposal.eligible, np.where(np.arange(3) < count, column, 0))

    plan(advisor, solve=solve, guided_start=3)

    assert solved == 2


def test_who_objects_while_the_plan_is_solved_is_left_out_and_so_is_whose_manager_does(
    advisor: Advisor, now: datetime
) -> None:
    people = People(advisor.log.database)

    def solve(proposal: Proposal) -> Drawn:
        people.object("acme/p-busy", now=now)
        return always("guided_start")(proposal)

    logged, _, _ = plan(advisor, solve=solve)

    assert logged.left_out == ("acme/s-busy",)
    assert {decision.seat_id for decision in logged.decisions} == set(SEATS) - {"acme/s-busy"}


def test_who_objected_before_the_plan_was_asked_for_is_planned_for_as_the_guardrails_say(
    advisor: Advisor, now: datetime
) -> None:
    People(advisor.log.database).object("acme/p-busy", now=now)

    logged, _, _ = plan(advisor)

    assert logged.left_out == ()
    (busy,) = [decision for decision in logged.decisions if decision.seat_id == "acme/s-busy"]
    assert busy.probabilities == {NONE: 1.0}


@pytest.mark.parametrize("arm", ["guided_start", NONE])
def test_another_run_of_the_same_plan_meanwhile_leaves_its_seats_to_it(advisor: Advisor, arm: str) -> None:
    others: list[Any] = []

    def solve(proposal: Proposal) -> Drawn:
        if not others:
            others.append(plan(advisor, solve=always(arm))[0])
        return always("guided_start")(proposal)

    logged, _, _ = plan(advisor, solve=solve)

    assert len(others[0].decisions) == 3
    assert (logged.decisions, sorted(logged.left_out)) == ((), sorted(SEATS))
    stored = {decision.seat_id: decision.document() for decision in advisor.log.decisions()}
    assert stored == {decision.seat_id: decision.document() for decision in others[0].decisions}


def test_other_seats_are_drawn_by_other_numbers(advisor: Advisor) -> None:
    proposals = [
        propose(advisor, seats, organization="acme", capacity={}, at_risk_from=0.0)
        for seats in (SEATS, SEATS[1:], SEATS)
    ]

    first, fewer, again = (one.generator(TODAY).random() for one in proposals if one is not None)

    assert first == again
    assert first != fewer


def test_a_plan_that_others_overtake_again_and_again_gives_up_and_says_so(advisor: Advisor, other: Decision) -> None:
    elsewhere = replace(other, seat_id="acme/s-new", target_person_id="acme/p-new")

    def solve(proposal: Proposal) -> Drawn:
        advisor.log.record_decisions([replace(elsewhere, decision_id=f"else-{len(advisor.log.decisions())}")])
        column = proposal.arms.index("guided_start")
        chosen = np.full(len(proposal.options), column)
        return Drawn(np.eye(len(proposal.arms))[chosen], proposal.eligible, chosen)

    with pytest.raises(ValueError, match="run it again"):
        plan(advisor, solve=solve, guided_start=3)
    assert all(item.policy == "" for item in advisor.log.decisions())


def test_a_plan_is_logged_on_its_own_day_only(advisor: Advisor) -> None:
    with pytest.raises(ValueError, match="a plan is logged on its own day, 2026-06-01"):
        plan(advisor, day=TODAY + timedelta(days=1))

    assert advisor.log.decisions() == []


def test_nobody_is_asked_twice_in_a_plan(advisor: Advisor) -> None:
    """One manager leads the three seats."""
    terms = advisor.settings.terms
    proposal = propose(advisor, SEATS, organization="acme", capacity={}, at_risk_from=0.0)
    assert proposal is not None

    drawn = solve_as(terms)(proposal)

    asked = proposal.eligible[:, proposal.arms.index("leader_participation")].sum()
    left = drawn.eligible[:, proposal.arms.index("leader_participation")].sum()
    assert (asked, left) == (3, 1)


def test_seats_below_the_risk_are_not_planned_for(advisor: Advisor) -> None:
    everybody = propose(advisor, SEATS, organization="acme", capacity={}, at_risk_from=0.0)
    assert everybody is not None
    risks = {option.score.row.seat_id: option.score.risk["28"] for option in everybody.options}
    threshold = max(risks.values())

    some = propose(advisor, SEATS, organization="acme", capacity={}, at_risk_from=threshold)

    assert some is not None
    assert set(some.seat_ids) == {seat for seat, risk in risks.items() if risk >= threshold}
    assert propose(advisor, SEATS, organization="acme", capacity={}, at_risk_from=1.0) is None


def test_the_plan_is_on_the_worklist(advisor: Advisor, client: Any) -> None:
    logged, _, _ = plan(advisor, solve=always("guided_start"))

    items = client.get("/v1/worklist?organization=acme&day=2026-06-01").json()["items"]

    assert [item["decision_id"] for item in items] == [
        decision_id_of(advisor, item["seat_id"], TODAY) for item in items
    ]
    assert {item["intervention"] for item in items} == {"guided_start"}
    assert all(item["policy"].startswith("plan-1:") for item in items)
    assert len(items) == sum(decision.intervention != NONE for decision in logged.decisions)


def test_a_planned_decision_says_that_it_cannot_be_drawn_again_alone(advisor: Advisor, client: Any) -> None:
    (decision, *_) = plan(advisor)[0].decisions

    answer = client.post(f"/v1/decisions/{decision.decision_id}/replay")

    assert answer.status_code == 409
    assert "plan-1" in answer.json()["detail"]


def test_workers_of_a_cluster_propose_what_one_process_proposes(
    advisor: Advisor, settings: Settings, cluster: Any
) -> None:
    cluster.client.run(lambda own=settings.to_environment(): __import__("os").environ.update(own))
    object.__setattr__(advisor.settings, "max_batch", 2)
    asked: dict[str, Any] = {"organization": "acme", "capacity": {"peer_champion": 1}, "at_risk_from": 0.0}

    here = propose(advisor, SEATS, **asked)
    there = propose(advisor, SEATS, **asked, cluster=cluster)

    assert here is not None
    assert there is not None
    assert len(here.seat_ids) == 3
    assert (there.arms, there.seat_ids, there.told_by) == (here.arms, here.seat_ids, here.told_by)
    assert there.capacity == here.capacity
    np.testing.assert_array_equal(there.values, here.values)
    np.testing.assert_array_equal(there.eligible, here.eligible)
    np.testing.assert_array_equal(there.targets, here.targets)
    assert (solve_as(advisor.settings.terms)(there).chosen == solve_as(advisor.settings.terms)(here).chosen).all()


def test_an_unknown_intervention_has_no_capacity(advisor: Advisor) -> None:
    with pytest.raises(ValueError, match="--capacity: expected one of"):
        propose(advisor, SEATS, organization="acme", capacity={"champagne": 1}, at_risk_from=0.0)
