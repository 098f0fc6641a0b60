"""MLflow: log a trained model with what it saw and how it did, register it, move the champion alias."""

import hashlib
import importlib.metadata
import io
import os
import platform
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # MLflow reads both when it is imported
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # else an absent server is waited for by the minute
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")

import mlflow
import polars as pl
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema
from sqlalchemy.exc import DatabaseError

from features.catalogue import FEATURES
from features.effects import EFFECTS_ARTIFACT, REGISTERED_EFFECTS, EffectModel
from features.references import REFERENCE_FILE, of_known
from features.scorer import CHAMPION, HORIZONS_DAYS, REFERENCE_ARTIFACT, REGISTERED_MODEL, SCORER_ARTIFACT, Scorer

TRACKING_VARIABLE = "MLFLOW_TRACKING_URI"
EXPERIMENT = "rekindle-risk"
PYFUNC = Path(__file__).with_name("pyfunc.py")
REQUIREMENTS = ("rekindle", "lightgbm", "mlflow", "numpy", "pandas", "scikit-learn")
ENVIRONMENT = (*REQUIREMENTS, "polars", "scipy", "venn-abers", "optuna")
_MADE_BY = {REGISTERED_MODEL: "rekindle train", REGISTERED_EFFECTS: "rekindle learn"}
_NOTHING_TO_ROLL_BACK = {
    REGISTERED_MODEL: "there is no champion, so there is nothing to roll back",
    REGISTERED_EFFECTS: "no learned effects serve, the experts tell them, so there is nothing to roll back",
}
PROPOSED = "proposed"  # how often
PREVIOUS, ROLLED_BACK = "previous_champion", "rolled_back_at"
STANDS_IN_FOR = "stands_in_for"  # the refused version in whose place the rule with its rates serves
CODE_PACKAGES = ("features", "training")  # what decides a model's bytes
CODE_SUFFIXES = (".py", ".yaml", ".json")


@dataclass(frozen=True)
class Registered:
    """A version in the registry."""

    version: str
    run_id: str


@dataclass(frozen=True)
class Child:
    """A run below another one: a trial of a search."""

    name: str
    params: Mapping[str, object]
    metrics: Mapping[str, float]


def code_version() -> str:
    """The package's version and a hash of the sources, with their tables, that decide a model's bytes: the same in a checkout
    and in a wheel."""
    sources = hashlib.sha256()
    root = Path(__file__).parent.parent
    found = (path for package in CODE_PACKAGES for path in (root / package).rglob("*") if path.suffix in CODE_SUFFIXES)
    for path in sorted(found):
        sources.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return f"{importlib.metadata.version('rekindle')}+{sources.hexdigest()[:12]}"


def environment() -> dict[str, str]:
    """Python, machine and the versions of the libraries that a model rests on."""
    versions = {name: importlib.metadata.version(name) for name in ENVIRONMENT}
    return {"python": platform.python_version(), "machine": f"{platform.system()} {platform.machine()}", **versions}


def tracking_uri(home: Path) -> str:
    """MLflow's own variable where it is set, else a SQLite file in the state folder."""
    return os.environ.get(TRACKING_VARIABLE) or f"sqlite:///{home.absolute() / 'mlflow.db'}"


@contextmanager
def _tracking(home: Path) -> Iterator[None]:
    """MLflow's global tracking store is ours inside the block; outside, it and its variable are as they were."""
    before = os.environ.get(TRACKING_VARIABLE)
    mlflow.set_tracking_uri(tracking_uri(home))  # it sets the variable too
    try:
        _reach(home)
        if mlflow.get_experiment_by_name(EXPERIMENT) is None:
            own = (home.absolute() / "mlartifacts").as_uri() if before is None else None
            mlflow.create_experiment(EXPERIMENT, artifact_location=own)
        mlflow.set_experiment(EXPERIMENT)
        yield
    finally:
        mlflow.set_tracking_uri(before)


def _reach(home: Path) -> None:
    """Raises ValueError where the tracking store does not answer."""
    try:
        _client(home).search_experiments(max_results=1)
    except (MlflowException, DatabaseError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"the MLflow store at {tracking_uri(home)} cannot be used: {reason}") from None


