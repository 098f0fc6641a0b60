"""Event streams in open formats: Segment and RudderStack, CloudEvents, xAPI, OpenTelemetry's GenAI spans."""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

from features.connectors.edge import (
    Connector,
    Edge,
    Item,
    Note,
    SamePerson,
    SeatSeen,
    Use,
    account,
    person_key,
    required,
    tool_named,
)
from features.connectors.row import Row, plain
from features.connectors.tracked import NO_PERSON, tracked
from features.events import InvalidItem, Kind

LAG = timedelta(minutes=15)
LAG_REASON = "minutes; 15 is our choice, on the safe side"
IN_HOUSE = "in_house"
_CLOCKS = "client clocks drift: the corrected time is when it occurred, and never after it was received"
_LESSON_VERBS = frozenset({"completed", "passed", "attended", "mastered", "answered"})
_READING_VERBS = frozenset({"experienced", "viewed", "accessed", "launched", "read", "asked"})
_ASKING = frozenset({"chat", "textcompletion", "generatecontent", "invokeagent"})


def read_track(row: Row, edge: Edge) -> Iterator[Item]:
    """A track call of Segment or RudderStack."""
    if plain(row.text("type") or "track") != "track":
        yield Note("are no track calls (identify, page, screen, group): left out")
        return
    at = row.instant("timestamp", "originalTimestamp", "sentAt", "receivedAt")
    if at is None:
        raise InvalidItem("timestamp", "is required")
    yield from tracked(
        edge,
        principal=person_key(row.text("userId")),
        names=(row.text("event"),),
        at=at,
        received=row.instant("receivedAt"),
        key=(required(row.text("messageId"), "messageId"),),
        properties=row.under("properties"),
        labels=(row.text("context/app/name"),),
    )


def read_cloud_event(row: Row, edge: Edge) -> Iterator[Item]:
    """A CloudEvent about a person; source and id together are its identity."""
    at = row.instant("time")
    if at is None:
        raise InvalidItem("time", "is required")
    if not isinstance(row.raw("data"), Mapping):
        yield Note("carry no data as a JSON object: left out")
        return
    data = row.under("data")
    yield from tracked(
        edge,
        principal=person_key(row.text("subject") or data.text("user_id", "user")),
        names=(data.text("action", "kind"), row.text("type")),
        at=at,
        received=row.instant("recordedtime"),
        key=(required(row.text("source"), "source"), required(row.text("id"), "id")),
        properties=data,
        labels=(row.text("source"),),
    )


def read_statement(row: Row, edge: Edge) -> Iterator[Item]:
    """An xAPI statement: a lesson that was finished, or guidance that was read."""
    actor = row.under("actor")
    mail, hashed = person_key(actor.text("mbox")), account("sha1", actor.text("mbox_sha1sum"))
    principal = mail or person_key(actor.under("account").text("name")) or hashed
    if principal is None:
        yield Note(NO_PERSON)
        return
    if mail and hashed:
        yield SamePerson(hashed, mail)
    at = row.instant("timestamp", "stored")
    if at is None:
        raise InvalidItem("timestamp", "is required")
    verb = plain((row.text("verb/id") or "").rstrip("/").rpartition("/")[2])
    kind = Kind.TRAINING if verb in _LESSON_VERBS else Kind.HELP if verb in _READING_VERBS else None
    if kind is None:
        yield Note("have another verb than those of lessons and reading: left out")
        return
    names = row.raw("object/definition/name")
    titles = [name for name in names.values() if isinstance(name, str)] if isinstance(names, Mapping) else []
    tool = tool_named(edge, (*titles, row.text("object/id")))
    if tool is None:
        yield Note("name no tool: give it with --tool")
        return
    key = (required(row.text("id"), "id"), str(kind))
    minutes = row.minutes("result/duration") if kind is Kind.TRAINING else None
    yield Use(principal, tool, kind, at, key, value=minutes, received=row.instant("stored"), is_voice=True)


def read_spans(row: Row, edge: Edge) -> Iterator[Item]:
    """A GenAI span, as one object with flat attributes or inside OTLP's resourceSpans."""
    if row.container in ("resourcespans", "scopespans") or row.has("scopeSpans"):
        for scope in row.rows("scopeSpans"):
            for span in scope.rows("spans"):
                yield from _span(span, edge)
        return
    yield from _span(row, edge)


