from dataclasses import asdict
from itertools import pairwise

import numpy as np
import pytest
from scipy import stats

from features.catalogue import NUMERIC
from features.rules import (
    DROP_BELOW,
    EARLY_DAYS,
    EXPERT_RATES,
    PRIOR_SNAPSHOTS,
    SENTENCES,
    TOGETHER_ABOVE,
    Warning,
    expert_rates,
    fit_rates,
    warnings_of,
)

COLUMN = {feature.name: position for position, feature in enumerate(NUMERIC)}
HEALTHY = {"life_days": 40.0, "no_meaningful_first_14": 0.0, "weeks_3_4_ratio": 1.0, "frustration_and_uncertainty": 0.0}


def vector(**changes):
    row = np.zeros((1, len(NUMERIC)))
    for name, value in {**HEALTHY, **changes}.items():
        row[0, COLUMN[name]] = value
    return row


def shown(**changes):
    return [Warning(int(number)) for number in np.flatnonzero(warnings_of(vector(**changes))[0])]


# --- the three warnings ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "warning"),
    [
        ({"no_meaningful_first_14": 1.0}, Warning.NO_EARLY_MEANINGFUL_USE),
        ({"weeks_3_4_ratio": DROP_BELOW - 0.01}, Warning.DROP_IN_WEEKS_3_AND_4),
        ({"weeks_3_4_ratio": 0.0}, Warning.DROP_IN_WEEKS_3_AND_4),
        ({"frustration_and_uncertainty": TOGETHER_ABOVE + 0.01}, Warning.FRUSTRATED_AND_UNCERTAIN),
    ],
)
def test_each_warning_shows_alone(changes, warning):
    assert shown(**changes) == [warning]


def test_a_healthy_seat_shows_no_warning():
    assert shown() == []


@pytest.mark.parametrize("changes", [{"weeks_3_4_ratio": DROP_BELOW}, {"frustration_and_uncertainty": TOGETHER_ABOVE}])
def test_the_bounds_themselves_are_no_warning(changes):
    assert shown(**changes) == []


@pytest.mark.parametrize("name", HEALTHY)
def test_a_missing_feature_is_no_warning(name):
    assert shown(**{name: np.nan}) == []


def test_a_seat_of_unknown_age_shows_no_early_warning():
    assert shown(no_meaningful_first_14=1.0, weeks_3_4_ratio=0.0, life_days=np.nan, meaningful_ever=1.0) == []


@pytest.mark.parametrize(("life_days", "number"), [(14.0, 2), (EARLY_DAYS - 0.001, 2), (EARLY_DAYS, 0), (300.0, 0)])
def test_the_first_two_speak_of_the_first_eight_weeks_only_once_there_was_use(life_days, number):
    changes = {"no_meaningful_first_14": 1.0, "weeks_3_4_ratio": 0.0, "life_days": life_days, "meaningful_ever": 1.0}
    assert len(shown(**changes)) == number


def test_who_has_not_started_shows_the_first_warning_at_any_age():
    late = {"no_meaningful_first_14": 1.0, "life_days": 300.0, "meaningful_ever": 0.0}
    assert shown(**late) == [Warning.NO_EARLY_MEANINGFUL_USE]


@pytest.mark.parametrize("life_days", [1.0, 100.0, 1000.0])
def test_frustration_with_uncertainty_speaks_at_any_age(life_days):
    assert shown(frustration_and_uncertainty=1.0, life_days=life_days) == [Warning.FRUSTRATED_AND_UNCERTAIN]


def test_every_snapshot_is_judged_alone():
    rows = np.concatenate((vector(), vector(no_meaningful_first_14=1.0), vector(weeks_3_4_ratio=0.1)))
    assert warnings_of(rows).tolist() == [[False] * 3, [True, False, False], [False, True, False]]


def test_every_warning_has_its_sentence():
    assert set(SENTENCES) == set(Warning)


# --- rates ----------------------------------------------------------------------------------------------------------


def is_monotone(table):
    rows = all(a <= b for row in table for a, b in pairwise(row))
    return rows and all(a <= b for one, next_one in pairwise(table) for a, b in zip(one, next_one, strict=True))


def levels(numbers):
    """One vector for each wanted number of warnings."""
    signs = ({}, {"no_meaningful_first_14": 1.0}, {"weeks_3_4_ratio": 0.0}, {"frustration_and_uncertainty": 1.0})
    kinds = []
    known = {}
    for sign in signs:
        known = {**known, **sign}
        kinds.append(vector(**known)[0])
    return np.stack(kinds)[np.asarray(numbers)]


def test_before_anything_was_learned_the_rates_are_the_experts():
    rates = expert_rates()
    np.testing.assert_allclose(rates.rates, EXPERT_RATES, rtol=1e-12)
    assert rates.learned_from == 0


@pytest.mark.parametrize("number", range(4))
def test_the_risk_of_a_snapshot_is_the_rate_of_its_number_of_warnings(number):
    risk, low, high = expert_rates().risk(levels([number]))
    np.testing.assert_allclose(risk[0], EXPERT_RATES[number], rtol=1e-12)
    assert (low < risk).all()
    assert (risk < high).all()


