"""The desk: decisions of several requests made together, in one transaction, so that they share its sync."""

import asyncio
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from features.audit import Reader
from features.decisions import Decision
from serving.advisor import Advisor
from serving.groups import Groups
from serving.problems import Problem

AT_ONCE = 32  # our choice: requests; they wait for each other's work
Decided = list[Decision | Problem]


@dataclass(frozen=True)
class Asked:
    """What one request wants decided. wanted: among these interventions only; None for all; reader: who asks. work_id: of
    a call that may be begun again, which then finds what it decided before.
    """

    seats: Sequence[str]
    wanted: frozenset[str] | None
    reader: Reader
    work_id: str | None = None

    @property
    def decision_ids(self) -> dict[str, str]:
        """By seat the id of its decision, where the call says it."""
        if self.work_id is None:
            return {}
        return {seat: str(uuid.uuid5(uuid.UUID(self.work_id), seat)) for seat in self.seats}


@dataclass
class _Round:
    wanted: frozenset[str] | None
    seats: dict[str, Reader] = field(default_factory=dict)
    requests: list[Sequence[str]] = field(default_factory=list)
    decision_ids: dict[str, str] = field(default_factory=dict)
    members: list[int] = field(default_factory=list)


class Desk:
    """Decides for the requests that wait, in the order in which they came; a seat asked twice is decided twice."""

    def __init__(self, advisor: Advisor) -> None:
        self._advisor = advisor
        self._groups: Groups[Asked, Decided | Exception] = Groups("desk", self._decide, most=AT_ONCE)

    def ask(self, asked: Asked) -> "asyncio.Future[Decided | Exception]":
        """The decision or the problem of each seat, in order, to come once it is durable; or why there is none."""
        return self._groups.ask(asked)

    @property
    def is_working(self) -> bool:
        """Whether anything is decided at all."""
        return self._groups.is_working

    def close(self) -> None:
        """Decide what waits, then stop."""
        self._groups.close()

    def _decide(self, waiting: Sequence[Asked]) -> list[Decided | Exception]:
        answers: dict[int, Decided | Exception] = {}
        for part in _rounds(waiting):
            try:
                decided = self._advisor.decide(
                    list(part.seats),
                    wanted=part.wanted,
                    readers=part.seats,
                    requests=part.requests,
                    decision_ids=part.decision_ids,
                )
            except Exception as error:  # the next round may fare better, and each caller is told
                answers.update(dict.fromkeys(part.members, error))
                continue
            by_seat = dict(zip(part.seats, decided, strict=True))
            answers.update({number: [by_seat[seat] for seat in waiting[number].seats] for number in part.members})
        return [answers[number] for number in range(len(waiting))]


def _rounds(waiting: Sequence[Asked]) -> Iterator[_Round]:
    """Requests that can be decided as one: they want the same, and share no seat."""
    part = _Round(None)
    for number, asked in enumerate(waiting):
        if part.members and (asked.wanted != part.wanted or not part.seats.keys().isdisjoint(asked.seats)):
            yield part
            part = _Round(None)
        part.wanted = asked.wanted
        part.seats.update(dict.fromkeys(asked.seats, asked.reader))
        part.requests.append(asked.seats)
        part.decision_ids.update(asked.decision_ids)
        part.members.append(number)
    if part.members:
        yield part
