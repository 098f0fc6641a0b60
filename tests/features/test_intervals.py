import numpy as np
import pytest
from lifelines import KaplanMeierFitter
from lifelines.utils import median_survival_times

from features.intervals import kaplan_meier, ratios, wilson


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"), [(0, 10, 0.0, 0.2775), (5, 10, 0.2366, 0.7634), (81, 263, 0.2553, 0.3662)]
)
def test_wilson_gives_the_published_intervals(hits, n, low, high):
    """The last is Newcombe 1998, table I."""
    assert wilson(hits, n) == pytest.approx((low, high), abs=1e-4)


def test_of_nobody_nothing_is_known():
    assert np.isnan(wilson(0, 0)).all()


@pytest.mark.parametrize("seed", range(4))
def test_the_survival_curve_is_that_of_lifelines(seed):
    rng = np.random.default_rng(seed)
    days = np.ceil(rng.exponential(40, 120))
    happened = rng.random(120) < 0.6
    fitted = KaplanMeierFitter().fit(days, happened)
    ours = kaplan_meier(days, happened)
    interval = fitted.confidence_interval_survival_function_
    theirs = np.column_stack([fitted.survival_function_.loc[ours.times], interval.loc[ours.times]])
    inside = ours.survival > 0
    assert np.column_stack([ours.survival, ours.low, ours.high])[inside] == pytest.approx(theirs[inside], abs=1e-9)
    median = ours.quantile()
    ends = median_survival_times(interval).to_numpy().ravel()
    assert [median.value, median.low, median.high] == [fitted.median_survival_time_, *ends]


def test_nothing_is_said_beyond_the_longest_follow_up():
    curve = kaplan_meier(np.array([1.0, 5.0]), np.array([True, False]))
    assert curve.at(5).value == 0.5
    assert np.isnan(curve.at(6).value)


def test_a_median_that_is_not_reached_is_infinite():
    assert kaplan_meier(np.array([1.0, 9.0, 9.0]), np.array([True, False, False])).quantile().value == np.inf


def test_of_nobody_there_is_an_empty_curve():
    curve = kaplan_meier(np.array([]), np.array([], bool))
    assert (curve.n, curve.events) == (0, 0)
    assert np.isnan(curve.at(1).value)


def test_the_bootstrap_covers_the_mean_about_as_often_as_it_says():
    """200 groups of 60: 95 % of them, give or take three standard errors (4.6 points); small samples cost a little more."""
    rng = np.random.default_rng(3)
    group = np.repeat(np.arange(200), 60)
    values = rng.exponential(2, group.size)
    _, low, high = ratios(values, np.ones(group.size), np.arange(group.size), group, 200, seed=1)
    assert 0.88 <= ((low <= 2) & (high >= 2)).mean() <= 0.99


def test_seats_of_one_person_are_drawn_together():
    values, ones, group = np.repeat(np.arange(50.0), 4), np.ones(200), np.zeros(200, int)
    _, low, high = ratios(values, ones, np.arange(200) // 4, group, 1, seed=1)
    _, low_alone, high_alone = ratios(values, ones, np.arange(200), group, 1, seed=1)
    assert (high - low)[0] > 1.6 * (high_alone - low_alone)[0]  # twice as wide in theory


def test_a_group_without_anybody_is_missing():
    value, low, high = ratios(np.ones(3), np.ones(3), np.arange(3), np.array([0, 0, -1]), 2, seed=1)
    assert value[0] == 1
    assert np.isnan([value[1], low[1], high[1]]).all()
