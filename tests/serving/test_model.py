"""The champion of a file-backed registry: taken, swapped, refused."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow.exceptions import MlflowException

from features.catalogue import CATEGORIES, NUMERIC
from features.effects import REGISTERED_EFFECTS, EffectModel
from features.estimates import ExpertEstimator
from features.interventions import SHIPPED, load_interventions
from features.scorer import Method, Scorer
from serving.meters import Meters
from serving.model import Champion, EffectsChampion, warm

pytestmark = pytest.mark.filterwarnings(  # MLflow 3.17 on SQLAlchemy 2.1
    "ignore:The ``noload`` loader strategy is deprecated:sqlalchemy.exc.SADeprecationWarning"
)


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture
def champion(home: Path) -> Champion:
    return Champion(home, Meters())


def test_without_a_registry_the_rule_serves_and_none_is_made(champion: Champion, home: Path) -> None:
    assert champion.refresh() is False

    assert (champion.current.version, champion.current.scorer.method) == ("rule", Method.RULE)
    assert champion.note == "no model has been promoted yet"
    assert not (home / "mlflow.db").exists()


def test_without_a_promoted_version_the_rule_serves(champion: Champion, registry: Any, scorer: Scorer) -> None:
    registry.register(scorer)

    assert champion.refresh() is False
    assert champion.note == "no model has been promoted yet"


def test_the_champion_scores_as_the_model_that_was_registered(
    champion: Champion, registry: Any, scorer: Scorer
) -> None:
    registry.promote(registry.register(scorer))

    assert champion.refresh() is True

    vectors = np.random.default_rng(1).uniform(0, 30, (20, len(NUMERIC)))
    categories = [[""] * len(CATEGORIES)] * 20
    loaded = champion.current.scorer.score(vectors, categories)
    np.testing.assert_array_equal(loaded.risk, scorer.score(vectors, categories).risk)
    assert champion.current.label == "rekindle-risk/1"


def test_a_new_champion_is_swapped_in_and_out(
    champion: Champion, registry: Any, noted: Callable[[str], Scorer]
) -> None:
    first, second = registry.register(noted("first")), registry.register(noted("second"))
    registry.promote(first)
    champion.refresh()
    registry.promote(second)

    assert champion.refresh() is True
    assert (champion.current.version, champion.note) == (second, "second")

    registry.promote(first)
    assert champion.refresh() is True
    assert champion.note == "first"

    registry.demote()
    assert champion.refresh() is True
    assert champion.note == "no model has been promoted yet"


def test_an_unchanged_champion_is_not_loaded_again(champion: Champion, registry: Any, scorer: Scorer) -> None:
    registry.promote(registry.register(scorer))
    champion.refresh()
    before = champion.current

    assert champion.refresh() is False
    assert champion.current is before


def test_a_champion_of_another_catalogue_is_refused_and_the_old_one_stays(
    champion: Champion, registry: Any, scorer: Scorer
) -> None:
    registry.promote(registry.register(scorer))
    champion.refresh()
    registry.promote(registry.register(scorer, catalogue="another"))

    assert champion.refresh() is False

    assert champion.current.version == "1"
    assert "version 2 of rekindle-risk was refused: the model was trained on another feature catalogue" in champion.note


def test_a_first_champion_of_another_catalogue_leaves_the_rule_which_says_so(
    champion: Champion, registry: Any, scorer: Scorer
) -> None:
    registry.promote(registry.register(scorer, catalogue="another"))

    champion.refresh()

    assert champion.current.version == "rule"
    assert "another feature catalogue" in champion.note


@pytest.mark.parametrize("changes", [{"method": "oracle"}, {"inputs": []}, {"rule": {}}, {"levels": None}])
def test_a_broken_champion_is_refused(
    champion: Champion, registry: Any, scorer: Scorer, changes: dict[str, object]
) -> None:
    registry.promote(registry.register(scorer, **changes))

    assert champion.refresh() is False
    assert champion.current.version == "rule"
    assert "version 1 of rekindle-risk was refused" in champion.note


def test_a_champion_without_its_files_is_refused(champion: Champion, registry: Any, scorer: Scorer, home: Path) -> None:
    registry.promote(registry.register(scorer))
    next(home.glob("mlartifacts/1/artifacts/scorer/scorer.json")).unlink()

    assert champion.refresh() is False
    assert champion.note.endswith("its files are not a model's: scorer.json is missing")


def test_a_refused_champion_is_not_loaded_again_until_another_comes(
    champion: Champion, registry: Any, scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.promote(registry.register(scorer, catalogue="another"))
    champion.refresh()
    monkeypatch.setattr(Scorer, "load", lambda _: pytest.fail("loaded again"))

    assert champion.refresh() is False

    monkeypatch.undo()
    registry.promote(registry.register(scorer))
    assert champion.refresh() is True
    assert champion.note == ""


def test_a_silent_registry_changes_nothing_but_the_note(
    champion: Champion, registry: Any, scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.promote(registry.register(scorer))
    champion.refresh()

    def fail(*_: object) -> None:
        raise MlflowException("connection refused")

    monkeypatch.setattr("mlflow.MlflowClient.get_model_version_by_alias", fail)

    assert champion.refresh() is False
    assert champion.current.version == "1"
    assert champion.note == "the model registry does not answer"

    monkeypatch.undo()
    champion.refresh()
    assert champion.note == ""


def test_a_model_whose_risk_is_impossible_does_not_warm(scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Scorer, "hazards", lambda _, vectors, _codes: np.full((len(vectors), 9), np.nan))

    with pytest.raises(ValueError, match="never fall"):
        warm(scorer)


CATALOGUE = load_interventions(SHIPPED)
SEATS = np.random.default_rng(3).uniform(0, 30, (5, len(NUMERIC)))
NAMELESS = [[""] * len(CATEGORIES)] * 5
EVEN = np.full(5, 0.5)


@pytest.fixture
def effects(home: Path) -> EffectsChampion:
    return EffectsChampion(home, CATALOGUE, Meters())


def test_without_promoted_effects_the_experts_tell_them(effects: EffectsChampion, home: Path) -> None:
    assert effects.refresh() is False

    assert (effects.current.label, effects.refusal) == ("expert", "")
    assert not (home / "mlflow.db").exists()


def test_promoted_effects_are_told_as_the_model_tells_them_and_swapped(
    effects: EffectsChampion, registry: Any, learned: Callable[..., EffectModel]
) -> None:
    versions = [registry.register_effects(learned("refresher", more)) for more in (0.03, 0.09)]
    registry.promote(versions[0], name=REGISTERED_EFFECTS)
    assert effects.refresh() is True

    first = effects.current.estimate(SEATS, NAMELESS, EVEN, CATALOGUE)
    experts = ExpertEstimator().estimate(SEATS, NAMELESS, EVEN, CATALOGUE)
    assert effects.current.label == "rekindle-effects/1"
    for told, expected in zip(first, experts, strict=True):
        assert told["refresher"].mean == pytest.approx(expected["refresher"].mean + 0.03)
        assert told["coach_call"].mean == pytest.approx(expected["coach_call"].mean)
        assert (told["none"].mean, told["none"].deviation) == (0, 0)

    registry.promote(versions[1], name=REGISTERED_EFFECTS)
    assert effects.refresh() is True
    second = effects.current.estimate(SEATS, NAMELESS, EVEN, CATALOGUE)
    assert second[0]["refresher"].mean == pytest.approx(first[0]["refresher"].mean + 0.06)

    registry.demote(name=REGISTERED_EFFECTS)
    assert effects.refresh() is True
    assert effects.current.label == "expert"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"catalogue": "another"}, "learned on another feature catalogue"),
        ({"arms": ("none", "singing")}, "learned of other interventions than those of the catalogue"),
        ({"prior": "another"}, "what experts expect of the interventions has changed"),
        ({"correction": ((float("nan"),) * 17,) * 9}, "expected a mean in [-1, 1]"),
    ],
)
def test_effects_of_other_inputs_are_refused_and_the_old_ones_stay(
    effects: EffectsChampion, registry: Any, learned: Callable[..., EffectModel], change: dict[str, Any], why: str
) -> None:
    registry.promote(registry.register_effects(learned("refresher", 0.03)), name=REGISTERED_EFFECTS)
    effects.refresh()
    other = replace(learned("refresher", 0.03), **change)
    registry.promote(registry.register_effects(other), name=REGISTERED_EFFECTS)

    assert effects.refresh() is False

    assert effects.current.label == "rekindle-effects/1"
    assert effects.refusal.startswith("version 2 of rekindle-effects was refused")
    assert why in effects.refusal


def test_the_order_of_the_catalogue_does_not_matter_to_learned_effects(
    effects: EffectsChampion, registry: Any, learned: Callable[..., EffectModel]
) -> None:
    registry.promote(registry.register_effects(learned("refresher", 0.03)), name=REGISTERED_EFFECTS)
    effects.refresh()

    told = effects.current.estimate(SEATS, NAMELESS, EVEN, CATALOGUE)
    turned = effects.current.estimate(SEATS, NAMELESS, EVEN, CATALOGUE[::-1])

    assert turned == told
