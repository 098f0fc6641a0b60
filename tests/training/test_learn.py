"""Learning in the registry: what passes the gate serves, what does not stays a version."""

from dataclasses import replace

import numpy as np
import pytest

from features.effects import REGISTERED_EFFECTS, Effects, Learner, expert_model
from features.estimates import EffectEstimate
from serving.policy import best_of
from training import registry
from training.effects import fit_effects
from training.learn import Worth, choose, incumbent_effects, learn, promote_effects
from training.offpolicy import sample_ratio_mismatch

WORTH = Worth(seat_value=360.0, harm_bound=0.5)


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


def test_effects_that_surely_keep_more_are_registered_and_serve(home, decision_data) -> None:
    data = decision_data(1, n=6000, effect=0.3)

    learned = learn(home, data, worth=WORTH, seed=1)

    assert learned.is_promoted, learned.why
    model, version = registry.load_effects(home)
    assert version == learned.version
    assert model.learner is learned.learner
    assert (incumbent_effects(home, data.arms).effects(data.seen).mean == model.effects(data.seen).mean).all()

    again = learn(home, decision_data(1, n=6000, effect=0.3), worth=WORTH, seed=2)
    assert not again.is_promoted  # what serves already knows as much
    assert registry.load_effects(home)[1] == version


def test_too_little_registers_nothing(home, decision_data) -> None:
    learned = learn(home, decision_data(n=100), worth=WORTH)

    assert learned.learner is Learner.EXPERT
    assert learned.version is None
    assert registry.load_effects(home) is None
    assert (incumbent_effects(home, ("none", "a")).weights) == (0.0, 0.0)


def test_a_mismatch_of_the_draws_blocks(home, decision_data) -> None:
    data = decision_data(1, n=6000, effect=0.3)
    forged = replace(data, arm=np.where(np.arange(6000) % 10 == 0, 2, data.arm))
    assert sample_ratio_mismatch(forged).is_mismatched

    learned = learn(home, forged, worth=WORTH, seed=1)

    assert not learned.is_promoted
    assert "sample-ratio mismatch" in learned.why


@pytest.fixture
def two_versions(home, decision_data):
    """Version 1 learned from the first decisions and serves; version 2 is the same, registered again."""
    data = decision_data(1, n=6000, effect=0.3)
    model = fit_effects(data, seed=1).model
    registry.register_effects(home, model, params={}, metrics={}, documents={})
    registry.promote(home, "1", name=REGISTERED_EFFECTS)
    registry.register_effects(home, model, params={}, metrics={}, documents={})
    return home, data


def test_a_version_is_promoted_by_hand_only_where_later_decisions_prove_it(two_versions, decision_data) -> None:
    home, data = two_versions
    later = replace(decision_data(2, n=6000, effect=0.3), as_of=data.as_of.max() + 1 + np.arange(6000))

    serving = promote_effects(home, later, worth=WORTH, version="1")
    as_good = promote_effects(home, later, worth=WORTH)
    unjudged = promote_effects(home, data, worth=WORTH)

    assert (serving.is_promoted, serving.why) == (True, "it tells the effects already")
    assert (as_good.version, as_good.is_promoted, as_good.decisions) == ("2", False, 6000)
    assert "not surely better than the incumbent" in as_good.why
    assert (unjudged.is_promoted, unjudged.decisions) == (False, 0)
    assert "no decision made after it learned" in unjudged.why

    registry.promote(home, "2", name=REGISTERED_EFFECTS)
    assert registry.rollback(home, at="2026-06-01T00:00:00+00:00", name=REGISTERED_EFFECTS) == ("2", "1")
    assert registry.rollback(home, at="2026-06-01T00:00:00+00:00", name=REGISTERED_EFFECTS) == ("1", None)
    with pytest.raises(ValueError, match="no learned effects serve, the experts tell them"):
        registry.rollback(home, at="2026-06-01T00:00:00+00:00", name=REGISTERED_EFFECTS)
    registry.promote(home, "1", name=REGISTERED_EFFECTS)


def test_a_version_that_is_surely_better_on_later_decisions_is_promoted(two_versions, decision_data) -> None:
    home, data = two_versions
    model, _ = registry.load_effects(home)
    worse = replace(model, weights=tuple(-3 * weight for weight in model.weights))  # turned round
    version = registry.register_effects(home, worse, params={}, metrics={}, documents={}).version
    registry.promote(home, version, name=REGISTERED_EFFECTS)
    later = replace(decision_data(2, n=6000, effect=0.3), as_of=data.as_of.max() + 1 + np.arange(6000))

    promoted = promote_effects(home, later, worth=WORTH, version="1")

    assert promoted.is_promoted, promoted.why
    assert registry.load_effects(home)[1] == "1"


