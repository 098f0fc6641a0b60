"""Off-policy values: unbiased by full enumeration, honest about support, and a gate that is hard to fool."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from features.effects import Seen
from training.decided import DecisionData
from training.offpolicy import (
    FEWEST_TEAMS,
    Estimator,
    NoSupport,
    alpha_of_try,
    explore,
    gain,
    greedy,
    mean_by_team,
    net_of_cost,
    promotion,
    sample_ratio_mismatch,
    support,
    switch_threshold,
    value,
    within_support,
)

ARMS = ("none", "in_context_guidance", "peer_champion")  # of decision_data


def enumerable(logged, chances, arms, outcomes):
    """The data in which these arms were drawn and these outcomes came, in a world of two contexts and three arms."""
    n = len(logged)
    return DecisionData(
        arms=("none", "hint", "call"),
        seen=Seen(np.zeros((n, 1)), [[]] * n, np.zeros((n, 3)), np.zeros((n, 0)), np.ones(n)),
        arm=np.array(arms),
        propensity=logged,
        kept=np.array(outcomes, float),
        team=np.array([f"t-{row}" for row in range(n)]),
        organization=np.full(n, "acme"),
        seat=np.array([f"s-{row}" for row in range(n)]),
        as_of=np.arange(n),
        cost=np.array([0.0, 1.0, 10.0]),
        answers=np.zeros((3, 0)),
    )


def weights_of(values):
    table = np.asarray(values, float) + 0.05
    return table / table.sum(axis=1, keepdims=True)


TABLE = st.lists(st.lists(st.floats(0, 1), min_size=3, max_size=3), min_size=2, max_size=2)


@settings(max_examples=40, deadline=None)
@given(logged=TABLE, target=TABLE, chances=TABLE, model=TABLE)
def test_ips_and_dr_are_unbiased_over_every_draw_whatever_the_outcome_model(logged, target, chances, model) -> None:
    mu, pi, chance, q = weights_of(logged), weights_of(target), np.asarray(chances), np.asarray(model)
    truth = (pi * chance).sum(axis=1).mean()
    expected = dict.fromkeys((Estimator.IPS, Estimator.DR), 0.0)

    for arms in product(range(3), repeat=2):
        for outcomes in product((0, 1), repeat=2):
            likely = np.prod(
                [
                    mu[r, a] * (chance[r, a] if y else 1 - chance[r, a])
                    for r, (a, y) in enumerate(zip(arms, outcomes, strict=True))
                ]
            )
            found = value(enumerable(mu, chance, arms, outcomes), pi, q).values
            for name in expected:
                expected[name] += likely * found[name].value

    assert expected[Estimator.IPS] == pytest.approx(truth, abs=1e-9)
    assert expected[Estimator.DR] == pytest.approx(truth, abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_the_value_of_the_logging_policy_is_the_mean_outcome(seed, decision_data) -> None:
    data = decision_data(seed, n=60)

    found = value(data, data.propensity, np.zeros(data.propensity.shape)).values

    for name in (Estimator.IPS, Estimator.SNIPS, Estimator.DR):
        assert found[name].value == pytest.approx(data.kept.mean())


def test_dr_interval_is_that_of_independent_teams(decision_data) -> None:
    data = decision_data(n=50, members=1)
    scores = data.kept

    found = mean_by_team(scores, data.team)

    half = stats.t.ppf(0.975, 49) * scores.std(ddof=1) / np.sqrt(50)
    assert found.high - found.value == pytest.approx(half)


def test_teams_that_share_their_fate_widen_the_interval(decision_data) -> None:
    scores = np.repeat([0.0, 1.0] * 10, 20)

    apart = mean_by_team(scores, np.arange(400).astype(str))
    together = mean_by_team(scores, np.repeat(np.arange(20), 20).astype(str))

    assert together.high - together.low > 3 * (apart.high - apart.low)


def test_with_few_teams_no_interval_is_shown() -> None:
    found = mean_by_team(np.ones(20), np.repeat(np.arange(FEWEST_TEAMS - 1), 5).astype(str))

    assert np.isnan(found.low)
    assert np.isnan(found.high)


def test_dr_covers_the_truth_of_a_fixed_policy(decision_data) -> None:
    truth = 0.5 + 0.3 * 0.5  # everyone gets the last arm, which keeps 0.3 more of half of them; the rest is symmetric
    hits = 0
    for seed in range(200):
        data = decision_data(seed, n=500, effect=0.3)
        target = np.zeros((500, 3))
        target[:, 2] = 1
        found = value(data, target, np.full((500, 3), data.kept.mean())).values[Estimator.DR]
        hits += found.low <= truth <= found.high

    assert (
        0.90 <= hits / 200 <= 0.99
    )  # 0.95 with a standard error of 0.015; clipping of chances moves the truth by < 0.005


def test_zero_probability_is_refused_and_the_arm_named(decision_data) -> None:
    propensity = np.tile([0.7, 0.3, 0.0], (40, 1))
    data = decision_data(n=40, propensity=propensity)

    with pytest.raises(NoSupport, match=r"peer_champion \(in 40 of 40 decisions\)"):
        value(data, np.tile([0.5, 0.0, 0.5], (40, 1)), np.zeros((40, 3)))


def test_a_chosen_arm_without_probability_is_bad_data(decision_data) -> None:
    with pytest.raises(ValueError, match="peer_champion was chosen with a logged probability of 0"):
        decision_data(n=4, propensity=np.tile([0.7, 0.3, 0.0], (4, 1)), arm=np.array([0, 1, 2, 0]))


@pytest.mark.parametrize("target", [np.full((40, 3), 0.5), np.tile([1.5, -0.5, 0.0], (40, 1))])
def test_what_are_no_probabilities_is_refused(target, decision_data) -> None:
    with pytest.raises(ValueError, match="probabilities"):
        value(decision_data(n=40), target, np.zeros((40, 3)))


def test_censored_decisions_are_not_valued(decision_data) -> None:
    data = decision_data(n=40)
    data = replace(data, kept=np.where(np.arange(40) == 3, np.nan, data.kept))

    with pytest.raises(ValueError, match="matured"):
        value(data, data.propensity, np.zeros((40, 3)))


def test_the_support_table_says_where_the_policy_goes_beyond_the_log(decision_data) -> None:
    propensity = np.tile([0.7, 0.3, 0.0], (40, 1))
    propensity[:10] = [0.5, 0.3, 0.2]

    rows = support(decision_data(n=40, propensity=propensity), np.tile([0.0, 0.0, 1.0], (40, 1)))

    assert rows[2].eligible == 10
    assert rows[2].smallest == pytest.approx(0.2)
    assert rows[2].unsupported == pytest.approx(0.75)


def test_clipping_is_reported_and_cuts(decision_data) -> None:
    data = decision_data(n=400)
    target = np.zeros((400, 3))
    target[:, 2] = 1

    cut = value(data, target, np.zeros((400, 3)), clip=3.0)

    assert cut.largest_weight == 3.0
    assert 0 < cut.clipped < 1
    assert value(data, target, np.zeros((400, 3))).clipped == 0


def test_switch_leaves_rare_arms_to_the_outcome_model(decision_data) -> None:
    """A hundredth of the policy's mass left to the model may cost a hundredth; two decisions of weight 100 cost more."""
    propensity = np.tile([0.9899, 0.01, 0.0001], (2_000, 1))
    data = decision_data(n=2_000, propensity=propensity, arm=np.where(np.arange(2_000) % 1_000 == 0, 2, 0))
    target, q = np.tile([0.99, 0.0, 0.01], (2_000, 1)), np.full((2_000, 3), data.kept.mean())

    found = value(data, target, q)

    assert switch_threshold(data, target, q) < 100
    assert found.switched == pytest.approx(0.01)
    narrow, wide = (found.values[name].high - found.values[name].low for name in (Estimator.SWITCH_DR, Estimator.DR))
    assert narrow < 0.7 * wide


