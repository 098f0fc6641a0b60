"""The registry alone, with scorers that cost nothing."""

import json
import os
from dataclasses import replace
from pathlib import Path

import mlflow
import polars as pl
import pytest

from features.compute import FEATURE_DTYPES
from features.effects import REGISTERED_EFFECTS, expert_model
from features.references import PERSON, REFERENCE_FILE, digest
from features.scorer import CHAMPION, REFERENCE_ARTIFACT, REGISTERED_MODEL, SCORER_ARTIFACT, Method, Scorer
from training import registry

pytestmark = [
    # MLflow warns of its own type hints, of its own SQLAlchemy calls, and of examples that a signature makes needless
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning:mlflow"),
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:sqlalchemy.exc.SADeprecationWarning:mlflow"),
    pytest.mark.filterwarnings("ignore:.*An input example was not provided:UserWarning:mlflow"),
]

REFERENCE = pl.DataFrame(schema={**FEATURE_DTYPES, "risk_28": pl.Float64})
RULE = Scorer(Method.RULE, note="nothing learned")


@pytest.fixture(scope="module", autouse=True)
def _alone(tmp_path_factory):
    """No tracking server of the machine's, and a working directory in which nothing may appear."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.chdir(tmp_path_factory.mktemp("elsewhere"))
        yield


def register(home, note="nothing learned"):
    return registry.register(
        home, replace(RULE, note=note), reference=REFERENCE, params={"method": "rule"}, metrics={"auc": 0.5},
        tags={"note": note}, documents={"metrics.json": {"28": {}}}, plots={},
    )  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Two versions, none promoted."""
    home = tmp_path_factory.mktemp("home")
    assert [register(home, "first").version, register(home, "second").version] == ["1", "2"]
    return home


@pytest.fixture
def demoted(home):
    """The same, without a champion before and after."""
    yield home
    if registry.champion_version(home) is not None:
        mlflow.MlflowClient(tracking_uri=f"sqlite:///{home / 'mlflow.db'}").delete_registered_model_alias(
            REGISTERED_MODEL, CHAMPION
        )


def test_registering_promotes_nothing(demoted):
    assert registry.champion_version(demoted) is None
    assert registry.load_champion(demoted) is None


def test_the_promoted_version_is_what_loads(demoted):
    registry.promote(demoted, "2")
    scorer, version = registry.load_champion(demoted)
    assert (version, scorer.note) == ("2", "second")
    registry.promote(demoted, "1")
    scorer, version = registry.load_champion(demoted)
    assert (version, scorer.note) == ("1", "first")


def test_the_new_champion_remembers_the_one_before(demoted):
    registry.promote(demoted, "1")
    registry.promote(demoted, "2")
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{demoted / 'mlflow.db'}")
    assert client.get_model_version(REGISTERED_MODEL, "2").tags["previous_champion"] == "1"


def test_the_champions_folder_holds_scorer_and_reference(demoted):
    registry.promote(demoted, "1")
    folder = registry.champion_folder(demoted)
    assert (folder / SCORER_ARTIFACT / "scorer.json").exists()
    assert pl.read_parquet(folder / REFERENCE_ARTIFACT / "reference.parquet").schema == REFERENCE.schema


def test_a_champion_of_another_catalogue_is_refused(demoted):
    registry.promote(demoted, "1")
    path = next(demoted.glob(f"mlartifacts/**/{SCORER_ARTIFACT}/scorer.json"))
    text = path.read_text()
    for each in demoted.glob(f"mlartifacts/**/{SCORER_ARTIFACT}/scorer.json"):
        each.write_text(json.dumps({**json.loads(text), "catalogue": "another"}))
    with pytest.raises(ValueError, match="trained on another feature catalogue"):
        registry.load_champion(demoted)


def test_two_state_folders_in_one_process_do_not_mix(demoted, tmp_path):
    registry.promote(demoted, "1")
    assert register(tmp_path).version == "1"
    assert registry.champion_version(tmp_path) is None
    assert registry.champion_version(demoted) == "1"
    assert {path.name for path in tmp_path.iterdir()} == {"mlflow.db", "mlartifacts"}


def test_nothing_is_written_outside_the_state_folder(home):
    assert {path.name for path in home.iterdir()} == {"mlflow.db", "mlartifacts"}
    assert list(Path.cwd().iterdir()) == []


def test_registering_leaves_mlflows_variable_to_its_user(home, tmp_path):
    assert "MLFLOW_TRACKING_URI" not in os.environ
    assert registry.tracking_uri(home) == f"sqlite:///{home / 'mlflow.db'}"
    assert registry.tracking_uri(tmp_path) == f"sqlite:///{tmp_path / 'mlflow.db'}"


