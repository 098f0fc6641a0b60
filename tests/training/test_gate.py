from dataclasses import replace

import numpy as np
import pytest

from features.calibration import log_odds, probability
from features.catalogue import NUMERIC
from features.instants import from_microseconds
from features.rules import fit_rates
from features.scorer import HORIZON_PERIODS, PERIODS, LinearHazard, Method, Scorer
from training.evaluate import compare
from training.gate import _against_champion, as_rule, beats_rule, gate, trained_until

SEED = 30
COLUMN = {feature.name: position for position, feature in enumerate(NUMERIC)}


@pytest.fixture(scope="module")
def later(simulate):
    return simulate(SEED, n=3_000).dataset


@pytest.fixture(scope="module")
def rule(simulate):
    data = simulate(SEED + 1, n=3_000).dataset
    return fit_rates(data.vectors, data.abandoned(), np.ones(len(data)))


def line(rule, *, slope=1.0, shift=0.0, until="", **changes):
    """The hazard that the data were drawn from, or one beside it."""
    count = len(NUMERIC)
    weights = np.zeros(count)
    weights[COLUMN["days_since_meaningful"]] = slope
    mean, scale = np.zeros(count), np.ones(count)
    mean[COLUMN["days_since_meaningful"]], scale[COLUMN["days_since_meaningful"]] = 1.7, 3.4 / np.sqrt(12)
    intercepts = tuple(shift + (-1.8 if period == 0 else -3.2) for period in range(PERIODS))
    linear = LinearHazard((0.0,) * count, tuple(mean), tuple(scale), tuple(weights), intercepts)
    return Scorer(Method.LOGISTIC, rule=rule, linear=linear, trained_until=until, **changes)


def test_the_first_model_that_beats_the_rule_passes(rule, later):
    verdict = gate(line(rule), None, later, seed=1)
    assert verdict.is_passed
    assert verdict.why.startswith("it beats the three-warnings rule: log loss lower by ")


def test_a_model_that_does_not_beat_the_rule_is_refused(rule, later):
    verdict = gate(line(rule, slope=0.0, shift=3.0), None, later, seed=1)
    assert not verdict.is_passed
    assert verdict.why.startswith("it does not beat the three-warnings rule")


def test_a_surely_better_model_replaces_the_champion(rule, later):
    assert gate(line(rule), line(rule, slope=0.3), later, seed=1).is_passed


def test_a_model_that_is_no_better_does_not(rule, later):
    verdict = gate(line(rule), line(rule), later, seed=1)
    assert (verdict.is_passed, verdict.why) == (
        False,
        "it is no better than the champion: log loss lower by 0.000 [0.000, 0.000]",
    )
    assert not gate(line(rule, slope=0.3), line(rule), later, seed=1).is_passed


def test_a_model_that_is_better_calibrated_and_hardly_worse_passes(simulate, monkeypatch):
    """Right risks in three steps, beside finer ones that are all too high: the log loss of both is about the same."""
    world = simulate(SEED, n=3_000)
    truth = world.risk[:, HORIZON_PERIODS]
    step = np.digitize(truth[:, 0], np.quantile(truth[:, 0], (1 / 3, 2 / 3)))
    mine = np.array([truth[step == one].mean(axis=0) for one in range(3)])[step]
    theirs = probability(log_odds(truth) + 0.35)
    monkeypatch.setattr("training.gate.NOT_WORSE", 0.0)
    verdict = _against_champion(world.dataset, mine, theirs, tries=1, seed=1)
    assert (verdict.is_passed, verdict.why[:44]) == (False, "it is no better than the champion: log loss ")
    monkeypatch.setattr("training.gate.NOT_WORSE", 0.01)
    verdict = _against_champion(world.dataset, mine, theirs, tries=1, seed=1)
    assert verdict.is_passed
    assert "and it is better calibrated: squared error of the frequencies lower by " in verdict.why


def test_only_snapshots_later_than_both_trainings_are_judged(rule, later):
    end = from_microseconds(int(later.as_of.max()) + 1).isoformat()
    for pair in ((line(rule, until=end), line(rule)), (line(rule), line(rule, until=end))):
        verdict = gate(*pair, later, seed=1)
        assert not verdict.is_passed
        assert verdict.why.startswith("no snapshot later than the training has been judged yet")


