"""Learned effects: what they recover, how they shrink, what they refuse to learn from."""

from dataclasses import replace

import numpy as np
import pytest

from features.effects import EffectModel, Learner, expert_model
from training.effects import (
    CANDIDATES,
    SHRINKAGE_DECISIONS,
    SUPPORT,
    fit_effects,
    learn_prior_r,
    learn_s,
    lesson_of,
    shrinkage,
    with_intervals,
)
from training.outcome import FEWEST_FOR_TREES, kept_chance, outcome_model


@pytest.fixture(scope="module")
def taught(decision_data):
    """Decisions of which the last arm keeps 0.3 more where the first number is above 0, and nothing elsewhere."""
    return decision_data(1, n=6000, effect=0.3)


# What people take up teaches only where reactions are known: tests/training/test_needs.py.
FROM_OUTCOMES = [learner for learner in CANDIDATES if learner not in (Learner.EXPERT, Learner.TAKE_UP)]


@pytest.mark.parametrize("learner", FROM_OUTCOMES)
def test_every_candidate_sees_whom_the_intervention_helps(learner, taught) -> None:
    model = CANDIDATES[learner](lesson_of(taught, seed=1))

    told = model.effects(taught.seen).mean[:, 2]

    helped = taught.seen.vectors[:, 0] > 0
    assert told[helped].mean() > told[~helped].mean() + 0.05


@pytest.mark.parametrize("learner", list(CANDIDATES))
def test_a_model_reads_back_what_it_wrote(learner, taught, tmp_path) -> None:
    lesson = lesson_of(taught, seed=1)
    model = with_intervals(lesson, CANDIDATES[learner](lesson))

    model.save(tmp_path)
    again = EffectModel.load(tmp_path).effects(taught.seen)

    first = model.effects(taught.seen)
    assert (again.mean == first.mean).all()
    assert (again.low == first.low).all()


def test_effects_of_another_catalogue_do_not_load(tmp_path) -> None:
    replace(expert_model(("none", "hint")), catalogue="another").save(tmp_path)

    with pytest.raises(ValueError, match="another feature catalogue"):
        EffectModel.load(tmp_path)


def test_doing_nothing_has_no_effect_and_no_interval(taught) -> None:
    told = learn_prior_r(lesson_of(taught, seed=1)).effects(taught.seen)

    assert (told.mean[:, 0] == 0).all()
    assert (told.low[:, 0] == 0).all()
    assert (told.high[:, 0] == 0).all()


def test_intervals_hold_the_effects_of_groups(taught) -> None:
    told = learn_prior_r(lesson_of(taught, seed=1)).effects(taught.seen)
    helped = taught.seen.vectors[:, 0] > 0

    for group, truth in ((helped, 0.3), (~helped, 0.0)):  # clipping of chances takes up to 0.02 off
        assert told.low[group, 2].mean() - 0.02 <= truth <= told.high[group, 2].mean() + 0.02


def test_logged_probabilities_undo_the_confounding(decision_data) -> None:
    data = decision_data(2, n=6000)  # nothing has an effect, though the arms go where seats are kept or lost anyway
    naive = data.kept[data.arm == 1].mean() - data.kept[data.arm == 2].mean()

    told = learn_prior_r(lesson_of(data, seed=1)).effects(data.seen).mean

    assert naive > 0.08
    assert abs(told[:, 1].mean() - told[:, 2].mean()) < 0.04


def test_whom_any_contact_harms_is_learned_from_all_interventions_together(decision_data) -> None:
    data = decision_data(6, n=6000)
    is_harmed = (data.seen.vectors[:, 0] > 0) & (data.arm > 0) & (data.kept == 1)
    harmed = replace(
        data, kept=np.where(is_harmed & (np.random.default_rng(6).random(len(data)) < 0.25), 0.0, data.kept)
    )

    model = learn_prior_r(lesson_of(harmed, seed=1))
    told = model.effects(harmed.seen).mean

    where = harmed.seen.vectors[:, 0] > 0
    assert 0.3 < model.contact[0] <= 1
    assert all(told[where, arm].mean() < told[~where, arm].mean() - 0.05 for arm in (1, 2))


