"""Events and seats: what happened, and at whose licence; parsed and checked at the edge of the house.

Inside the house every `seat_id`, `event_id` and `person_id` is qualified: `organization/local_id`. The edge
(connectors, the API) qualifies on the way in and strips on the way out, so that two organisations may use the same
local identifiers without ever seeing each other.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, Self, TypeVar

import pyarrow as pa
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from features.decisions import Decision

MICROSECONDS_PER_DAY = 86_400_000_000
CLOCK_SKEW = timedelta(minutes=5)  # our choice: a sender's clock may run this far ahead of ours
EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)  # our choice: before any tool that we know of
LARGEST_TOTAL = 1e12  # value times count; nine thousand of them still fit the fixed-point sums of features.history
BATCH_ROWS = 20_000


ModelT = TypeVar("ModelT", bound=BaseModel)


class Kind(StrEnum):
    """What an event says (design: events and seats)."""

    SESSION = "session"
    PROMPT = "prompt"
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    TASK = "task"
    WORK = "work"
    ERROR = "error"
    HELP = "help"
    TRAINING = "training"
    TICKET = "ticket"
    CONFIDENCE = "confidence"
    NPS = "nps"
    INTERVENTION = "intervention"
    REACTION = "reaction"


USE_KINDS = frozenset({Kind.SESSION, Kind.PROMPT, Kind.ACCEPTED, Kind.REJECTED, Kind.TASK})
SURVEY_KINDS = frozenset({Kind.CONFIDENCE, Kind.NPS})
VOICE_KINDS = frozenset({Kind.TICKET, Kind.CONFIDENCE, Kind.NPS})
INTERNAL_KINDS = frozenset({Kind.INTERVENTION, Kind.REACTION})  # written by the decision log, not by senders


def _refuse_address(value: str) -> str:
    if "@" in value:
        raise ValueError("looks like an e-mail address; send a pseudonym instead")
    return value


def _instant(value: object) -> object:
    if isinstance(value, datetime) or (isinstance(value, str) and value[4:5] == "-"):  # not "1700000000"
        return value
    raise ValueError("expected an ISO 8601 date and time with its offset, such as 2026-05-04T09:30:00Z")


def _in_utc(value: datetime) -> datetime:
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError("expected a date between the years 1 and 9999 UTC") from None


Identifier = Annotated[
    str,
    BeforeValidator(lambda value: _refuse_address(value) if isinstance(value, str) else value),
    StringConstraints(strict=True, min_length=1, max_length=128, pattern=r"^[A-Za-z0-9._:~-]+$"),
]
QualifiedIdentifier = Annotated[
    str,
    BeforeValidator(lambda value: _refuse_address(value) if isinstance(value, str) else value),
    StringConstraints(
        strict=True, min_length=3, max_length=257, pattern=r"^[A-Za-z0-9._:~-]{1,128}/[A-Za-z0-9._:~-]{1,128}$"
    ),
]
Word = Annotated[str, StringConstraints(strict=True, min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._:/~ -]+$")]
Code = Annotated[str, StringConstraints(strict=True, pattern=r"^[a-z0-9_.:-]{1,40}$")]  # no room for a sentence
Instant = Annotated[AwareDatetime, BeforeValidator(_instant), AfterValidator(_in_utc)]
UnitInterval = Annotated[float, Field(strict=True, ge=0, le=1, allow_inf_nan=False)]


class Scores(BaseModel):
    """What the text of a ticket or survey said, scored at the edge; the text itself is never kept."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    frustration: UnitInterval | None = None
    uncertainty: UnitInterval | None = None


