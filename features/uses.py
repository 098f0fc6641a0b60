"""Uses of interventions, counted from the decision log while nobody else decides."""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from features.decisions import NONE, Decision
from features.events import organization_of
from features.instants import from_microseconds, to_microseconds

MEMORY = timedelta(days=366)  # the longest cooldown that a catalogue may ask for is 365 days
CHUNK = 5_000
ADVISORY_LOCK = 0x52454B494E444C45  # "REKINDLE": one decider at a time on PostgreSQL, whose writers do not queue

_decisions = sa.table(
    "decisions",
    *(sa.column(name) for name in ("seat_id", "target_person_id", "decided_at", "intervention")),
)


@dataclass(frozen=True)
class Use:
    """An intervention that was chosen for a seat, about a person, at some time."""

    intervention: str
    at: datetime
    seat_id: str
    person_id: str | None


class Deciding:
    """The right to decide, held within one transaction: what it reads stays true until what it records is stored."""

    def __init__(self, connection: sa.Connection, record: Callable[[Sequence[Decision]], int]) -> None:
        """connection: in a transaction that no other process writes decisions beside."""
        self._connection = connection
        self._record = record

    def record(self, decisions: Sequence[Decision]) -> int:
        """Store decisions, each with its `intervention` event; returns how many were new. Durable when the transaction
        ends.
        """
        return self._record(decisions)

    def uses(self, seat_ids: Collection[str], person_ids: Collection[str], *, now: datetime) -> list[Use]:
        """Interventions chosen for these seats or about these persons within MEMORY, oldest first, `none` left out."""
        since = to_microseconds(now - MEMORY)
        found: set[tuple[str, str | None, int, str]] = set()
        for column, values in ((_decisions.c.seat_id, seat_ids), (_decisions.c.target_person_id, person_ids)):
            for chunk in _chunks(values):
                query = sa.select(_decisions).where(
                    column.in_(chunk), _decisions.c.decided_at >= since, _decisions.c.intervention != NONE
                )
                found.update(
                    (row.seat_id, row.target_person_id, row.decided_at, row.intervention)
                    for row in self._connection.execute(query)
                )
        return [
            Use(intervention, from_microseconds(at), seat_id, person_id)
            for seat_id, person_id, at, intervention in sorted(found, key=lambda row: (row[2], row[0], row[3]))
        ]

    def used_on_day(
        self, organizations: Iterable[str], interventions: Collection[str], *, now: datetime
    ) -> dict[str, dict[str, int]]:
        """By organisation and intervention, how often it was chosen on the UTC day of `now`."""
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
        counts: dict[str, dict[str, int]] = {organization: {} for organization in organizations}
        query = sa.select(_decisions.c.seat_id, _decisions.c.intervention).where(
            _decisions.c.decided_at >= to_microseconds(midnight),
            _decisions.c.decided_at < to_microseconds(midnight + timedelta(days=1)),
            _decisions.c.intervention.in_(sorted(interventions)),
        )
        for seat_id, intervention in self._connection.execute(query):
            own = counts.get(organization_of(seat_id))
            if own is not None:
                own[intervention] = own.get(intervention, 0) + 1
        return counts


def wait_for_turn(connection: sa.Connection) -> None:
    """Let no other process decide until the transaction ends. SQLite has one writer anyhow: it began as one."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(ADVISORY_LOCK)))


def _chunks(values: Collection[str]) -> Iterable[list[str]]:
    ordered = sorted(set(values))
    return (ordered[start : start + CHUNK] for start in range(0, len(ordered), CHUNK))
