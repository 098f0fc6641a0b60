"""Seats whose online features are older than what the log knows: marked with the event, taken off when refreshed.

The mark is made in the transaction that stores the event, so whatever was acknowledged is refreshed, also after a crash.
A seat is claimed for a while by whoever refreshes it, who renews the claim while it works; that of a holder who died runs
out and the next one takes it. What happens now goes before what a bulk import brought.
"""

import secrets
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from features.instants import to_microseconds

CLAIM = timedelta(seconds=2)  # our choice: so long may the seats of a holder who died wait
RENEW = CLAIM / 4
BULK_AT_ONCE = 200  # our choice: what comes meanwhile waits for no more of an import than a fraction of a second
CHUNK_ROWS = 5_000

touched = sa.table(
    "touched", *(sa.column(name, sa.BigInteger()) for name in ("token", "touched_at", "due_at", "claimed_until")),
    sa.column("seat_id", sa.String()), sa.column("queue", sa.SmallInteger()),
)  # fmt: skip
_INSERTS = {name: of(touched) for name, of in (("sqlite", sqlite.insert), ("postgresql", postgresql.insert))}
_MARK: Mapping[str, Any] = {  # built once; Any: the two dialects' inserts have no common type
    name: statement.on_conflict_do_update(
        index_elements=["seat_id"],
        set_={
            "token": statement.excluded.token,
            "due_at": 0,
            "queue": sa.case(
                (touched.c.queue < statement.excluded.queue, touched.c.queue), else_=statement.excluded.queue
            ),
        },
    )
    for name, statement in _INSERTS.items()
}


class Queue(IntEnum):
    """In which order seats are refreshed."""

    LIVE = 0  # something happens just now: an event by the API, a decision, a reaction
    BULK = 1  # an import


@dataclass(frozen=True)
class Claim:
    """Seats to refresh, each with the token that its mark had. until: microseconds since 1970 at which it runs out."""

    tokens: Mapping[str, int]
    until: int = 0

    def __len__(self) -> int:
        return len(self.tokens)


def mark(connection: sa.Connection, seat_ids: Iterable[str], *, now: datetime, queue: Queue = Queue.LIVE) -> None:
    """Mark the seats, in the caller's transaction; a seat that is being refreshed is refreshed once more."""
    rows = [
        {
            "seat_id": seat,
            "token": secrets.randbits(62),
            "touched_at": to_microseconds(now),
            "due_at": 0,
            "claimed_until": 0,
            "queue": int(queue),
        }
        for seat in sorted(set(seat_ids))
    ]
    if not rows:
        return
    again = _MARK[connection.dialect.name]
    for start in range(0, len(rows), CHUNK_ROWS):
        connection.execute(again, rows[start : start + CHUNK_ROWS])


class TouchedSeats:
    """The marks of one database."""

    def __init__(
        self,
        write: Callable[[], AbstractContextManager[sa.Connection]],
        read: Callable[[], AbstractContextManager[sa.Connection]],
    ) -> None:
        """write, read: open a connection in a transaction that may write, or one that only reads."""
        self._write, self._read = write, read

    def claim(self, *, at_most: int, now: datetime) -> Claim:
        """The live seats that have waited longest, then a few of an import's, for CLAIM; nobody else gets them meanwhile."""
        instant = to_microseconds(now)
        if not self.is_any_due(now=now):  # the usual case must not take the one lock of a SQLite file
            return Claim({})
        until = to_microseconds(now + CLAIM)
        tokens: dict[str, int] = {}
        with self._write() as connection:
            for queue, most in ((Queue.LIVE, at_most), (Queue.BULK, BULK_AT_ONCE)):
                query = (
                    sa.select(touched)
                    .where(touched.c.queue == int(queue))
                    .where(touched.c.due_at <= instant, touched.c.claimed_until <= instant)
                    .order_by(touched.c.due_at, touched.c.touched_at)
                    .limit(min(most, at_most - len(tokens)))
                    .with_for_update(skip_locked=True)  # SQLite has one writer at a time and leaves it out
                )
                tokens |= {row.seat_id: row.token for row in connection.execute(query)}
            if tokens:
                held = sa.update(touched).where(touched.c.seat_id == sa.bindparam("seat"))
                connection.execute(held.values(claimed_until=until), [{"seat": seat} for seat in tokens])
        return Claim(tokens, until)

    def renew(self, claim: Claim, *, now: datetime) -> Claim:
        """The claim for another CLAIM, as far as nobody else took its seats meanwhile."""
        until = to_microseconds(now + CLAIM)
        is_held = (touched.c.seat_id == sa.bindparam("seat")) & (touched.c.claimed_until == claim.until)
        with self._write() as connection:
            held = sa.update(touched).where(is_held).values(claimed_until=until)
            connection.execute(held, [{"seat": seat} for seat in claim.tokens])
        return Claim(claim.tokens, until)

    def finish(self, claim: Claim, *, later: Mapping[str, datetime] | None = None) -> None:
        """Take off the marks of the claim. A seat touched meanwhile, or due again `later`, keeps its mark until then. One
        that another claimed since, because the claim ran out, was refreshed all the same: its mark goes, its claim stays.
        """
        due = later or {}
        held = [{"seat": seat, "held": token} for seat, token in claim.tokens.items()]
        is_seat = touched.c.seat_id == sa.bindparam("seat")
        is_same = is_seat & (touched.c.token == sa.bindparam("held"))
        done = [row for row in held if row["seat"] not in due]
        waits = [{**row, "due": to_microseconds(due[str(row["seat"])])} for row in held if row["seat"] in due]
        with self._write() as connection:
            if done:
                connection.execute(sa.delete(touched).where(is_same), done)
            if waits:
                connection.execute(sa.update(touched).where(is_same).values(due_at=sa.bindparam("due")), waits)
            if held:
                self._let_go(connection, claim)

    def release(self, claim: Claim) -> None:
        """Give the claim back: whoever comes next may take its seats at once."""
        with self._write() as connection:
            if claim.tokens:
                self._let_go(connection, claim)

    def _let_go(self, connection: sa.Connection, claim: Claim) -> None:
        """Those seats alone that are still held by this claim: one that ran out may be another's by now."""
        is_held = (touched.c.seat_id == sa.bindparam("seat")) & (touched.c.claimed_until == claim.until)
        free = sa.update(touched).where(is_held).values(claimed_until=0)
        connection.execute(free, [{"seat": seat} for seat in claim.tokens])

    def is_any_due(self, *, now: datetime) -> bool:
        """Whether some seat waits that nobody refreshes."""
        instant = to_microseconds(now)
        query = sa.select(touched.c.seat_id).where(touched.c.due_at <= instant, touched.c.claimed_until <= instant)
        with self._read() as connection:
            return connection.execute(query.limit(1)).first() is not None

    def count(self) -> int:
        """How many seats wait."""
        with self._read() as connection:
            return int(connection.execute(sa.select(sa.func.count()).select_from(touched)).scalar_one())
