"""Audit: who read the individual score of which seat, when, by which call and what for."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from features.database import Database
from features.instants import from_microseconds, to_microseconds

DEFAULT_PURPOSE = "adoption_support"  # what the product is for: helping the person whose seat it is

audit = sa.table(
    "audit",
    *(sa.column(name, sa.String()) for name in ("reader", "call", "purpose", "seat_id")),
    sa.column("id", sa.BigInteger()),
    sa.column("at", sa.BigInteger()),
)
_INSERT = sa.insert(audit)


@dataclass(frozen=True)
class Reader:
    """Who reads: the id of a key, or `command-line`; by which call; what for, a code of at most 40 characters."""

    name: str
    call: str
    purpose: str = DEFAULT_PURPOSE


@dataclass(frozen=True)
class Read:
    """One read of the individual score of a seat."""

    at: datetime
    reader: Reader
    seat_id: str


def record_reads(connection: sa.Connection, reads: Sequence[Read]) -> None:
    """Store the reads in the caller's transaction."""
    rows = [
        {
            "at": to_microseconds(read.at),
            "reader": read.reader.name,
            "call": read.reader.call,
            "purpose": read.reader.purpose,
            "seat_id": read.seat_id,
        }
        for read in reads
    ]
    if rows:
        connection.execute(_INSERT, rows)


def reads_of(database: Database, seat_ids: Iterable[str], *, limit: int = 1000) -> list[Read]:
    """The latest reads of the seats, latest first."""
    query = sa.select(audit).where(audit.c.seat_id.in_(sorted(set(seat_ids)))).order_by(audit.c.id.desc()).limit(limit)
    with database.read() as connection:
        rows = connection.execute(query).all()
    return [Read(from_microseconds(row.at), Reader(row.reader, row.call, row.purpose), row.seat_id) for row in rows]