@pytest.mark.parametrize("version", [None, "7"])
def test_a_version_that_is_not_there_cannot_be_promoted(home, decision_data, version) -> None:
    with pytest.raises(
        ValueError, match=r"no version of rekindle-effects|version 7 of rekindle-effects cannot be read"
    ):
        promote_effects(home, decision_data(n=50), worth=WORTH, version=version)


def told(mean, deviation=0.02):
    spread = np.where(np.asarray(mean) == 0, 0.0, deviation)
    return Effects(np.asarray(mean), np.asarray(mean), np.asarray(mean), spread)


def test_a_dear_intervention_is_not_chosen(decision_data) -> None:
    data = decision_data(n=50)
    effects = told(np.tile([0.0, 0.01, 0.05], (50, 1)))

    assert (choose(data, effects, Worth(100.0, 0.5))[:, 0] == 1).all()  # 1 less 10, 5 less 20
    assert (choose(data, effects, Worth(10_000.0, 0.5))[:, 2] == 1).all()


def test_what_is_likelier_to_harm_than_the_bound_is_not_chosen(decision_data) -> None:
    data = decision_data(n=50)
    effects = told(np.tile([0.0, 0.01, 0.02], (50, 1)), deviation=np.tile([0.0, 0.02, 0.08], (50, 1)))

    assert (choose(data, effects, Worth(10_000.0, 0.5))[:, 2] == 1).all()
    assert (choose(data, effects, Worth(10_000.0, 0.35))[:, 1] == 1).all()  # 31 % and 40 % of it lie below zero
    assert (choose(data, effects, Worth(10_000.0, 0.2))[:, 0] == 1).all()


def test_what_is_judged_is_what_decide_chooses(decision_data) -> None:
    """By the policy itself: of the same effects, costs, bound and what else was eligible."""
    rng = np.random.default_rng(4)
    data = decision_data(n=300)
    propensity = np.where(rng.random((300, 3)) < 0.7, data.propensity, 0)
    propensity[:, 0] = 0.2
    data = replace(data, propensity=propensity / propensity.sum(axis=1, keepdims=True), arm=np.zeros(300, np.int64))
    mean = np.column_stack([np.zeros(300), rng.normal(0.02, 0.05, (300, 2))])
    effects = told(mean, deviation=rng.uniform(0.005, 0.05, (300, 3)))

    found = choose(data, effects, Worth(360.0, 0.3))

    costs = dict(zip(data.arms, data.cost.tolist(), strict=True))
    for row in range(300):
        believed = {
            arm: EffectEstimate(float(m), float(d))
            for arm, m, d in zip(data.arms, mean[row], effects.deviation[row], strict=True)
        }
        eligible = [
            arm
            for place, arm in enumerate(data.arms)
            if data.eligible[row, place] and (arm == "none" or believed[arm].chance_of_harm <= 0.3)
        ]
        best = best_of(eligible, {arm: one.mean for arm, one in believed.items()}, costs, seat_value=360.0)
        assert data.arms[int(found[row].argmax())] == best


def test_what_was_feared_when_it_was_logged_is_chosen_again_and_stops_the_gate_by_name(home, decision_data) -> None:
    """The log never gave the last arm to those of whom it feared harm, a third; the candidate would give it to them."""
    feared = np.zeros((6000, 3), bool)
    feared[:, 2] = np.arange(6000) % 15 < 5  # whole teams
    propensity = np.where(feared, 0.0, [0.5, 0.25, 0.25])
    propensity /= propensity.sum(axis=1, keepdims=True)
    data = replace(decision_data(1, n=6000, effect=0.3, propensity=propensity), feared=feared)

    learned = learn(home, data, worth=WORTH, seed=1)

    assert not learned.is_promoted
    assert "peer_champion (in" in learned.why
    assert "their logged probability is zero there" in learned.why


@pytest.fixture
def versions(home, decision_data):
    """Versions 1 and 2, both of which say what the experts say."""
    for _ in range(2):
        registry.register_effects(home, expert_model(decision_data(n=9).arms), params={}, metrics={}, documents={})
    return home


def test_tries_are_counted_from_the_champion_on(versions) -> None:
    before = registry.tries_against_champion(versions)

    registry.count_proposal(versions, "2")
    registry.count_proposal(versions, "2")

    assert (before, registry.tries_against_champion(versions)) == (2, 4)
    registry.promote(versions, "1", name=REGISTERED_EFFECTS)
    assert registry.tries_against_champion(versions) == 3
    registry.promote(versions, "2", name=REGISTERED_EFFECTS)
    assert registry.tries_against_champion(versions) == 0


def test_each_further_try_against_the_same_incumbent_must_be_surer(versions, decision_data) -> None:
    registry.promote(versions, "1", name=REGISTERED_EFFECTS)

    first, second = (promote_effects(versions, decision_data(n=100), worth=WORTH) for _ in range(2))

    assert "try 2 against this incumbent, so the interval is of 98.33%" in first.why
    assert "try 3 against this incumbent, so the interval is of 99.17%" in second.why