def test_mlflows_own_variable_is_heeded(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking.example:5000")
    assert registry.tracking_uri(tmp_path) == "http://tracking.example:5000"


# --- back to the one before, and what is known of a version -----------------------------------------------------------


@pytest.fixture
def fresh(tmp_path):
    """Two versions of a folder that no other test touches."""
    register(tmp_path, "first"), register(tmp_path, "second")
    return tmp_path


def test_rollback_restores_the_champion_before_and_marks_the_withdrawn(fresh):
    registry.promote(fresh, "1")
    registry.promote(fresh, "2")
    assert registry.rollback(fresh, at="2026-05-04T09:00:00+00:00") == ("2", "1")
    assert registry.champion_version(fresh) == "1"
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{fresh / 'mlflow.db'}")
    assert client.get_model_version(REGISTERED_MODEL, "2").tags["rolled_back_at"] == "2026-05-04T09:00:00+00:00"


def test_rollback_of_the_first_effects_gives_the_word_back_to_the_experts(tmp_path):
    with pytest.raises(ValueError, match="no learned effects serve, the experts tell them"):
        registry.rollback(tmp_path, at="now", name=REGISTERED_EFFECTS)
    model = expert_model(("none", "hint"))
    version = registry.register_effects(tmp_path, model, params={}, metrics={}, documents={}).version
    registry.promote(tmp_path, version, name=REGISTERED_EFFECTS)
    assert registry.load_effects(tmp_path) is not None

    assert registry.rollback(tmp_path, at="now", name=REGISTERED_EFFECTS) == (version, None)

    assert registry.load_effects(tmp_path) is None


def test_rollback_of_the_first_champion_is_refused(tmp_path):
    with pytest.raises(ValueError, match="there is no champion, so there is nothing to roll back"):
        registry.rollback(tmp_path, at="now")
    register(tmp_path)
    registry.promote(tmp_path, "1")
    with pytest.raises(ValueError, match="version 1 is the first champion"):
        registry.rollback(tmp_path, at="now")


def test_the_latest_version_is_the_newest_by_number(home, tmp_path):
    assert registry.latest_version(home) == "2"
    with pytest.raises(ValueError, match="no version of rekindle-risk is registered"):
        registry.latest_version(tmp_path)


def test_a_version_that_is_not_there_is_refused_in_a_sentence(fresh):
    assert registry.load_version(fresh, "2").note == "second"
    with pytest.raises(ValueError, match="models:/rekindle-risk/99 cannot be read"):
        registry.load_version(fresh, "99")


def test_the_run_names_code_and_environment(home):
    tags = registry.tags_of(home, "1")
    assert tags["code_version"] == registry.code_version()
    assert tags["note"] == "first"
    assert registry.environment()["lightgbm"]


def test_trials_are_runs_below_the_run(tmp_path):
    children = [registry.Child(f"trial {n}", {"num_leaves": n}, {"held_out_log_loss": 0.1 * n}) for n in range(3)]
    registered = registry.register(
        tmp_path, RULE, reference=REFERENCE, params={}, metrics={}, tags={"note": ""}, documents={}, plots={},
        children=children,
    )  # fmt: skip
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    experiment = client.get_experiment_by_name(registry.EXPERIMENT).experiment_id
    below = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{registered.run_id}'")
    assert sorted(run.info.run_name for run in below) == ["trial 0", "trial 1", "trial 2"]


def test_whoever_the_roster_knows_no_more_leaves_the_reference_of_every_version(tmp_path):
    people = ["acme/ann", "acme/bo", "acme/ann"]
    reference = pl.DataFrame({PERSON: [digest(person) for person in people], "risk_28": [0.1, 0.2, 0.3]})
    assert registry.forget_unknown(tmp_path, people) == 0  # no model is there
    for note in ("first", "second"):
        registry.register(tmp_path, replace(RULE, note=note), reference=reference, params={}, metrics={}, tags={},
                          documents={}, plots={})  # fmt: skip
    registry.promote(tmp_path, "1")
    assert registry.forget_unknown(tmp_path, people) == 0
    assert registry.forget_unknown(tmp_path, ["acme/bo", "acme/cy"]) == 4
    kept = pl.read_parquet(registry.champion_folder(tmp_path) / REFERENCE_ARTIFACT / REFERENCE_FILE)
    assert kept.equals(reference[1:2])
    assert registry.load_champion(tmp_path)[0].note == "first"
    assert registry.forget_unknown(tmp_path, ["acme/bo", "acme/cy"]) == 0
