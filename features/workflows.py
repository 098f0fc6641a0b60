"""Which workflows a seat completes, and the peers in its role: the experience from which its next one is chosen."""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta

import sqlalchemy as sa

from features.events import Kind
from features.instants import to_microseconds

COMPLETED_WITHIN = timedelta(days=56)  # our choice: a workflow not completed for eight weeks is one to show again
CHUNK_ROWS = 5_000
MOST_PEERS = 500  # our choice: more seats of a role would change no order of workflows, and cost time

_seats = sa.table("seats", *(sa.column(name) for name in ("seat_id", "organization", "tool", "role")))
_events = sa.table(
    "events",
    *(sa.column(name) for name in ("seat_id", "kind", "workflow", "occurred_at", "available_at")),
    sa.column("guided", sa.Boolean()),
)
_COMPLETED = (
    sa.select(_events.c.seat_id, _events.c.kind, _events.c.workflow)
    .where(
        _events.c.seat_id.in_(sa.bindparam("seats", expanding=True)),
        _events.c.occurred_at >= sa.bindparam("since"),
        _events.c.occurred_at < sa.bindparam("until"),
        _events.c.kind.in_(sa.bindparam("kinds", expanding=True)),
        _events.c.workflow.is_not(None),
        _events.c.guided.is_(False),
    )
    .distinct()
)


class Completions:
    """Workflows that were completed with AI; what a role completes is remembered until the UTC day is over."""

    def __init__(self, read: Callable[[], AbstractContextManager[sa.Connection]]) -> None:
        """read: opens a connection that only reads."""
        self._read = read
        self._day: datetime | None = None
        self._known: dict[tuple[str, str, str], Mapping[str, int]] = {}

    def of_seats(
        self, seat_ids: Collection[str], kinds: Collection[Kind], *, now: datetime
    ) -> dict[str, set[tuple[str, str]]]:
        """By seat, kind and workflow of what it completed unguided within COMPLETED_WITHIN before `now`."""
        asked = {
            "since": to_microseconds(now - COMPLETED_WITHIN),
            "until": to_microseconds(now),
            "kinds": sorted(map(str, kinds)),
        }
        found: dict[str, set[tuple[str, str]]] = {}
        ordered = sorted(seat_ids)
        with self._read() as connection:
            for start in range(0, len(ordered), CHUNK_ROWS):
                seats = {"seats": ordered[start : start + CHUNK_ROWS]}
                for seat_id, kind, workflow in connection.execute(_COMPLETED, {**asked, **seats}).all():
                    found.setdefault(seat_id, set()).add((kind, workflow))
        return found

    def of_role(
        self, organization: str, tool: str, role: str, kinds: Sequence[Kind], *, now: datetime
    ) -> Mapping[str, int]:
        """By workflow, how many of the first MOST_PEERS seats of the role completed it within COMPLETED_WITHIN before the
        last midnight, of what was known then. kinds: events that are meaningful use; guided ones are none.
        """
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
        if midnight != self._day:
            self._known, self._day = {}, midnight
        key = (organization, tool, role)
        if key not in self._known:
            self._known[key] = self._count(*key, kinds, until=midnight)
        return self._known[key]

    def _count(
        self, organization: str, tool: str, role: str, kinds: Sequence[Kind], *, until: datetime
    ) -> dict[str, int]:
        peers = (
            sa.select(_seats.c.seat_id)
            .where(_seats.c.organization == organization, _seats.c.tool == tool, _seats.c.role == role)
            .distinct()
            .order_by(_seats.c.seat_id)
            .limit(MOST_PEERS)
        )
        query = (
            sa.select(_events.c.workflow, sa.func.count(_events.c.seat_id.distinct()))
            .where(
                _events.c.seat_id.in_(peers.scalar_subquery()),
                _events.c.occurred_at >= to_microseconds(until - COMPLETED_WITHIN),
                _events.c.occurred_at < to_microseconds(until),
                _events.c.available_at <= to_microseconds(until),
                _events.c.kind.in_([str(kind) for kind in kinds]),
                _events.c.workflow.is_not(None),
                _events.c.guided.is_(False),
            )
            .group_by(_events.c.workflow)
        )
        with self._read() as connection:
            return {workflow: int(seats) for workflow, seats in connection.execute(query)}


def next_workflow(high_value: Sequence[str], completed: set[str], by_role: Mapping[str, int]) -> str | None:
    """The high-value workflow that most peers in the role complete and this person does not; the tool's own order where
    they are level, or where no peer completes any. None where the person completes them all.
    """
    missing = [workflow for workflow in high_value if workflow not in completed]
    return max(missing, key=lambda workflow: by_role.get(workflow, 0), default=None)
