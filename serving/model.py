"""The champion risk model of the MLflow registry, loaded, checked, warmed and swapped; without one, the rule."""

import json
import logging
import os
import sqlite3
import tempfile
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # MLflow reads it when it is imported
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # else an absent server is waited for by the minute
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")

import mlflow
import numpy as np
from lightgbm.basic import LightGBMError
from mlflow.exceptions import MlflowException

from features.catalogue import BY_NAME, CATEGORIES, MISSING_CATEGORY, NUMERIC
from features.scorer import CHAMPION, REGISTERED_MODEL, SCORER_ARTIFACT, Method, Scorer
from serving.meters import Meters

NO_CHAMPION = "no model has been promoted yet"
RULE_VERSION = "rule"
SHOWN_VERSIONS = 20  # our choice
SQLITE = "sqlite:///"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoadedModel:
    """The scorer that serves, with its version in the registry; RULE_VERSION where the rule serves."""

    scorer: Scorer
    version: str = RULE_VERSION
    name: str = REGISTERED_MODEL

    @property
    def label(self) -> str:
        """How the log names it: `rekindle-risk/3` or `rule`."""
        return RULE_VERSION if self.version == RULE_VERSION else f"{self.name}/{self.version}"


class Refused(ValueError):
    """The champion cannot serve: it was fitted on other features, or its files are not a scorer's."""


class Champion:
    """What serves now, and the watch over the registry's alias. `refresh` belongs to one thread; `current` to all."""

    def __init__(self, home: Path, meters: Meters) -> None:
        self._meters = meters
        own = f"{SQLITE}{home.absolute() / 'mlflow.db'}"
        self._tracking_uri = mlflow.environment_variables.MLFLOW_TRACKING_URI.get() or own
        self._client: mlflow.MlflowClient | None = None
        self._refused_version = self._refused_for = ""
        self.refusal = ""  # why the registry's champion does not serve, where it does not
        self.current = LoadedModel(Scorer(Method.RULE, note=NO_CHAMPION))

    def refresh(self) -> bool:
        """Serve the registry's champion if it is another than the current one; returns whether that changed.

        A wrong champion, or a registry that does not answer, changes nothing but `refusal`, and is counted.
        """
        try:
            version = self._champion_version()
            if version == self.current.version:
                self.refusal = ""
                return False
            if version == self._refused_version:
                self.refusal = self._refused_for
                return False
            loaded = self._loaded(version)
        except Refused as error:
            self._refused_version = version
            self._refused_for = f"version {version} of {REGISTERED_MODEL} was refused: {error}"
            self._refuse(self._refused_for)
            return False
        except Exception as error:  # registries and artifact stores raise whatever their own libraries do
            self._refuse("the model registry does not answer", f": {_first_line(error)}")
            return False
        self.refusal, self._refused_version = "", ""
        self.current = loaded
        self._meters.model_loaded(loaded.scorer.method)
        _log.info("serving %s (%s)", loaded.label, loaded.scorer.method)
        return True

    @property
    def note(self) -> str:
        """What a reply has to say of the model: why it is not the hazard model, or not the champion."""
        return "; ".join(part for part in (self.current.scorer.note, self.refusal) if part)

    def _champion_version(self) -> str:
        """The version under the alias; RULE_VERSION where there is none."""
        if self._client is None:
            if self._tracking_uri.startswith(SQLITE) and not has_aliases(self._tracking_uri.removeprefix(SQLITE)):
                return RULE_VERSION
            self._client = mlflow.MlflowClient(tracking_uri=self._tracking_uri, registry_uri=self._tracking_uri)
        try:
            return str(self._client.get_model_version_by_alias(REGISTERED_MODEL, CHAMPION).version)
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):  # no model; no such alias
                return RULE_VERSION
            raise

    def _loaded(self, version: str) -> LoadedModel:
        if version == RULE_VERSION:
            return LoadedModel(Scorer(Method.RULE, note=NO_CHAMPION))
        assert self._client is not None
        uri = self._client.get_model_version_download_uri(REGISTERED_MODEL, version)
        with tempfile.TemporaryDirectory() as folder:
            local = mlflow.artifacts.download_artifacts(
                artifact_uri=f"{uri}/artifacts/{SCORER_ARTIFACT}", dst_path=folder, tracking_uri=self._tracking_uri
            )
            try:
                scorer = Scorer.load(Path(local))
                warm(scorer)
            except (ValueError, KeyError, TypeError, AttributeError, FileNotFoundError, LightGBMError) as error:
                raise Refused(_first_line(error)) from None
        return LoadedModel(scorer, version)

    def _refuse(self, reason: str, details: str = "") -> None:
        """details: for the log alone; addresses inside are no business of a caller."""
        if reason != self.refusal:
            _log.warning("%s%s; %s goes on serving", reason, details, self.current.label)
        self.refusal = reason
        self._meters.model_refused()


