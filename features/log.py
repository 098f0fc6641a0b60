"""The log of seats, events, decisions and what was served: append once, read back as tables.

One SQL database, SQLite embedded or PostgreSQL, through SQLAlchemy Core. Instants are stored as microseconds since
1970 UTC. Nothing is ever updated in place but a source's watermark: a roster change is a new version of the seat, so
that a past snapshot still sees the role that was known then. Erasure alone takes out what was there (features.people).
"""

import hashlib
import json
import re
import sqlite3
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from sqlalchemy.dialects import postgresql, sqlite

from features.aliases import aliases_in, keep
from features.audit import Read, record_reads
from features.columnar import read_columns
from features.database import Database
from features.decisions import NONE, Decision
from features.events import EVENT_SCHEMA, SEAT_SCHEMA, USE_KINDS, Batch, Kind, Rejected
from features.feedback import Feedback
from features.instants import MICROSECOND, from_microseconds, to_microseconds
from features.postgres import PARTITIONED, Month, add_months, following, insert_events, months_of, read_by_copy
from features.sources import Source, advance_sources, read_sources
from features.sqlite import (
    AT_ONCE,
    CACHE_KIB,
    VERSION_TABLE,
    Disk,
    checkpoint,
    empty_wal,
    file_of,
    is_busy,
    listen,
    probe,
)
from features.tables import (
    CHUNK_ROWS,
    DECISIONS,
    EVENTS,
    INSERT_SERVED,
    INSTANTS,
    PEERS,
    PEERS_DAY,
    PEERS_VERSION,
    PEERS_VERSIONS,
    ROSTER_SCHEMA,
    SEATS,
    SERVED,
    SET_ASIDE,
    VERSIONS,
    Served,
    as_table,
    decision_row,
    each_condition,
    intervention_row,
    latest_seats,
    served_of,
    served_row,
    stored,
)
from features.tombstones import PERSONAL, erased, erasures
from features.touched import Queue, TouchedSeats, mark
from features.uses import Deciding, wait_for_turn
from features.workflows import Completions

MIGRATIONS = Path(__file__).with_name("migrations")
READ_ROWS = 50_000
DAY_US = 86_400_000_000
MIGRATION_LOCK, ROSTER_LOCK = 0x52454B494E444C4D, 0x52454B494E444C52  # "REKINDLM", "REKINDLR"
CONNECT_SECONDS = 5  # our choice: so long an absent PostgreSQL is waited for
SILENT_SECONDS = 20  # our choice: so long what was sent to PostgreSQL may stay unacknowledged; then the network is gone
PROBE_SECONDS = 2.0  # our choice: so long a probe waits for a writer's turn; those who ask give up after four (deploy/)


_ADDRESS = re.compile(r"[^\s,]*@[^\s,]*")  # people name files after themselves

LockType = type(threading.Lock())


@dataclass(frozen=True)
class Appended:
    """What became of a batch."""

    seats: int = 0
    accepted: int = 0
    duplicates: int = 0
    decisions: int = 0
    rejected: tuple[Rejected, ...] = ()

    def __add__(self, other: "Appended") -> "Appended":
        return Appended(
            self.seats + other.seats,
            self.accepted + other.accepted,
            self.duplicates + other.duplicates,
            self.decisions + other.decisions,
            self.rejected + other.rejected,
        )


@dataclass(frozen=True)
class Received:
    """What became of each event of a sender: new, by event id; refused for a reason, by event and seat id; else known."""

    new: frozenset[str]
    refused: Mapping[tuple[str, str], str]


@dataclass(frozen=True)
class KnownEvent:
    """What tells an event of the log from another one that has its id elsewhere."""

    source: str
    seat_id: str
    kind: str
    occurred_at: datetime


@dataclass(frozen=True)
class Arrivals:
    """What a source told us within a window: how many events, how many later than its lag, and the latest of them."""

    source: str
    events: int
    late: int
    worst: timedelta