def test_switch_leaves_nothing_to_a_model_where_the_log_tells_enough(decision_data) -> None:
    data = decision_data(n=2_000)
    target = np.tile([0.2, 0.4, 0.4], (2_000, 1))

    found = value(data, target, np.full((2_000, 3), 0.9))

    assert found.switched == 0
    assert found.values[Estimator.SWITCH_DR] == found.values[Estimator.DR]


def test_effective_sample_size_is_that_of_kish(decision_data) -> None:
    data = decision_data(n=200)

    assert value(data, data.propensity, np.zeros((200, 3))).effective == pytest.approx(200)


def test_draws_as_logged_do_not_mismatch_more_often_than_they_should(decision_data) -> None:
    found = [sample_ratio_mismatch(decision_data(seed, n=300)).p_value for seed in range(200)]

    assert 0.01 <= np.mean(np.array(found) < 0.05) <= 0.10  # standard error 0.015


def test_arms_that_are_hardly_ever_eligible_are_not_called_a_mismatch_by_chance(decision_data) -> None:
    """Once in a thousand is the claim; of 1 500 logs 1.5 are expected at most, and 6 are three deviations above."""
    blocked = 0
    for seed in range(1_500):
        rng = np.random.default_rng([3, seed])
        propensity = np.tile([0.95, 0.05, 0.0], (200, 1))
        propensity[:4] = [0.05, 0.05, 0.9] if seed % 2 else [0.94, 0.05, 0.01]
        arm = (rng.random(200)[:, None] >= propensity.cumsum(axis=1)[:, :2]).sum(axis=1)
        logged = decision_data(n=200, propensity=propensity, arm=arm, kept=np.zeros(200))
        blocked += sample_ratio_mismatch(logged).is_mismatched

    assert blocked <= 6


@pytest.mark.parametrize(("arm", "times"), [(2, 8), (1, 60)])
def test_an_arm_that_comes_up_too_often_is_a_mismatch_rare_or_not(decision_data, arm, times) -> None:
    propensity = np.tile([0.895, 0.1, 0.005], (200, 1))
    chosen = np.where(np.arange(200) < times, arm, np.where(np.arange(200) % 10 == 9, 3 - arm, 0) * (arm == 2))

    found = sample_ratio_mismatch(decision_data(n=200, propensity=propensity, arm=chosen, kept=np.zeros(200)))

    assert found.is_mismatched
    assert found.gap[ARMS[arm]] > 0.02


