"""Plans under capacity: laws over random problems, and rounding that keeps every marginal."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize

from training.plan import FLOOR_SHARE, NO_PERSON, round_plan, solve_plan

ARMS = ("none", "hint", "champion", "coach")


def problem(seed, n=30):
    rng = np.random.default_rng(seed)
    values = rng.normal(0, 5, (n, 4))
    values[:, 0] = 0
    eligible = rng.random((n, 4)) < 0.8
    eligible[:, 0] = True
    targets = np.full((n, 4), NO_PERSON)
    targets[:, 2] = rng.integers(0, 6, n)
    capacity = {"champion": int(rng.integers(0, 8)), "coach": int(rng.integers(0, 4))}
    return values, eligible, capacity, targets, rng


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 100_000), epsilon=st.floats(0.01, 1.0))
def test_a_plan_keeps_its_laws(seed, epsilon) -> None:
    values, eligible, capacity, targets, rng = problem(seed)

    plan = solve_plan(ARMS, values, eligible, capacity, epsilon=epsilon, targets=targets)
    chosen = round_plan(plan, rng)

    assert plan.marginals.sum(axis=1) == pytest.approx(np.ones(30))
    assert (plan.marginals[~plan.eligible] == 0).all()
    floor = epsilon * plan.floors / plan.eligible.sum(axis=1, keepdims=True)
    assert (plan.marginals >= floor * plan.eligible - 1e-7).all()
    assert (plan.marginals[np.arange(30), chosen] > 0).all()
    for arm, uses in capacity.items():
        position = ARMS.index(arm)
        assert plan.marginals[:, position].sum() <= uses + 1e-6
        assert (chosen == position).sum() <= uses
    people = targets[chosen == 2, 2]
    assert len(np.unique(people)) == len(people)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 100_000))
def test_the_plan_is_worth_as_much_as_the_whole_linear_program(seed) -> None:
    values, eligible, capacity, _, _ = problem(seed, n=12)
    plan = solve_plan(ARMS, values, eligible, capacity, epsilon=0.1)
    floors = 0.1 * plan.floors * plan.eligible / plan.eligible.sum(axis=1, keepdims=True)
    caps = np.zeros((len(capacity), 48))
    for row, arm in enumerate(capacity):
        caps[row, ARMS.index(arm) :: 4] = 1

    whole = optimize.linprog(
        -values.ravel(),
        A_ub=caps,
        b_ub=list(capacity.values()),
        A_eq=np.kron(np.eye(12), np.ones(4)),
        b_eq=np.ones(12),
        bounds=list(zip(floors.ravel(), plan.eligible.ravel().astype(float), strict=True)),
    )

    assert plan.worth == pytest.approx(-whole.fun, abs=1e-6)


def test_rounding_keeps_every_marginal() -> None:
    values, eligible, _, _, rng = problem(4)
    plan = solve_plan(ARMS, values, eligible, {"champion": 5, "coach": 2}, epsilon=0.4)

    drawn = np.mean([np.eye(4)[round_plan(plan, rng)] for _ in range(4000)], axis=0)

    assert np.abs(drawn - plan.marginals).max() < 0.035  # standard error at most 0.008; of 120 cells the largest


def test_one_more_use_is_worth_what_it_adds_to_the_plan() -> None:
    values, eligible, _, _, _ = problem(9, n=60)
    eligible[:, 3] = True
    values[:, 3] += 20

    before, after = (solve_plan(ARMS, values, eligible, {"coach": uses}, epsilon=0.01) for uses in (10, 11))

    assert before.floors[3] == 1  # the floor did not change with the capacity
    assert before.prices["coach"] >= after.worth - before.worth - 1e-6
    assert after.worth - before.worth >= after.prices["coach"] - 1e-6
    assert before.prices["coach"] > 0


def test_what_nobody_lacks_is_worth_nothing_more() -> None:
    values, eligible, _, _, _ = problem(2)

    assert solve_plan(ARMS, values, eligible, {"coach": 1000}, epsilon=0.1).prices["coach"] == 0


def test_exploration_takes_no_more_than_its_share_of_what_is_scarce() -> None:
    values, eligible, _, _, _ = problem(5, n=200)
    values[:, 3] = -100.0

    plan = solve_plan(ARMS, values, eligible, {"coach": 1}, epsilon=1.0)

    assert plan.marginals[:, 3].sum() == pytest.approx(FLOOR_SHARE)
    assert any("too scarce" in note for note in plan.notes)


def test_with_everything_exhausted_all_are_left_alone_and_the_plan_says_so() -> None:
    values, eligible, _, _, rng = problem(1)

    plan = solve_plan(ARMS, values, eligible, {"hint": 0, "champion": 0, "coach": 0}, epsilon=0.1)

    assert (round_plan(plan, rng) == 0).all()
    assert any("left alone" in note for note in plan.notes)
    assert not any("too scarce" in note for note in plan.notes)  # there is none, which is said of each by itself


def test_one_arm_only_is_a_plan() -> None:
    plan = solve_plan(("none",), np.zeros((3, 1)), np.ones((3, 1), bool), {}, epsilon=0.1)

    assert plan.marginals.tolist() == [[1.0]] * 3
    assert plan.notes == ("there is no intervention but 'none': all seats are left alone",)


@pytest.mark.parametrize(
    ("capacity", "epsilon", "message"),
    [({"singing": 3}, 0.1, "came 'singing'"), ({"coach": -1}, 0.1, "from 0, came -1"), ({}, 0.0, "epsilon")],
)
def test_bad_terms_are_refused(capacity, epsilon, message) -> None:
    values, eligible, _, _, _ = problem(1)

    with pytest.raises(ValueError, match=message):
        solve_plan(ARMS, values, eligible, capacity, epsilon=epsilon)
