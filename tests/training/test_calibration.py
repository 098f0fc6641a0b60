import warnings
from dataclasses import replace

import numpy as np
import pytest
from venn_abers import VennAbers

from features.calibration import Calibrator, log_odds, probability
from features.events import MICROSECONDS_PER_DAY
from features.scorer import HORIZON_PERIODS, cumulative
from training.calibration import (
    LEAST_DRIFT,
    YOUNG_DRIFT,
    choose_calibrator,
    fit_calibrator,
    later_errors,
    mean_log_loss,
    measure_band,
)
from training.dataset import person_period_rows

SEED = 70


@pytest.fixture(scope="module")
def train(simulate):
    return simulate(SEED)


@pytest.fixture(scope="module")
def test(simulate):
    return simulate(SEED + 1)


# --- calibration ----------------------------------------------------------------------------------------------------


def too_sure(hazards):
    """Hazards with twice the log-odds: too low where low, too high where high."""
    odds = (hazards / (1 - hazards)) ** 2
    return odds / (1 + odds)


def test_where_the_rows_lie_leaves_no_trace_in_what_is_fitted(train):
    """Sums in another order differ in their last digits, as they do with the threads of BLAS."""
    hazards, rows = too_sure(train.hazards), person_period_rows(train.dataset)
    there = fit_calibrator("beta", hazards, rows, seed=1)
    back = fit_calibrator("beta", hazards, rows.take(np.arange(len(rows.row))[::-1]), seed=1)
    assert there.parameters == back.parameters


def test_beta_beats_none_on_miscalibrated_hazards(train, test):
    calibrator, losses = choose_calibrator(train.dataset, too_sure(train.hazards), seed=SEED)
    assert calibrator.kind == "beta"
    assert losses["beta"] < losses["none"] - 0.005
    repaired = cumulative(calibrator.apply(too_sure(test.hazards)))
    np.testing.assert_allclose(repaired.mean(axis=0), test.risk.mean(axis=0), atol=0.02)  # 1 000 silences: 0.015
    assert np.abs(repaired - test.risk).mean() < 0.03


def test_calibrated_hazards_are_left_about_as_they_are(train, test):
    calibrator, _ = choose_calibrator(train.dataset, train.hazards, seed=SEED)
    assert np.abs(cumulative(calibrator.apply(test.hazards)) - test.risk).mean() < 0.02  # 1 000 silences: 0.015


def test_each_stage_is_calibrated_apart(train, test):
    wrong = train.hazards.copy()
    wrong[:, 0] = too_sure(wrong[:, :1])[:, 0]
    calibrator, _ = choose_calibrator(train.dataset, wrong, seed=SEED)
    now, later = np.asarray(calibrator.parameters)
    assert abs(now[0] - 0.5) < 0.2  # half of the doubled log-odds
    assert abs(later[0] - 1) < 0.2


def test_a_few_abandonments_choose_no_calibrator(simulate):
    few = simulate(SEED, n=40)
    calibrator, losses = choose_calibrator(few.dataset, few.hazards, seed=SEED)
    assert (calibrator, losses) == (Calibrator(), {})


def test_snapshots_without_hazards_say_nothing_about_calibration(train):
    half = np.arange(len(train.dataset)) % 2 == 0
    blank = np.where(half[:, None], train.hazards, np.nan)
    with_blanks, _ = choose_calibrator(train.dataset, blank, seed=SEED)
    alone, _ = choose_calibrator(train.dataset.take(half), train.hazards[half], seed=SEED)
    assert with_blanks == alone


def test_the_stored_steps_answer_as_the_package_does(train, test):
    rows = person_period_rows(train.dataset)
    found = fit_calibrator("venn_abers", train.hazards, rows, seed=SEED)
    first = rows.take(rows.period == 0)
    coarse = probability(np.round(log_odds(train.hazards[first.row, 0]) * 50) / 50)
    package = VennAbers()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        package.fit(p_cal=np.column_stack((1 - coarse, coarse)), y_cal=first.event)
    asked = test.hazards[:, 0]
    expected, bounds = package.predict_proba(p_test=np.column_stack((1 - asked, asked)))
    np.testing.assert_allclose(found.apply(test.hazards)[:, 0], expected[:, 1], rtol=1e-12)
    np.testing.assert_allclose(np.column_stack(found.steps[0].bounds(asked)), bounds, rtol=1e-12)


def test_venn_abers_repairs_miscalibrated_hazards(train, test):
    rows = person_period_rows(train.dataset)
    repaired = cumulative(
        fit_calibrator("venn_abers", too_sure(train.hazards), rows, seed=SEED).apply(too_sure(test.hazards))
    )
    np.testing.assert_allclose(repaired.mean(axis=0), test.risk.mean(axis=0), atol=0.02)  # 1 000 silences: 0.015
    assert np.diff(repaired, axis=1).min() >= 0


def test_weights_count_in_venn_abers_as_copies_do(train):
    rows = person_period_rows(train.dataset)
    double = replace(rows, weight=rows.weight * 2.0)
    twice = replace(rows, **{name: np.tile(values, 2) for name, values in vars(rows).items()})
    assert fit_calibrator("venn_abers", train.hazards, double, seed=1) == fit_calibrator(
        "venn_abers", train.hazards, twice, seed=1
    )