class EventLog:
    """The log in one database. Safe for several threads and processes; every write is one transaction."""

    def __init__(self, url: str, *, lock_seconds: float | None = None, cache_kib: int = CACHE_KIB) -> None:
        """url: SQLAlchemy's. Brings the schema up to date. Raises ValueError when the database cannot be opened.

        lock_seconds: so long what is locked by others is waited for on PostgreSQL; None: for ever. SQLite has BUSY_SECONDS.
        cache_kib: what each connection to SQLite may keep in memory.
        """
        self._months: dict[str, set[Month]] = {table: set() for table in PARTITIONED}
        try:
            self._engine = _engine_of(url, lock_seconds=lock_seconds)
        except (sa.exc.ArgumentError, ImportError) as error:
            raise ValueError(f"the database's address cannot be used: {error}") from None
        self._is_sqlite = self._engine.dialect.name == "sqlite"
        self._file: str | None = None  # SQLite's
        self._shared = threading.local()
        # SQLite has one writer at a time; who comes second sleeps and polls there, while here it is woken
        self._turn: AbstractContextManager[object] = nullcontext()
        self._writer, self._disk = self._engine, Disk(None)  # PostgreSQL syncs by itself
        try:
            if self._is_sqlite:
                file = self._file = file_of(self._engine)
                self._turn, self._disk = threading.Lock(), Disk(file, empty=lambda: empty_wal(self._engine))
                self._writer = self._engine if file is None else _engine_of(url)  # in memory each engine has its own
                listen(self._engine, self._writer, cache_kib=cache_kib)
            self._migrate()
            this = (datetime.now(UTC).year, datetime.now(UTC).month)
            for table in () if self._is_sqlite else PARTITIONED:
                self._ensure_months(table, {this, following(this)})
        except sa.exc.DatabaseError as error:
            place = sa.make_url(url).render_as_string(hide_password=True)
            raise ValueError(f"cannot open the event log at {place}: {' '.join(str(error.orig).split())}") from None

    def close(self) -> None:
        """Give back every connection."""
        self._engine.dispose()
        self._writer.dispose()
        self._disk.close()

    def checkpoint(self) -> None:
        """Spare writers the work of moving SQLite's write-ahead log into its file: a service does it beside them."""
        if self._disk.is_there:
            checkpoint(self._engine)

    @property
    def database(self) -> Database:
        """The database, for the tables beside the log."""
        return Database(self._write, self._connect, self._write_soon)

    def append(self, batch: Batch, *, now: datetime, source: str = "") -> Appended:
        """Store a batch: known events are skipped, events of unassigned seats are set aside, the rest goes in.

        One transaction: after an error nothing of the batch is there. now: aware, the time of receipt.
        """
        return self._append(batch, now=now, source=source, queue=Queue.BULK)[0]

    def receive(self, events: pa.Table, *, now: datetime) -> Received:
        """Store events of a sender, EVENT_SCHEMA, as `append` does; says of each what became of it. Nothing is set
        aside: the sender is told and still has it.
        """
        return self._append(Batch(SEAT_SCHEMA.empty_table(), events), now=now, source=None)[1]

    def receive_seats(self, seats: pa.Table, *, now: datetime) -> Mapping[str, Rejected]:
        """Store seats of a sender, SEAT_SCHEMA, as `append` does; by seat id, those that were refused and why."""
        appended, _ = self._append(Batch(seats, EVENT_SCHEMA.empty_table()), now=now, source=None)
        return {item.where.removeprefix("seat "): item for item in appended.rejected}

    def _append(
        self, batch: Batch, *, now: datetime, source: str | None, queue: Queue = Queue.LIVE
    ) -> tuple[Appended, Received]:
        """What became of the batch, and of each of its events: both as this transaction found the roster."""
        if not self._is_sqlite:
            self._ensure_months("events", months_of(batch.events.column("occurred_at")))
        with self._write() as connection:
            keep(connection, batch.aliases)
            altered, changed = self._append_seats(connection, batch.seats, now)
            events, refused = self._split_by_roster(connection, batch.events)
            new = self._append_events(connection, events)
            past = _without_erased(connection, batch.decisions)
            decisions = len(self._insert_new(connection, DECISIONS, [decision_row(decision) for decision in past]))
            tools = self._tools_of(connection, events)
            advance_sources(connection, events, batch, tools=tools, new=new, now=now)
            fresh = events.filter(pc.is_in(events.column("event_id"), value_set=pa.array(sorted(new), pa.string())))
            told = [*altered, *pc.unique(fresh.column("seat_id")).to_pylist()]
            mark(connection, told, now=now, queue=queue)
            unknown = tuple(
                Rejected(f"event {event_id}", "seat_id", never_assigned(seat)) for event_id, seat in refused
            )
            rejected = batch.rejected + changed + unknown
            if source is not None:
                shown = _without_names_of_erased(connection, batch, rejected)
                self._set_aside_rows(connection, shown, now=now, source=source)
        received = Received(frozenset(new), {(event_id, seat): never_assigned(seat) for event_id, seat in refused})
        return Appended(len(altered), len(new), events.num_rows - len(new), decisions, rejected), received

    def record_decisions(self, decisions: Sequence[Decision]) -> int:
        """Store decisions durably, and with each that does something its `intervention` event: features count it and
        labels are censored at it. Those already there are left as they are, those of erased seats are left out. Returns
        how many were new.
        """
        with self._write() as connection:
            wait_for_turn(connection)
            return self._record_decisions(connection, decisions)

    @contextmanager
    def deciding(self) -> Iterator[Deciding]:
        """The right to decide: until the block ends nobody else, in any process, reads uses or records decisions through
        it. What is recorded is durable when the block is left; after an error nothing of it is there.
        """
        with self._write() as connection:
            wait_for_turn(connection)
            yield Deciding(
                connection,
                lambda decisions: self._record_decisions(connection, decisions, are_new=True),
                lambda served, reads: self._record_reads(connection, served, reads),
            )

    def _record_decisions(
        self, connection: sa.Connection, decisions: Sequence[Decision], *, are_new: bool = False
    ) -> int:
        """are_new: their ids were made just now, so that nobody needs to look whether they are there."""
        decisions = _without_erased(connection, decisions)
        acted = [decision for decision in decisions if decision.intervention != NONE]
        events, rows = [intervention_row(decision) for decision in acted], [decision_row(item) for item in decisions]
        if are_new:
            self._mark(connection, acted)
            for table, fresh in ((EVENTS, events), (DECISIONS, rows)):
                if fresh:
                    connection.execute(sa.insert(table), fresh)
            return len(rows)
        self._insert_new(connection, EVENTS, events)
        self._mark(connection, acted)
        return len(self._insert_new(connection, DECISIONS, rows))

    def _mark(self, connection: sa.Connection, acted: Sequence[Decision]) -> None:
        if acted:
            mark(connection, {item.seat_id for item in acted}, now=min(item.decided_at for item in acted))

    def record_served(self, served: Sequence[Served]) -> None:
        """Store what was served, one row each."""
        self.record_reads(served, ())

    def record_reads(self, served: Sequence[Served], reads: Sequence[Read]) -> None:
        """Store what was served and who read it, in one transaction that does not wait for the disk (Database).

        What was erased since it was read is left out.
        """
        if served or reads:
            if not self._is_sqlite:
                self._ensure_months("served", months_of([item.served_at for item in served]))
            with self._write_soon() as connection:
                self._record_reads(connection, served, reads)

    def record_reads_at_once(self, served: Sequence[Served], reads: Sequence[Read]) -> bool:
        """As `record_reads`, where that waits for nobody: not while somebody writes, never for a server. Whether it did."""
        if not isinstance(self._turn, LockType) or not self._turn.acquire(blocking=False):
            return False
        try:
            with self._writer.connect().execution_options(**AT_ONCE) as connection, connection.begin():
                self._record_reads(connection, served, reads)
        except sa.exc.OperationalError as error:
            if is_busy(error):
                return False
            raise
        finally:
            self._turn.release()
        return True

    def _record_reads(self, connection: sa.Connection, served: Sequence[Served], reads: Sequence[Read]) -> None:
        gone = erased(connection, {*(item.seat_id for item in served), *(item.seat_id for item in reads)})
        rows = [served_row(item) for item in served if item.seat_id not in gone]
        if rows:
            connection.execute(INSERT_SERVED, rows)
        record_reads(connection, [read for read in reads if read.seat_id not in gone])

    def erased(self, identifiers: Collection[str]) -> frozenset[str]:
        """Those of the identifiers of persons and seats that were erased."""
        with self._connect() as connection:
            return erased(connection, identifiers)

    def erasures(self) -> int:
        """How many identifiers were erased (features.tombstones)."""
        with self._connect() as connection:
            return erasures(connection)

    def served(self, *, since: datetime, until: datetime, limit: int | None = None) -> list[Served]:
        """What was served in [since, until), oldest first; the latest `limit` of it where a limit is given."""
        query = (
            sa.select(SERVED)
            .where(SERVED.c.served_at >= to_microseconds(since), SERVED.c.served_at < to_microseconds(until))
            .order_by(SERVED.c.served_at.desc(), SERVED.c.id.desc())
            .limit(limit)
        )
        with self._connect() as connection:
            rows = connection.execute(query).all()
        return [served_of(row) for row in reversed(rows)]

    def roster(self, seat_ids: Iterable[str] | None = None) -> pa.Table:
        """Every known version of the seats, in ROSTER_SCHEMA, by seat and then by `known_at`."""
        tables = [
            self._read(sa.select(*(SEATS.c[name] for name in ROSTER_SCHEMA.names)).where(condition), ROSTER_SCHEMA)
            for condition in each_condition(SEATS.c.seat_id, seat_ids)
        ]
        table = pa.concat_tables(tables) if tables else ROSTER_SCHEMA.empty_table()
        return table.sort_by([("seat_id", "ascending"), ("known_at", "ascending")])

    def seat_ids(self, *, organization: str | None, after: str, limit: int) -> list[str]:
        """The first `limit` seats of an organisation (None: of all) that come after `after`, ascending."""
        query = sa.select(SEATS.c.seat_id).distinct().where(SEATS.c.seat_id > after)
        if organization is not None:
            query = query.where(SEATS.c.organization == organization)
        with self._connect() as connection:
            return list(connection.execute(query.order_by(SEATS.c.seat_id).limit(limit)).scalars())

    def seats(self, seat_ids: Iterable[str] | None = None) -> pa.Table:
        """The latest version of each seat, in SEAT_SCHEMA, by seat."""
        return latest_seats(self.roster(seat_ids))

    def seat_rows(self, seat_ids: Iterable[str]) -> dict[str, dict[str, Any]]:
        """As `seats`, by seat id, as plain rows: for the few seats of a request a third of the cost."""
        wanted = sorted(set(seat_ids))
        rows: dict[str, dict[str, Any]] = {}
        with self._connect() as connection:
            for start in range(0, len(wanted), CHUNK_ROWS):
                versions = connection.execute(VERSIONS, {"seats": wanted[start : start + CHUNK_ROWS]})
                rows.update((version.seat_id, dict(version._mapping)) for version in versions)  # the latest comes last
        return {
            seat_id: {
                name: from_microseconds(value) if name in INSTANTS and value is not None else value
                for name, value in row.items()
            }
            for seat_id, row in rows.items()
        }

    def aliases(self, organization: str) -> dict[str, str]:
        """The pseudonyms of the organisation's people that stand for another one."""
        with self._connect() as connection:
            return aliases_in(connection, organization)

    def events(
        self,
        seat_ids: Iterable[str] | None = None,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        kinds: Iterable[Kind] | None = None,
        columns: Sequence[str] = tuple(EVENT_SCHEMA.names),
    ) -> pa.Table:
        """The events of the seats that occurred in [since, until), in no particular order: `columns` of EVENT_SCHEMA."""
        schema = pa.schema([EVENT_SCHEMA.field(name) for name in columns])
        query = sa.select(*(EVENTS.c[name] for name in columns))
        if since is not None:
            query = query.where(EVENTS.c.occurred_at >= to_microseconds(since))
        if until is not None:
            query = query.where(EVENTS.c.occurred_at < to_microseconds(until))
        if kinds is not None:
            query = query.where(EVENTS.c.kind.in_(sorted(map(str, kinds))))
        if seat_ids is None and self._is_sqlite:  # a text of SQLite holds a thousand million characters at most
            seat_ids = self._seat_ids()
        conditions = each_condition(EVENTS.c.seat_id, seat_ids)
        tables = [self._read_events(query.where(condition), schema) for condition in conditions]
        return pa.concat_tables(tables) if tables else schema.empty_table()

    def arrivals(self, *, since: datetime, until: datetime, slack: timedelta = timedelta(0)) -> list[Arrivals]:
        """By source, what became known in [since, until), and how much of it later than the source's lag and the slack."""
        lags: dict[str, int] = {}
        for source in self.sources():
            lags[source.source] = max(lags.get(source.source, 0), source.lag // MICROSECOND)
        delay = EVENTS.c.available_at - EVENTS.c.occurred_at
        window = EVENTS.c.available_at.between(to_microseconds(since), to_microseconds(until) - 1)
        found = []
        with self._connect() as connection:
            for name, lag in sorted(lags.items()):
                late = sa.case((delay > lag + slack // MICROSECOND, 1), else_=0)
                query = sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(late), 0), sa.func.max(delay))
                events, is_late, worst = connection.execute(query.where(window, EVENTS.c.source == name)).one()
                if events:
                    found.append(Arrivals(name, int(events), int(is_late), timedelta(microseconds=int(worst))))
        return found

    def longest_silence(self, *, since: datetime, until: datetime) -> dict[str, timedelta]:
        """By source, the longest time between two days in [since, until) on which it told something, up to the last."""
        day = sa.cast(EVENTS.c.available_at, sa.BigInteger()) // sa.literal(DAY_US, sa.BigInteger())
        window = EVENTS.c.available_at.between(to_microseconds(since), to_microseconds(until) - 1)
        query = sa.select(EVENTS.c.source, day.label("day")).where(window).distinct()
        days: dict[str, list[int]] = {}
        with self._connect() as connection:
            for row in connection.execute(query):
                days.setdefault(row.source, []).append(int(row.day))
        return {name: timedelta(days=int(np.diff(np.unique(told)).max(initial=0))) for name, told in days.items()}

    def touch(self, seat_ids: Iterable[str], *, now: datetime) -> None:
        """Mark the seats to be refreshed."""
        with self._write() as connection:
            mark(connection, seat_ids, now=now)

    @property
    def touched(self) -> TouchedSeats:
        """The seats whose online features wait to be refreshed."""
        return TouchedSeats(self._write_soon, self._connect)  # what a power cut takes is refreshed again

    @property
    def feedback(self) -> Feedback:
        """Reactions to decisions and outcomes that were reported."""
        return Feedback(self._write, self._connect)

    def completions(self) -> Completions:
        """Workflows that were completed; it remembers those of each role for a day, so keep it."""
        return Completions(self._connect)

    def peers_day(self) -> int | None:
        """The latest day (since 1970) that `keep_peers` kept something for, or None."""
        with self._connect() as connection:
            return connection.execute(PEERS_DAY).scalar()

    def peers(self, day: int) -> bytes | None:
        """What `keep_peers` kept for the day (since 1970), or None."""
        with self._connect() as connection:
            body = connection.execute(sa.select(PEERS.c.body).where(PEERS.c.day == day)).scalar()
        return None if body is None else bytes(body)

    def peers_version(self, day: int) -> str | None:
        """Identifies what is kept for the day, for a fraction of what reading it costs; None where it is not known."""
        with self._connect() as connection:
            found: str | None = connection.execute(PEERS_VERSION, {"day": day}).scalar()
        return found

    def keep_peers(self, day: int, body: bytes, *, erasures_before: int | None = None) -> str | None:
        """Keep the day's counts in place of what was there for it; those of the day before stay, older ones go.

        Several processes may keep the same day at once: the last one's stays. erasures_before: `erasures` when they began
        to be counted: where somebody was erased since, nothing is kept. Returns the version kept, None if none was.
        """
        version = hashlib.sha256(body).hexdigest()[:32]
        with self._write() as connection:
            if erasures_before is not None and erasures(connection) != erasures_before:
                return None
            for table, column, value in ((PEERS, "body", body), (PEERS_VERSIONS, "version", version)):
                insert: Any = sqlite.insert(table) if self._is_sqlite else postgresql.insert(table)
                again = insert.on_conflict_do_update(index_elements=["day"], set_={column: insert.excluded[column]})
                connection.execute(sa.delete(table).where(table.c.day < day - 1))
                connection.execute(again, [{"day": day, column: value}])
        return version

    def decisions(
        self,
        seat_ids: Iterable[str] | None = None,
        *,
        organization: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        acted: bool = False,
    ) -> list[Decision]:
        """The decisions of the seats or of the organisation, made in [since, until), oldest first; acted: only those that
        do something.
        """
        query = sa.select(DECISIONS.c.decided_at, DECISIONS.c.body)
        if organization is not None:
            prefix = f"{organization}/"  # not LIKE: on SQLite it takes no notice of case, and `Acme` is not `acme`
            query = query.where(sa.func.substr(DECISIONS.c.seat_id, 1, len(prefix)) == prefix)
        if since is not None:
            query = query.where(DECISIONS.c.decided_at >= to_microseconds(since))
        if until is not None:
            query = query.where(DECISIONS.c.decided_at < to_microseconds(until))
        if acted:
            query = query.where(DECISIONS.c.intervention != NONE)
        rows: list[Any] = []
        with self._connect() as connection:
            for condition in each_condition(DECISIONS.c.seat_id, seat_ids):
                rows += connection.execute(query.where(condition)).all()
        return [Decision.of_document(json.loads(row.body)) for row in sorted(rows, key=lambda row: int(row.decided_at))]

    def to_do(
        self,
        organization: str,
        *,
        horizon_days: int,
        since: datetime,
        until: datetime,
        after: tuple[float, str, str] | None,
        limit: int,
    ) -> tuple[int, list[tuple[tuple[float, str, str], Decision]]]:
        """How many decisions of the organisation in [since, until) do something, and the first `limit` of them that come
        `after` a place, each with its own: the greatest risk by the horizon first (-1 where none is told), then by seat and id.
        """
        if self._is_sqlite:
            told = sa.func.json_extract(DECISIONS.c.body, f'$.risk."{horizon_days}"')
        else:
            told = sa.cast(DECISIONS.c.body, sa.JSON)["risk"][str(horizon_days)].as_float()
        risk, prefix = sa.func.coalesce(told, -1.0), f"{organization}/"
        is_one = (
            (DECISIONS.c.decided_at >= to_microseconds(since))
            & (DECISIONS.c.decided_at < to_microseconds(until))
            & (DECISIONS.c.intervention != NONE)
            & (sa.func.substr(DECISIONS.c.seat_id, 1, len(prefix)) == prefix)  # not LIKE, as in `decisions`
        )
        order = (-risk, DECISIONS.c.seat_id, DECISIONS.c.decision_id)
        query = sa.select(*order, DECISIONS.c.body).where(is_one).order_by(*order).limit(limit)
        if after is not None:
            query = query.where(sa.tuple_(*order) > sa.tuple_(*map(sa.literal, after)))
        with self._connect() as connection:
            total = connection.execute(sa.select(sa.func.count()).select_from(DECISIONS).where(is_one)).scalar_one()
            rows = connection.execute(query).all()
        return int(total), [((row[0], row[1], row[2]), Decision.of_document(json.loads(row.body))) for row in rows]

    def decision(self, decision_id: str) -> Decision | None:
        """The decision of that id, or None."""
        query = sa.select(DECISIONS.c.body).where(DECISIONS.c.decision_id == decision_id)
        with self._connect() as connection:
            body = connection.execute(query).scalar()
        return None if body is None else Decision.of_document(json.loads(body))

    def known_decisions(self, decision_ids: Iterable[str]) -> set[str]:
        """Those of the ids that are in the log."""
        found: set[str] = set()
        with self._connect() as connection:
            for condition in each_condition(DECISIONS.c.decision_id, decision_ids):
                found.update(connection.execute(sa.select(DECISIONS.c.decision_id).where(condition)).scalars())
        return found

    def sources(self) -> list[Source]:
        """Every feed of every organisation."""
        with self._connect() as connection:
            return read_sources(connection)

    def sources_of_use(self, organization: str | None = None) -> list[Source]:
        """The feeds that can tell of a use, of one organisation or of all: they say until when use is known. A tool of
        which none can keeps all of its feeds.
        """
        every = [source for source in self.sources() if organization in (None, source.organization)]
        telling = [source for source in every if any(kind in USE_KINDS for _, kind in source.known_kinds)]
        known = {(source.organization, source.tool) for source in telling}
        return [one for one in every if one in telling or (one.organization, one.tool) not in known]

    def set_aside(self, limit: int = 100) -> list[Rejected]:
        """The latest items that were set aside."""
        query = sa.select(SET_ASIDE).order_by(SET_ASIDE.c.id.desc()).limit(limit)
        with self._connect() as connection:
            return [Rejected(row.place, row.field, row.reason) for row in connection.execute(query)]

    def known_events(self, event_ids: Iterable[str]) -> dict[str, KnownEvent]:
        """Those of the events that are in the log, by id."""
        found: dict[str, KnownEvent] = {}
        columns = (EVENTS.c.event_id, EVENTS.c.source, EVENTS.c.seat_id, EVENTS.c.kind, EVENTS.c.occurred_at)
        with self._connect() as connection:
            for condition in each_condition(EVENTS.c.event_id, event_ids):
                for row in connection.execute(sa.select(*columns).where(condition)):
                    at = from_microseconds(row.occurred_at)
                    found[row.event_id] = KnownEvent(row.source, row.seat_id, row.kind, at)
        return found

    def event_count(self, *, available_by: datetime | None = None) -> int:
        """How many events there are, or were available at the instant."""
        query = sa.select(sa.func.count()).select_from(EVENTS)
        if available_by is not None:
            query = query.where(EVENTS.c.available_at <= to_microseconds(available_by))
        with self._connect() as connection:
            return int(connection.execute(query).scalar_one())

    def is_reachable(self) -> bool:
        """Whether the log can be read now, and on SQLite written to within PROBE_SECONDS."""
        try:
            if self._file is None:
                with self._engine.connect() as connection:
                    connection.execute(sa.text(f"SELECT version_num FROM {VERSION_TABLE}")).one()
            else:
                probe(self._file, seconds=PROBE_SECONDS)
        except (sa.exc.SQLAlchemyError, sqlite3.Error):
            return False
        return True

    @contextmanager
    def reading(self) -> Iterator[None]:
        """What this thread reads until the block ends it reads by one connection, as the log is at the first of it."""
        with self._engine.connect() as connection:
            self._shared.connection = connection
            try:
                yield
            finally:
                del self._shared.connection

    def _connect(self) -> AbstractContextManager[sa.Connection]:
        shared: sa.Connection | None = getattr(self._shared, "connection", None)
        return self._engine.connect() if shared is None else nullcontext(shared)

    @contextmanager
    def _write(self) -> Iterator[sa.Connection]:
        with self._turn, self._writer.begin() as connection:
            yield connection
        try:
            self._disk.sync()  # the next writer need not wait for it
        except OSError as error:
            raise sa.exc.OperationalError("sync", None, error) from error

    @contextmanager
    def _write_soon(self) -> Iterator[sa.Connection]:
        with self._turn, self._writer.begin() as connection:
            if not self._is_sqlite:
                connection.exec_driver_sql("SET LOCAL synchronous_commit TO OFF")
            yield connection

    def _migrate(self) -> None:
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        with self._write() as connection:
            if not self._is_sqlite:  # two that open a new database at once: SQLite has one writer anyhow
                connection.exec_driver_sql("SET LOCAL lock_timeout = 0")  # the other one may have much to do
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(MIGRATION_LOCK)))
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    def _ensure_months(self, table: str, months: set[Month]) -> None:
        """Make PostgreSQL's partitions of these months, before the transaction that fills them."""
        if months <= self._months[table]:
            return
        with self._write() as connection:
            add_months(connection, table, months)
        self._months[table] |= months

    def _insert_ignore(self, table: sa.Table) -> sa.Insert:
        if self._is_sqlite:
            return sqlite.insert(table).on_conflict_do_nothing()
        return postgresql.insert(table).on_conflict_do_nothing()

    def _insert_new(self, connection: sa.Connection, table: sa.Table, rows: Sequence[dict[str, Any]]) -> set[str]:
        """Insert the rows whose key is not there yet; returns their keys. Keys repeated in `rows` count once."""
        (key,) = table.primary_key.columns
        new: set[str] = set()
        for start in range(0, len(rows), CHUNK_ROWS):
            chunk = {row[key.name]: row for row in reversed(rows[start : start + CHUNK_ROWS])}
            if (
                not self._is_sqlite
            ):  # others write meanwhile: what comes back is new; sorted, so that none wait in a circle
                told = self._insert_ignore(table).returning(key)
                new.update(connection.execute(told, sorted(chunk.values(), key=lambda row: row[key.name])).scalars())
                continue
            known = set(connection.execute(sa.select(key).where(key.in_(list(chunk)))).scalars())
            fresh = [
                row for identifier, row in sorted(chunk.items()) if identifier not in known
            ]  # in the index's order
            if fresh:
                self._insert_many(connection, table, fresh)
            new.update(row[key.name] for row in fresh)
        return new

    def _insert_many(self, connection: sa.Connection, table: sa.Table, rows: Sequence[dict[str, Any]]) -> None:
        """Insert rows that have the same fields. The statement is made once: SQLAlchemy's work on each row costs as much
        as the database's own.
        """
        columns = list(rows[0])
        if self._is_sqlite:
            made = self._insert_ignore(table).compile(dialect=connection.dialect, column_keys=columns)
            values = [tuple(row[name] for name in made.positiontup or columns) for row in rows]
            connection.exec_driver_sql(str(made), values)
        else:
            connection.execute(self._insert_ignore(table), rows)

    def _append_seats(
        self, connection: sa.Connection, seats: pa.Table, now: datetime
    ) -> tuple[list[str], tuple[Rejected, ...]]:
        """The seats that are new or changed, one for each version, and those that cannot be taken."""
        rows, rejected = self._changed_seats(connection, seats, now)
        if rows and not self._is_sqlite:  # whoever changes the roster does it alone, on what the one before left
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(ROSTER_LOCK)))
            rows, rejected = self._changed_seats(connection, seats, now)
        if rows:
            connection.execute(self._insert_ignore(SEATS), rows)
        return [str(row["seat_id"]) for row in rows], rejected

    def _changed_seats(
        self, connection: sa.Connection, seats: pa.Table, now: datetime
    ) -> tuple[list[dict[str, Any]], tuple[Rejected, ...]]:
        known = {row["seat_id"]: row for row in self._latest_in(connection, seats.column("seat_id").to_pylist())}
        rows, rejected = [], []
        everyone = seats.to_pylist()
        buried = erased(connection, {seat[name] for seat in everyone for name in PERSONAL if seat[name] is not None})
        for seat in everyone:
            if seat["person_id"] in buried or seat["seat_id"] in buried:
                field = "person_id" if seat["person_id"] in buried else "seat_id"
                reason = "was erased on request and is not taken in again"
                rejected.append(Rejected(f"seat {seat['seat_id']}", field, reason))
                continue
            if seat["manager_person_id"] in buried:
                seat["manager_person_id"] = None
            before = known.get(seat["seat_id"])
            if before is not None and before["tool"] != seat["tool"]:
                reason = f"a seat never changes its tool ({before['tool']}), came {seat['tool']}; send a new seat"
                rejected.append(Rejected(f"seat {seat['seat_id']}", "tool", reason))
                continue
            if before is not None and {name: before[name] for name in SEAT_SCHEMA.names} == seat:
                continue
            known_at = seat["assigned_at"] if before is None else max(now, before["known_at"] + MICROSECOND)
            known[seat["seat_id"]] = {**seat, "known_at": known_at}
            rows.append(stored({**seat, "known_at": known_at}))
        return rows, tuple(rejected)

    def _latest_in(self, connection: sa.Connection, seat_ids: Sequence[str]) -> list[dict[str, Any]]:
        latest: dict[str, dict[str, Any]] = {}
        for condition in each_condition(SEATS.c.seat_id, seat_ids):
            query = sa.select(*(SEATS.c[name] for name in ROSTER_SCHEMA.names)).where(condition)
            rows = as_table(connection.execute(query).all(), ROSTER_SCHEMA)
            for row in rows.sort_by("known_at").to_pylist():
                latest[row["seat_id"]] = row
        return list(latest.values())

    def _split_by_roster(self, connection: sa.Connection, events: pa.Table) -> tuple[pa.Table, list[tuple[str, str]]]:
        """The events of seats that are in the roster; of the others the event and the seat id."""
        wanted = pc.unique(events.column("seat_id")).to_pylist()
        known: set[str] = set()
        for condition in each_condition(SEATS.c.seat_id, wanted):
            known.update(connection.execute(sa.select(SEATS.c.seat_id).where(condition)).scalars())
        missing = pa.array([seat for seat in wanted if seat not in known], pa.string())
        if not len(missing):
            return events, []
        is_missing = pc.is_in(events.column("seat_id"), value_set=missing)
        theirs = events.filter(is_missing)
        names = (theirs.column(name).to_pylist() for name in ("event_id", "seat_id"))
        return events.filter(pc.invert(is_missing)), list(zip(*names, strict=True))

    def _append_events(self, connection: sa.Connection, events: pa.Table) -> set[str]:
        if not self._is_sqlite:
            return insert_events(connection, events)
        stored = events.set_column(3, "occurred_at", events.column("occurred_at").cast(pa.int64()))
        stored = stored.set_column(4, "available_at", events.column("available_at").cast(pa.int64()))
        return self._insert_new(connection, EVENTS, stored.to_pylist())

    def _tools_of(self, connection: sa.Connection, events: pa.Table) -> dict[str, str]:
        """The tool of each seat of the events."""
        seats = pc.unique(events.column("seat_id")).to_pylist()
        return {row["seat_id"]: row["tool"] for row in self._latest_in(connection, seats)}

    def _set_aside_rows(
        self, connection: sa.Connection, rejected: Sequence[Rejected], *, now: datetime, source: str
    ) -> None:
        """Each place, field and reason of a source once: a file that is read again says nothing new."""
        rows = dict.fromkeys((_ADDRESS.sub("(address)", item.where), item.field[:64], item.reason) for item in rejected)
        there: set[tuple[str, str, str]] = set()
        columns = SET_ASIDE.c.place, SET_ASIDE.c.field, SET_ASIDE.c.reason
        places = sorted({place for place, _, _ in rows})
        for start in range(0, len(places), CHUNK_ROWS):
            same = (SET_ASIDE.c.source == source) & columns[0].in_(places[start : start + CHUNK_ROWS])
            there |= {(row.place, row.field, row.reason) for row in connection.execute(sa.select(*columns).where(same))}
        fresh = [
            {"at": to_microseconds(now), "source": source, "place": place, "field": field, "reason": reason}
            for place, field, reason in rows
            if (place, field, reason) not in there
        ]
        if fresh:
            connection.execute(sa.insert(SET_ASIDE), fresh)

    def _seat_ids(self) -> list[str]:
        with self._connect() as connection:
            return list(connection.execute(sa.select(SEATS.c.seat_id).distinct()).scalars())

    def _read_events(self, query: sa.Select[Any], schema: pa.Schema) -> pa.Table:
        with self._connect() as connection:
            return (read_columns if self._is_sqlite else read_by_copy)(connection, query, schema)

    def _read(self, query: sa.Select[Any], schema: pa.Schema) -> pa.Table:
        with self._connect() as connection:
            if not self._is_sqlite:
                return read_by_copy(connection, query, schema)
            result = connection.execution_options(stream_results=True).execute(query)
            tables = [as_table(rows, schema) for rows in result.partitions(READ_ROWS)]
        return pa.concat_tables(tables) if tables else schema.empty_table()


