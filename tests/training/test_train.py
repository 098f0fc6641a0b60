"""One small rollout from the log to the registry, as the command line runs it."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import mlflow
import numpy as np
import polars as pl
import pytest

from features.catalogue import CATEGORIES, FEATURES, NUMERIC, catalogue_hash
from features.compute import compute_features, pack
from features.connectors.simulated import Rollout, open_simulated
from features.labels import label_snapshots, weekly_snapshots
from features.log import EventLog
from features.observed import observed
from features.peers import days_needed
from features.scorer import (
    CHAMPION,
    HORIZONS_DAYS,
    PERIODS,
    REFERENCE_ARTIFACT,
    REGISTERED_MODEL,
    SCORER_ARTIFACT,
    LinearHazard,
    Method,
    Scorer,
)
from features.store import FeatureStore
from features.tools import load_tools
from training import registry
from training.dataset import build_dataset, data_version
from training.evaluate import METRICS
from training.gate import gate
from training.train import Trained, apply_gate, datasets, default_cut, train

pytestmark = [
    pytest.mark.filterwarnings("ignore:fetch_arrow_table:DeprecationWarning:ibis"),
    # MLflow warns of its own type hints, of its own SQLAlchemy calls, and of examples that a signature makes needless
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning:mlflow"),
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:sqlalchemy.exc.SADeprecationWarning:mlflow"),
    pytest.mark.filterwarnings("ignore:.*An input example was not provided:UserWarning:mlflow"),
]

SEED = 7
ROLLOUT = Rollout(seats=600, days=150, seed=SEED, silent_share=0.6)  # 233 abandonments before the cut: enough for trees
NOW = datetime(2027, 1, 1, tzinfo=UTC)
TOOLS = load_tools()


@dataclass(frozen=True)
class World:
    """What training is handed: features through Feast, labels, seats, decisions."""

    features: pl.DataFrame
    labels: pl.DataFrame
    seats: object
    decisions: list
    version: str

    def train(self, home, **changes) -> Trained:
        given = {"features": self.features, "labels": self.labels, **changes}
        return train(
            home, given["features"], given["labels"],
            seats=self.seats, decisions=self.decisions, tools=TOOLS, data_version=self.version, seed=SEED,
        )  # fmt: skip

    def dataset(self):
        return build_dataset(self.features, self.labels, seats=self.seats, decisions=self.decisions, tools=TOOLS)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    home = tmp_path_factory.mktemp("world")
    log = EventLog(f"sqlite:///{home / 'log.db'}")
    for batch in open_simulated(ROLLOUT):
        log.append(batch, now=NOW)
    seats, events, sources = log.seats(), log.events(), log.sources()
    snapshots = weekly_snapshots(seats, until=max(source.watermark for source in sources))
    peers = observed(log, TOOLS, days_needed(snapshots["as_of"].cast(pl.Int64).to_numpy()))
    computed = compute_features(
        snapshots, events=events, roster=log.roster(), sources=sources, tools=TOOLS, peers=peers
    )
    store = FeatureStore(home)
    store.apply()
    store.write_offline([computed])
    labels = label_snapshots(snapshots, events=events, seats=seats, sources=sources, tools=TOOLS)
    built = World(
        store.historical(snapshots), labels, seats, log.decisions(), data_version(events, seats=seats, tools=TOOLS)
    )
    log.close()
    return built


@dataclass(frozen=True)
class Runs:
    """Three runs on one state folder: the first, the same again, and one where nobody ever gave up."""

    home: Path
    first: Trained
    again: Trained
    nobody: Trained


@pytest.fixture(scope="module")
def runs(world, tmp_path_factory):
    home, elsewhere = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("elsewhere")
    kept = world.labels.with_columns(
        pl.lit(None, pl.Float64).alias("silent_after_days"),
        pl.col("observable_days").alias("known_days"),
        ended=pl.lit("end_of_data"),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.chdir(elsewhere)
        yield Runs(home, world.train(home), world.train(home), world.train(home, labels=kept))


@pytest.fixture
def client(runs):
    return mlflow.MlflowClient(tracking_uri=f"sqlite:///{runs.home / 'mlflow.db'}")


@pytest.fixture
def tracked(runs):
    """MLflow's own calls go to the runs' registry; setting it also sets a variable, which is taken back."""
    mlflow.set_tracking_uri(f"sqlite:///{runs.home / 'mlflow.db'}")
    yield
    mlflow.set_tracking_uri(None)


@pytest.fixture(scope="module")
def champion(runs):
    """(scorer, folder of its artifacts)."""
    loaded = registry.load_champion(runs.home)
    assert loaded is not None
    return loaded[0], registry.champion_folder(runs.home)


# --- the first run --------------------------------------------------------------------------------------------------


def test_the_first_model_that_beats_the_rule_is_promoted(runs):
    assert runs.first.method is Method.LIGHTGBM
    assert runs.first.is_promoted
    assert runs.first.version == "1"
    assert runs.first.why.startswith("it beats the three-warnings rule: log loss lower by ")


def test_the_model_ranks_later_snapshots_better_than_every_simple_baseline(runs):
    metrics = runs.first.metrics[28]
    assert metrics["model"]["auc"].value > metrics["recency"]["auc"].value > 0.5
    assert metrics["model"]["log_loss"].value < metrics["warnings"]["log_loss"].value


def test_training_ends_before_the_test_begins(world, runs):
    dataset = world.dataset()
    cut = default_cut(dataset)
    assert runs.first.train_snapshots == int((dataset.as_of < cut).sum())
    assert runs.first.test_snapshots == int(
        ((dataset.as_of >= cut) & (~np.isnan(dataset.abandoned())).any(axis=1)).sum()
    )
    judged = dataset.as_of[~np.isnan(dataset.abandoned()[:, 0])]
    assert (judged >= cut).mean() == pytest.approx(0.3, abs=0.05)  # weekly snapshots share moments


def test_the_run_keeps_parameters_metrics_and_what_the_data_was(world, runs, client):
    run = client.get_run(runs.first.run_id).data
    assert run.tags["data_version"] == world.version
    assert run.tags["catalogue"] == catalogue_hash()
    assert run.params["method"] == "lightgbm_hazard"
    assert run.params["seed"] == str(SEED)
    assert int(run.params["train_snapshots"]) == runs.first.train_snapshots
    assert int(run.params["abandonments"]) == runs.first.abandonments
    assert datetime.fromisoformat(run.params["cut"]).tzinfo is not None
    assert len(run.tags["code_version"].partition("+")[2]) == 12
    logged = {
        f"{method}_{metric}_h{days}"
        for days in HORIZONS_DAYS
        for method in ("model", "recency", "warnings", "logistic", "boosting", "cox")
        for metric in METRICS
    }
    assert logged <= set(run.metrics)
    assert "coverage_of_bins_h0" in run.metrics
    assert run.metrics["model_auc_h28"] == pytest.approx(runs.first.metrics[28]["model"]["auc"].value)


def test_the_run_keeps_its_documents_and_plots(runs, client):
    run = runs.first.run_id
    assert {item.path for item in client.list_artifacts(run)} >= {
        "metrics.json", "features.json", "environment.json", "plots", "report",
    }  # fmt: skip
    metrics = json.loads(Path(client.download_artifacts(run, "metrics.json")).read_text())
    assert set(metrics["28"]["model"]["auc"]) == {"value", "low", "high"}
    columns = json.loads(Path(client.download_artifacts(run, "features.json")).read_text())
    assert columns == [{"name": feature.name, "dtype": feature.dtype} for feature in FEATURES]
    environment = json.loads(Path(client.download_artifacts(run, "environment.json")).read_text())
    assert {"python", "lightgbm", "venn-abers"} <= set(environment)
    plots = {
        item.path for folder in client.list_artifacts(run, "plots") for item in client.list_artifacts(run, folder.path)
    }
    assert plots == {"plots/reliability/reliability.png", "plots/importance/importance.png"}


def test_the_signature_names_every_input_with_its_type(tracked):
    found = mlflow.models.get_model_info(f"models:/{REGISTERED_MODEL}/1").signature
    assert [(column.name, column.type.name) for column in found.inputs] == [
        (feature.name, "string" if feature.is_category else "double") for feature in FEATURES
    ]
    assert found.outputs.input_names() == ["risk_0", "risk_7", "risk_14", "risk_28"]


def test_the_champion_comes_with_its_scorer_and_its_reference(champion):
    scorer, folder = champion
    assert (folder / SCORER_ARTIFACT / "scorer.json").exists()
    assert scorer.method is Method.LIGHTGBM
    reference = pl.read_parquet(folder / REFERENCE_ARTIFACT / "reference.parquet")
    features = [*(feature.name for feature in (*NUMERIC, *CATEGORIES)), "risk_28"]
    assert reference.columns == [*features, "as_of", "person", "seat", "team"]
    vectors, categories = pack(reference)
    np.testing.assert_array_equal(reference["risk_28"].to_numpy(), scorer.score(vectors, categories).risk[:, 3])


def test_the_reference_holds_what_the_run_saw_and_names_nobody(world, runs, champion):
    reference = pl.read_parquet(champion[1] / REFERENCE_ARTIFACT / "reference.parquet")
    assert reference.height >= runs.first.train_snapshots
    assert reference["as_of"].max() > reference["as_of"].min()
    assert reference["person"].str.len_chars().unique().to_list() == [24]
    assert not any("/" in value for name in ("person", "seat", "team") for value in reference[name].unique())


def test_mlflows_own_model_predicts_what_the_scorer_says(world, tracked, champion):
    model = mlflow.pyfunc.load_model(f"models:/{REGISTERED_MODEL}@{CHAMPION}")
    sample = world.features.sample(200, seed=SEED)
    found = model.predict(sample.select([feature.name for feature in FEATURES]).to_pandas())
    np.testing.assert_array_equal(found.to_numpy(), champion[0].score(*pack(sample)).risk)
    assert list(found.columns) == [f"risk_{days}" for days in HORIZONS_DAYS]


def test_the_loaded_champion_scores_as_the_fitted_model_did(world, runs, champion):
    later = world.dataset()
    later = later.take(later.as_of >= default_cut(later))
    label = later.abandoned()[:, 3]
    known = ~np.isnan(label)
    risk = champion[0].score(later.vectors, later.categories).risk[known, 3]
    found = METRICS["auc"](label[known], risk, later.horizon_weight()[known, 3][None])[0]
    assert found == pytest.approx(runs.first.metrics[28]["model"]["auc"].value)


# --- the same again, and nobody who gives up ------------------------------------------------------------------------


def test_the_same_model_again_is_registered_but_not_promoted(runs):
    assert runs.again.version == "2"
    assert not runs.again.is_promoted
    assert runs.again.why == "it is no better than the champion: log loss lower by 0.000 [0.000, 0.000]"
    assert registry.champion_version(runs.home) == "1"


def test_the_same_data_and_seed_give_the_same_metrics(runs):
    assert runs.again.metrics == runs.first.metrics


def test_where_nobody_gave_up_the_rule_is_registered_and_says_why(runs, client):
    assert runs.nobody.method is Method.RULE
    assert runs.nobody.version == "3"
    assert not runs.nobody.is_promoted
    assert runs.nobody.why.startswith("nothing could be learned, so the rule is the model: 0 abandonments and ")
    assert client.get_model_version(REGISTERED_MODEL, "3").tags["note"] == runs.nobody.note


def test_where_nobody_gave_up_nothing_is_judged(runs):
    assert runs.nobody.metrics == {days: {} for days in HORIZONS_DAYS}
    said = [text for text in runs.nobody.shortcomings if "cannot be judged" in text]
    assert [text.partition(" days ")[0] for text in said] == [f"the risk by {days}" for days in HORIZONS_DAYS]
    assert all("snapshots 0 are known to be abandoned" in text for text in said)
    assert all(text.endswith("at least 50 are needed, some of either kind") for text in said)
    page = runs.nobody.report.read_text(encoding="utf-8")
    assert "The risk by 28 days cannot be judged: of the later snapshots 0 are known to be abandoned" in page


# --- where things are -----------------------------------------------------------------------------------------------


def test_everything_is_kept_under_the_state_folder(runs):
    assert list(Path.cwd().iterdir()) == []
    assert (runs.home / "mlartifacts").is_dir()


# --- refusals -------------------------------------------------------------------------------------------------------


def test_where_nothing_was_judged_yet_the_sentence_says_what_is_missing(world, tmp_path):
    young = world.labels.with_columns(
        pl.lit(None, pl.Float64).alias("silent_after_days"), known_days=pl.lit(-1.0), observable_days=pl.lit(-1.0)
    )
    with pytest.raises(
        ValueError,
        match=r"of \d+ snapshots of seats in use none can be judged yet: ",
    ):
        world.train(tmp_path, labels=young)
    assert list(tmp_path.iterdir()) == []


def test_where_no_seat_is_in_use_the_sentence_says_so(world, tmp_path):
    unused = world.features.with_columns(pl.lit(0.0).alias("meaningful_28"))
    with pytest.raises(ValueError, match="of 0 snapshots of seats in use none can be judged yet"):
        world.train(tmp_path, features=unused)


def test_the_simulated_rollout_spans_what_it_should(world):
    span = world.features["as_of"].max() - world.features["as_of"].min()
    assert timedelta(days=140) < span < timedelta(days=155)  # surveys come in a little after the last day
    assert Scorer(Method.RULE).catalogue == catalogue_hash()


def test_the_same_data_and_seed_give_the_same_model_bytes(runs, client):
    folders = [
        Path(client.download_artifacts(client.get_model_version(REGISTERED_MODEL, v).run_id, "report")) for v in "12"
    ]
    documents = [json.loads((folder / "evaluation.json").read_text()) for folder in folders]
    assert documents[0] == documents[1]
    sources = [client.get_model_version_download_uri(REGISTERED_MODEL, v).removeprefix("file://") for v in "12"]
    models = [
        {
            str(path.relative_to(source)): path.read_bytes()
            for path in Path(source).rglob("scorer/**/*")
            if path.is_file()
        }
        for source in sources
    ]
    assert models[0] == models[1]
    assert {"artifacts/scorer/scorer.json", "artifacts/scorer/booster.txt"} <= set(models[0])


def test_the_report_needs_nothing_but_itself(runs):
    page = runs.first.report.read_text()
    assert page.count("data:image/png;base64,") >= 4
    assert (
        '<div class="facts"><table>' in page
    )  # what is long there is broken, or it would push every value out of sight
    assert 'src="http' not in page
    assert "href=" not in page
    for said in ("boosting", "cox", "Lead time", "By segment", "By week of life", "Seats that never started"):
        assert said in page


def test_the_report_in_json_says_the_same(runs):
    document = json.loads((runs.first.report.parent / "evaluation.json").read_text())
    value = document["evaluation"]["metrics"]["28"]["model"]["auc"]["value"]
    assert value == pytest.approx(runs.first.metrics[28]["model"]["auc"].value)
    assert document["evaluation"]["snapshots"] == runs.first.test_snapshots
    assert min(group["people"] for group in document["evaluation"]["groups"]) >= 10


def test_the_model_knows_until_when_it_was_trained(world, champion):
    cut = default_cut(world.dataset())
    assert datetime.fromisoformat(champion[0].trained_until).timestamp() * 1e6 == pytest.approx(cut)


def test_what_the_data_lacks_is_said(runs):
    assert any("the same in, every training snapshot and teach nothing" in said for said in runs.first.shortcomings)


def test_a_model_that_does_not_beat_the_rule_is_refused(world):
    dataset = world.dataset()
    later = dataset.take(dataset.as_of >= default_cut(dataset))
    blind = LinearHazard(
        *((0.0,) * len(NUMERIC), (0.0,) * len(NUMERIC), (1.0,) * len(NUMERIC), (0.0,) * len(NUMERIC), (3.0,) * PERIODS)
    )
    verdict = gate(Scorer(Method.LOGISTIC, linear=blind), None, later, seed=7)
    assert not verdict.is_passed
    assert verdict.why.startswith("it does not beat the three-warnings rule")


def test_tries_on_the_same_data_against_the_same_champion_are_counted_and_answered_alike(world, runs):
    """Another candidate must be surer by as much; asking again is no new draw and no new try."""
    by_stratum = datasets(world.features, world.labels, seats=world.seats, decisions=world.decisions, tools=TOOLS)
    candidate = registry.load_version(runs.home, "2")
    first, again = (apply_gate(runs.home, "2", candidate, by_stratum, data_version="one more day") for _ in range(2))
    assert first == again
    assert "candidates judged on this data" not in first.why
    third = apply_gate(runs.home, "3", candidate, by_stratum, data_version="one more day")
    assert "bounds for the best of 2 candidates judged on this data" in third.why
    assert registry.count_try(runs.home, "3", data_version="two more days") == 1


def test_a_rule_that_stands_in_for_a_refused_model_is_no_candidate(runs, tmp_path):
    """The refused model is what is asked of again; the rule in its place was never judged."""
    assert registry.latest_version(runs.home) == "3"
    client = mlflow.MlflowClient(tracking_uri=registry.tracking_uri(runs.home))
    client.set_model_version_tag(REGISTERED_MODEL, "3", registry.STANDS_IN_FOR, "2")
    try:
        assert registry.latest_version(runs.home) == "2"
    finally:
        client.delete_model_version_tag(REGISTERED_MODEL, "3", registry.STANDS_IN_FOR)