@dataclass(frozen=True)
class Version:
    """A version in the registry. metrics: of its run, as training logged them."""

    version: str
    is_champion: bool
    made_at: datetime
    method: str
    note: str
    metrics: Mapping[str, float]


def versions(home: Path, *, limit: int = SHOWN_VERSIONS) -> list[Version]:
    """The newest versions of the risk model, newest first; none where there is no registry. Raises MLflow's errors."""
    own = f"{SQLITE}{home.absolute() / 'mlflow.db'}"
    uri = mlflow.environment_variables.MLFLOW_TRACKING_URI.get() or own
    if uri.startswith(SQLITE) and not has_aliases(uri.removeprefix(SQLITE)):
        return []
    client = mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)
    try:
        champion = str(client.get_model_version_by_alias(REGISTERED_MODEL, CHAMPION).version)
    except MlflowException:
        champion = ""
    known = client.search_model_versions(f"name='{REGISTERED_MODEL}'", max_results=1_000)
    found = []
    for one in sorted(known, key=lambda one: -int(one.version))[:limit]:
        run = client.get_run(one.run_id).data if one.run_id else None
        found.append(
            Version(
                str(one.version),
                str(one.version) == champion,
                datetime.fromtimestamp(one.creation_timestamp / 1000, UTC),
                "" if run is None else run.params.get("method", ""),
                one.tags.get("note", ""),
                {} if run is None else dict(run.metrics),
            )
        )
    return found


def has_aliases(database: str) -> bool:
    """Whether any registered model has an alias in MLflow's SQLite file, asked without MLflow.

    MLflow's client creates a file that is missing, and migrates one that another process is only just creating: both
    then fail. Where there is an alias, both are done.
    """
    try:
        with closing(sqlite3.connect(f"file:{quote(database)}?mode=ro", uri=True)) as connection:
            return connection.execute("SELECT 1 FROM registered_model_aliases LIMIT 1").fetchone() is not None
    except sqlite3.OperationalError:
        return False


def warm(scorer: Scorer) -> None:
    """Score a seat in use once, so that no request pays for the first time. Raises ValueError for an impossible risk."""
    vector = np.zeros((1, len(NUMERIC)))
    for name in ("meaningful_28", "meaningful_ever"):  # in use: the learned model speaks
        vector[0, NUMERIC.index(BY_NAME[name])] = 1
    risk = scorer.score(vector, [[MISSING_CATEGORY] * len(CATEGORIES)]).risk[0]
    if not (np.isfinite(risk).all() and (risk >= 0).all() and (risk <= 1).all() and (np.diff(risk) >= 0).all()):
        raise ValueError(f"its risk by horizon is {risk.tolist()}: expected four numbers in [0, 1] that never fall")


def _first_line(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return f"its files are not a scorer's: {Path(str(error.filename)).name} is missing"
    if isinstance(error, json.JSONDecodeError | KeyError | TypeError | AttributeError):
        return f"its files are not a scorer's: {error!r}"
    return str(error).partition("\n")[0]
