import os
import pickle
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

import training.risk
from features.decisions import Decision
from features.events import MICROSECONDS_PER_DAY
from features.instants import from_microseconds
from features.rules import Stratum
from features.scorer import HORIZON_PERIODS, INPUTS, PERIODS, Method, Scorer, cumulative
from training.dataset import FOLDS, censoring_weights, person_period_rows
from training.risk import (
    BIG_LEARNING_RATE,
    BIG_STRIDE,
    ENOUGH_FOR_LOGISTIC,
    ENOUGH_FOR_TREES,
    GROWN_UP_DAYS,
    TREE_WEIGHTS,
    _signs,
    affordable,
    fit,
    held_out_loss,
    hold_out,
    model_at,
    parameters_of,
    rates_of,
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


def test_silences_of_few_people_give_the_rule_and_say_how_many_are_needed(make_dataset):
    """250 silences of one person cannot be judged on other people, whatever their number."""
    silent = np.concatenate((np.zeros(250), np.full(250, np.inf)))
    person = np.array(["acme/p-0"] * 250 + [f"acme/p-{number}" for number in range(250)])
    fitted = fit(
        make_dataset(silent, np.where(np.isinf(silent), 60.0, silent), np.full(500, 60.0), person=person), seed=SEED
    )
    assert fitted.scorer.method is Method.RULE
    assert fitted.scorer.note == (
        "the 250 abandonments are of 1 people in weeks that were fully observed, and 250 people kept on, a learned model needs "
        "at least 10 people of each: the three-warnings rule is used"
    )


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
    assert (found.high - found.low).mean() > 0.02  # an interval, not a point


@pytest.mark.parametrize("method", LEARNED)
def test_the_interval_holds_the_true_rate_of_seats_scored_alike(fits, test, method):
    found = scored(fits[method], test.dataset)
    fifths = np.array_split(np.argsort(found.risk[:, 3]), 5)
    truth = test.risk[:, HORIZON_PERIODS[3]]
    inside = [
        found.low[rows, 3].mean() - 0.02 < truth[rows].mean() < found.high[rows, 3].mean() + 0.02 for rows in fifths
    ]
    assert sum(inside) >= 4


def test_the_fit_tells_what_it_rests_on(fits, train):
    fitted = fits[Method.LIGHTGBM]
    assert fitted.rows == len(person_period_rows(train.dataset).row)
    assert fitted.trees >= 1
    assert set(fitted.held_out_log_loss) == {"none", "beta", "venn_abers"}


@pytest.mark.parametrize("method", LEARNED)
def test_the_same_seed_gives_the_same_bytes(simulate, tmp_path, method):
    data = simulate(SEED, n=1_200).dataset
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        fit(data, seed=5, method=method).scorer.save(tmp_path / name)
    one, two = ({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("one", "two"))
    assert one == two
    assert "scorer.json" in one


ANOTHER_PROCESS = """
import pickle, sys
from pathlib import Path
from training.risk import fit
fit(pickle.loads(Path(sys.argv[1]).read_bytes()), seed=5).scorer.save(Path(sys.argv[2]))
"""


def test_another_process_with_another_hash_seed_gives_the_same_bytes(simulate, tmp_path):
    data = simulate(SEED, n=1_200).dataset
    assert fit(data, seed=5).scorer.method is Method.LIGHTGBM
    (tmp_path / "data.pickle").write_bytes(pickle.dumps(data))
    found = []
    for hash_seed in ("1", "2"):
        folder = tmp_path / hash_seed
        folder.mkdir()
        subprocess.run(
            [sys.executable, "-c", ANOTHER_PROCESS, tmp_path / "data.pickle", folder],
            cwd=Path(training.risk.__file__).parents[1],
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(Path(training.risk.__file__).parents[1])},
            check=True,
            timeout=300,
        )
        found.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert found[0] == found[1]
    assert set(found[0]) == {"scorer.json", "booster.txt"}


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


# --- what is held out -------------------------------------------------------------------------------------------------


def spread_over(dataset, weeks):
    """The same snapshots at moments of that many weeks."""
    return replace(dataset, as_of=dataset.as_of.min() + np.arange(len(dataset)) % weeks * 7 * MICROSECONDS_PER_DAY)


def test_models_are_judged_on_other_people_and_a_later_time(train):
    dataset = spread_over(train.dataset, 60)
    held = hold_out(dataset, seed=SEED)
    cut = held.later.as_of.min()
    assert held.early is not held.later
    assert held.early.as_of.max() < cut
    assert (held.early.as_of + (held.early.known + held.early.silence) * MICROSECONDS_PER_DAY).max() <= cut + 1
    assert np.ptp(held.early.as_of[held.early.observable >= 0]) >= GROWN_UP_DAYS * MICROSECONDS_PER_DAY
    for fold in range(FOLDS):
        others, own = held.early.person[held.early_fold != fold], held.later.person[held.later_fold == fold]
        assert len(own)
        assert not set(own) & set(others)


def test_of_a_young_log_people_alone_are_held_out(train):
    dataset = spread_over(train.dataset, 10)
    held = hold_out(dataset, seed=SEED)
    assert held.early is held.later is dataset
    assert len(np.unique(held.later_fold)) == FOLDS


def test_of_a_big_log_two_folds_of_people_are_enough(train, monkeypatch):
    monkeypatch.setattr(training.risk, "BIG_ROWS", 1_000)
    held = hold_out(train.dataset, seed=SEED)
    assert set(held.later_fold) == {-1, 0, 1}
    assert (held.later_fold == -1).mean() == pytest.approx(0.6, abs=0.05)
    fitted = fit(train.dataset, seed=SEED)
    assert (fitted.scorer.tree_weight, fitted.scorer.linear, fitted.blend_log_loss) == (1.0, None, {})
    assert set(fitted.held_out_log_loss) == {"none", "beta", "venn_abers"}


def test_of_a_big_log_each_stage_has_trees_of_its_own(train, test, monkeypatch, tmp_path):
    monkeypatch.setattr(training.risk, "BIG_ROWS", 1_000)
    fitted = fit(train.dataset, seed=SEED)
    scorer = fitted.scorer
    # LightGBM keeps no tree in which nothing could be split
    assert 2 <= scorer.booster.num_trees() + scorer.later.num_trees() <= fitted.trees
    scorer.save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"scorer.json", "booster.txt", "later.txt"}
    found, truth = scored(fitted, test.dataset).risk, test.risk[:, HORIZON_PERIODS]
    assert np.abs(found - truth).mean() < 0.05  # trees alone, without the line that suits this world: a little worse