def test_the_gate_weighs_labels_by_the_inverse_of_their_chance_to_be_left_alone(rule, later):
    """The candidate is too high for the half in whose place few were left; weighted, they decide."""
    riskier = later.vectors[:, COLUMN["sessions_28"]] > 10
    vectors = later.vectors.copy()
    vectors[:, COLUMN["sessions_28"]] = np.where(riskier, 50, 0)
    data = replace(later, vectors=vectors)
    weights, mean = np.zeros(len(NUMERIC)), np.zeros(len(NUMERIC))
    weights[COLUMN["days_since_meaningful"]], weights[COLUMN["sessions_28"]] = 1.0, 0.5
    mean[COLUMN["days_since_meaningful"]] = 1.7
    good = line(rule)
    assert good.linear is not None
    scale = np.array(good.linear.scale)
    linear = replace(good.linear, weights=tuple(weights), mean=tuple(mean), scale=tuple(scale))
    candidate, champion = replace(good, linear=linear), line(rule, slope=0.2)
    alike = gate(candidate, champion, data, seed=1)
    heavy = np.where(riskier, 20.0, 0.05)[:, None] * np.ones(PERIODS)
    there = gate(candidate, champion, replace(data, censoring_weight=heavy), seed=1)
    elsewhere = gate(candidate, champion, replace(data, censoring_weight=1 / heavy), seed=1)
    assert (there.is_passed, elsewhere.is_passed) == (False, True)
    assert len({alike.why, there.why, elsewhere.why}) == 3


def test_a_handful_of_later_snapshots_is_too_few(rule, later):
    start = np.sort(later.as_of[~np.isnan(later.abandoned()).all(axis=1)])[-10]
    few = later.take(later.as_of >= start)
    verdict = gate(line(rule), None, few, seed=1)
    assert not verdict.is_passed
    assert "50 are needed" in verdict.why


def test_of_one_outcome_nothing_is_promoted_however_bold(rule, later):
    """Where later nobody gave up, a model that always says so has the lower log loss, and has shown nothing."""
    ever = np.unique(later.person[later.abandoned()[:, -1] == 1])
    kept = later.take(~np.isin(later.person, ever))
    verdict = gate(line(rule, slope=0.0, shift=-4.0), None, kept, seed=1)
    assert not verdict.is_passed
    assert verdict.why.startswith("of the people judged later than the training of both models 0 gave up and ")
    assert "at least 10 of each are needed" in verdict.why
    nine, ten = (later.take(~np.isin(later.person, ever[number:])) for number in (9, 10))
    assert "9 gave up" in gate(line(rule), None, nine, seed=1).why
    assert "are needed" not in gate(line(rule), None, ten, seed=1).why


def judged_by(later, days):
    """The same of which nothing is known beyond so many days."""
    short = np.minimum(later.observable, days)
    is_seen = later.silent_after <= short
    return replace(
        later,
        silent_after=np.where(is_seen, later.silent_after, np.inf),
        known=np.where(is_seen, later.known, np.minimum(later.known, short)),
        observable=short,
    )


def test_without_outcomes_by_28_days_nothing_is_promoted(rule, later):
    young = judged_by(later, 6.0)
    assert (~np.isnan(young.abandoned()[:, 0])).sum() > 2_000
    verdict = gate(line(rule), None, young, seed=1)
    assert not verdict.is_passed
    assert verdict.why.startswith(
        "0 snapshots later than the training of both models have been judged by 28 days, 50 are"
    )


