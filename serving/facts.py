"""Facts: what the log knows around the seats of one request, and restrains what may be done for them."""

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence, Set
from datetime import datetime, timedelta
from typing import Any

from features.champions import Candidate, Champions
from features.decisions import NONE, Decision
from features.events import organization_of
from features.interventions import Intervention
from features.log import EventLog
from features.tools import ToolProfile
from features.uses import Deciding, Use
from features.workflows import Completions, next_workflow
from serving.policy import CONTACTS_WITHIN, DISMISSAL_REST, MAX_CONTACTS, Facts

Seat = Mapping[str, Any]  # a row of SEAT_SCHEMA
Objected = Callable[[Collection[str]], Set[str]]  # those of the persons who object to decisions about them


def nobody(_persons: Collection[str]) -> Set[str]:
    """No person objects."""
    return frozenset()


class FactBook:
    """The facts of the seats of one request; each decision that is made in it adds to them."""

    def __init__(
        self,
        seats: Mapping[str, Seat],
        *,
        log: EventLog,
        tools: Mapping[str, ToolProfile],
        catalogue: Sequence[Intervention],
        champions: Champions,
        completions: Completions,
        objected: Objected = nobody,
        now: datetime,
    ) -> None:
        """Reads what decisions do not change. seats: by seat id, those that decisions are wanted for."""
        self._seats = seats
        self._tools = tools
        self._catalogue = catalogue
        self._champions = {seat_id: champions.of(seat) for seat_id, seat in seats.items()}
        self._completions = completions
        self._objected = objected(self._all_persons())
        kinds = {kind for seat_id in seats for kind in self._profile(seat_id).meaningful_kinds}
        self._completed = completions.of_seats(list(seats), kinds, now=now)
        self._workflows = {seat_id: self._workflow(seat_id, now=now) for seat_id in seats}
        self._dismissed_at = log.feedback.dismissed(list(seats), since=now - DISMISSAL_REST, until=now)
        self._uses_by_seat: dict[str, list[Use]] = defaultdict(list)
        self._uses_by_person: dict[str, list[Use]] = defaultdict(list)
        self._used_today: dict[str, dict[str, int]] = {}

    def read_uses(self, deciding: Deciding, *, now: datetime) -> None:
        """Reads what was done already, which nobody else can add to until `deciding` ends."""
        persons = self._all_persons()
        self._objected |= deciding.objected(persons) | deciding.erased(persons)  # since the facts were read
        for use in deciding.uses(list(self._seats), persons, now=now):
            self._add(use)
        limited = [intervention.id for intervention in self._catalogue if intervention.capacity_per_day is not None]
        self._used_today = deciding.used_on_day({organization_of(seat) for seat in self._seats}, limited, now=now)

    def of(self, seat_id: str, *, wanted: frozenset[str] | None, in_holdout: bool, now: datetime) -> Facts:
        """What is known around the seat."""
        seat = self._seats[seat_id]
        champion = self._champion(seat_id, now=now)
        persons = [seat["person_id"], seat["manager_person_id"], champion]
        uses = [*self._uses_by_seat[seat_id], *(use for who in persons if who for use in self._uses_by_person[who])]
        return Facts(
            person_id=seat["person_id"],
            manager_person_id=seat["manager_person_id"],
            champion_person_id=champion,
            role=seat["role"],
            uses=tuple(dict.fromkeys(uses)),
            used_today=self._used_today[organization_of(seat_id)],
            dismissed_at=self._dismissed_at.get(seat_id),
            objected=frozenset(self._objected),
            wanted=wanted,
            workflow=self._workflows[seat_id],
            in_holdout=in_holdout,
        )

    def add(self, decision: Decision) -> None:
        """What was decided, for the seats that follow."""
        if decision.intervention == NONE:
            return
        self._add(Use(decision.intervention, decision.decided_at, decision.seat_id, decision.target_person_id))
        today = self._used_today[organization_of(decision.seat_id)]
        today[decision.intervention] = today.get(decision.intervention, 0) + 1

    def _champion(self, seat_id: str, *, now: datetime) -> str | None:
        """The champion to ask: one who may be asked now, the least asked of them, the deepest of those.

        Where all of them rest it is whoever was asked least; the policy then says why not.
        """
        cooldown = {
            item.id: timedelta(days=item.cooldown_days) for item in self._catalogue if item.target == "champion"
        }

        def load(candidate: Candidate) -> tuple[bool, int, int]:
            uses = [use for use in self._uses_by_person[candidate.person_id] if use.person_id == candidate.person_id]
            recent = sum(now - use.at < CONTACTS_WITHIN for use in uses)
            rests = any(now - use.at < cooldown.get(use.intervention, timedelta(0)) for use in uses)
            return rests or recent >= MAX_CONTACTS, recent, -candidate.uses

        willing = [item for item in self._champions[seat_id] if item.person_id not in self._objected]
        return min(willing, key=load).person_id if willing else None

    def _workflow(self, seat_id: str, *, now: datetime) -> str | None:
        seat, profile = self._seats[seat_id], self._profile(seat_id)
        by_role: Mapping[str, int] = {}
        if seat["role"] is not None:
            by_role = self._completions.of_role(
                seat["organization"], seat["tool"], seat["role"], profile.meaningful_kinds, now=now
            )
        done = self._completed.get(seat_id, set())
        own = {workflow for kind, workflow in done if kind in profile.meaningful_kinds}
        return next_workflow(list(profile.high_value_workflows), own, by_role)

    def _all_persons(self) -> set[str]:
        own = {person for seat in self._seats.values() for person in (seat["person_id"], seat["manager_person_id"])}
        asked = {candidate.person_id for found in self._champions.values() for candidate in found}
        return {person for person in own | asked if person is not None}

    def _add(self, use: Use) -> None:
        self._uses_by_seat[use.seat_id].append(use)
        if use.person_id is not None:
            self._uses_by_person[use.person_id].append(use)

    def _profile(self, seat_id: str) -> ToolProfile:
        return self._tools[self._seats[seat_id]["tool"]]