def _span(span: Row, edge: Edge) -> Iterator[Item]:
    said = _attributes(span)
    principal = person_key(said.text("enduser.pseudo.id", "enduser.id", "user.id", "user.name"))
    if principal is None:
        yield Note(NO_PERSON)
        return
    operation = plain(said.text("gen_ai.operation.name") or "")
    if operation not in _ASKING:
        yield Note("are no question to a model (tools, embeddings, other spans): left out")
        return
    at = span.epoch("startTimeUnixNano", per_second=1_000_000_000)
    if at is None:
        raise InvalidItem("startTimeUnixNano", "is required")
    tool = said.text("rekindle.tool") or edge.tool or IN_HOUSE
    conversation = said.text("gen_ai.conversation.id") or ""
    key = (span.text("traceId") or conversation, span.text("spanId") or at.isoformat())
    yield SeatSeen(principal, tool, seen=at)
    yield Use(principal, tool, Kind.PROMPT, at, (*key, "prompt"))
    if said.text("error.type"):
        yield Use(principal, tool, Kind.ERROR, at, (*key, "error"))


def _attributes(span: Row) -> Row:
    """Attributes by name: a flat object, or OTLP's list of keys and typed values. Only those that are read are kept."""
    raw = span.raw("attributes")
    if isinstance(raw, list):
        flat: dict[str, Any] = {}
        for item in span.rows("attributes"):
            value = item.raw("value")
            typed = list(value.values()) if isinstance(value, Mapping) else []
            flat[item.text("key") or ""] = typed[0] if typed else None
        return Row.of(span.where, flat)
    return span.under("attributes")


CONNECTORS = (
    Connector(
        name="segment_track",
        title="Segment and RudderStack track calls (JSON, NDJSON)",
        vendor="Segment, RudderStack",
        tool="its property `tool`, else what event or app names",
        lag=LAG,
        lag_reason=LAG_REASON,
        yields="the kind that the words of the event's name say; `task` where `outcome` is completed and a workflow named",
        kinds=None,  # a tracking plan is the sender's own: what it has sent
        traps=(_CLOCKS, "available when received (receivedAt)", "without userId it is nobody's: left out and counted"),
        marks=(("messageId", "type", "event"), ("messageId", "event", "originalTimestamp")),
        containers=("batch",),
        unread=("traits",),
        columns="type event userId anonymousId messageId timestamp originalTimestamp sentAt receivedAt context integrations "
        "properties channel version projectId request_ip rudderId name",
        read=read_track,
    ),
    Connector(
        name="cloudevents",
        title="CloudEvents 1.0 (JSON, batch or NDJSON)",
        vendor="CNCF",
        tool="`data.tool`, else what the source names",
        lag=LAG,
        lag_reason=LAG_REASON,
        yields="the kind that `data.action` says; `task` where `data.outcome` is completed and a workflow named",
        kinds=None,  # a tracking plan is the sender's own: what it has sent
        traps=("source and id together identify an event", "subject may be a path: its last part is the person's key"),
        marks=(("specversion", "type", "source", "id"),),
        columns="specversion id source type subject time datacontenttype dataschema data recordedtime traceparent tracestate",
        read=read_cloud_event,
    ),
    Connector(
        name="xapi",
        title="xAPI statements (JSON)",
        vendor="learning platforms",
        tool="what the activity names",
        lag=LAG,
        lag_reason=LAG_REASON,
        yields="`training` in minutes for lessons, `help` for reading",
        kinds=(Kind.TRAINING, Kind.HELP),
        traps=(
            _CLOCKS,
            "available when stored",
            "a learner is not a licence: who has no seat of the tool is left out and counted",
        ),
        marks=(("actor", "verb", "object", "id"),),
        containers=("statements",),
        unread=("authority", "attachments"),
        columns="id actor verb object result context timestamp stored version",
        read=read_statement,
    ),
    Connector(
        name="otel_genai",
        title="OpenTelemetry GenAI spans (JSON, OTLP JSON)",
        vendor="OpenTelemetry",
        tool=f"`{IN_HOUSE}`, or the one of --tool",
        lag=LAG,
        lag_reason=LAG_REASON,
        yields="`prompt` per question to a model, `error` where it failed",
        kinds=(Kind.PROMPT, Kind.ERROR),
        traps=(
            "times are nanoseconds, as numbers in text",
            "spans without an end user are nobody's: left out and counted",
            "messages and instructions in attributes are never looked at",
        ),
        marks=(("startTimeUnixNano", "attributes"), ("scopeSpans",)),
        containers=("resourceSpans",),
        unread=("events", "links"),
        columns="name kind startTimeUnixNano endTimeUnixNano attributes traceId spanId parentSpanId status traceState flags "
        "resource scopeSpans schemaUrl droppedAttributesCount droppedEventsCount droppedLinksCount",
        read=read_spans,
    ),
)
