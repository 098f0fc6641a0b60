"""People: erasure, objection, retention. What is kept about a person can be taken out, and stays out."""

import json
import re
import secrets
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import repeat

import sqlalchemy as sa

from features.aliases import forget, same_person
from features.catalogue import BY_NAME, CATEGORIES, MISSING_CATEGORY
from features.database import Database
from features.events import organization_of
from features.instants import to_microseconds
from features.objections import objected
from features.objections import table as _objections
from features.postgres import (
    PARTITIONED,
    Month,
    drop_month,
    is_lock_refused,
    month_start,
    months_over,
    partition_name,
)
from features.store import FeatureStore
from features.tombstones import bury, erased, erasures

KEPT_LOGS = timedelta(days=183)  # design: logs of decisions and reads are kept for at least six months
CHUNK = 1_000
DELETED_AT_ONCE = 10_000  # our choice: rows of SQLite, some tenths of a second in which nobody else writes
DROP_ATTEMPTS, DROP_PAUSE_SECONDS = (
    60,
    5.0,
)  # our choice: a month is tried for seven minutes, and most of them nobody waits
HOUR_MICROSECONDS = 3_600_000_000
_PART = rb"[A-Za-z0-9_~-]"  # of an identifier: `acme/s-1` is not in `acme/s-10`, but before a full stop


def _table(name: str, *columns: str) -> sa.TableClause:
    return sa.table(name, *(sa.column(column) for column in columns))


_seats = _table("seats", "seat_id", "person_id", "manager_person_id", "known_at", "removed_at")
_events = _table("events", "seat_id", "occurred_at")
_event_keys = _table("event_keys", "occurred_at")
_decisions = _table("decisions", "decision_id", "seat_id", "target_person_id", "decided_at", "body")
_served = _table("served", "seat_id", "served_at")
_touched = _table("touched", "seat_id")
_peers = _table("peers", "day")
_peers_versions = _table("peers_versions", "day")
_set_aside = _table("set_aside", "at", "place", "reason")
_audit = _table("audit", "seat_id", "at")
_answers = _table("answers", "key_id", "idempotency_key", "begun_at", "body", "erased_meanwhile")
_deliveries = _table("deliveries", "seat_id", "created_at", "state")
_told = _table("told", "seat_id")


@dataclass(frozen=True)
class Erased:
    """What was taken out: seats, events, served scores; decisions that no longer say whose they are; offline rows."""

    seats: int
    events: int
    served: int
    decisions: int
    offline_rows: int


@dataclass(frozen=True)
class Retained:
    """How many rows of each kind were older than is kept, and were taken out."""

    events: int
    served: int
    decisions: int
    reads: int
    set_aside: int
    offline_rows: int


