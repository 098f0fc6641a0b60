"""Which pseudonyms are one person's, kept so that exports of different days and vendors join.

An alias is the pseudonym that an account (a login, a number) would have as a person of its own; it stands for the person
whose account it was told to be. Neither the account nor the person's address is kept.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import sqlalchemy as sa

from features.tombstones import erased

CHUNK = 5_000
MAX_HOPS = 3  # an alias of an alias of an address; no longer chain is meant, and a circle ends

_aliases = sa.table("aliases", sa.column("alias_id", sa.String()), sa.column("person_id", sa.String()))
_objections = sa.table("objections", sa.column("person_id", sa.String()), sa.column("objected_at", sa.BigInteger()))


def followed(name: str, same: Mapping[str, str]) -> str:
    """The last of the names that `name` stands for, by way of at most MAX_HOPS others."""
    for _ in range(MAX_HOPS):
        if name not in same:
            break
        name = same[name]
    return name


def aliases_in(connection: sa.Connection, organization: str) -> dict[str, str]:
    """Every alias of an organisation and the person that it stands for."""
    inside = _aliases.c.alias_id.startswith(f"{organization}/", autoescape=True)
    return {row.alias_id: row.person_id for row in connection.execute(sa.select(_aliases).where(inside))}


def keep(connection: sa.Connection, aliases: Mapping[str, str]) -> None:
    """Keep who is the same person. What is kept already stays as it is; nothing is kept of the erased.

    An objection that was made under the alias is one of the person's from now on.
    """
    gone = erased(connection, {*aliases, *aliases.values()})
    known = {str(alias) for chunk in _chunks(aliases) for alias in connection.execute(_of(chunk)).scalars()}
    rows = [
        {"alias_id": alias, "person_id": person}
        for alias, person in sorted(aliases.items())
        if alias != person and alias not in known and not gone & {alias, person}
    ]
    if rows:
        connection.execute(sa.insert(_aliases), rows)
        _carry_objections(connection, {row["alias_id"]: row["person_id"] for row in rows})


def same_person(connection: sa.Connection, person_id: str) -> frozenset[str]:
    """The pseudonym and all that stand for the same person, whichever of them was asked for."""
    found, asked = frozenset((person_id,)), frozenset[str]()
    while new := found - asked:
        asked |= new
        either = _aliases.c.alias_id.in_(sorted(new)) | _aliases.c.person_id.in_(sorted(new))
        found |= {one for row in connection.execute(sa.select(_aliases).where(either)).all() for one in row}
    return found


def forget(connection: sa.Connection, identifiers: Collection[str]) -> None:
    """Take out every alias that is one of the pseudonyms or stands for one."""
    for chunk in _chunks(identifiers):
        connection.execute(sa.delete(_aliases).where(_aliases.c.alias_id.in_(chunk) | _aliases.c.person_id.in_(chunk)))


def _of(alias_ids: Collection[str]) -> sa.Select[Any]:
    return sa.select(_aliases.c.alias_id).where(_aliases.c.alias_id.in_(alias_ids))


def _carry_objections(connection: sa.Connection, aliases: Mapping[str, str]) -> None:
    made = [
        row
        for chunk in _chunks(aliases)
        for row in connection.execute(sa.select(_objections).where(_objections.c.person_id.in_(chunk))).all()
    ]
    for alias, at in made:
        there = sa.select(_objections.c.person_id).where(_objections.c.person_id == aliases[alias])
        if connection.execute(there).first() is None:
            connection.execute(sa.insert(_objections), [{"person_id": aliases[alias], "objected_at": at}])


def _chunks(values: Collection[str]) -> Iterator[list[str]]:
    ordered = sorted(set(values))
    return (ordered[start : start + CHUNK] for start in range(0, len(ordered), CHUNK))