def random_outcomes(seed, n):
    rng = np.random.default_rng(seed)
    outcome = (rng.random((n, 4)) < rng.random((1, 4))).astype(float)
    return levels(rng.integers(0, 4, n)), np.where(rng.random((n, 4)) < 0.3, np.nan, outcome), rng.uniform(0.5, 2, n)


@pytest.mark.parametrize("n", [0, 5, 50, 2_000])
@pytest.mark.parametrize("seed", range(5))
def test_rates_and_bounds_are_monotone_whatever_the_data(seed, n):
    rates = fit_rates(*random_outcomes(seed, n))
    assert is_monotone(rates.rates)
    assert is_monotone(rates.low)
    assert is_monotone(rates.high)
    low, middle, high = (np.asarray(table) for table in (rates.low, rates.rates, rates.high))
    assert ((low <= middle) & (middle <= high)).all()


def test_rates_are_shrunk_toward_the_expert_by_twenty_snapshots():
    """Twenty snapshots without a warning, all abandoned: halfway between the expert's guess and what was seen."""
    rates = fit_rates(levels([0] * 20), np.ones((20, 4)), np.ones(20))
    np.testing.assert_allclose(rates.rates[0], (np.asarray(EXPERT_RATES[0]) + 1) / 2)
    assert PRIOR_SNAPSHOTS == 20
    assert rates.learned_from == 20


def test_many_snapshots_overrule_the_expert():
    n = 100_000
    share = np.repeat([0.1, 0.2, 0.3, 0.4], n // 4)
    outcome = np.tile((np.arange(n // 4) % 10)[:, None], (4, 4)) < 10 * share[:, None]
    rates = fit_rates(levels(np.repeat(range(4), n // 4)), outcome.astype(float), np.ones(n))
    # the expert's twenty against 25 000 move a rate by 20 / 25 000 at most
    np.testing.assert_allclose(rates.rates, np.tile([[0.1], [0.2], [0.3], [0.4]], (1, 4)), atol=0.001)


def test_bounds_are_those_of_the_beta_posterior():
    rates = fit_rates(levels([0] * 80), np.repeat([[0.0]] * 60 + [[1.0]] * 20, 4, axis=1), np.ones(80))
    alpha, beta = 20 + 20 * EXPERT_RATES[0][0], 60 + 20 * (1 - EXPERT_RATES[0][0])
    assert rates.low[0][0] == pytest.approx(stats.beta.ppf(0.025, alpha, beta))
    assert rates.high[0][0] == pytest.approx(stats.beta.ppf(0.975, alpha, beta))


def test_censored_outcomes_teach_nothing():
    vectors, outcome, weight = random_outcomes(9, 300)
    outcome[100:] = np.nan
    some = fit_rates(vectors[:100], outcome[:100], weight[:100])
    assert {**asdict(fit_rates(vectors, outcome, weight)), "learned_from": 100} == asdict(some)


def test_weights_move_the_rate_and_make_no_observations():
    """Who stands in for others counts for them in the rate; what was seen of the others is no more for that."""
    vectors, outcome, _ = random_outcomes(10, 100)
    alike = fit_rates(vectors, outcome, np.ones(100))
    assert fit_rates(vectors, outcome, np.full(100, 2.0)) == alike
    sides = np.repeat([[1.0], [0.0]], 200, axis=0) * np.ones((400, 4))
    weight = np.repeat([3.0, 1.0], 200)
    rates = fit_rates(levels([0] * 400), sides, weight)
    worth = 800**2 / (200 * 3**2 + 200)  # Kish's effective number: 320 of 400
    expected = (0.75 * worth + 20 * np.asarray(EXPERT_RATES[0])) / (worth + 20)
    np.testing.assert_allclose(rates.rates[0], expected)


def test_the_bounds_count_people_and_not_their_snapshots():
    """60 people of twelve snapshots that all end alike, 300 times, the truth drawn as the expert's guess has it."""
    rng, inside = np.random.default_rng(11), []
    for _ in range(300):
        truth = rng.beta(20 * EXPERT_RATES[0][0], 20 * (1 - EXPERT_RATES[0][0]))
        outcome = np.repeat((rng.random(60) < truth).astype(float), 12)[:, None] * np.ones(4)
        person = np.repeat([f"acme/p-{number}" for number in range(60)], 12)
        rates = fit_rates(levels([0] * 720), outcome, np.ones(720), person=person)
        inside.append(rates.low[0][0] <= truth <= rates.high[0][0])
    assert 0.92 <= np.mean(inside) <= 0.98  # 95 % is stated; of 300 the standard error is 0.013


def test_snapshots_of_one_person_that_end_each_for_itself_count_each():
    rng = np.random.default_rng(12)
    outcome = (rng.random((2_400, 1)) < 0.3) * np.ones(4)
    person = np.repeat(np.arange(200), 12).astype(str)
    apart, owned = (fit_rates(levels([0] * 2_400), outcome, np.ones(2_400), person=of) for of in (None, person))
    wide, narrow = (rates.high[0][0] - rates.low[0][0] for rates in (owned, apart))
    assert wide == pytest.approx(narrow, rel=0.15)  # the variance between 200 people is known to a tenth
