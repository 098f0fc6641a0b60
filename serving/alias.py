"""The promoted version of one registered model of MLflow: loaded, checked, swapped; refused where it cannot serve."""

import json
import logging
import os
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Generic, TypeVar
from urllib.parse import quote

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # MLflow reads it when it is imported
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # else an absent server is waited for by the minute
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")

import mlflow
from lightgbm.basic import LightGBMError
from mlflow.exceptions import MlflowException

from features.scorer import CHAMPION

SQLITE = "sqlite:///"

_log = logging.getLogger(__name__)
Loaded = TypeVar("Loaded")


class Refused(ValueError):
    """The promoted version cannot serve: it was fitted on other inputs, or its files are not what they should be."""


class Alias(Generic[Loaded]):
    """The watch over the champion's alias of one registered model. `refresh` belongs to one thread; `current` to all."""

    def __init__(
        self,
        home: Path,
        *,
        name: str,
        artifact: str,
        load: Callable[[Path, str], Loaded],
        without: Loaded,
        refused: Callable[[], None],
    ) -> None:
        """name: of the registered model; artifact: its folder below the model's address; load: of that folder, and the
        version, raises ValueError for what cannot serve; without: what serves where nothing is promoted; refused: counts.
        """
        own = f"{SQLITE}{home.absolute() / 'mlflow.db'}"
        self._tracking_uri = mlflow.environment_variables.MLFLOW_TRACKING_URI.get() or own
        self._name, self._artifact, self._load = name, artifact, load
        self._without, self._count_refusal = without, refused
        self._client: mlflow.MlflowClient | None = None
        self._version: str | None = None
        self._refused_version: str | None = None
        self._refused_for = ""
        self.refusal = ""  # why the promoted version does not serve, where it does not
        self.current = without

    def refresh(self) -> bool:
        """Serve the promoted version if it is another than the current one; returns whether that changed.

        A wrong one, or a registry that does not answer, changes nothing but `refusal`, and is counted.
        """
        version: str | None = None
        try:
            version = self._promoted()
            if version == self._version:
                self.refusal = ""
                return False
            if version is not None and version == self._refused_version:
                self.refusal = self._refused_for
                return False
            loaded = self._without if version is None else self._loaded(version)
        except Refused as error:
            self._refused_version = version
            self._refused_for = f"version {version} of {self._name} was refused: {error}"
            self._refuse(self._refused_for)
            return False
        except Exception as error:  # registries and artifact stores raise whatever their own libraries do
            self._refuse("the model registry does not answer", f": {_first_line(error)}")
            return False
        self.refusal, self._refused_version, self._version = "", None, version
        self.current = loaded
        _log.info("serving %s, version %s", self._name, version or "none")
        return True

    def _promoted(self) -> str | None:
        """The version under the alias, or None."""
        if self._client is None:
            if self._tracking_uri.startswith(SQLITE) and not has_aliases(self._tracking_uri.removeprefix(SQLITE)):
                return None
            self._client = mlflow.MlflowClient(tracking_uri=self._tracking_uri, registry_uri=self._tracking_uri)
        try:
            return str(self._client.get_model_version_by_alias(self._name, CHAMPION).version)
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):  # no model; no such alias
                return None
            raise

    def _loaded(self, version: str) -> Loaded:
        assert self._client is not None
        uri = self._client.get_model_version_download_uri(self._name, version)
        with tempfile.TemporaryDirectory() as folder:
            local = mlflow.artifacts.download_artifacts(
                artifact_uri=f"{uri}/{self._artifact}".rstrip("/"), dst_path=folder, tracking_uri=self._tracking_uri
            )
            try:
                return self._load(Path(local), version)
            except (ValueError, KeyError, TypeError, AttributeError, FileNotFoundError, LightGBMError) as error:
                raise Refused(_first_line(error)) from None

    def _refuse(self, reason: str, details: str = "") -> None:
        """details: for the log alone; addresses inside are no business of a caller."""
        if reason != self.refusal:
            _log.warning("%s%s; what served before goes on serving", reason, details)
        self.refusal = reason
        self._count_refusal()


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


def _first_line(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return f"its files are not a model's: {Path(str(error.filename)).name} is missing"
    if isinstance(error, json.JSONDecodeError | KeyError | TypeError | AttributeError):
        return f"its files are not a model's: {error!r}"
    return str(error).partition("\n")[0]
