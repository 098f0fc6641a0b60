"""Learning in the registry: what passes the gate serves, what does not stays a version."""

from dataclasses import replace

import numpy as np
import pytest

from features.effects import Learner
from training import registry
from training.learn import choose, incumbent_effects, learn
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


def test_a_dear_intervention_is_not_chosen(decision_data) -> None:
    data = decision_data(n=50)
    effects = np.tile([0.0, 0.01, 0.05], (50, 1))

    assert (choose(data, effects, 100.0)[:, 0] == 1).all()  # 1 less 10, 5 less 20
    assert (choose(data, effects, 10_000.0)[:, 2] == 1).all()
