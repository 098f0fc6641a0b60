from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

import training.risk
from features.decisions import Decision
from features.events import MICROSECONDS_PER_DAY
from features.instants import from_microseconds
from features.rules import Stratum
from features.scorer import HORIZON_PERIODS, PERIODS, Calibrator, Method, Scorer, cumulative
from training.dataset import FOLDS, censoring_weights, person_period_rows
from training.risk import (
    CALIBRATION_SHARE_OF_TIME,
    ENOUGH_FOR_LOGISTIC,
    ENOUGH_FOR_TREES,
    affordable,
    choose_calibrator,
    fit,
)

SEED = 70
LEARNED = [Method.LIGHTGBM, Method.LOGISTIC]


@pytest.fixture(scope="module")
def train(simulate):
    return simulate(SEED)


@pytest.fixture(scope="module")
def test(simulate):
    return simulate(SEED + 1)


@pytest.fixture(scope="module")
def fits(train):
    return {method: fit(train.dataset, seed=SEED, method=method) for method in LEARNED}


def scored(fitted, dataset):
    return fitted.scorer.score(dataset.vectors, dataset.categories)


# --- what so little data can carry ----------------------------------------------------------------------------------


def counted(make_dataset, abandoned, kept):
    silent = np.concatenate((np.zeros(abandoned), np.full(kept, np.inf)))
    return make_dataset(silent, np.where(np.isinf(silent), 60.0, silent), np.full(len(silent), 60.0))


@pytest.mark.parametrize(
    ("abandoned", "kept", "method"),
    [
        (0, 500, Method.RULE),
        (500, 0, Method.RULE),
        (ENOUGH_FOR_LOGISTIC - 1, 500, Method.RULE),
        (500, ENOUGH_FOR_LOGISTIC - 1, Method.RULE),
        (ENOUGH_FOR_LOGISTIC, 500, Method.LOGISTIC),
        (ENOUGH_FOR_TREES - 1, 500, Method.LOGISTIC),
        (ENOUGH_FOR_TREES, 500, Method.LIGHTGBM),
    ],
)
def test_the_method_is_what_the_abandonments_can_carry(make_dataset, abandoned, kept, method):
    dataset = counted(make_dataset, abandoned, kept)
    assert affordable(dataset, dataset.abandonments())[0] is method


def test_the_note_of_the_rule_says_how_much_is_missing(make_dataset):
    assert affordable(counted(make_dataset, 3, 40), 3)[1] == (
        "3 abandonments and 40 kept snapshots are in the data, a learned model needs at least 20 of each: "
        "the three-warnings rule is used"
    )


def test_the_note_of_the_logistic_model_says_how_much_is_missing(make_dataset):
    assert affordable(counted(make_dataset, 30, 40), 30)[1] == (
        "30 abandonments are in the data, the tree model needs 200: a regularised logistic model is used"
    )


def test_the_best_method_needs_no_excuse(make_dataset):
    assert affordable(counted(make_dataset, 200, 200), 200)[1] == ""


def test_one_class_gives_the_rule_with_learned_rates(make_dataset):
    fitted = fit(counted(make_dataset, 0, 300), seed=SEED)
    assert fitted.scorer.method is Method.RULE
    assert fitted.scorer.rule.learned_from == 300
    assert "0 abandonments" in fitted.scorer.note


def test_no_snapshots_give_the_rule(make_dataset):
    assert fit(make_dataset([], [], []), seed=SEED).scorer.method is Method.RULE


def test_little_data_gives_the_logistic_model_and_says_so(simulate):
    fitted = fit(simulate(SEED, n=300).dataset, seed=SEED)
    assert fitted.scorer.method is Method.LOGISTIC
    assert fitted.scorer.note.startswith(f"{fitted.abandonments} abandonments")
    assert ENOUGH_FOR_LOGISTIC <= fitted.abandonments < ENOUGH_FOR_TREES


def test_silences_in_weeks_that_are_not_over_give_the_rule_and_no_crash(make_dataset):
    """Very young data: silences are seen, but no period in which they began is observable to its end."""
    silent = np.concatenate((np.full(30, 3.0), np.full(30, np.inf)))
    fitted = fit(make_dataset(silent, np.where(np.isinf(silent), 5.0, silent), np.full(60, 5.0)), seed=SEED)
    assert fitted.scorer.method is Method.RULE


