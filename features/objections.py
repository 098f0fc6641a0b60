"""Objections: persons who want no decisions made about them."""

from collections.abc import Collection

import sqlalchemy as sa

CHUNK = 5_000

table = sa.table("objections", sa.column("person_id"), sa.column("objected_at"))
_OBJECTED = sa.select(table.c.person_id).where(table.c.person_id.in_(sa.bindparam("persons", expanding=True)))


def objected(connection: sa.Connection, person_ids: Collection[str]) -> frozenset[str]:
    """Those of the persons who objected to decisions."""
    asked = sorted(set(person_ids))
    found: set[str] = set()
    for start in range(0, len(asked), CHUNK):
        found.update(connection.execute(_OBJECTED, {"persons": asked[start : start + CHUNK]}).scalars())
    return frozenset(found)
