"""Tombstones: what is left of the erased, so that nobody takes them in again. A digest of the pseudonym, and a date."""

import hashlib
from collections.abc import Collection
from datetime import datetime

import sqlalchemy as sa

from features.instants import to_microseconds

PERSONAL = ("seat_id", "person_id", "manager_person_id")  # columns of a seat that name a person
CHUNK = 5_000

_tombstones = sa.table("tombstones", sa.column("digest", sa.String()), sa.column("erased_at", sa.BigInteger()))
_ANY = sa.select(_tombstones.c.digest).limit(1)
_THESE = sa.select(_tombstones.c.digest).where(_tombstones.c.digest.in_(sa.bindparam("digests", expanding=True)))


def erased(connection: sa.Connection, identifiers: Collection[str]) -> frozenset[str]:
    """Those of the identifiers of persons and seats that were erased."""
    if connection.execute(_ANY).first() is None:  # the usual case costs no hashing
        return frozenset()
    by_digest = {_digest(identifier): identifier for identifier in identifiers}
    digests = sorted(by_digest)
    found: set[str] = set()
    for start in range(0, len(digests), CHUNK):
        chunk = digests[start : start + CHUNK]
        found.update(connection.execute(_THESE, {"digests": chunk}).scalars())
    return frozenset(by_digest[digest] for digest in found)


def erasures(connection: sa.Connection) -> int:
    """How many identifiers were erased: another number than before says that something held in memory may name them."""
    return int(connection.execute(sa.select(sa.func.count()).select_from(_tombstones)).scalar_one())


def bury(connection: sa.Connection, identifiers: Collection[str], *, now: datetime) -> None:
    """Set a tombstone for each of the identifiers."""
    missing = set(identifiers) - erased(connection, identifiers)
    rows = [{"digest": _digest(identifier), "erased_at": to_microseconds(now)} for identifier in sorted(missing)]
    if rows:
        connection.execute(sa.insert(_tombstones), rows)


def _digest(identifier: str) -> str:
    return hashlib.sha256(identifier.encode()).hexdigest()