# --- a fit recovers what was planted --------------------------------------------------------------------------------


@pytest.mark.parametrize("method", LEARNED)
def test_a_fit_recovers_the_risk_of_each_snapshot(fits, test, method):
    found = scored(fits[method], test.dataset).risk
    truth = test.risk[:, HORIZON_PERIODS]
    # 4 000 snapshots with about 1 000 silences: the rate itself is known to 0.01, its slope to a tenth of it
    assert np.abs(found - truth).mean() < 0.04
    np.testing.assert_allclose(found.mean(axis=0), truth.mean(axis=0), atol=0.03)


@pytest.mark.parametrize("method", LEARNED)
def test_a_fit_is_calibrated_from_the_safest_to_the_riskiest_fifth(fits, test, method):
    found = scored(fits[method], test.dataset).risk[:, 3]
    truth = test.risk[:, HORIZON_PERIODS[3]]
    fifths = np.array_split(np.argsort(found), 5)
    gaps = [found[rows].mean() - truth[rows].mean() for rows in fifths]
    # the calibrator rests on the last 30 % of the time: 60 silences a fifth, a standard error of 0.04, times 2
    assert np.abs(gaps).max() < 0.08


@pytest.mark.parametrize("method", LEARNED)
@pytest.mark.parametrize("horizon", range(4))
def test_a_fit_ranks_about_as_well_as_the_truth(fits, test, method, horizon):
    label = test.silence <= (0, 7, 14, 28)[horizon]
    found = roc_auc_score(label, scored(fits[method], test.dataset).risk[:, horizon])
    best = roc_auc_score(label, test.risk[:, HORIZON_PERIODS[horizon]])
    assert best > 0.7
    assert found > best - 0.02  # the noise of what little overfitting the shrinkage leaves


@pytest.mark.parametrize("method", LEARNED)
def test_expected_days_are_about_the_true_mean(fits, test, method):
    found = scored(fits[method], test.dataset).expected_days
    assert found.mean() == pytest.approx(np.minimum(test.silence, 56).mean(), abs=2.0)  # 0.03 of risk over 56 days


@pytest.mark.parametrize("method", LEARNED)
def test_risk_never_falls_with_the_horizon(fits, test, method):
    found = scored(fits[method], test.dataset)
    steps = [np.diff(values, axis=1).min() for values in (found.risk, found.low, found.high, found.curve)]
    assert min(steps) >= 0


@pytest.mark.parametrize("method", LEARNED)
def test_the_risk_lies_inside_its_interval(fits, test, method):
    found = scored(fits[method], test.dataset)
    assert ((found.low <= found.risk) & (found.risk <= found.high)).all()
    assert (found.high - found.low).mean() > 0.005  # an interval, not a point


@pytest.mark.parametrize("method", LEARNED)
def test_the_interval_holds_the_true_rate_of_seats_scored_alike(fits, test, method):
    found = scored(fits[method], test.dataset)
    fifths = np.array_split(np.argsort(found.risk[:, 3]), 5)
    truth = test.risk[:, HORIZON_PERIODS[3]]
    inside = [
        found.low[rows, 3].mean() - 0.02 < truth[rows].mean() < found.high[rows, 3].mean() + 0.02 for rows in fifths
    ]
    assert (
        sum(inside) >= 4
    )  # the calibrators are resampled, the model is not: 0.02 for what the model itself does not know


def test_the_fit_tells_what_it_rests_on(fits, train):
    fitted = fits[Method.LIGHTGBM]
    assert fitted.rows == len(person_period_rows(train.dataset).row)
    assert fitted.trees >= 1
    assert set(fitted.held_out_log_loss) == {"none", "beta"}


