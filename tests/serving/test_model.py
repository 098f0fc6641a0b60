"""The champion of a file-backed registry: taken, swapped, refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow.exceptions import MlflowException

from features.catalogue import CATEGORIES, NUMERIC
from features.scorer import Method, Scorer
from serving.meters import Meters
from serving.model import Champion, warm

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
    assert champion.note.endswith("its files are not a scorer's: scorer.json is missing")


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