def test_of_a_big_log_with_hardly_a_silence_of_later_weeks_one_forest_tells_all(train, monkeypatch):
    monkeypatch.setattr(training.risk, "BIG_ROWS", 1_000)
    is_later = (train.dataset.silent_after > 0) & np.isfinite(train.dataset.silent_after)
    kept = train.dataset.take(~is_later | (np.arange(len(train.dataset)) % 20 == 0))
    fitted = fit(kept, seed=SEED)
    assert fitted.scorer.booster is not None
    assert fitted.scorer.later is None


# --- the blend --------------------------------------------------------------------------------------------------------


def test_the_blend_has_the_lowest_held_out_loss(fits):
    fitted = fits[Method.LIGHTGBM]
    assert set(fitted.blend_log_loss) == set(TREE_WEIGHTS)
    assert min(fitted.blend_log_loss, key=fitted.blend_log_loss.get) == fitted.scorer.tree_weight
    assert (fitted.scorer.linear is not None) == (fitted.scorer.tree_weight < 1)


def test_where_the_line_alone_is_best_it_is_the_model_and_says_so(train, monkeypatch):
    monkeypatch.setattr(training.risk, "TREE_WEIGHTS", (0.0,))
    scorer = fit(train.dataset, seed=SEED).scorer
    assert (scorer.method, scorer.booster) == (Method.LOGISTIC, None)
    assert scorer.note.startswith("on held-out people the regularised logistic model alone")


def test_more_of_the_use_that_counts_never_raises_the_risk(fits, test, column):
    scorer, vectors = fits[Method.LIGHTGBM].scorer, test.dataset.vectors[:200]
    only_trees = replace(scorer, tree_weight=1.0, linear=None)
    codes = scorer.codes(test.dataset.categories[:200])
    for name, sign in (("meaningful_28", -1), ("days_since_meaningful", 1)):
        more = vectors.copy()
        more[:, column[name]] += 10
        change = only_trees.hazards(more, codes) - only_trees.hazards(vectors, codes)
        assert (sign * change).min() >= -1e-12


def test_the_signs_stand_beside_the_inputs_they_are_meant_for():
    signs = dict(zip(INPUTS, _signs()["monotone_constraints"], strict=True))
    assert signs["days_since_meaningful"] == 1
    assert signs["meaningful_28"] == -1
    assert signs["active_days_28"] == signs["role"] == signs["period"] == 0


# --- seats that never started, and the very young -------------------------------------------------------------------


def never_started(dataset, column):
    vectors = dataset.vectors.copy()
    vectors[:, column["meaningful_28"]] = 0
    return replace(dataset, vectors=vectors)


def test_seats_that_never_started_get_a_model_up_the_same_ladder(train, test, column):
    many = never_started(train.dataset, column)
    fitted = fit(train.dataset, elsewhere={Stratum.NOT_STARTED: many}, seed=SEED)
    assert fitted.scorer.activation.method is Method.LIGHTGBM
    asked = never_started(test.dataset, column)
    found = fitted.scorer.score(asked.vectors, asked.categories).risk[:, 3]
    assert roc_auc_score(test.silence <= 28, found) > roc_auc_score(test.silence <= 28, test.risk[:, 4]) - 0.02
    few = fit(train.dataset, elsewhere={Stratum.NOT_STARTED: many.take(np.arange(200))}, seed=SEED)
    assert few.scorer.activation.method is Method.LOGISTIC
    none = fit(train.dataset, elsewhere={Stratum.NOT_STARTED: many.take(np.arange(20))}, seed=SEED)
    assert none.scorer.activation is None
    assert none.activation.scorer.note.endswith("the three-warnings rule is used")


