"""What became of decisions as it is told: reactions, as events that features count, and outcomes from outside."""

from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from features.decisions import Decision, Stage
from features.events import EVENT_SCHEMA, Kind, organization_of
from features.instants import from_microseconds, to_microseconds
from features.touched import mark

HORIZONS_DAYS = (14, 28)
REACTION_SOURCE = "reactions"
CHUNK_ROWS = 5_000

_events = sa.table(
    "events",
    *(sa.column(name, sa.Boolean() if name in ("completed", "guided") else None) for name in EVENT_SCHEMA.names),
)
_seats = sa.table("seats", sa.column("seat_id"))
_outcomes = sa.table(
    "outcomes",
    *(sa.column(name) for name in ("decision_id", "horizon_days", "source", "reported_at")),
    sa.column("kept", sa.Boolean()),
)
_DISMISSED = (
    sa.select(_events.c.seat_id, sa.func.max(_events.c.occurred_at))
    .where(
        _events.c.seat_id.in_(sa.bindparam("seats", expanding=True)),
        _events.c.kind == str(Kind.REACTION),
        _events.c.category == str(Stage.DISMISSED),
        _events.c.occurred_at >= sa.bindparam("since"),
        _events.c.occurred_at < sa.bindparam("until"),
    )
    .group_by(_events.c.seat_id)
)


@dataclass(frozen=True)
class Outcome:
    """Whether a seat was kept `horizon_days` after a decision, as somebody outside says."""

    decision_id: str
    horizon_days: int
    kept: bool
    source: str
    reported_at: datetime


class SeatGone(ValueError):
    """The seat of a decision is not in the roster any more: its person was erased."""


class ContradictingOutcome(ValueError):
    """Another outcome was reported of the same decision and horizon before."""


