"""Feast's entity, sources, views and services, built from the catalogue. Only Feast and features.store read it."""

import os
from datetime import timedelta
from pathlib import Path

from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
from feast.data_format import ParquetFormat
from feast.types import Array, Float64, Int64, String

from features.catalogue import FEATURES, Group, catalogue_hash

FRESH_FOR = timedelta(days=7)  # a snapshot row serves point-in-time joins for the week until the next one
ONLINE_VIEW = "seat_online"
RISK_SERVICE = "risk"
OFFLINE_FOLDER = "offline"

seat = Entity(name="seat", join_keys=["seat_id"], value_type=ValueType.STRING, description="A licence of one person.")


def offline_path(home: Path, view: str) -> Path:
    """The folder of a view's Parquet files."""
    return home.absolute() / OFFLINE_FOLDER / view


def view_name(group: Group) -> str:
    """A group's view in today's catalogue: another catalogue has views and files of its own, which models that were
    trained on it keep.
    """
    return f"{group}_{catalogue_hash()}"


def group_view(home: Path, group: Group) -> FeatureView:
    """The wide, named offline view of a group."""
    return FeatureView(
        name=view_name(group),
        entities=[seat],
        ttl=FRESH_FOR,
        schema=[
            Field(name=f.name, dtype=String if f.is_category else Float64, description=f.meaning)
            for f in FEATURES
            if f.group is group
        ],
        source=_source(home, view_name(group)),
        online=False,
    )


def online_view(home: Path) -> FeatureView:
    """The packed online view: one row holds the whole vector in catalogue order, with the catalogue's hash."""
    return FeatureView(
        name=ONLINE_VIEW,
        entities=[seat],
        ttl=timedelta(0),  # ages are checked by the reader
        schema=[
            Field(name="vector", dtype=Array(Float64)),
            Field(name="categories", dtype=Array(String)),
            Field(name="catalogue", dtype=String),
            Field(name="as_of_microseconds", dtype=Int64),  # SQLite's own timestamp drops what is below a second
        ],
        source=_source(home, ONLINE_VIEW),
        online=True,
    )


def model_service(home: Path, model: str, version: str) -> FeatureService:
    """The views a version of a model takes its features from: all of today's catalogue, of which the model may use a part.

    They are that catalogue's own (`view_name`): when the features change, what the model was trained on stays as it was.
    """
    return FeatureService(
        name=f"{model}-{version}",
        features=[group_view(home, group) for group in Group],
        tags={"catalogue": catalogue_hash()},
        description=f"Inputs of version {version} of {model}.",
    )


def repository(home: Path) -> list[Entity | FeatureView | FeatureService]:
    """Every Feast object of a state folder."""
    views = [group_view(home, group) for group in Group]
    return [seat, *views, online_view(home), FeatureService(name=RISK_SERVICE, features=views)]


def _source(home: Path, view: str) -> FileSource:
    return FileSource(
        name=f"{view}_source",
        path=str(offline_path(home, view) / "*.parquet"),
        file_format=ParquetFormat(),
        timestamp_field="as_of",
        created_timestamp_column="created_at",
    )


if __name__ == "definitions":  # Feast's command line imports this file by its bare name and collects its objects
    _seat, *_rest = repository(Path(os.environ["REKINDLE_HOME"]).absolute())
    for _object in _rest:
        globals()[f"object_{_object.name}"] = _object
