"""A day's proposal: the same from one process and from workers."""

from datetime import datetime
from typing import Any

import numpy as np
import pytest

from features.effects import EffectModel
from serving.advisor import Advisor
from serving.planning import plan_day
from training.learn import incumbent_effects

SEATS = [f"acme/s-{name}" for name in ("busy", "quiet", "old", "gone")]


@pytest.fixture
def effects(advisor: Advisor) -> Any:
    def told(arms: tuple[str, ...]) -> EffectModel:
        return incumbent_effects(advisor.settings.home, arms)

    return told


def test_workers_propose_what_one_process_proposes(
    advisor: Advisor, effects: Any, cluster: Any, monkeypatch: pytest.MonkeyPatch, now: datetime
) -> None:
    own = {"REKINDLE_PSEUDONYM_KEY": "a test's key", "REKINDLE_HOLDOUT_SHARE": "0.0", "REKINDLE_HARM_BOUND": "0.99"}
    cluster.client.run(lambda: __import__("os").environ.update(own))
    object.__setattr__(advisor.settings, "max_batch", 2)
    one = plan_day(advisor, SEATS, effects=effects, capacity={"coach_call": 1})
    many = plan_day(advisor, SEATS, effects=effects, capacity={"coach_call": 1}, cluster=cluster)
    assert (many.arms, many.seat_ids, many.capacity) == (one.arms, one.seat_ids, one.capacity)
    assert len(one.seat_ids) >= 2
    np.testing.assert_allclose(many.values, one.values, rtol=0, atol=1e-9)
    np.testing.assert_array_equal(many.eligible, one.eligible)
    np.testing.assert_array_equal(many.targets, one.targets)
    assert many.generator(now.date()).random() == one.generator(now.date()).random()


def test_an_unknown_intervention_has_no_capacity(advisor: Advisor, effects: Any) -> None:
    with pytest.raises(ValueError, match="--capacity: expected one of"):
        plan_day(advisor, SEATS, effects=effects, capacity={"champagne": 1})


def test_without_a_seat_that_has_features_there_is_no_plan(advisor: Advisor, effects: Any) -> None:
    with pytest.raises(ValueError, match="no seat has features online"):
        plan_day(advisor, ["acme/s-gone"], effects=effects, capacity={})