def register(
    home: Path,
    scorer: Scorer,
    *,
    reference: pl.DataFrame,
    params: Mapping[str, object],
    metrics: Mapping[str, float],
    tags: Mapping[str, str],
    documents: Mapping[str, object],
    plots: Mapping[str, Path],
    reports: Path | None = None,
    children: Sequence[Child] = (),
) -> Registered:
    """Log one run and register its model as the next version; nothing is promoted.

    reference: FEATURES and `risk_28` of training snapshots, kept with the model for the monitors. documents: by file
    name, JSON. plots: by name, PNG files. reports: a folder whose files go to `report/`. children: runs of their own below this one.
    """
    with _tracking(home), tempfile.TemporaryDirectory() as folder, mlflow.start_run() as run:
        mlflow.log_params(dict(params))
        mlflow.log_metrics(dict(metrics))
        mlflow.set_tags({**tags, "code_version": code_version()})
        for name, document in {**documents, "environment.json": environment()}.items():
            mlflow.log_dict(document, name)
        for name, path in plots.items():
            mlflow.log_artifact(str(path), f"plots/{name}")
        if reports is not None:
            mlflow.log_artifacts(str(reports), "report")
        for child in children:
            with mlflow.start_run(run_name=child.name, nested=True):
                mlflow.log_params(dict(child.params))
                mlflow.log_metrics(dict(child.metrics))
        for part in (SCORER_ARTIFACT, REFERENCE_ARTIFACT):
            (Path(folder) / part).mkdir()
        scorer.save(Path(folder) / SCORER_ARTIFACT)
        reference.write_parquet(Path(folder) / REFERENCE_ARTIFACT / REFERENCE_FILE)
        model = mlflow.pyfunc.log_model(
            name="risk",
            python_model=str(PYFUNC),
            artifacts={part: str(Path(folder) / part) for part in (SCORER_ARTIFACT, REFERENCE_ARTIFACT)},
            signature=signature(),
            pip_requirements=[f"{name}=={importlib.metadata.version(name)}" for name in REQUIREMENTS],
        )
        with redirect_stderr(io.StringIO()):  # it prints what we return
            version = mlflow.register_model(model.model_uri, REGISTERED_MODEL, tags=dict(tags))
        return Registered(str(version.version), run.info.run_id)


def register_effects(
    home: Path,
    model: EffectModel,
    *,
    params: Mapping[str, object],
    metrics: Mapping[str, float],
    documents: Mapping[str, object],
    reports: Path | None = None,
) -> Registered:
    """Log one run of learning effects and register the model beside the risk model; nothing is promoted.

    documents: by file name, JSON. reports: a folder whose files go to `report/`.
    """
    with _tracking(home), tempfile.TemporaryDirectory() as folder, mlflow.start_run(run_name="effects") as run:
        mlflow.log_params(dict(params))
        mlflow.log_metrics(dict(metrics))
        mlflow.set_tags({"catalogue": model.catalogue, "note": model.note, "code_version": code_version()})
        for name, document in {**documents, "environment.json": environment()}.items():
            mlflow.log_dict(document, name)
        if reports is not None:
            mlflow.log_artifacts(str(reports), "report")
        made = Path(folder) / EFFECTS_ARTIFACT
        made.mkdir()
        model.save(made)
        mlflow.log_artifacts(str(made), EFFECTS_ARTIFACT)
        client = _client(home)
        if not client.search_registered_models(f"name='{REGISTERED_EFFECTS}'"):
            client.create_registered_model(REGISTERED_EFFECTS)
        source = f"{run.info.artifact_uri}/{EFFECTS_ARTIFACT}"
        version = client.create_model_version(REGISTERED_EFFECTS, source, run.info.run_id, tags={"note": model.note})
        return Registered(str(version.version), run.info.run_id)


def load_effects(home: Path) -> tuple[EffectModel, str] | None:
    """The effect model that serves and its version, or None. Raises ValueError where it was fitted on other features."""
    version = champion_version(home, name=REGISTERED_EFFECTS)
    return None if version is None else (load_effects_version(home, version), version)


