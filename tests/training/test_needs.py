"""Needs and effects that are learned from which offers people took up."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from features.diagnosis import SIGNS
from features.effects import EffectModel, Learner
from features.interventions import FailureMode
from training.effects import _evidence, are_heeded, fit_effects, learn_take_up, lesson_of
from training.needs import Choice, can_learn_needs, choose, fit_needs
from training.outcome import blank

MODES = (str(FailureMode.COMPLEXITY), str(FailureMode.SILENT_STRUGGLE))


def in_need(data):
    """(n,) what would help: intervention 1, 2, or 0 for none of them."""
    x = data.seen.vectors
    return np.where(x[:, 2] > 0.8, 0, np.where(x[:, 0] > 0, 2, 1))


@pytest.fixture(scope="module")
def reacting(decision_data):
    """Decisions to which people react: who is offered what helps accepts in three of five cases, else in one of five.

    No sign tells the experts what anybody needs; what helps keeps `effect` more. are_telling: whether reactions tell that at all.
    """

    def make(seed, *, n=6000, effect=0.3, are_telling=True):
        rng = np.random.default_rng([seed, 1])
        data = decision_data(seed, n=n)
        is_met = (in_need(data) == data.arm) & (data.arm > 0)
        kept = np.where(is_met & (data.kept == 0), rng.random(n) < 2 * effect, data.kept).astype(float)
        taken = rng.random(n) < np.where(is_met & are_telling, 0.6, 0.2)
        return replace(
            data,
            seen=replace(data.seen, strengths=np.zeros((n, len(SIGNS)))),
            kept=kept,
            modes=MODES,
            answers=np.array([[0.0, 0.0], [0.1, 0.0], [0.0, 0.1]]),
            accepted=np.where((data.arm > 0) & (rng.random(n) < 0.8), taken, np.nan),
        )

    return make


def test_reactions_tell_what_somebody_needs(reacting) -> None:
    taught, other = reacting(1), reacting(2)
    model = blank(taught)

    needs = fit_needs(taught, model, choose(taught, model))
    at = other.seen
    chances = needs.chances(
        at.strengths, at.vectors, model.codes(at.categories), [len(names) for names in model.levels]
    )

    assert chances.sum(axis=1) == pytest.approx(1)
    told = chances[:, [needs.kinds.index(mode) for mode in MODES]]
    need = in_need(other)
    assert (told.argmax(axis=1) + 1 == need)[need > 0].mean() > 0.85
    assert told[need == 0].sum(axis=1).mean() < told[need > 0].sum(axis=1).mean() - 0.15


def test_what_is_taken_up_and_keeps_seats_becomes_the_effect(reacting) -> None:
    model = learn_take_up(lesson_of(reacting(1), seed=1))

    other = reacting(2)
    told, need = model.effects(other.seen).mean, in_need(other)
    assert model.learner is Learner.TAKE_UP
    for arm in (1, 2):
        assert told[need == arm, arm].mean() > told[need == 3 - arm, arm].mean() + 0.05


def test_a_model_of_needs_reads_back_what_it_wrote(reacting, tmp_path) -> None:
    data = reacting(1, n=3000)
    model = learn_take_up(lesson_of(data, seed=1))

    model.save(tmp_path)

    assert (EffectModel.load(tmp_path).effects(data.seen).mean == model.effects(data.seen).mean).all()
    assert EffectModel.load(tmp_path).needs == model.needs


def alike(data, seed):
    """The same decisions, where who needs the same behaves alike, in twelve numbers of 92; few reacted."""
    rng = np.random.default_rng([seed, 2])
    need = in_need(data)
    centres = np.random.default_rng(5).normal(0, 1.2, (3, 12))
    vectors = np.concatenate(
        (centres[need] + rng.normal(0, 1, (len(data), 12)), rng.normal(0, 1, (len(data), 80))), axis=1
    )
    few = np.where(np.cumsum(~np.isnan(data.accepted)) <= 1_500, data.accepted, np.nan)
    return replace(data, seen=replace(data.seen, vectors=vectors), accepted=few), need


def needs_told_rightly(data, other, need, choice):
    model = blank(data)
    needs = fit_needs(data, model, choice)
    at = other.seen
    told = needs.chances(at.strengths, at.vectors, model.codes(at.categories), [len(names) for names in model.levels])
    named = told[:, [needs.kinds.index(kind) for kind in ("nothing", *MODES)]]
    return float((named.argmax(axis=1) == need).mean())


def test_decisions_without_a_reaction_teach_where_who_needs_the_same_is_alike(reacting) -> None:
    (taught, _), (other, need) = alike(reacting(1), 1), alike(reacting(2), 2)

    by_all, alone = (
        needs_told_rightly(taught, other, need, Choice(1_000.0, by_people=by_people)) for by_people in (True, False)
    )

    assert by_all > alone + 0.03


def test_contact_is_no_help_where_nothing_is_needed_and_outcomes_say_so(reacting) -> None:
    rng = np.random.default_rng(4)

    def harmed(data):
        is_bothered = (in_need(data) == 0) & (data.arm > 0) & (rng.random(len(data)) < 0.4)
        return replace(data, kept=np.where(is_bothered, 0.0, data.kept))

    data, other = reacting(1, n=12_000), reacting(2)
    bothered, before = (learn_take_up(lesson_of(one, seed=1)) for one in (harmed(data), data))

    needless = in_need(other) == 0
    told, was = (model.effects(other.seen).mean[needless, 1:].mean() for model in (bothered, before))
    assert bothered.unneeded < min(before.unneeded, -0.02)
    assert told < was - 0.02


def test_the_evidence_is_that_of_the_whole_likelihood() -> None:
    rng = np.random.default_rng(6)
    rows, deviation, mean = rng.normal(size=(40, 3)), np.array([0.5, 0.1, 2.0]), np.array([1.0, 0.0, -1.0])
    told, variance = rows @ np.array([0.7, 0.05, 0.3]) + rng.normal(size=40), np.linspace(0.5, 2, 40)
    gram, cross = rows.T @ (rows / variance[:, None]), rows.T @ (told / variance)

    def whole(columns):
        spread = np.diag(variance) + rows[:, columns] * deviation[columns] ** 2 @ rows[:, columns].T
        return stats.multivariate_normal(rows[:, columns] @ mean[columns], spread).logpdf(told)

    apart = _evidence(gram, cross, mean, deviation) - _evidence(gram[1:, 1:], cross[1:], mean[1:], deviation[1:])
    assert apart == pytest.approx(whole([0, 1, 2]) - whole([1, 2]))


def test_reactions_are_heeded_where_what_they_tell_keeps_seats(reacting) -> None:
    data = reacting(1, effect=0.12)

    assert are_heeded(lesson_of(data, seed=1))
    assert fit_effects(data, seed=1).model.learner is Learner.TAKE_UP


@pytest.mark.parametrize("seed", range(3))
def test_reactions_that_foretell_no_outcome_are_not_heeded(seed, reacting) -> None:
    assert not are_heeded(lesson_of(reacting(seed, effect=0.0), seed=1))


def test_reactions_that_do_not_depend_on_needs_are_not_heeded(reacting) -> None:
    data = reacting(1, are_telling=False)

    assert not choose(data, blank(data)).is_telling
    assert not are_heeded(lesson_of(data, seed=1))


def test_reactions_that_tell_nothing_move_little(reacting) -> None:
    told = learn_take_up(lesson_of(reacting(1, are_telling=False), seed=1)).effects(reacting(2).seen).mean

    assert told[:, 1:].std() < 0.04


def test_too_few_reactions_leave_it_to_the_experts(reacting) -> None:
    data = reacting(1)
    few = replace(data, accepted=np.where(np.arange(len(data)) < 300, data.accepted, np.nan))

    assert not can_learn_needs(few)
    assert learn_take_up(lesson_of(few, seed=1)).learner is Learner.EXPERT
    with pytest.raises(ValueError, match="reactions: expected 500"):
        fit_needs(few, blank(few), Choice(100.0, by_people=True))


def test_without_reactions_nothing_is_learned_of_needs(decision_data) -> None:
    data = decision_data(1, n=2000)

    assert not can_learn_needs(data)
    assert learn_take_up(lesson_of(data, seed=1)).learner is Learner.EXPERT
