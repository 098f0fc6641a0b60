"""Facts: what the log knows around the seats of one request, and restrains what may be done for them."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from features.decisions import NONE, Decision, Stage
from features.events import Kind, organization_of
from features.interventions import Intervention
from features.log import EventLog
from features.tools import ToolProfile
from serving.ledger import Ledger
from serving.policy import Facts, Use

COMPLETED_WITHIN = timedelta(days=56)  # our choice: a workflow not completed for eight weeks is one to show again

Seat = Mapping[str, Any]  # a row of SEAT_SCHEMA


class FactBook:
    """The facts of the seats of one request; each decision that is made in it adds to them."""

    def __init__(
        self,
        seats: Mapping[str, Seat],
        *,
        log: EventLog,
        ledger: Ledger,
        tools: Mapping[str, ToolProfile],
        catalogue: Sequence[Intervention],
        now: datetime,
    ) -> None:
        """Reads the log. seats: by seat id, those that decisions are wanted for."""
        self._seats = seats
        self._tools = tools
        self._uses_by_seat: dict[str, list[Use]] = defaultdict(list)
        self._uses_by_person: dict[str, list[Use]] = defaultdict(list)
        for use in ledger.uses(list(seats), {person for seat in seats.values() for person in _persons(seat)}, now=now):
            self._add(use)
        limited = [intervention.id for intervention in catalogue if intervention.capacity_per_day is not None]
        self._used_today = ledger.used_on_day({organization_of(seat) for seat in seats}, limited, now=now)
        self._completed: dict[str, set[str]] = defaultdict(set)
        self._dismissed_at: dict[str, datetime] = {}
        self._read_events(log, now=now)

    def of(self, seat_id: str, *, wanted: frozenset[str] | None, in_holdout: bool) -> Facts:
        """What is known around the seat. No champion is known yet: features name none."""
        seat = self._seats[seat_id]
        workflows = self._profile(seat_id).high_value_workflows
        uses = [*self._uses_by_seat[seat_id], *(use for who in _persons(seat) for use in self._uses_by_person[who])]
        return Facts(
            person_id=seat["person_id"],
            manager_person_id=seat["manager_person_id"],
            uses=tuple(dict.fromkeys(uses)),
            used_today=self._used_today[organization_of(seat_id)],
            dismissed_at=self._dismissed_at.get(seat_id),
            wanted=wanted,
            workflow=next((name for name in workflows if name not in self._completed[seat_id]), None),
            in_holdout=in_holdout,
        )

    def add(self, decision: Decision) -> None:
        """Note what was decided, for the seats that follow."""
        if decision.intervention == NONE:
            return
        self._add(Use(decision.intervention, decision.decided_at, decision.seat_id, decision.target_person_id))
        today = self._used_today[organization_of(decision.seat_id)]
        today[decision.intervention] = today.get(decision.intervention, 0) + 1

    def _add(self, use: Use) -> None:
        self._uses_by_seat[use.seat_id].append(use)
        if use.person_id is not None:
            self._uses_by_person[use.person_id].append(use)

    def _read_events(self, log: EventLog, *, now: datetime) -> None:
        events = log.events(list(self._seats), since=now - COMPLETED_WITHIN, until=now)
        names = ("seat_id", "kind", "workflow", "guided", "category", "occurred_at")
        for seat_id, kind, workflow, guided, category, at in zip(
            *(events.column(name).to_pylist() for name in names), strict=True
        ):
            if kind == Kind.REACTION and category == Stage.DISMISSED:
                self._dismissed_at[seat_id] = max(at, self._dismissed_at.get(seat_id, at))
            elif workflow is not None and not guided and kind in self._profile(seat_id).meaningful_kinds:
                self._completed[seat_id].add(workflow)

    def _profile(self, seat_id: str) -> ToolProfile:
        return self._tools[self._seats[seat_id]["tool"]]


def _persons(seat: Seat) -> list[str]:
    return [person for person in (seat["person_id"], seat["manager_person_id"]) if person is not None]
