"""Versions of the risk model in the registry, for people to see: champion and challengers with their metrics."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import mlflow
from mlflow.exceptions import MlflowException

from features.scorer import CHAMPION, REGISTERED_MODEL
from serving.alias import SQLITE, has_aliases

SHOWN_VERSIONS = 20  # our choice


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
