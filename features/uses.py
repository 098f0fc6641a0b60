"""Uses of interventions, counted from the decision log while nobody else decides."""

import json
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import sqlalchemy as sa

from features.audit import Read
from features.decisions import NONE, Decision
from features.instants import from_microseconds, to_microseconds
from features.objections import objected
from features.tombstones import erased

if TYPE_CHECKING:
    from features.tables import Served

MEMORY = timedelta(days=366)  # the longest cooldown that a catalogue may ask for is 365 days
CHUNK = 5_000
ADVISORY_LOCK = 0x52454B494E444C45  # "REKINDLE": one decider at a time on PostgreSQL, whose writers do not queue

_decisions = sa.table(
    "decisions",
    *(sa.column(name) for name in ("seat_id", "target_person_id", "decided_at", "intervention")),
)
_ids = sa.table("decisions", sa.column("decision_id"), sa.column("body"))
# Built once: building a statement costs several times what executing it does (docs/benchmarks.md).
_USES = tuple(
    sa.select(_decisions).where(
        column.in_(sa.bindparam("wanted", expanding=True)),
        _decisions.c.decided_at >= sa.bindparam("since"),
        _decisions.c.intervention != NONE,
    )
    for column in (_decisions.c.seat_id, _decisions.c.target_person_id)
)
_USED_ON_DAY = (
    sa.select(_decisions.c.intervention, sa.func.count())
    .where(
        _decisions.c.decided_at >= sa.bindparam("since"),
        _decisions.c.decided_at < sa.bindparam("until"),
        _decisions.c.intervention.in_(sa.bindparam("interventions", expanding=True)),
        # not LIKE: on SQLite it takes no notice of case, and `Acme` is not `acme`
        sa.func.substr(_decisions.c.seat_id, 1, sa.bindparam("length")) == sa.bindparam("prefix"),
    )
    .group_by(_decisions.c.intervention)
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

    def __init__(
        self,
        connection: sa.Connection,
        record: Callable[[Sequence[Decision]], int],
        record_reads: Callable[[Sequence["Served"], Sequence[Read]], None],
    ) -> None:
        """connection: in a transaction that no other process writes decisions beside."""
        self._connection = connection
        self._record = record
        self.record_reads = (
            record_reads  # what was served for the decisions and who reads them, in the same transaction
        )

    def record(self, decisions: Sequence[Decision]) -> int:
        """Store decisions, each with its `intervention` event; returns how many were new. Durable when the transaction
        ends.
        """
        return self._record(decisions)

    def decided(self, decision_ids: Collection[str]) -> frozenset[str]:
        """Those of the ids that are in the log."""
        found: set[str] = set()
        for chunk in _chunks(decision_ids):
            query = sa.select(_ids.c.decision_id).where(_ids.c.decision_id.in_(chunk))
            found.update(self._connection.execute(query).scalars())
        return frozenset(found)

    def made(self, decision_ids: Collection[str]) -> dict[str, Decision]:
        """Those of the decisions that are in the log, by id."""
        found: dict[str, Decision] = {}
        for chunk in _chunks(decision_ids):
            rows = self._connection.execute(sa.select(_ids).where(_ids.c.decision_id.in_(chunk)))
            found.update((row.decision_id, Decision.of_document(json.loads(row.body))) for row in rows)
        return found

    def erased(self, identifiers: Collection[str]) -> frozenset[str]:
        """Those of the identifiers of persons and seats that were erased."""
        return erased(self._connection, identifiers)

    def objected(self, person_ids: Collection[str]) -> frozenset[str]:
        """Those of the persons who objected to decisions."""
        return objected(self._connection, person_ids)

    def uses(self, seat_ids: Collection[str], person_ids: Collection[str], *, now: datetime) -> list[Use]:
        """Interventions chosen for these seats or about these persons within MEMORY, oldest first, `none` left out."""
        since = to_microseconds(now - MEMORY)
        found: set[tuple[str, str | None, int, str]] = set()
        for query, values in zip(_USES, (seat_ids, person_ids), strict=True):
            for chunk in _chunks(values):
                found.update(
                    (row.seat_id, row.target_person_id, row.decided_at, row.intervention)
                    for row in self._connection.execute(query, {"wanted": chunk, "since": since}).all()
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
        day = {"since": to_microseconds(midnight), "until": to_microseconds(midnight + timedelta(days=1))}
        asked = {**day, "interventions": sorted(interventions)}
        return {
            organization: {
                intervention: int(number)
                for intervention, number in self._connection.execute(
                    _USED_ON_DAY, {**asked, "prefix": f"{organization}/", "length": len(organization) + 1}
                )
            }
            for organization in organizations
        }


def wait_for_turn(connection: sa.Connection) -> None:
    """Let no other process decide until the transaction ends. SQLite has one writer anyhow: it began as one."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(ADVISORY_LOCK)))


def _chunks(values: Collection[str]) -> Iterable[list[str]]:
    ordered = sorted(set(values))
    return (ordered[start : start + CHUNK] for start in range(0, len(ordered), CHUNK))