def test_where_contact_does_the_same_to_all_its_trees_are_hardly_believed(decision_data) -> None:
    model = learn_prior_r(lesson_of(decision_data(7, n=6000), seed=1))

    told = model.effects(decision_data(8, n=2000).seen).mean

    assert np.abs(told[:, 1:]).max() < 0.1
    assert told[:, 1:].std() < 0.03


def test_the_weight_of_the_learner_is_n_over_n_plus_m(taught) -> None:
    n = taught.counts()

    assert shrinkage(taught)[2] == pytest.approx(n[2] / (n[2] + SHRINKAGE_DECISIONS))


def test_an_arm_below_support_keeps_the_experts_effect(decision_data) -> None:
    propensity = np.tile([0.6, 0.39, 0.01], (3000, 1))
    data = decision_data(3, n=3000, propensity=propensity)
    assert data.counts()[2] < SUPPORT <= data.counts()[1]

    told = learn_s(lesson_of(data, seed=1)).effects(data.seen).mean

    assert (told[:, 2] == data.seen.expert[:, 2]).all()
    assert (told[:, 1] != data.seen.expert[:, 1]).any()


def test_the_winner_of_a_clear_case_beats_the_experts_on_held_out_teams(taught) -> None:
    fit = fit_effects(taught, seed=1)

    assert fit.model.learner is not Learner.EXPERT
    assert fit.values[fit.model.learner].low > 0
    assert fit.values[Learner.EXPERT].value == 0
    assert fit.model.covariance
    assert str(fit.model.learner) in fit.model.note


def test_the_same_decisions_and_seed_teach_the_same(decision_data) -> None:
    data = decision_data(5, n=1500, effect=0.2)

    first, second = (fit_effects(data, seed=3) for _ in range(2))

    assert first.values == second.values
    assert first.model.correction == second.model.correction


def test_too_little_teaches_nothing_and_says_how_much_there_is(decision_data) -> None:
    fit = fit_effects(decision_data(n=200), seed=1)

    assert fit.model.learner is Learner.EXPERT
    assert "matured decisions beside as many of none" in fit.model.note


@pytest.mark.parametrize("seed", range(3))
def test_a_young_log_without_clear_gains_stays_with_the_experts(seed, decision_data) -> None:
    data = decision_data(seed, n=2000)
    assert data.counts().min() > SUPPORT * 1.25

    fit = fit_effects(data, seed=1)

    assert fit.model.learner is Learner.EXPERT
    assert "worth more than the experts" in fit.model.note
    assert (fit.told == data.seen.expert).all()


def test_one_arm_only_teaches_nothing_and_says_so(decision_data) -> None:
    data = decision_data(n=400, propensity=np.tile([1.0, 0.0, 0.0], (400, 1)))

    fit = fit_effects(data, seed=1)

    assert fit.model.learner is Learner.EXPERT
    assert "only none was ever chosen" in fit.model.note


def test_censored_decisions_do_not_teach(decision_data) -> None:
    data = decision_data(n=2000)
    censored = replace(data, kept=np.where(np.arange(2000) < 1900, np.nan, data.kept))

    assert fit_effects(censored, seed=1).decisions == 100


@pytest.mark.parametrize("n", [FEWEST_FOR_TREES - 500, FEWEST_FOR_TREES + 500])
def test_a_teams_outcomes_do_not_reach_its_own_prediction(n, decision_data) -> None:
    data = decision_data(6, n=n)
    fold = data.folds(7)
    inside = fold == 0
    flipped = replace(data, kept=np.where(inside, 1 - data.kept, data.kept))

    before, after = (outcome_model(of, seed=7) for of in (data, flipped))
    assert (before[inside] == after[inside]).all()
    assert (before[~inside] != after[~inside]).any()

    before, after = (kept_chance(of, fold) for of in (data, flipped))
    assert (before[inside] == after[inside]).all()


def test_folds_keep_teams_together(decision_data) -> None:
    data = decision_data(n=500)
    fold = data.folds(1)

    assert all(len(np.unique(fold[data.team == team])) == 1 for team in np.unique(data.team))
