"""Taking in events: checked one by one, written in groups, answered only once they are durable."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from features.events import Event, InvalidItem, events_table, organization_of, parse_event, qualify
from features.log import EventLog, KnownEvent, Received, never_assigned
from serving.cloudevents import Plain
from serving.groups import Groups

SOURCE = "api"
GROUP_EVENTS = 5_000  # our choice: a group is written in well under a second
NOTHING = Received(frozenset(), {})


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
class Parsed:
    """The events of a request, checked one by one at `now`; of those that were refused, what became of them. events: the
    others, which are to be written. former: by event id, the one under which earlier versions stored a CloudEvent.
    """

    items: Sequence[Event | Outcome]
    events: Sequence[Event]
    now: datetime
    former: Mapping[str, str]

    def outcomes(self, received: Received) -> list[Outcome]:
        """What became of each, in order."""
        seen: set[str] = set()
        return [item if isinstance(item, Outcome) else _outcome(item, received, seen) for item in self.items]


class Intake:
    """One writer for all requests of a process: what waits is written together, in one transaction."""

    def __init__(self, log: EventLog, *, clock: Callable[[], datetime], stored: Callable[[], None]) -> None:
        """stored: called after each group that was written."""
        self._log, self._clock, self._stored = log, clock, stored
        self._groups: Groups[Parsed, Received] = Groups(
            "intake", self._write, most=GROUP_EVENTS, size=lambda parsed: len(parsed.events)
        )

    @property
    def is_working(self) -> bool:
        """Whether events are written at all."""
        return self._groups.is_working

    def close(self) -> None:
        """Write what waits, then stop."""
        self._groups.close()

    def take(self, items: Sequence[Any], *, organization: str | None = None) -> list[Outcome]:
        """What became of each event, in order, after everything accepted is durable. Raises what the database raises:
        then nothing of it was accepted; and Closed after `close`.

        organization: the only one whose seats there are for the sender, and of seats that name none; None for all.
        """
        parsed = self.parse(items, organization=organization)
        return parsed.outcomes(self._groups.put(parsed).result() if parsed.events else NOTHING)

    def parse(self, items: Sequence[Any], *, organization: str | None) -> Parsed:
        """The events, checked; nothing is written."""
        now = self._clock()
        parsed = [_parsed(item.item if isinstance(item, Plain) else item, now, organization) for item in items]
        former = {
            event.event_id: str(qualify(organization_of(event.seat_id), item.former_id))
            for item, event in zip(items, parsed, strict=True)
            if isinstance(item, Plain) and item.former_id is not None and isinstance(event, Event)
        }
        return Parsed(parsed, [item for item in parsed if isinstance(item, Event)], now, former)

    async def write(self, parsed: Parsed) -> list[Outcome]:
        """As `take`, for an event loop. Whoever stops waiting takes nothing back."""
        return parsed.outcomes(await self._groups.ask(parsed) if parsed.events else NOTHING)

    def _write(self, group: Sequence[Parsed]) -> list[Received]:
        """One transaction for all; whoever sent an event first of the group is told that it was new."""
        events = self._without_former([event for parsed in group for event in parsed.events], group)
        received = self._log.receive(events_table(events), now=max(parsed.now for parsed in group))
        self._stored()
        new, answers = set(received.new), []
        for parsed in group:
            stored = {one.event_id for one in parsed.events if (one.event_id, one.seat_id) not in received.refused}
            own = new & stored
            new -= own
            answers.append(Received(frozenset(own), received.refused))
        return answers

    def _without_former(self, events: Sequence[Event], group: Sequence[Parsed]) -> Sequence[Event]:
        """The events but those that an earlier version stored: they are known. Its ids are not enough to tell, for it knew
        them without their sources, of which only so much was kept as fits.
        """
        former = {event_id: before for parsed in group for event_id, before in parsed.former.items()}
        if not former:
            return events
        known = self._log.known_events(former.values())
        return [event for event in events if known.get(former.get(event.event_id, "")) != _as_known(event)]


def _as_known(event: Event) -> KnownEvent:
    return KnownEvent(event.source, event.seat_id, event.kind, event.occurred_at)


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
