"""Taking in events: checked one by one, written in groups, answered only once they are durable."""

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from features.events import Event, InvalidItem, events_table, organization_of, parse_event, qualify
from features.log import EventLog, Received, never_assigned
from serving.groups import Line

SOURCE = "api"
GROUP_EVENTS = 5_000  # our choice: a group is written in well under a second


class Status(StrEnum):
    """What became of an event."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    REJECTED = "rejected"


@dataclass(frozen=True)
class Outcome:
    """What became of one event of a request. field, reason: why it was rejected, empty otherwise."""

    event_id: str | None
    status: Status
    field: str = ""
    reason: str = ""


@dataclass(frozen=True)
class _Waiting:
    events: Sequence[Event]
    now: datetime
    answer: "Future[Received]"


@dataclass(frozen=True)
class Begun:
    """Events on their way into the log. answer: comes when they are there."""

    parsed: Sequence[Event | Outcome]
    answer: "Future[Received]"

    def outcomes(self, received: Received) -> list[Outcome]:
        """What became of each, in order."""
        seen: set[str] = set()
        return [event if isinstance(event, Outcome) else _outcome(event, received, seen) for event in self.parsed]


class Intake:
    """One writer for all requests of a process: what waits is written together, in one transaction."""

    def __init__(self, log: EventLog, *, clock: Callable[[], datetime], stored: Callable[[], None]) -> None:
        """stored: called after each group that was written."""
        self._log, self._clock, self._stored = log, clock, stored
        self._line: Line[_Waiting] = Line("the intake of events")
        self._writer = threading.Thread(target=self._write, name="intake", daemon=True)
        self._writer.start()

    def close(self) -> None:
        """Write what waits, then stop."""
        self._line.close()
        self._writer.join()

    def take(self, items: Sequence[Any], *, organization: str | None = None) -> list[Outcome]:
        """What became of each event, in order, after everything accepted is durable. Raises what the database raises:
        then nothing of it was accepted; and Closed after `close`.

        organization: the only one whose seats there are for the sender, and of seats that name none; None for all.
        """
        begun = self.begin(items, organization=organization)
        return begun.outcomes(begun.answer.result())

    def begin(self, items: Sequence[Any], *, organization: str | None = None) -> "Begun":
        """As `take`, without waiting."""
        now = self._clock()
        begun = Begun([_parsed(item, now, organization) for item in items], Future())
        events = [event for event in begun.parsed if isinstance(event, Event)]
        if events:
            self._line.put(_Waiting(events, now, begun.answer))
        else:
            begun.answer.set_result(Received(frozenset(), {}))
        return begun

    def _write(self) -> None:
        is_open = True
        while is_open:
            group, is_open = self._line.take(lambda one: len(one.events), GROUP_EVENTS)
            if group:
                self._write_group(group)

    def _write_group(self, group: Sequence[_Waiting]) -> None:
        """One transaction for all; whoever sent an event first of the group is told that it was new."""
        try:
            received = self._log.receive(
                events_table([event for one in group for event in one.events]), now=max(one.now for one in group)
            )
        except Exception as error:  # whatever the database raises is the callers' to answer, and the writer goes on
            for one in group:
                one.answer.set_exception(error)
            return
        new = set(received.new)
        for one in group:
            own = new & {event.event_id for event in one.events}
            new -= own
            one.answer.set_result(Received(frozenset(own), received.refused))
        self._stored()


def _parsed(item: Any, now: datetime, organization: str | None) -> Event | Outcome:
    if isinstance(item, InvalidItem):
        return Outcome(None, Status.REJECTED, item.field, item.reason)
    event_id = item.get("event_id") if isinstance(item, Mapping) else None
    shown = event_id if isinstance(event_id, str) else None
    try:
        event = _event(item, now, organization)
        if organization is not None and organization_of(event.seat_id) != organization:
            raise InvalidItem("seat_id", never_assigned(event.seat_id))
    except InvalidItem as error:
        return Outcome(shown, Status.REJECTED, error.field, error.reason)
    return event


def _event(item: Any, now: datetime, organization: str | None) -> Event:
    if not isinstance(item, Mapping):
        raise InvalidItem("", f"expected an object, came {type(item).__name__}")
    if "available_at" in item:
        raise InvalidItem("available_at", "is set here, to the time of receipt; leave it out")
    seat_id = item.get("seat_id")
    if organization is not None:
        seat_id = qualify(organization, seat_id)
    if not isinstance(seat_id, str) or "/" not in seat_id:
        raise InvalidItem("seat_id", "expected `organization/seat`")
    early = parse_event({**item, "seat_id": seat_id}, organization=organization_of(seat_id), source=SOURCE, now=now)
    return early.model_copy(update={"available_at": max(now, early.occurred_at)})


def _outcome(event: Event, received: Received, seen: set[str]) -> Outcome:
    reason = received.refused.get((event.event_id, event.seat_id))
    if reason is not None:
        return Outcome(event.event_id, Status.REJECTED, "seat_id", reason)
    is_first = event.event_id not in seen
    seen.add(event.event_id)
    is_new = is_first and event.event_id in received.new
    return Outcome(event.event_id, Status.ACCEPTED if is_new else Status.DUPLICATE)
