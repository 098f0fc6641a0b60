"""Learning in the registry: what passes the gate serves, what does not stays a version."""

from dataclasses import replace

import numpy as np
import pytest

from features.effects import REGISTERED_EFFECTS, Learner
from training import registry
from training.learn import choose, incumbent_effects, learn, promote_effects
from training.offpolicy import sample_ratio_mismatch


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


def test_effects_that_surely_keep_more_are_registered_and_serve(home, decision_data) -> None:
    data = decision_data(1, n=6000, effect=0.3)

    learned = learn(home, data, seat_value=360.0, seed=1)

    assert learned.is_promoted, learned.why
    model, version = registry.load_effects(home)
    assert version == learned.version
    assert model.learner is learned.learner
    assert (incumbent_effects(home, data.arms).effects(data.seen).mean == model.effects(data.seen).mean).all()

    again = learn(home, decision_data(1, n=6000, effect=0.3), seat_value=360.0, seed=2)
    assert not again.is_promoted  # what serves already knows as much
    assert registry.load_effects(home)[1] == version


def test_too_little_registers_nothing(home, decision_data) -> None:
    learned = learn(home, decision_data(n=100), seat_value=360.0)

    assert learned.learner is Learner.EXPERT
    assert learned.version is None
    assert registry.load_effects(home) is None
    assert (incumbent_effects(home, ("none", "a")).weights) == (0.0, 0.0)


def test_a_mismatch_of_the_draws_blocks(home, decision_data) -> None:
    data = decision_data(1, n=6000, effect=0.3)
    forged = replace(data, arm=np.where(np.arange(6000) % 10 == 0, 2, data.arm))
    assert sample_ratio_mismatch(forged).is_mismatched

    learned = learn(home, forged, seat_value=360.0, seed=1)

    assert not learned.is_promoted
    assert "sample-ratio mismatch" in learned.why


@pytest.fixture
def two_versions(home, decision_data):
    """Version 1 learned from the first decisions and serves; version 2 is the same, registered again."""
    data = decision_data(1, n=6000, effect=0.3)
    assert learn(home, data, seat_value=360.0, seed=1).is_promoted
    model, _ = registry.load_effects(home)
    registry.register_effects(home, model, params={}, metrics={}, documents={})
    return home, data


def test_a_version_is_promoted_by_hand_only_where_later_decisions_prove_it(two_versions, decision_data) -> None:
    home, data = two_versions
    later = replace(decision_data(2, n=6000, effect=0.3), as_of=data.as_of.max() + 1 + np.arange(6000))

    serving = promote_effects(home, later, seat_value=360.0, version="1")
    as_good = promote_effects(home, later, seat_value=360.0)
    unjudged = promote_effects(home, data, seat_value=360.0)

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

    promoted = promote_effects(home, later, seat_value=360.0, version="1")

    assert promoted.is_promoted, promoted.why
    assert registry.load_effects(home)[1] == "1"


@pytest.mark.parametrize("version", [None, "7"])
def test_a_version_that_is_not_there_cannot_be_promoted(home, decision_data, version) -> None:
    with pytest.raises(
        ValueError, match=r"no version of rekindle-effects|version 7 of rekindle-effects cannot be read"
    ):
        promote_effects(home, decision_data(n=50), seat_value=360.0, version=version)


def test_a_dear_intervention_is_not_chosen(decision_data) -> None:
    data = decision_data(n=50)
    effects = np.tile([0.0, 0.01, 0.05], (50, 1))

    assert (choose(data, effects, 100.0)[:, 0] == 1).all()  # 1 less 10, 5 less 20
    assert (choose(data, effects, 10_000.0)[:, 2] == 1).all()
