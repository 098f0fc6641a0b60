"""The roster over the API: seats are put one by one or by the thousand, and read page by page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from features.events import InvalidItem, Seat, parse_seat, seats_table
from features.log import EventLog
from features.tools import ToolProfile
from serving.access import Caller
from serving.cursors import cursor_of, place_of

MAX_SEATS = 1_000
PAGE, MAX_PAGE = 100, 1_000


@dataclass(frozen=True)
class Stored:
    """What became of one seat. field, reason: why it was rejected, empty otherwise."""

    seat_id: str | None
    field: str = ""
    reason: str = ""

    @property
    def is_rejected(self) -> bool:
        """Whether it was not taken."""
        return bool(self.reason)


class RosterDesk:
    """Takes seats into the roster and shows them, to each caller its own."""

    def __init__(self, log: EventLog, tools: Mapping[str, ToolProfile]) -> None:
        self._log, self._tools = log, tools

    def put(self, items: Sequence[Any], caller: Caller, *, now: datetime) -> list[Stored]:
        """What became of each, in order, once it is durable. Of a seat sent twice the last counts."""
        parsed = [self._parsed(item, caller, now) for item in items]
        seats = {seat.seat_id: seat for seat in parsed if isinstance(seat, Seat)}
        refused = self._log.receive_seats(seats_table(list(seats.values())), now=now) if seats else {}
        return [
            seat
            if isinstance(seat, Stored)
            else Stored(seat.seat_id, refused[seat.seat_id].field, refused[seat.seat_id].reason)
            if seat.seat_id in refused
            else Stored(seat.seat_id)
            for seat in parsed
        ]

    def one(self, seat_id: str) -> dict[str, Any] | None:
        """The seat as the roster has it now, or None."""
        rows = self._log.seats([seat_id]).to_pylist()
        return rows[0] if rows else None

    def page(self, caller: Caller, *, cursor: str | None, limit: int) -> tuple[list[dict[str, Any]], str | None]:
        """Seats that the caller sees, by name, and the cursor of the next page. Raises ProblemError for a wrong cursor."""
        (after,) = ("",) if cursor is None else place_of(cursor, str)
        found = self._log.seat_ids(organization=caller.organization, after=after, limit=limit + 1)
        shown = found[:limit]
        seats = self._log.seats(shown).to_pylist() if shown else []
        return seats, cursor_of(shown[-1]) if len(found) > limit else None

    def _parsed(self, item: Any, caller: Caller, now: datetime) -> Seat | Stored:
        shown = item.get("seat_id") if isinstance(item, Mapping) else None
        shown = shown if isinstance(shown, str) else None
        try:
            if not isinstance(item, Mapping):
                raise InvalidItem("", f"expected an object, came {type(item).__name__}")
            return parse_seat(item, organization=_organization(item, caller), tools=self._tools, now=now)
        except InvalidItem as error:
            return Stored(shown, error.field, error.reason)


def _organization(item: Mapping[str, Any], caller: Caller) -> str:
    """Which organisation the item is of: what it says, what its seat says, what the caller is. Raises InvalidItem."""
    said = item.get("organization")
    seat_id = item.get("seat_id")
    if said is None and isinstance(seat_id, str) and "/" in seat_id:
        said = seat_id.partition("/")[0]
    if said is None:
        said = caller.organization
    if said is None:
        raise InvalidItem("seat_id", "expected `organization/seat`")
    if caller.organization is not None and said != caller.organization:
        raise InvalidItem("organization", f"expected {caller.organization}, the organisation of the key")
    return str(said)