def _engine_of(url: str, *, lock_seconds: float | None = None) -> sa.Engine:
    address = sa.make_url(url)
    if address.get_backend_name() == "sqlite":
        if not address.database or address.database == ":memory:":
            return sa.create_engine(address)
        return sa.create_engine(
            address, pool_use_lifo=True
        )  # few connections are warm, and each has a cache of its own
    # a connection that an outage broke is found out before it is used: the log heals by itself
    waits: dict[str, Any] = {"connect_timeout": CONNECT_SECONDS, "tcp_user_timeout": 1_000 * SILENT_SECONDS}
    if lock_seconds is not None:
        waits["options"] = f"-c lock_timeout={1_000 * lock_seconds:.0f}"
    own = {name: value for name, value in waits.items() if name not in address.query}
    return sa.create_engine(address, pool_pre_ping=True, connect_args=own)


def never_assigned(seat_id: str) -> str:
    """Why an event of a seat that is not in the roster is refused."""
    return f"seat {seat_id} was never assigned; send the seat first"


def _without_erased(connection: sa.Connection, decisions: Sequence[Decision]) -> list[Decision]:
    """The decisions but those of erased seats; those about an erased person at another seat lose their target."""
    named = {name for item in decisions for name in (item.seat_id, item.target_person_id) if name is not None}
    gone = erased(connection, named)
    return [
        replace(item, target_person_id=None) if item.target_person_id in gone else item
        for item in decisions
        if item.seat_id not in gone
    ]


def _without_names_of_erased(
    connection: sa.Connection, batch: Batch, rejected: Sequence[Rejected]
) -> Sequence[Rejected]:
    """What is set aside, without the rows that name somebody who was erased: an export that still has them comes daily."""
    if not rejected:
        return rejected
    named = {name for row in batch.seats.to_pylist() for name in (row["seat_id"], row["person_id"])}
    gone = erased(connection, named | set(pc.unique(batch.events.column("seat_id")).to_pylist()))
    if not gone:
        return rejected
    shown = [item for item in rejected if not any(name in item.where or name in item.reason for name in gone)]
    left_out = len(rejected) - len(shown)
    return [*shown, Rejected("erased", "", f"{left_out} items of erased persons were left out")] if left_out else shown