class Feedback:
    """Reactions and reported outcomes of one database. What is there is never changed; the same again changes nothing."""

    def __init__(
        self,
        write: Callable[[], AbstractContextManager[sa.Connection]],
        read: Callable[[], AbstractContextManager[sa.Connection]],
    ) -> None:
        """write, read: open a connection in a transaction that may write, or one that only reads."""
        self._write, self._read = write, read

    def react(self, decision: Decision, stage: Stage, *, at: datetime, now: datetime) -> bool:
        """Store that the person got so far at `at`; False where the stage was known already, which stays as it is.

        Raises ValueError for a reaction before the decision, and SeatGone where its person was erased.
        """
        if at < decision.decided_at:
            raise ValueError(
                f"expected no earlier than the decision ({decision.decided_at.isoformat()}), came {at.isoformat()}"
            )
        row = {
            **dict.fromkeys(EVENT_SCHEMA.names),
            "event_id": reaction_id(decision, stage),
            "seat_id": decision.seat_id,
            "kind": str(Kind.REACTION),
            "occurred_at": to_microseconds(at),
            "available_at": to_microseconds(max(now, at)),
            "source": REACTION_SOURCE,
            "workflow": decision.workflow,
            "count": 1,
            "category": str(stage),
            "guided": False,
        }
        with self._write() as connection:
            is_there = sa.select(_seats.c.seat_id).where(_seats.c.seat_id == decision.seat_id).limit(1)
            if connection.execute(is_there).first() is None:
                raise SeatGone(f"the seat of decision {decision.decision_id} is not in the roster any more")
            is_new = _insert_new(connection, _events, row, _events.c.event_id)
            if is_new:
                mark(connection, [decision.seat_id], now=now)
        return is_new

    def reactions(self, decisions: Iterable[Decision]) -> dict[str, dict[Stage, datetime]]:
        """By decision, when each stage was reached; decisions without reactions are left out."""
        owner = {
            reaction_id(decision, stage): (decision.decision_id, stage) for decision in decisions for stage in Stage
        }
        reached: dict[str, dict[Stage, datetime]] = {}
        with self._read() as connection:
            for chunk in _chunks(owner):
                query = sa.select(_events.c.event_id, _events.c.occurred_at).where(
                    _events.c.event_id.in_(chunk), _events.c.kind == str(Kind.REACTION)
                )
                for event_id, at in connection.execute(query):
                    decision_id, stage = owner[event_id]
                    reached.setdefault(decision_id, {})[stage] = from_microseconds(at)
        return reached

    def dismissed(self, seat_ids: Collection[str], *, since: datetime, until: datetime) -> dict[str, datetime]:
        """When each seat's person last dismissed something in [since, until); those who did not are left out."""
        found: dict[str, datetime] = {}
        with self._read() as connection:
            for chunk in _chunks(seat_ids):
                asked = {"seats": chunk, "since": to_microseconds(since), "until": to_microseconds(until)}
                found |= {seat_id: from_microseconds(at) for seat_id, at in connection.execute(_DISMISSED, asked)}
        return found

    def report(self, outcomes: Collection[Outcome]) -> int:
        """Store outcomes, all or none; returns how many were new. Raises ContradictingOutcome where the other one was
        reported before, and ValueError for a horizon that is none of HORIZONS_DAYS.
        """
        for outcome in outcomes:
            if outcome.horizon_days not in HORIZONS_DAYS:
                raise ValueError(
                    f"horizon_days: expected one of {', '.join(map(str, HORIZONS_DAYS))}, came {outcome.horizon_days}"
                )
        new = 0
        with self._write() as connection:
            known = self._known(connection, {outcome.decision_id for outcome in outcomes})
            for outcome in outcomes:
                before = known.get((outcome.decision_id, outcome.horizon_days))
                if before is not None and before.kept != outcome.kept:
                    raise ContradictingOutcome(
                        f"decision {outcome.decision_id}: {_said(before.kept)} at {outcome.horizon_days} days was "
                        f"reported by {before.source} on {before.reported_at.date()}, now {_said(outcome.kept)}"
                    )
                if before is None:
                    known[outcome.decision_id, outcome.horizon_days] = outcome
                    row = {
                        "decision_id": outcome.decision_id,
                        "horizon_days": outcome.horizon_days,
                        "kept": outcome.kept,
                        "source": outcome.source,
                        "reported_at": to_microseconds(outcome.reported_at),
                    }
                    new += _insert_new(connection, _outcomes, row, _outcomes.c.decision_id)
        return new

    def reported(self, decision_ids: Collection[str]) -> Mapping[tuple[str, int], Outcome]:
        """What was reported of these decisions, by decision and horizon in days."""
        with self._read() as connection:
            return self._known(connection, decision_ids)

    def _known(self, connection: sa.Connection, decision_ids: Collection[str]) -> dict[tuple[str, int], Outcome]:
        found: dict[tuple[str, int], Outcome] = {}
        for chunk in _chunks(decision_ids):
            for row in connection.execute(sa.select(_outcomes).where(_outcomes.c.decision_id.in_(chunk))):
                found[row.decision_id, row.horizon_days] = Outcome(
                    row.decision_id, row.horizon_days, bool(row.kept), row.source, from_microseconds(row.reported_at)
                )
        return found


def reaction_id(decision: Decision, stage: Stage) -> str:
    """The event id of a stage: one for each decision, so that a repeated report counts once."""
    return f"{organization_of(decision.seat_id)}/reaction-{decision.decision_id}-{stage}"


def _said(kept: bool) -> str:
    return "kept" if kept else "not kept"


def _insert_new(
    connection: sa.Connection, table: sa.TableClause, row: Mapping[str, object], key: sa.ColumnClause[Any]
) -> bool:
    """Whether the row was not there. By what comes back: PostgreSQL's driver counts no rows of such an insert."""
    insert: Any = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    statement = insert(table).values(row).on_conflict_do_nothing().returning(key)
    return connection.execute(statement).first() is not None


def _chunks(values: Collection[str]) -> Iterable[list[str]]:
    ordered = sorted(set(values))
    return (ordered[start : start + CHUNK_ROWS] for start in range(0, len(ordered), CHUNK_ROWS))