@pytest.mark.parametrize(("young", "speaks_from"), [(1.0, 7.0), (0.0, 0.0)], ids=["few seen", "many seen"])
def test_of_the_very_young_the_rule_speaks_until_enough_of_them_were_seen(train, column, young, speaks_from):
    vectors = train.dataset.vectors.copy()
    vectors[:, column["life_days"]] = 30.0
    vectors[: int(len(vectors) * (0.005 if young else 0.5)), column["life_days"]] = 3.0
    scorer = fit(replace(train.dataset, vectors=vectors), seed=SEED, method=Method.LOGISTIC).scorer
    assert scorer.speaks_from_days == speaks_from
    asked = vectors[[0, -1]]
    assert scorer.speaks_for(asked).tolist() == [speaks_from == 0.0, True]
    assert scorer.young[Stratum.IN_USE].learned_from == int(len(vectors) * (0.005 if young else 0.5))


# --- the band follows models of the past ------------------------------------------------------------------------------


def drifting(simulate, seed, *, jump, n=6_000, days=250):
    """A world whose log-odds rise by `jump` in the last third of its time, all judged to its end."""
    calm, stormy = (simulate(seed, n=n, now=-1.8 + shift, later=-3.2 + shift, longest=200.0) for shift in (0.0, jump))
    day = np.random.default_rng(seed).integers(0, days, n)
    is_late = day >= 0.7 * days
    parts = {}
    for name, before in vars(calm.dataset).items():
        after = getattr(stormy.dataset, name)
        if name == "categories":
            parts[name] = [two if late else one for one, two, late in zip(before, after, is_late, strict=True)]
        else:
            chosen = is_late if before.ndim == 1 else is_late[:, None]
            parts[name] = np.where(chosen, after, before)
    start = int(calm.dataset.as_of.min())
    return replace(calm.dataset, **{**parts, "as_of": start + day * MICROSECONDS_PER_DAY})


def test_the_band_is_as_wide_as_what_no_model_of_the_past_could_foresee(simulate):
    """The calibrator of the present has seen the jump; those of the moments before it have not."""
    still, moved = (
        np.mean(fit(drifting(simulate, SEED, jump=jump), seed=SEED, method=Method.LOGISTIC).scorer.band.half_widths[0])
        for jump in (0.0, 0.9)
    )
    assert moved > 0.9  # what was wrong by 0.9 in a whole stretch is not known to less
    assert still < 0.6


def test_a_model_of_the_past_rests_on_nothing_later(simulate):
    data = drifting(simulate, SEED, jump=0.9)
    origin = int(np.quantile(data.as_of, 0.6))
    rng, is_later = np.random.default_rng(SEED), data.as_of >= origin
    changed = np.where(is_later[:, None], rng.normal(size=data.vectors.shape), data.vectors)
    other = replace(data, vectors=changed, silent_after=np.where(is_later, 0.0, data.silent_after))
    parameters = parameters_of(data, {}, seed=SEED)
    for method in LEARNED:
        models = [model_at(Scorer(method), some.known_before(origin), parameters) for some in (data, other)]
        assert models[0] is not None
        assert models[0].calibrator == models[1].calibrator
        assert models[0].linear == models[1].linear


def test_nobody_is_judged_by_a_model_that_saw_the_person_elsewhere(train):
    """Folds hold whole teams; a person of two teams is left out of the training of either's judge."""
    team = np.char.add("t", (np.arange(len(train.dataset)) % 20).astype(str))
    held = hold_out(replace(train.dataset, team=team), seed=SEED)
    for number in range(FOLDS):
        seen, judged = held.early.take(held.others(number)), held.later.take(held.later_fold == number)
        assert not set(seen.person) & set(judged.person)
        assert not set(seen.team_names()) & set(judged.team_names())


def test_the_run_tells_the_step_its_trees_were_grown_with(train, monkeypatch):
    monkeypatch.setattr("training.risk.BIG_ROWS", 1_000)
    found = fit(train.dataset, seed=SEED, tree_parameters={"num_leaves": 7}).tree_parameters
    assert (found["learning_rate"], found["num_leaves"]) == (BIG_LEARNING_RATE, 7)
    asked = []
    monkeypatch.setattr("training.risk.lgb.cv", lambda parameters, *_, **__: asked.append(parameters) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        held_out_loss(train.dataset, {"num_leaves": 7}, seed=SEED)
    assert asked[0]["learning_rate"] == BIG_LEARNING_RATE * BIG_STRIDE


def test_the_rates_of_the_rule_speak_for_those_who_were_contacted(coached):
    """As the labels they are judged by: weighted by the inverse of their chance to be left alone."""
    weighted, plain, truth = coached
    errors = [abs(rates_of(data, Stratum.IN_USE).rates[1][3] - truth[HORIZON_PERIODS[3]]) for data in (weighted, plain)]
    assert errors[0] < errors[1]