def load_effects_version(home: Path, version: str) -> EffectModel:
    """The effect model of a version. Raises ValueError for one that is not there or was fitted on other features."""
    with _tracking(home):
        try:
            source = _client(home).get_model_version_download_uri(REGISTERED_EFFECTS, version)
            folder = Path(mlflow.artifacts.download_artifacts(artifact_uri=source))
        except MlflowException as error:
            reason = " ".join(str(error).split())[:200]
            raise ValueError(f"version {version} of {REGISTERED_EFFECTS} cannot be read: {reason}") from None
        return EffectModel.load(folder)


def signature() -> ModelSignature:
    """Every input by name; numbers are doubles, for a nullable integer column would lose the signature in silence."""
    inputs = [
        ColSpec(DataType.string if feature.is_category else DataType.double, feature.name, required=False)
        for feature in FEATURES
    ]
    return ModelSignature(Schema(inputs), Schema([ColSpec(DataType.double, f"risk_{days}") for days in HORIZONS_DAYS]))


def champion_version(home: Path, *, name: str = REGISTERED_MODEL) -> str | None:
    """The version of the registered model that serves, or None."""
    if TRACKING_VARIABLE not in os.environ and not (home / "mlflow.db").exists():
        return None  # asking would make it
    _reach(home)
    try:
        return str(_client(home).get_model_version_by_alias(name, CHAMPION).version)
    except MlflowException:
        return None


def tries_against_champion(home: Path) -> int:
    """How often effects were judged against the present champion, or against the experts: each version registered since it,
    once, and once more for each time it was proposed by hand.
    """
    if TRACKING_VARIABLE not in os.environ and not (home / "mlflow.db").exists():
        return 0
    champion = int(champion_version(home, name=REGISTERED_EFFECTS) or 0)
    found = _client(home).search_model_versions(f"name='{REGISTERED_EFFECTS}'")
    later = [version for version in found if int(version.version) > champion]
    return sum(1 + int(version.tags.get(PROPOSED, 0)) for version in later)


def count_proposal(home: Path, version: str) -> None:
    """Remember that the version of the effects was judged again."""
    client = _client(home)
    before = int(client.get_model_version(REGISTERED_EFFECTS, version).tags.get(PROPOSED, 0))
    client.set_model_version_tag(REGISTERED_EFFECTS, version, PROPOSED, str(before + 1))


def promote(home: Path, version: str, *, name: str = REGISTERED_MODEL) -> None:
    """Make the version of the registered model the champion."""
    client = _client(home)
    before = champion_version(home, name=name)
    client.set_registered_model_alias(name, CHAMPION, version)
    if before is not None and before != version:
        client.set_model_version_tag(name, version, PREVIOUS, before)


def rollback(home: Path, *, at: str, name: str = REGISTERED_MODEL) -> tuple[str, str | None]:
    """Put the champion before the present one back; (withdrawn, restored) versions. at: ISO 8601, written on the withdrawn one.

    Before the first effects the experts told them: restored is None where they do so again. Raises ValueError where there is none to go back to, or where it cannot serve today's features.
    """
    present = champion_version(home, name=name)
    made_by = _MADE_BY[name]
    if present is None:
        raise ValueError(f"{_NOTHING_TO_ROLL_BACK[name]}: run `{made_by}` first")
    client = _client(home)
    before = client.get_model_version(name, present).tags.get(PREVIOUS)
    if before is None and name == REGISTERED_EFFECTS:
        client.delete_registered_model_alias(name, CHAMPION)
        client.set_model_version_tag(name, present, ROLLED_BACK, at)
        return present, None
    if before is None:
        raise ValueError(f"version {present} is the first champion: there is none before it to go back to")
    load_version(home, before) if name == REGISTERED_MODEL else load_effects_version(home, before)
    client.set_registered_model_alias(name, CHAMPION, before)
    client.set_model_version_tag(name, present, ROLLED_BACK, at)
    return present, before


def latest_version(home: Path, *, name: str = REGISTERED_MODEL) -> str:
    """The newest registered version that was a candidate, not one that stands in for it. Raises ValueError where there is none."""
    nothing = f"no version of {name} is registered: run `{_MADE_BY[name]}` first"
    if TRACKING_VARIABLE not in os.environ and not (home / "mlflow.db").exists():
        raise ValueError(nothing)
    _reach(home)
    found = [v for v in _client(home).search_model_versions(f"name='{name}'") if STANDS_IN_FOR not in v.tags]
    if not found:
        raise ValueError(nothing)
    return str(max(int(version.version) for version in found))