def test_the_exact_test_is_that_of_the_binomial(decision_data) -> None:
    propensity = np.tile([0.9, 0.1, 0.0], (100, 1))
    data = decision_data(n=100, propensity=propensity, arm=(np.arange(100) < 17).astype(int))

    expected = 2 * stats.binom.sf(16, 100, 0.1)
    assert sample_ratio_mismatch(data).p_value == pytest.approx(2 * expected)  # two arms, each by itself


def test_seats_that_leave_more_often_under_one_arm_are_no_mismatch_of_the_draws(decision_data) -> None:
    drawn = decision_data(3, n=3000, effect=0.4)
    stayed = drawn.take((drawn.arm != 1) | (np.arange(3000) % 2 == 0))
    everyone, nobody = (np.tile(row, (len(stayed), 1)) for row in ([0.0, 0.0, 1.0], [1.0, 0.0, 0.0]))
    q = np.full((len(stayed), 3), stayed.kept.mean())

    assert "mismatch" in promotion(stayed, everyone, nobody, q).why
    assert promotion(stayed, everyone, nobody, q, drawn=drawn).is_passed


def test_draws_that_were_not_as_logged_block_promotion(decision_data) -> None:
    data = decision_data(n=600, effect=0.4)
    forged = replace(data, arm=np.where(np.arange(600) % 4 == 0, 2, data.arm))
    target = np.zeros((600, 3))
    target[:, 2] = 1

    verdict = promotion(forged, target, forged.propensity, np.full((600, 3), 0.5))

    assert not verdict.is_passed
    assert "peer_champion" in verdict.why


def test_a_policy_that_keeps_more_is_promoted_and_an_equal_one_is_not(decision_data) -> None:
    data = decision_data(3, n=3000, effect=0.4)
    q = np.full((3000, 3), data.kept.mean())
    everyone = np.zeros((3000, 3))
    everyone[:, 2] = 1
    nobody = np.zeros((3000, 3))
    nobody[:, 0] = 1

    assert promotion(data, everyone, nobody, q).is_passed
    assert not promotion(data, nobody, nobody, q).is_passed


def test_a_policy_that_is_no_better_is_rarely_promoted(decision_data) -> None:
    passed = 0
    for seed in range(120):
        data = decision_data(seed, n=300)
        some = greedy(np.column_stack([np.zeros(300), data.seen.vectors[:, 0], np.full(300, -9.0)]), data.eligible)
        others = greedy(np.column_stack([np.zeros(300), -data.seen.vectors[:, 0], np.full(300, -9.0)]), data.eligible)
        passed += promotion(data, some, others, np.full((300, 3), 0.5)).is_passed

    assert passed <= 9  # 2.5 % of 120 is 3; 9 is three standard errors above


def test_all_tries_together_err_once_in_twenty_at_most() -> None:
    one_sided = [alpha_of_try(number) / 2 for number in range(1, 5_000)]

    assert alpha_of_try(1) == 0.05
    assert sum(one_sided) < 0.05
    assert sum(one_sided) == pytest.approx(0.05, abs=2e-5)


def test_few_decisions_beyond_the_log_are_counted_as_left_alone_and_many_are_refused(decision_data) -> None:
    propensity = np.tile([0.7, 0.2, 0.1], (400, 1))
    propensity[:20] = [0.8, 0.2, 0.0]
    data = decision_data(n=400, propensity=propensity)
    everyone = np.tile([0.0, 0.0, 1.0], (400, 1))

    spared, told = within_support(data, everyone)

    assert spared[:20].tolist() == [[1, 0, 0]] * 20
    assert spared[20:].tolist() == [[0, 0, 1]] * 380
    assert told.startswith("in 5.0% of the decisions it would choose peer_champion where the log never could")
    assert within_support(data.take(np.arange(150)), everyone[:150])[0].tolist() == everyone[:150].tolist()
    assert within_support(data, data.propensity)[1] == ""


def test_gain_of_a_policy_over_itself_is_nothing(decision_data) -> None:
    data = decision_data(n=100)

    found = gain(data, data.propensity, data.propensity, np.zeros((100, 3)))

    assert (found.value, found.low, found.high) == (0, 0, 0)


def test_costs_are_taken_off_in_units_of_a_kept_seat(decision_data) -> None:
    data = decision_data(n=100)

    net, q = net_of_cost(data, np.zeros((100, 3)), 100.0)

    assert net.kept == pytest.approx(data.kept - data.arm * 0.1)
    assert q[0].tolist() == pytest.approx([0, -0.1, -0.2])


def test_exploration_floors_every_eligible_arm() -> None:
    eligible = np.array([[True, True, False], [True, True, True]])

    found = explore(greedy(np.zeros((2, 3)), eligible), eligible, 0.3)

    assert found[0].tolist() == pytest.approx([0.85, 0.15, 0])
    assert found[1].tolist() == pytest.approx([0.8, 0.1, 0.1])
