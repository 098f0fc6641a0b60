"""The experts' prior effects."""

import numpy as np
import pytest

from features.catalogue import BY_NAME, NUMERIC
from features.expert import expert_effects, expert_matrix
from features.interventions import SHIPPED, load_interventions

CATALOGUE = load_interventions(SHIPPED)


def struggling() -> np.ndarray:
    """A vector on which the silent struggle shows in full."""
    vector = np.full(len(NUMERIC), np.nan)
    for name, value in {"quick_close_share_28": 1.0, "open_streak": 9.0, "tickets_28": 0.0}.items():
        vector[NUMERIC.index(BY_NAME[name])] = value
    return vector


def test_expert_effect_is_the_stated_one_at_even_risk_and_vanishes_at_certainty() -> None:
    vectors = np.stack([struggling()] * 3)

    effects = expert_effects(vectors, np.array([0.5, 0.0, 1.0]), CATALOGUE)

    assert effects[0]["in_context_guidance"] == pytest.approx(-0.002 + 0.06)
    assert effects[1]["in_context_guidance"] == 0
    assert effects[2]["in_context_guidance"] == 0


def test_effects_of_a_batch_are_those_of_each_alone() -> None:
    rng = np.random.default_rng(3)
    vectors, risk = rng.uniform(0, 30, (50, len(NUMERIC))), rng.uniform(0, 1, 50)

    batch = expert_effects(vectors, risk, CATALOGUE)

    assert batch == [expert_effects(vectors[n : n + 1], risk[n : n + 1], CATALOGUE)[0] for n in range(50)]


def test_no_more_can_be_kept_than_would_be_lost() -> None:
    rng = np.random.default_rng(4)
    vectors, risk = rng.uniform(0, 30, (50, len(NUMERIC))), rng.uniform(0, 1, 50)

    effects = expert_matrix(vectors, risk, CATALOGUE)

    assert (effects <= risk[:, None]).all()
    assert (effects >= risk[:, None] - 1).all()
