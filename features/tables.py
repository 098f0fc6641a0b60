"""The tables of the log, and how a row becomes a seat, an event, a decision or what was served, and back."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from features.decisions import Decision
from features.events import EVENT_SCHEMA, SEAT_SCHEMA, Kind, organization_of
from features.instants import from_microseconds, to_microseconds

CHUNK_ROWS = 5_000  # our choice: one IN list stays far below SQLite's 250 000 and PostgreSQL's 65 535 variables
DECISION_SOURCE = "decisions"
_metadata = sa.MetaData()
INSTANTS = frozenset({"occurred_at", "available_at", "assigned_at", "removed_at", "known_at"})


def _table(name: str, *columns: str, key: Sequence[str]) -> sa.Table:
    types: dict[str, Any] = {"hired_on": sa.Date(), "id": sa.Integer()}
    return sa.Table(
        name, _metadata, *(sa.Column(column, types.get(column), primary_key=column in key) for column in columns)
    )


SEATS = _table("seats", "known_at", *SEAT_SCHEMA.names, key=("seat_id", "known_at"))
EVENTS = _table("events", *EVENT_SCHEMA.names, key=("event_id",))
DECISIONS = _table(
    "decisions",
    "decision_id",
    "seat_id",
    "target_person_id",
    "decided_at",
    "intervention",
    "holdout",
    "body",
    key=("decision_id",),
)
SERVED = _table(
    "served", "id", "seat_id", "served_at", "as_of", "model", "catalogue_hash", "risk", "vector", "categories",
    key=("id",),
)  # fmt: skip
PEERS = _table("peers", "day", "body", key=("day",))
PEERS_VERSIONS = _table(
    "peers_versions", "day", "version", key=("day",)
)  # of its own: a body of megabytes stays unread
SET_ASIDE = _table("set_aside", "id", "at", "source", "place", "field", "reason", key=("id",))
INSERT_SERVED = sa.insert(SERVED)
PEERS_DAY = sa.select(sa.func.max(PEERS.c.day))
PEERS_VERSION = sa.select(PEERS_VERSIONS.c.version).where(PEERS_VERSIONS.c.day == sa.bindparam("day"))
VERSIONS = (  # built once: building a statement costs several times what executing it does (docs/benchmarks.md)
    sa.select(*(SEATS.c[name] for name in SEAT_SCHEMA.names))
    .where(SEATS.c.seat_id.in_(sa.bindparam("seats", expanding=True)))
    .order_by(SEATS.c.known_at)
)
ROSTER_SCHEMA = SEAT_SCHEMA.append(pa.field("known_at", pa.timestamp("us", tz="UTC"), nullable=False))


@dataclass(frozen=True)
class Served:
    """One snapshot that was served, with the score it got."""

    seat_id: str
    served_at: datetime
    as_of: datetime | None
    model: str
    catalogue_hash: str
    risk: dict[str, float]
    vector: npt.NDArray[np.float64]
    categories: tuple[str, ...]


def latest_seats(roster: pa.Table) -> pa.Table:
    """The latest version of each seat of a roster that is sorted by seat and `known_at`, in SEAT_SCHEMA."""
    seat_id = roster.column("seat_id").combine_chunks()
    if len(seat_id) == 0:
        return SEAT_SCHEMA.empty_table()
    is_last = np.append(pc.not_equal(seat_id[1:], seat_id[:-1]).to_numpy(zero_copy_only=False), True)
    return roster.filter(pa.array(is_last)).select(SEAT_SCHEMA.names)


def each_condition(column: sa.Column[Any], values: Iterable[str] | None) -> Iterator[sa.ColumnElement[bool]]:
    """One condition per chunk of values; the one that always holds where there is no restriction."""
    if values is None:
        yield sa.true()
        return
    wanted = sorted(set(values))
    for start in range(0, len(wanted), CHUNK_ROWS):
        yield column.in_(wanted[start : start + CHUNK_ROWS])


def as_table(rows: Sequence[Any], schema: pa.Schema) -> pa.Table:
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(schema)
    arrays = []
    for field, values in zip(schema, columns, strict=True):
        if pa.types.is_timestamp(field.type):
            arrays.append(pa.array(values, pa.int64()).cast(field.type))
        elif pa.types.is_boolean(field.type):  # SQLite has 0 and 1
            arrays.append(pa.array([None if value is None else bool(value) for value in values], field.type))
        else:
            arrays.append(pa.array(values, field.type))
    return pa.Table.from_arrays(arrays, schema=schema)


def stored(row: dict[str, Any]) -> dict[str, Any]:
    return {
        name: to_microseconds(value) if name in INSTANTS and value is not None else value for name, value in row.items()
    }


def decision_row(decision: Decision) -> dict[str, Any]:
    return {
        "decision_id": decision.decision_id,
        "seat_id": decision.seat_id,
        "target_person_id": decision.target_person_id,
        "decided_at": to_microseconds(decision.decided_at),
        "intervention": decision.intervention,
        "holdout": decision.holdout,
        "body": orjson.dumps(decision.document()).decode(),
    }


def intervention_row(decision: Decision) -> dict[str, Any]:
    organization = organization_of(decision.seat_id)
    return {
        **dict.fromkeys(EVENT_SCHEMA.names),
        "event_id": f"{organization}/decision-{decision.decision_id}",
        "seat_id": decision.seat_id,
        "kind": str(Kind.INTERVENTION),
        "occurred_at": to_microseconds(decision.decided_at),
        "available_at": to_microseconds(decision.decided_at),
        "source": DECISION_SOURCE,
        "workflow": decision.workflow,
        "count": 1,
        "category": decision.intervention,
        "guided": False,
    }


def served_row(item: Served) -> dict[str, Any]:
    return {
        "seat_id": item.seat_id,
        "model": item.model,
        "catalogue_hash": item.catalogue_hash,
        "served_at": to_microseconds(item.served_at),
        "as_of": None if item.as_of is None else to_microseconds(item.as_of),
        "risk": json.dumps(item.risk),
        "vector": item.vector.astype("<f8").tobytes(),
        "categories": json.dumps(item.categories),
    }


def served_of(row: Any) -> Served:
    return Served(
        row.seat_id,
        from_microseconds(row.served_at),
        None if row.as_of is None else from_microseconds(row.as_of),
        row.model,
        row.catalogue_hash,
        json.loads(row.risk),
        np.frombuffer(row.vector, dtype="<f8"),
        tuple(json.loads(row.categories)),
    )