class People:
    """What persons may ask for, on one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def seats_of(self, person_id: str) -> list[str]:
        """The seats that are or were the person's."""
        with self._database.read() as connection:
            return _seats_of(connection, same_person(connection, person_id))

    def is_known(self, person_id: str) -> bool:
        """Whether the roster names the person, as the holder of a seat or as a manager, under this pseudonym or another."""
        with self._database.read() as connection:
            names = sorted(same_person(connection, person_id))
            query = sa.select(_seats.c.seat_id).where(
                _seats.c.person_id.in_(names) | _seats.c.manager_person_id.in_(names)
            )
            return len(names) > 1 or connection.execute(query.limit(1)).first() is not None

    def object(self, person_id: str, *, now: datetime) -> None:
        """The person wants no decisions made about them. Asked again, it changes nothing."""
        with self._database.write() as connection:
            names = same_person(connection, person_id)
            query = sa.select(_objections.c.person_id).where(_objections.c.person_id.in_(sorted(names)))
            missing = names - set(connection.execute(query).scalars())
            if missing:
                at = to_microseconds(now)
                rows = [{"person_id": name, "objected_at": at} for name in sorted(missing)]
                connection.execute(sa.insert(_objections), rows)

    def withdraw_objection(self, person_id: str) -> bool:
        """The person takes the objection back; returns whether there was one."""
        with self._database.write() as connection:
            return bool(_delete(connection, _objections, "person_id", sorted(same_person(connection, person_id))))

    def has_objected(self, person_ids: Collection[str]) -> frozenset[str]:
        """Those of the persons who objected to decisions."""
        with self._database.read() as connection:
            return objected(connection, person_ids)

    def erase(self, person_id: str, *, store: FeatureStore, now: datetime) -> Erased:
        """Take out everything that names the person, and leave a tombstone, so that nothing of it is taken in again.

        Events, seats, served scores, features online and offline, kept peers, answers and what tells that several accounts
        were the person's go, under whichever of its pseudonyms it was asked for; decisions stay as what was
        tried, without whose they were; who read the person's scores is kept without saying whose. Safe to repeat after a
        failure half way: the log goes first, in one transaction, and the store follows.
        """
        with self._database.write() as connection:
            _overwrite_what_is_deleted(connection)
            names = same_person(connection, person_id)
            seat_ids = _seats_of(connection, names)
            bury(connection, [*names, *seat_ids], now=now)
            forget(connection, names)
            events = _delete(connection, _events, "seat_id", seat_ids)
            served = _delete(connection, _served, "seat_id", seat_ids)
            decisions = _deidentify(connection, names, seat_ids)
            for table in (_touched, _deliveries, _told, _seats):
                _delete(connection, table, "seat_id", seat_ids)
            _delete(connection, _objections, "person_id", sorted(names))
            managed = _seats.c.manager_person_id.in_(sorted(names))
            connection.execute(sa.update(_seats).where(managed).values(manager_person_id=None))
            connection.execute(sa.delete(_peers_versions))
            connection.execute(sa.delete(_peers))  # counts by manager and team; observed anew when they are needed
            _forget_mentions(connection, [*names, *seat_ids])
        offline_rows = store.erase(seat_ids)
        return Erased(len(seat_ids), events, served, decisions, offline_rows)

    def catch_up(self, store: FeatureStore) -> int:
        """Take out of a store whoever was erased through another process, which had one of its own; how many seats. Safe to
        repeat, and nothing where nobody was erased.
        """
        with self._database.read() as connection:
            gone = sorted(erased(connection, store.seats_kept())) if erasures(connection) else []
        store.erase(gone)
        return len(gone)

    def retain(self, *, older_than: timedelta, store: FeatureStore, now: datetime) -> Retained:
        """Take out what happened longer ago than that. Decisions and the audit of reads stay for KEPT_LOGS at least."""
        if older_than < timedelta(days=1):
            raise ValueError(f"older-than: expected at least one day, came {older_than}")
        since = now - older_than
        logs_since = now - max(older_than, KEPT_LOGS)
        months = {
            table: self._drop_months(table, before=since) for table in PARTITIONED
        }  # the rest of a month is deleted
        counts = {
            "events": months["events"] + self._delete_older(_events, "occurred_at", since),
            "served": months["served"] + self._delete_older(_served, "served_at", since),
            "decisions": self._delete_older(_decisions, "decided_at", logs_since),
            "reads": self._delete_older(_audit, "at", logs_since),
            "set_aside": self._delete_older(_set_aside, "at", since),
        }
        if self._is_postgres:
            self._delete_older(_event_keys, "occurred_at", month_start(since))
        self._delete_older(_answers, "begun_at", now - timedelta(days=1))
        self._delete_older(_deliveries, "created_at", since)
        return Retained(**counts, offline_rows=store.retain(since=since))

    @property
    def _is_postgres(self) -> bool:
        with self._database.read() as connection:
            return bool(connection.dialect.name == "postgresql")

    def _drop_months(self, table: str, *, before: datetime) -> int:
        """Drop PostgreSQL's whole months before the instant, each by itself; how many rows went with them."""
        if not self._is_postgres:
            return 0
        with self._database.read() as connection:
            months = months_over(connection, table, before=before)
        return sum(self._drop_month(table, month) for month in months)

    def _drop_month(self, table: str, month: Month) -> int:
        for _ in range(DROP_ATTEMPTS):
            try:
                with self._database.write() as connection:
                    return drop_month(connection, table, month)
            except sa.exc.DBAPIError as error:
                if not is_lock_refused(error):
                    raise
            time.sleep(DROP_PAUSE_SECONDS)
        raise ValueError(
            f"somebody reads {table} without a pause, so {partition_name(table, month)} could not be dropped in "
            f"{DROP_ATTEMPTS} attempts: look for a transaction that stays open, and run the same command again"
        )

    def _delete_older(self, table: sa.TableClause, column: str, instant: datetime) -> int:
        """Delete the rows from before the instant, few at once and each time in a transaction of its own, so that others
        can write in between; how many.
        """
        is_older = table.c[column] < to_microseconds(instant)
        if self._is_postgres:
            conditions: Iterator[sa.ColumnElement[bool]] = iter(self._hours(table.c[column], is_older))
        else:
            rowid: sa.ColumnElement[int] = sa.literal_column("rowid")
            few = sa.select(rowid).select_from(table).where(is_older).limit(DELETED_AT_ONCE)
            conditions = repeat(rowid.in_(few))
        rows = 0
        for condition in conditions:
            with self._database.write() as connection:
                _overwrite_what_is_deleted(connection)
                gone = int(connection.execute(sa.delete(table).where(condition)).rowcount)
            if not gone and not self._is_postgres:
                break
            rows += gone
        return rows

    def _hours(self, column: sa.ColumnElement[int], is_older: sa.ColumnElement[bool]) -> list[sa.ColumnElement[bool]]:
        """The hours with rows that are older: PostgreSQL finds those of a span of time without reading the table."""
        hour = sa.cast(column, sa.BigInteger()) // sa.literal(HOUR_MICROSECONDS, sa.BigInteger())
        with self._database.read() as connection:
            found = connection.execute(sa.select(hour.label("hour")).where(is_older).distinct()).scalars()
            begins = sorted(int(one) * HOUR_MICROSECONDS for one in found)
        return [sa.and_(is_older, column >= at, column < at + HOUR_MICROSECONDS) for at in begins]