def count_try(home: Path, version: str, *, data_version: str) -> int:
    """Write down that the version is judged on this data against the present champion; how many versions were, this one included.

    A rule that stands in for a refused version is the same opponent as none.
    """
    client, champion = _client(home), champion_version(home)
    if champion is None or STANDS_IN_FOR in client.get_model_version(REGISTERED_MODEL, champion).tags:
        champion = "rule"
    told = f"data {data_version}, champion {champion}"
    tag = f"judged_{hashlib.sha256(told.encode()).hexdigest()[:16]}"
    client.set_model_version_tag(REGISTERED_MODEL, version, tag, told)
    return sum(tag in found.tags for found in client.search_model_versions(f"name='{REGISTERED_MODEL}'"))


def load_version(home: Path, version: str) -> Scorer:
    """The scorer of a version. Raises ValueError for one that is not there or was fitted on other features."""
    return Scorer.load(_folder(home, f"models:/{REGISTERED_MODEL}/{version}") / SCORER_ARTIFACT)


def tags_of(home: Path, version: str) -> dict[str, str]:
    """The tags of a version's run, and its id under `run_id`."""
    client = _client(home)
    run_id = str(client.get_model_version(REGISTERED_MODEL, version).run_id)
    return {**client.get_run(run_id).data.tags, "run_id": run_id}


def metrics_of(home: Path, version: str) -> dict[str, float]:
    """The metrics of a version's run."""
    client = _client(home)
    return dict(client.get_run(str(client.get_model_version(REGISTERED_MODEL, version).run_id)).data.metrics)


def attach(home: Path, version: str, folder: Path, *, to: str) -> None:
    """Add the files of the folder to the run of the version, below `to`."""
    with _tracking(home):
        _client(home).log_artifacts(tags_of(home, version)["run_id"], str(folder), to)


def forget_unknown(home: Path, person_ids: Collection[str]) -> int:
    """Leave the snapshots of these persons alone in the reference of every version, wherever its artifacts are kept; how
    many snapshots went. For erasure: a digest does not say who was erased, the roster says who was not.
    """
    if TRACKING_VARIABLE not in os.environ and not (home / "mlflow.db").exists():
        return 0
    gone = 0
    with _tracking(home):
        client = _client(home)
        for version in client.search_model_versions(f"name='{REGISTERED_MODEL}'"):
            with tempfile.TemporaryDirectory() as scratch:
                source = f"models:/{REGISTERED_MODEL}/{version.version}/artifacts/{REFERENCE_ARTIFACT}/{REFERENCE_FILE}"
                path = mlflow.artifacts.download_artifacts(artifact_uri=source, dst_path=scratch)
                reference = pl.read_parquet(path)
                kept = of_known(reference, person_ids)
                if kept.height < reference.height:
                    kept.write_parquet(path)
                    client.log_model_artifact(
                        version.source.removeprefix("models:/"), path, f"artifacts/{REFERENCE_ARTIFACT}"
                    )
                    gone += reference.height - kept.height
    return gone


def load_champion(home: Path) -> tuple[Scorer, str] | None:
    """The scorer that serves and its version, or None. Raises ValueError where it was fitted on other features."""
    version = champion_version(home)
    if version is None:
        return None
    return Scorer.load(champion_folder(home) / SCORER_ARTIFACT), version


def champion_folder(home: Path) -> Path:
    """A local copy of the champion's artifacts: the scorer and the reference snapshots."""
    return _folder(home, f"models:/{REGISTERED_MODEL}@{CHAMPION}")


def _folder(home: Path, uri: str) -> Path:
    with _tracking(home):
        try:
            return Path(mlflow.artifacts.download_artifacts(artifact_uri=uri)) / "artifacts"
        except MlflowException as error:
            raise ValueError(f"{uri} cannot be read: {' '.join(str(error).split())[:200]}") from None


def _client(home: Path) -> mlflow.MlflowClient:
    return mlflow.MlflowClient(tracking_uri=tracking_uri(home))