def test_a_model_that_is_surely_worse_weeks_ahead_is_refused_however_many_outcomes_speak_for_today(rule, later):
    few = np.arange(len(later)) % 8 == 0
    young = judged_by(later, 6.0)
    names = ("silent_after", "known", "observable")
    mixed = replace(later, **{name: np.where(few, getattr(later, name), getattr(young, name)) for name in names})
    sure = line(rule)
    assert sure.linear is not None
    raised = tuple(value + (2.0 if period else 0.0) for period, value in enumerate(sure.linear.intercepts))
    candidate = replace(sure, linear=replace(sure.linear, intercepts=raised))
    label, mine = mixed.abandoned(), candidate.score(mixed.vectors, mixed.categories).risk
    assert compare(label, mine, rule.risk(mixed.vectors)[0], mixed.person, seed=1).low > 0
    verdict = gate(candidate, None, mixed, seed=1)
    assert not verdict.is_passed
    assert verdict.why.startswith(
        "by 28 days its log loss is surely worse than the three-warnings rule's by more than 0.0"
    )
    against = gate(candidate, line(rule, slope=0.2), mixed, seed=1)
    assert not against.is_passed


def test_the_more_candidates_were_judged_the_surer_the_best_must_be(rule, later):
    some = later.take(np.arange(len(later)) < 240)
    candidate = line(rule, slope=0.6)
    found = [gate(candidate, None, some, tries=tries, seed=1) for tries in (1, 10**9)]
    assert [verdict.is_passed for verdict in found] == [True, False]
    assert "bounds for the best of 1000000000 candidates" in found[1].why


def test_one_person_beats_no_rule_whoever_it_is_judged_for(rule, later):
    """The interval of one person has no width."""
    one = replace(later, person=np.full(len(later), "acme/p-1"))
    mine, by_rule = line(rule).score(one.vectors, one.categories).risk, rule.risk(one.vectors)[0]
    verdict = beats_rule(one, mine, by_rule, whose="the rule of such seats")
    assert not verdict.is_passed
    assert "1 gave up and 1 kept on by 28 days, at least 10 of each are needed" in verdict.why


def test_a_model_that_surely_loses_before_the_start_is_refused(rule, later):
    vectors = later.vectors.copy()
    vectors[:, [COLUMN["meaningful_28"], COLUMN["meaningful_ever"]]] = 0
    not_started = replace(later, vectors=vectors)
    champion = line(rule, slope=0.3, activation=line(rule))
    candidate = line(rule, activation=line(rule, slope=0.0, shift=3.0))
    assert gate(candidate, champion, later, seed=1).is_passed
    verdict = gate(candidate, champion, later, not_started=not_started, seed=1)
    assert not verdict.is_passed
    assert verdict.why.startswith("it is much worse for seats that never started: log loss lower by -")


def test_a_segment_that_surely_loses_much_blocks_the_promotion(rule, later):
    """Surely better over all, and far too high for nurses."""
    levels = {"tool": (), "role": ("nurse",), "function": (), "region": ()}
    champion = line(rule, slope=0.2, levels=levels)
    champion = replace(champion, linear=replace(champion.linear, weights=(*champion.linear.weights, 0.0)))
    candidate = line(rule, levels=levels)
    candidate = replace(candidate, linear=replace(candidate.linear, weights=(*candidate.linear.weights, 2.0)))
    is_nurse = np.array([names[1] == "nurse" for names in later.categories])
    some = later.take(~is_nurse | (np.arange(len(later)) % 12 == 0))
    verdict = gate(candidate, champion, some, seed=1)
    assert not verdict.is_passed
    assert verdict.why.startswith("it is much worse for role nurse: log loss lower by -0.")
    assert gate(
        candidate, champion, some.take(~is_nurse[~is_nurse | (np.arange(len(later)) % 12 == 0)]), seed=1
    ).is_passed


def test_where_nothing_was_learned_only_a_rule_gives_way(rule, later):
    nothing = Scorer(Method.RULE, rule=rule, note="3 abandonments")
    assert gate(nothing, None, later).is_passed
    assert gate(nothing, nothing, later).is_passed
    verdict = gate(nothing, line(rule), later)
    assert (verdict.is_passed, verdict.why) == (
        False,
        "nothing could be learned, so the rule is the model: 3 abandonments",
    )


def test_the_rule_of_a_model_keeps_its_rates_and_nothing_learned(rule):
    found = as_rule(line(rule, until="2026-01-05T00:00:00+00:00"), "because")
    assert (found.method, found.rule, found.linear, found.note) == (Method.RULE, rule, None, "because")
    assert trained_until(found) == 1_767_571_200_000_000