def _overwrite_what_is_deleted(connection: sa.Connection) -> None:
    """SQLite leaves what was deleted in its file until the place is needed; here it is overwritten with zeros."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("PRAGMA secure_delete=ON")


def _seats_of(connection: sa.Connection, names: Collection[str]) -> list[str]:
    query = sa.select(_seats.c.seat_id).where(_seats.c.person_id.in_(sorted(names)))
    return list(connection.execute(query.distinct().order_by(_seats.c.seat_id)).scalars())


def _delete(connection: sa.Connection, table: sa.TableClause, column: str, values: Sequence[str]) -> int:
    return sum(
        int(connection.execute(sa.delete(table).where(table.c[column].in_(chunk))).rowcount)
        for chunk in _chunks(values)
    )


def _deidentify(connection: sa.Connection, names: Collection[str], seat_ids: Sequence[str]) -> int:
    """Decisions of the seats become decisions of nobody; those about the person at other seats lose their target."""
    changed = 0
    alias = {seat: f"{organization_of(seat)}/erased-{secrets.token_hex(8)}" for seat in seat_ids}
    where = [_decisions.c.seat_id.in_(chunk) for chunk in _chunks(seat_ids)]
    for condition in (*where, _decisions.c.target_person_id.in_(sorted(names))):
        for row in connection.execute(sa.select(_decisions).where(condition)).all():
            body = json.loads(row.body)
            if row.seat_id in alias:
                body["seat_id"] = alias[row.seat_id]
                body["categories"] = _only_the_tool(body["categories"])
                body["target_person_id"] = None
            elif body["target_person_id"] in names:
                body["target_person_id"] = None
            connection.execute(
                sa.update(_decisions)
                .where(_decisions.c.decision_id == row.decision_id)
                .values(seat_id=body["seat_id"], target_person_id=body["target_person_id"], body=json.dumps(body))
            )
            changed += 1
    for seat, other in alias.items():
        connection.execute(sa.update(_audit).where(_audit.c.seat_id == seat).values(seat_id=other))
    return changed


def _only_the_tool(categories: Sequence[str]) -> list[str]:
    """Role, function and region of one person may name them; the tool does not."""
    tool = CATEGORIES.index(BY_NAME["tool"])
    return [name if position == tool else MISSING_CATEGORY for position, name in enumerate(categories)]


def _forget_mentions(connection: sa.Connection, identifiers: Sequence[str]) -> None:
    """Rows that hold an identifier in a text: what was set aside, and answers kept for retries.

    Answers that are being made might still name the person: they are not kept, but their calls stay claimed.
    """
    for identifier in identifiers:
        connection.execute(
            sa.delete(_set_aside).where(
                _set_aside.c.place.contains(identifier, autoescape=True)
                | _set_aside.c.reason.contains(identifier, autoescape=True)
            )
        )
    connection.execute(sa.update(_answers).where(_answers.c.body.is_(None)).values(erased_meanwhile=True))
    alternatives = b"|".join(re.escape(identifier.encode()) for identifier in identifiers)
    named = re.compile(rb"(?<!%b)(?:%b)(?!%b)" % (_PART, alternatives, _PART))
    columns = (_answers.c.key_id, _answers.c.idempotency_key, _answers.c.body)
    kept = connection.execute(sa.select(*columns).where(_answers.c.body.is_not(None)))
    found = [(row.key_id, row.idempotency_key) for row in kept if named.search(bytes(row.body))]
    for key_id, idempotency_key in found:
        connection.execute(
            sa.delete(_answers).where(_answers.c.key_id == key_id, _answers.c.idempotency_key == idempotency_key)
        )


def _chunks(values: Iterable[str]) -> Iterator[list[str]]:
    ordered = sorted(set(values))
    return (ordered[start : start + CHUNK] for start in range(0, len(ordered), CHUNK))