def test_the_mean_log_loss_is_lowest_at_the_truth(train):
    rows = person_period_rows(train.dataset)
    assert mean_log_loss(rows, train.hazards) < mean_log_loss(rows, too_sure(train.hazards))


# --- the band -------------------------------------------------------------------------------------------------------


def moving(simulate, seed, shifts, *, n=1_500):
    """Months in which the log-odds of every hazard are shifted; the dataset and the risk that a model would say."""
    parts, risks = [], []
    for month, shift in enumerate(shifts):
        drawn = simulate(seed + month, n=n, now=-1.8 + shift, later=-3.2 + shift, longest=200.0)
        as_of = np.full(n, 1_767_571_200_000_000 + month * 28 * MICROSECONDS_PER_DAY)
        people = np.array([f"m{month}-{number // 4}" for number in range(n)])
        parts.append(replace(drawn.dataset, as_of=as_of, person=people))
        odds = log_odds(drawn.hazards) - shift
        risks.append((cumulative(probability(odds))[:, HORIZON_PERIODS], drawn.risk[:, HORIZON_PERIODS]))
    joined = {
        name: np.concatenate([getattr(part, name) for part in parts]) for name in vars(parts[0]) if name != "categories"
    }
    dataset = type(parts[0])(**joined, categories=[row for part in parts for row in part.categories])
    said, truth = (np.concatenate(columns) for columns in zip(*risks, strict=True))
    return dataset, said, truth


def test_errors_are_the_shift_that_would_have_been_right(simulate):
    dataset, said, _ = moving(simulate, 500, [0.0, 0.5], n=6_000)
    errors = later_errors(dataset, said, origin=int(dataset.as_of.min()))
    now = errors.horizon == 0
    still, moved = (errors.error[now & (errors.block == block)] for block in (0, 1))
    # about 2 000 snapshots a group with 300 silences: a standard error of 0.07, and the shift is linearised
    assert np.abs(still).max() < 0.25
    assert moved.mean() == pytest.approx(0.5, abs=0.15)


def test_the_band_holds_the_true_rate_of_a_month_to_come(simulate):
    """40 worlds of four months each and a fifth to come, whose log-odds move with a standard deviation of 0.3."""
    rng, inside, widths = np.random.default_rng(SEED), [], []
    for world in range(40):
        shifts = rng.normal(0, 0.3, 5)
        dataset, said, truth = moving(simulate, 1_000 + 10 * world, shifts)
        is_past = dataset.as_of < dataset.as_of.max()
        past = dataset.take(is_past)
        band = measure_band([later_errors(past, said[is_past], origin=int(past.as_of.min()))])
        low, high = band.around(said[~is_past])
        for horizon in range(4):
            for rows in np.array_split(np.argsort(said[~is_past, horizon]), 5):
                rate = truth[~is_past][rows, horizon].mean()
                inside.append(low[rows, horizon].mean() <= rate <= high[rows, horizon].mean())
        widths.append((high - low).mean())
    # 95 % is stated; bins of a month move together, so 40 worlds have a standard error of about 0.03
    assert np.mean(inside) >= 0.89
    assert np.mean(widths) < 0.5  # and it says something


def test_the_band_is_wider_where_months_differ_more(simulate):
    widths = []
    for spread in (0.0, 0.6):
        dataset, said, _ = moving(simulate, 300, spread * np.array([-1, 1, -1, 1]), n=3_000)
        band = measure_band([later_errors(dataset, said, origin=int(dataset.as_of.min()))])
        widths.append(np.mean(band.half_widths))
    assert widths[1] > 2 * widths[0]


def test_a_young_log_leaves_more_open(simulate):
    dataset, said, _ = moving(simulate, 400, [0.0] * 4, n=6_000)
    errors = [later_errors(dataset, said, origin=int(dataset.as_of.min()))]
    narrow, wide = (np.mean(measure_band(errors, least_drift=d).half_widths) for d in (LEAST_DRIFT, YOUNG_DRIFT))
    assert wide > 1.3 * narrow


def test_the_band_of_a_young_log_holds_the_true_rate_if_months_differ_as_much_as_is_assumed(simulate):
    """40 worlds of two months and a third to come, whose log-odds differ with the standard deviation that is assumed."""
    rng, inside = np.random.default_rng(SEED), []
    for world in range(40):
        dataset, said, truth = moving(simulate, 3_000 + 10 * world, rng.normal(0, YOUNG_DRIFT, 3))
        is_past = dataset.as_of < dataset.as_of.max()
        past = dataset.take(is_past)
        errors = later_errors(past, said[is_past], origin=int(past.as_of.min()))
        low, high = measure_band([errors], least_drift=YOUNG_DRIFT).around(said[~is_past])
        for horizon in range(4):
            for rows in np.array_split(np.argsort(said[~is_past, horizon]), 5):
                rate = truth[~is_past][rows, horizon].mean()
                inside.append(low[rows, horizon].mean() <= rate <= high[rows, horizon].mean())
    assert np.mean(inside) >= 0.92  # 95 % is stated; a standard error of about 0.02, as bins of a month move together


def test_nothing_seen_later_is_an_empty_band(make_dataset):
    nothing = make_dataset([np.inf], [-1.0], [-1.0])
    errors = later_errors(nothing, np.full((1, 4), 0.3), origin=0)
    assert measure_band([errors]).places == ()
    assert measure_band([]).places == ()
