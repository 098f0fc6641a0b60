"""Sources: the feeds of an organisation about a tool, how late each is, and which kinds of event each can tell.

Both are kept with the instant from which they were known: a lag that grew, or a feed that was connected later, changes
nothing of how the past is seen. What a source cannot tell is unknown, not zero (Sight in
features.catalogue).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from features.events import INTERNAL_KINDS, Batch, Kind, organization_of
from features.instants import MICROSECOND, from_microseconds, to_microseconds

EXTERNAL_KINDS = tuple(kind for kind in Kind if kind not in INTERNAL_KINDS)
Feed = tuple[str, str, str]  # organisation, tool, source

_FEED = ("organization", "tool", "source")
_sources = sa.table(
    "sources",
    *(sa.column(name, sa.String()) for name in _FEED),
    *(sa.column(name, sa.BigInteger()) for name in ("lag", "first_available_at", "watermark")),
)
_lags = sa.table(
    "source_lags",
    *(sa.column(name, sa.String()) for name in _FEED),
    *(sa.column(name, sa.BigInteger()) for name in ("lag", "known_at")),
)
_kinds = sa.table(
    "source_kinds",
    *(sa.column(name, sa.String()) for name in (*_FEED, "kind")),
    sa.column("known_at", sa.BigInteger()),
)


@dataclass(frozen=True)
class Source:
    """A feed of one organisation about one tool.

    lag: how late it is by its nature, the largest so far. first_available_at, watermark: when the first and the last
    thing that it told us became known; what happened before `watermark - lag` is complete. lags: each lag and from when
    it was known, by default `lag` from the first on; of those known, the largest holds. kinds: what it can tell, and from
    when; None: everything that a sender may tell, from the first on.
    """

    organization: str
    tool: str
    source: str
    lag: timedelta
    first_available_at: datetime
    watermark: datetime
    lags: tuple[tuple[datetime, timedelta], ...] = ()
    kinds: tuple[tuple[datetime, Kind], ...] | None = None

    @property
    def known_lags(self) -> tuple[tuple[datetime, timedelta], ...]:
        """Each lag and from when it was known."""
        return self.lags or ((self.first_available_at, self.lag),)

    @property
    def known_kinds(self) -> tuple[tuple[datetime, Kind], ...]:
        """Each kind that it can tell and from when that was known."""
        if self.kinds is None:
            return tuple((self.first_available_at, kind) for kind in EXTERNAL_KINDS)
        return self.kinds

    def lag_at(self, instant: datetime) -> timedelta | None:
        """The lag as it was known at the instant; None where nothing was known of the source yet."""
        return max((lag for known_at, lag in self.known_lags if known_at <= instant), default=None)


def read_sources(connection: sa.Connection) -> list[Source]:
    """Every feed of every organisation."""
    lags: dict[Feed, list[tuple[datetime, timedelta]]] = {}
    for row in connection.execute(sa.select(_lags).order_by(_lags.c.known_at, _lags.c.lag)):
        feed = row.organization, row.tool, row.source
        lags.setdefault(feed, []).append((from_microseconds(row.known_at), timedelta(microseconds=row.lag)))
    kinds: dict[Feed, list[tuple[datetime, Kind]]] = {}
    for row in connection.execute(sa.select(_kinds).order_by(_kinds.c.known_at, _kinds.c.kind)):
        feed = row.organization, row.tool, row.source
        kinds.setdefault(feed, []).append((from_microseconds(row.known_at), Kind(row.kind)))
    found = []
    for row in connection.execute(sa.select(_sources).order_by(*(_sources.c[name] for name in _FEED))):
        feed = row.organization, row.tool, row.source
        found.append(
            Source(
                *feed,
                timedelta(microseconds=row.lag),
                from_microseconds(row.first_available_at),
                from_microseconds(row.watermark),
                tuple(lags.get(feed, ())),
                tuple(kinds.get(feed, ())),
            )
        )
    return found


@dataclass(frozen=True)
class _Told:
    """What one batch says of a feed: first and last instant at which something of it became known, the first of what is
    new, and of each kind (all of them in microseconds)."""

    first: int
    last: int
    first_new: int | None
    kinds: Mapping[str, int]


def advance_sources(
    connection: sa.Connection,
    events: pa.Table,
    batch: Batch,
    *,
    tools: Mapping[str, str],
    new: Iterable[str],
    now: datetime,
) -> None:
    """Keep what a batch says of its feeds. events: those of known seats; tools: of each of these; new: the event ids that
    were not there before; now: when it came.

    A connector says which kinds its format can tell; a source that does not can tell what it has told.
    """
    for feed, told in sorted(_told_by_feed(events, tools, frozenset(new)).items()):
        source = feed[2]
        lag = batch.lags.get(source, timedelta(0)) // MICROSECOND
        last = told.last
        if source in batch.complete_until:
            last = max(last, to_microseconds(batch.complete_until[source]))
        _advance(connection, feed, lag, told.first, last)
        _learn(connection, _lags, feed, "lag", {lag: told.first_new or to_microseconds(now)})
        declared = batch.kinds.get(source)
        if declared is None:
            _learn(connection, _kinds, feed, "kind", told.kinds)
        else:
            _learn(connection, _kinds, feed, "kind", {**{str(kind): told.first for kind in declared}, **told.kinds})
    _advance_quiet(connection, batch)


def _advance(connection: sa.Connection, feed: Feed, lag: int, first: int, last: int) -> None:
    where = _is_of(_sources, feed)
    row = {**dict(zip(_FEED, feed, strict=True)), "lag": lag, "first_available_at": first, "watermark": last}
    connection.execute(_insert(connection, _sources).on_conflict_do_nothing(), [row])
    before = connection.execute(sa.select(_sources).where(where).with_for_update()).one()
    values = {
        "lag": max(lag, before.lag),
        "first_available_at": min(first, before.first_available_at),
        "watermark": max(last, before.watermark),
    }
    if values != {name: getattr(before, name) for name in values}:
        connection.execute(sa.update(_sources).where(where).values(values))


def _learn(connection: sa.Connection, table: sa.TableClause, feed: Feed, what: str, known: Mapping[Any, int]) -> None:
    """Keep from when each value was known, the earliest that was ever said."""
    key = dict(zip(_FEED, feed, strict=True))
    query = sa.select(table.c[what], table.c.known_at).where(_is_of(table, feed))
    before = {row[0]: row[1] for row in connection.execute(query)}
    rows = [
        {**key, what: value, "known_at": at}
        for value, at in sorted(known.items())
        if value not in before or at < before[value]
    ]
    if not rows:
        return
    insert = _insert(connection, table)
    earlier = sa.case((table.c.known_at < insert.excluded.known_at, table.c.known_at), else_=insert.excluded.known_at)
    connection.execute(insert.on_conflict_do_update(index_elements=[*_FEED, what], set_={"known_at": earlier}), rows)


def _advance_quiet(connection: sa.Connection, batch: Batch) -> None:
    """A feed of which the batch has no event, but of whose organisation and tool it has seats, may be complete: nobody did
    anything, and that is known.
    """
    if not batch.complete_until:
        return
    for organization, tool in sorted({(row["organization"], row["tool"]) for row in batch.seats.to_pylist()}):
        for source, until in sorted(batch.complete_until.items()):
            feed, at = (organization, tool, source), to_microseconds(until)
            declared = batch.kinds.get(source)
            if declared:
                lag = batch.lags.get(source, timedelta(0)) // MICROSECOND
                _advance(connection, feed, lag, at, at)
                _learn(connection, _lags, feed, "lag", {lag: at})
                _learn(connection, _kinds, feed, "kind", {str(kind): at for kind in declared})
                continue
            where = sa.and_(_is_of(_sources, feed), _sources.c.watermark < at)
            connection.execute(sa.update(_sources).where(where).values(watermark=at))


def _told_by_feed(events: pa.Table, tools: Mapping[str, str], new: frozenset[str]) -> dict[Feed, _Told]:
    is_new = pa.array([event_id in new for event_id in events.column("event_id").to_pylist()], pa.bool_())
    table = events.select(["seat_id", "source", "kind", "available_at"]).append_column("is_new", is_new)
    grouped = table.group_by(["seat_id", "source", "kind", "is_new"])
    found: dict[Feed, _Told] = {}
    for row in grouped.aggregate([("available_at", "min"), ("available_at", "max")]).to_pylist():
        feed = organization_of(row["seat_id"]), tools[row["seat_id"]], row["source"]
        first, last = (to_microseconds(row[name]) for name in ("available_at_min", "available_at_max"))
        before = found.get(feed, _Told(first, last, None, {}))
        news = [at for at in (before.first_new, first if row["is_new"] else None) if at is not None]
        found[feed] = _Told(
            min(first, before.first),
            max(last, before.last),
            min(news, default=None),
            {**before.kinds, row["kind"]: min(first, before.kinds.get(row["kind"], first))},
        )
    return found


def _is_of(table: sa.TableClause, feed: Feed) -> sa.ColumnElement[bool]:
    return sa.and_(*(table.c[name] == value for name, value in zip(_FEED, feed, strict=True)))


def _insert(connection: sa.Connection, table: sa.TableClause) -> Any:  # the two dialects' inserts have no common type
    return postgresql.insert(table) if connection.dialect.name == "postgresql" else sqlite.insert(table)