class Event(BaseModel):
    """Something that happened at a seat.

    `count` > 1 is a total (many sources give daily totals, stamped at the last microsecond of their day); `value` is
    then the mean. Null is unknown, zero is licensed and idle.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    event_id: QualifiedIdentifier
    seat_id: QualifiedIdentifier
    kind: Kind
    occurred_at: Instant
    available_at: Instant
    source: Word
    workflow: Word | None = None
    value: Annotated[float, Field(strict=True, ge=0, le=1e9, allow_inf_nan=False)] | None = None
    count: Annotated[int, Field(strict=True, ge=1, le=1_000_000)] = 1
    completed: Annotated[bool, Field(strict=True)] | None = None
    scores: Scores | None = None
    category: Code | None = None
    guided: Annotated[bool, Field(strict=True)] = False

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.kind in SURVEY_KINDS and self.value is not None and self.value > 10:
            raise ValueError(
                f"value: expected an answer from 0 to 10 for kind {self.kind}, or none where the person was asked and did "
                f"not answer; came {self.value}"
            )
        if self.completed is not None and self.kind is not Kind.SESSION:
            raise ValueError(f"completed: only a session has it, came with kind {self.kind}")
        if self.scores is not None and self.kind not in VOICE_KINDS:
            raise ValueError(f"scores: only tickets and surveys have them, came with kind {self.kind}")
        if self.value is not None and self.value * self.count > LARGEST_TOTAL:
            raise ValueError(
                f"value: expected at most {LARGEST_TOTAL:g} in total, came {self.value} times {self.count}"
            )
        if self.occurred_at < EARLIEST:
            raise ValueError(f"occurred_at: expected a date after {EARLIEST.date()}, came {self.occurred_at}")
        if self.available_at < self.occurred_at:
            raise ValueError(
                f"available_at: expected no earlier than occurred_at ({self.occurred_at}), came {self.available_at}"
            )
        return self


class Seat(BaseModel):
    """One person's licence for one AI tool: the unit that is scored. The roster is the denominator of every rate."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    seat_id: QualifiedIdentifier
    person_id: QualifiedIdentifier
    organization: Identifier
    tool: Word
    role: Word | None = None
    function: Word | None = None
    team: Word | None = None
    manager_person_id: QualifiedIdentifier | None = None
    region: Word | None = None
    hired_on: date | None = None
    assigned_at: Instant
    removed_at: Instant | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.removed_at is not None and self.removed_at < self.assigned_at:
            raise ValueError(f"removed_at: expected after assigned_at ({self.assigned_at}), came {self.removed_at}")
        if organization_of(self.seat_id) != self.organization:
            raise ValueError(f"seat_id: expected one of organisation {self.organization}, came {self.seat_id}")
        return self


@dataclass(frozen=True)
class Rejected:
    """An item that was set aside: where it stood, which field, what was expected, what came."""

    where: str
    field: str
    reason: str

    def __str__(self) -> str:
        return f"{self.where}: {self.field}: {self.reason}" if self.field else f"{self.where}: {self.reason}"