@pytest.mark.parametrize("method", LEARNED)
def test_the_same_seed_gives_the_same_bytes(simulate, tmp_path, method):
    data = simulate(SEED, n=1_200).dataset
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        fit(data, seed=5, method=method).scorer.save(tmp_path / name)
    one, two = ({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("one", "two"))
    assert one == two
    assert "scorer.json" in one


# --- odd inputs -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", LEARNED)
def test_a_category_never_seen_is_scored_as_unknown(fits, test, method):
    vectors = test.dataset.vectors[:50]
    never, unknown = ([[tool, role, "", ""]] * 50 for tool, role in (("brand_new", "astronaut"), ("", "")))
    np.testing.assert_array_equal(
        fits[method].scorer.score(vectors, never).risk, fits[method].scorer.score(vectors, unknown).risk
    )


@pytest.mark.parametrize("method", LEARNED)
def test_features_that_never_vary_or_are_never_known_teach_nothing(fits, train, test, column, method):
    assert np.isnan(train.dataset.vectors[:, column["confidence_last"]]).all()
    assert (train.dataset.vectors[:, column["trainings"]] == 0).all()
    found = fits[method].scorer.contributions(test.dataset.vectors, test.dataset.categories)
    assert np.abs(found["confidence_last"]).max() == 0
    assert np.abs(found["trainings"]).max() == 0


@pytest.mark.parametrize("method", LEARNED)
def test_a_feature_first_known_after_training_does_not_make_the_risk_missing(fits, test, column, method):
    vectors = test.dataset.vectors[:50].copy()
    vectors[:, column["confidence_last"]] = 8.0
    vectors[:, column["sessions_28"]] = np.nan
    assert np.isfinite(fits[method].scorer.score(vectors, test.dataset.categories[:50]).risk).all()


@pytest.mark.parametrize("method", LEARNED)
def test_weeks_that_nobody_has_lived_yet_are_as_the_last_one_that_was(simulate, method):
    """A young rollout, where what happens beyond the second week is not observable yet."""
    young = simulate(SEED + 2, n=3_000, longest=15.0)
    assert person_period_rows(young.dataset).period.max() == 2
    fitted = fit(young.dataset, seed=SEED, method=method)
    risk = scored(fitted, young.dataset).curve.mean(axis=0)
    hazards = np.diff(risk) / (1 - risk[:-1])
    assert hazards[2:].max() < 2 * hazards[1]  # the true hazard is the same in every week


# --- calibration ----------------------------------------------------------------------------------------------------


def too_sure(hazards):
    """Hazards with twice the log-odds: too low where low, too high where high."""
    odds = (hazards / (1 - hazards)) ** 2
    return odds / (1 + odds)


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
    assert (calibrator.kind, calibrator.resampled, losses) == ("none", (), {})


def test_snapshots_without_hazards_say_nothing_about_calibration(train):
    half = np.arange(len(train.dataset)) % 2 == 0
    blank = np.where(half[:, None], train.hazards, np.nan)
    with_blanks, _ = choose_calibrator(train.dataset, blank, seed=SEED)
    alone, _ = choose_calibrator(train.dataset.take(half), train.hazards[half], seed=SEED)
    assert with_blanks == alone


def test_the_spread_narrows_with_the_data(simulate):
    widths = []
    for n in (1_000, 9_000):
        data = simulate(SEED, n=n)
        calibrator, _ = choose_calibrator(data.dataset, data.hazards, seed=SEED)
        spread = cumulative(calibrator.spread(np.full((1, PERIODS), 0.1)))[:, 0, -1]
        widths.append(np.diff(np.quantile(spread, (0.025, 0.975)))[0])
    assert 2 < widths[0] / widths[1] < 4.5  # the root of nine, with 100 resamples for each


# --- censoring by interventions that go where the risk is -----------------------------------------------------------


@pytest.fixture(scope="module")
def coached(make_dataset):
    """Half of the seats carry a trouble that only the coach sees: twice the hazard, and half of them get a call each time.

    (dataset weighted by the logged probabilities, the same unweighted, the true risk by each period's end if nothing is done)
    """
    rng, n = np.random.default_rng(SEED + 3), 9_000
    is_troubled = rng.random(n) < 0.5
    hazards = np.where(is_troubled[:, None], 0.16, 0.04) * np.ones(PERIODS)
    is_now = rng.random((n, PERIODS)) < hazards
    period = np.where(is_now.any(axis=1), is_now.argmax(axis=1), PERIODS)
    silence = np.where(period == 0, 0.0, np.where(period == PERIODS, np.inf, 7 * period - 7 * rng.random(n)))
    as_of = np.full(n, 1_767_571_200_000_000) + rng.integers(0, 100, n) * MICROSECONDS_PER_DAY
    none, observable, decisions = np.where(is_troubled, 0.5, 0.95), np.full(n, 60.0), []
    for day in (30, 44):  # into the second and the fourth week's windows of 28 days
        is_called = rng.random(n) >= none
        observable = np.where(is_called, np.minimum(observable, day - 28.0), observable)
        decisions += [
            Decision(
                f"d{day}-{i}",
                f"acme/s-{i}",
                from_microseconds(int(as_of[i])) + timedelta(days=day),
                "none",
                {"none": p, "coach_call": 1 - p},
            )
            for i, p in enumerate(none.tolist())
        ]
    seen = silence <= observable
    plain = make_dataset(np.where(seen, silence, np.inf), np.where(seen, silence, observable), observable, as_of=as_of)
    weights = censoring_weights(plain.seat, as_of, plain.silence, decisions)
    return replace(plain, censoring_weight=weights), plain, cumulative(hazards).mean(axis=0)


def row_risk(dataset):
    rows = person_period_rows(dataset)
    events = np.bincount(rows.period, rows.event * rows.weight, minlength=PERIODS)
    return cumulative(events / np.bincount(rows.period, rows.weight, minlength=PERIODS))


def test_weighting_by_the_logged_probabilities_removes_the_bias_of_coached_seats(coached):
    weighted, plain, truth = coached
    assert np.abs(row_risk(plain) - truth)[4:].min() > 0.015
    # 9 000 snapshots, weights up to 4: a standard error of 0.008 at eight weeks, times 2
    np.testing.assert_allclose(row_risk(weighted), truth, atol=0.015)


@pytest.mark.parametrize("method", LEARNED)
def test_a_weighted_fit_is_closer_to_the_truth_than_an_unweighted_one(coached, method):
    weighted, plain, truth = coached
    found = [scored(fit(data, seed=SEED, method=method), data).curve.mean(axis=0) for data in (weighted, plain)]
    errors = [np.abs(curve - truth)[4:].mean() for curve in found]
    assert errors[0] < errors[1] - 0.01
    assert errors[0] < 0.02  # as above, and the fit shares strength between periods


def test_a_scorer_without_a_model_has_no_hazards(test):
    with pytest.raises(ValueError, match="a scorer of method rule has no hazards"):
        Scorer(Method.RULE).hazards(test.dataset.vectors, np.full((len(test.dataset), 4), np.nan))


def test_seats_that_are_silent_already_get_the_rates_of_their_own_kind(make_dataset):
    in_use, silent = counted(make_dataset, 5, 300), counted(make_dataset, 270, 30)
    fitted = fit(in_use, elsewhere={Stratum.SILENT: silent})
    rates = fitted.scorer.elsewhere[Stratum.SILENT]
    assert rates.learned_from == 300
    assert rates.rates[1][0] == pytest.approx((270 + 20 * 0.85) / 320)  # the vectors of zeros show one warning
    assert fitted.scorer.elsewhere[Stratum.NOT_STARTED].learned_from == 0


def test_the_calibrator_is_judged_on_other_people_and_a_later_time(train, monkeypatch):
    """Each hazard that calibrates is from a model of other people that knew nothing of the calibration's time."""
    dataset = replace(
        train.dataset, as_of=train.dataset.as_of + np.arange(len(train.dataset)) % 40 * 7 * 86_400_000_000
    )
    learned, judged = [], []
    real = training.risk._fit_hazard

    def recording(bare, part, rows, **options):
        fitted = real(bare, part, rows, **options)
        learned.append((set(part.person), int(part.as_of.max()), part))
        return fitted

    def judging(everyone, hazards, *, seed):
        judged.append(np.flatnonzero(~np.isnan(hazards[:, 0])))
        return Calibrator(), {}

    monkeypatch.setattr(training.risk, "_fit_hazard", recording)
    monkeypatch.setattr(training.risk, "choose_calibrator", judging)
    fit(dataset, method=Method.LOGISTIC, seed=SEED)
    *folds, _final = learned
    cut = int(np.quantile(dataset.as_of, 1 - CALIBRATION_SHARE_OF_TIME))
    people = set(dataset.person)
    assert len(folds) == FOLDS
    assert all(latest < cut for _, latest, _ in folds)
    assert all(len(people - known) >= len(people) // (FOLDS + 1) for known, _, _ in folds)
    assert (dataset.as_of[judged[0]] >= cut).all()
    known_after = [(part.as_of + (part.known + part.silence) * 86_400_000_000).max() for _, _, part in folds]
    assert max(known_after) <= cut + 1