_TIMESTAMP = pa.timestamp("us", tz="UTC")
EVENT_SCHEMA = pa.schema(
    [
        pa.field("event_id", pa.string(), nullable=False),
        pa.field("seat_id", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("occurred_at", _TIMESTAMP, nullable=False),
        pa.field("available_at", _TIMESTAMP, nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("workflow", pa.string()),
        pa.field("value", pa.float64()),
        pa.field("count", pa.int64(), nullable=False),
        pa.field("completed", pa.bool_()),
        pa.field("frustration", pa.float64()),
        pa.field("uncertainty", pa.float64()),
        pa.field("category", pa.string()),
        pa.field("guided", pa.bool_(), nullable=False),
    ]
)
SEAT_SCHEMA = pa.schema(
    [
        pa.field("seat_id", pa.string(), nullable=False),
        pa.field("person_id", pa.string(), nullable=False),
        pa.field("organization", pa.string(), nullable=False),
        pa.field("tool", pa.string(), nullable=False),
        pa.field("role", pa.string()),
        pa.field("function", pa.string()),
        pa.field("team", pa.string()),
        pa.field("manager_person_id", pa.string()),
        pa.field("region", pa.string()),
        pa.field("hired_on", pa.date32()),
        pa.field("assigned_at", _TIMESTAMP, nullable=False),
        pa.field("removed_at", _TIMESTAMP),
    ]
)


@dataclass(frozen=True)
class Batch:
    """What a connector hands over at a time: tables in SEAT_SCHEMA and EVENT_SCHEMA, and what was set aside.

    `decisions` are past decisions with their logged probabilities, where the source has them (features.decisions).
    `lags`: how late each source in `events` is by its nature; a source that is not named has none. `complete_until`: by
    source, up to when the connector knows that it has told everything, where that is later than its last event.
    `aliases`: pseudonyms that stand for another person's (features.aliases). `file`, `records`: which file the events are
    of, and how many of its records this batch took, where the connector says so.
    """

    seats: pa.Table
    events: pa.Table
    rejected: tuple[Rejected, ...] = ()
    decisions: tuple[Decision, ...] = ()
    lags: Mapping[str, timedelta] = field(default_factory=dict)
    complete_until: Mapping[str, datetime] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    file: str = ""
    records: int = 0


def organization_of(qualified_id: str) -> str:
    """The organisation part of a qualified identifier."""
    return qualified_id.partition("/")[0]


def local_id(qualified_id: str) -> str:
    """The part of a qualified identifier that its own organisation knows."""
    return qualified_id.partition("/")[2]


def qualify(organization: str, identifier: object) -> object:
    """`organization/identifier` for a local identifier; anything else is returned as it came, to be checked later."""
    if isinstance(identifier, str) and "/" not in identifier:
        return f"{organization}/{identifier}"
    return identifier


class InvalidItem(ValueError):
    """An event or seat that cannot be taken: which field, what was expected, what came."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}" if field else reason)
        self.field = field
        self.reason = reason


def parse_event(
    raw: Mapping[str, Any], *, organization: str, source: str, now: datetime, lag: timedelta = timedelta(0)
) -> Event:
    """The event that a sender describes, qualified and checked.

    now: aware. A missing `available_at` is `occurred_at + lag` for a backfill; a receiver passes its receive time in
    `raw`. Raises InvalidItem naming the field.
    """
    filled = dict(raw)
    filled.setdefault("source", source)
    for name in ("event_id", "seat_id"):
        filled[name] = qualify(organization, filled.get(name))
    if filled.get("available_at") is None:
        filled["available_at"] = _shifted(filled.get("occurred_at"), lag)
    event = _validated(Event, filled)
    if event.kind in INTERNAL_KINDS:
        raise InvalidItem("kind", f"{event.kind} is written by the decision log only; report it as a reaction")
    if event.occurred_at > now + CLOCK_SKEW:
        raise InvalidItem("occurred_at", f"expected no later than now ({now.isoformat()}), came {event.occurred_at}")
    if event.available_at > max(now + CLOCK_SKEW, event.occurred_at + lag):  # would move the watermark into the future
        raise InvalidItem("available_at", f"expected no later than now ({now.isoformat()}), came {event.available_at}")
    _refuse_foreign(event, ("event_id", "seat_id"), organization)
    return event


def parse_seat(raw: Mapping[str, Any], *, organization: str, tools: Iterable[str], now: datetime) -> Seat:
    """The seat that a sender describes, qualified and checked. now: aware. Raises InvalidItem naming the field."""
    filled = dict(raw)
    organization = checked_organization(filled.get("organization", organization))
    filled["organization"] = organization
    for name in ("seat_id", "person_id", "manager_person_id"):
        if filled.get(name) is not None or name != "manager_person_id":
            filled[name] = qualify(organization, filled.get(name))
    seat = _validated(Seat, filled)
    if seat.assigned_at > now + CLOCK_SKEW:
        raise InvalidItem("assigned_at", f"expected no later than now ({now.isoformat()}), came {seat.assigned_at}")
    if seat.hired_on is not None and seat.hired_on > (now + timedelta(days=1)).date():
        raise InvalidItem("hired_on", f"expected no later than today, came {seat.hired_on}")
    known = sorted(tools)
    if seat.tool not in known:
        raise InvalidItem("tool", f"expected one with a profile ({', '.join(known)}), came {seat.tool!r}")
    _refuse_foreign(seat, ("seat_id", "person_id", "manager_person_id"), organization)
    return seat


def checked_organization(value: object) -> str:
    """The organisation that an item names. Raises InvalidItem unless it is an identifier."""
    try:
        return _ORGANIZATION.validate_python(value)
    except ValidationError as error:
        raise InvalidItem("organization", invalid_item(error).reason) from None


def _refuse_foreign(item: BaseModel, names: Iterable[str], organization: str) -> None:
    for name in names:
        identifier = getattr(item, name)
        if identifier is not None and organization_of(identifier) != organization:
            raise InvalidItem(name, f"expected one of organisation {organization}, came {identifier}")


def events_table(events: Sequence[Event]) -> pa.Table:
    """The events as a table in EVENT_SCHEMA, one row each, in the order given."""
    scores = [event.scores or Scores() for event in events]
    columns: dict[str, list[object]] = {
        "frustration": [score.frustration for score in scores],
        "uncertainty": [score.uncertainty for score in scores],
    }
    for name in EVENT_SCHEMA.names:
        if name not in columns:
            columns[name] = [getattr(event, name) for event in events]
    columns["kind"] = [str(event.kind) for event in events]
    return pa.table({name: columns[name] for name in EVENT_SCHEMA.names}, schema=EVENT_SCHEMA)


def seats_table(seats: Sequence[Seat]) -> pa.Table:
    """The seats as a table in SEAT_SCHEMA, one row each, in the order given."""
    return pa.table({name: [getattr(seat, name) for seat in seats] for name in SEAT_SCHEMA.names}, schema=SEAT_SCHEMA)


def batches(items: Iterable[Seat | Event | Rejected], rows: int = BATCH_ROWS) -> Iterator[Batch]:
    """The items of a row-wise connector, gathered into batches of at most `rows` items."""
    seats: list[Seat] = []
    events: list[Event] = []
    rejected: list[Rejected] = []
    for item in items:
        if isinstance(item, Event):
            events.append(item)
        elif isinstance(item, Seat):
            seats.append(item)
        else:
            rejected.append(item)
        if len(events) + len(seats) + len(rejected) >= rows:
            yield Batch(seats_table(seats), events_table(events), tuple(rejected))
            seats, events, rejected = [], [], []
    if seats or events or rejected:
        yield Batch(seats_table(seats), events_table(events), tuple(rejected))


_INSTANT: TypeAdapter[datetime] = TypeAdapter(Instant)
_ORGANIZATION: TypeAdapter[str] = TypeAdapter(Identifier)


def _shifted(occurred_at: object, lag: timedelta) -> datetime:
    try:
        instant = _INSTANT.validate_python(occurred_at)
    except ValidationError:
        return EARLIEST  # occurred_at itself is refused, and named, by the model
    return instant + lag if instant <= datetime.max.replace(tzinfo=UTC) - lag else instant


def _validated(model: type[ModelT], raw: Mapping[str, Any]) -> ModelT:
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        raise invalid_item(error) from None


def invalid_item(error: ValidationError) -> InvalidItem:
    """The first thing that pydantic found wrong, in our words."""
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "missing" or first["input"] is None:
        return InvalidItem(field, "is required")
    if not field:
        field, colon, reason = message.partition(": ")
        return InvalidItem(field, reason) if colon else InvalidItem("", message)
    message = _PLAIN.get(first["type"], message)
    if first["loc"][-1] not in _ECHOED or "e-mail" in message:  # a name, an address or a text must not reach a log
        return InvalidItem(field, message)
    return InvalidItem(field, f"{message}, came {shown(first['input'])}")


_ECHOED = frozenset(
    {
        "kind",
        "tool",
        "count",
        "value",
        "completed",
        "guided",
        "frustration",
        "uncertainty",
        "occurred_at",
        "available_at",
    }
    | {"assigned_at", "removed_at", "hired_on"}
)
_PLAIN = {
    "string_pattern_mismatch": "expected letters, digits and . _ : ~ - only",
    "extra_forbidden": "there is no such field; see docs/events.md",
}


def shown(value: object) -> str:
    """What came, short enough for a message; nothing that looks like an e-mail address."""
    text = str(value)
    return "an e-mail address" if "@" in text else repr(text[:80])
