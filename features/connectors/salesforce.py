"""Salesforce: events of the agent panel, the list of event log files, and answers to recommendations."""

from collections.abc import Iterator
from datetime import timedelta

from features.connectors.edge import Connector, Edge, Item, Note, SeatSeen, Use, required
from features.connectors.row import Row, plain
from features.events import InvalidItem, Kind

TOOL = "einstein"
OBJECT_WORKFLOWS = {  # our choice: what a summary or a draft on a page of this object is for
    "account": "account_research",
    "contact": "account_research",
    "opportunity": "opportunity_review",
    "call": "call_follow_up",
    "videocall": "call_follow_up",
    "voicecall": "call_follow_up",
    "task": "call_follow_up",
}
_CHECKSUM = "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"


def user(value: str | None) -> str | None:
    """The principal of a user id. One of 15 characters tells people apart by letter case alone: 3 are added as in 18.

    Source: Salesforce, "How to convert 15-digit id to 18-digit id".
    """
    if value is None or not value.isascii() or not value.isalnum() or len(value) not in (15, 18):
        return None if value is None else f"salesforce:{value}"
    short = value[:15]
    suffix = ""
    for start in (0, 5, 10):
        bits = sum(1 << place for place, letter in enumerate(short[start : start + 5]) if letter.isupper())
        suffix += _CHECKSUM[bits]
    return f"salesforce:{(short + suffix).lower()}"


def read_agent_event(row: Row, _edge: Edge) -> Iterator[Item]:
    """A step in the agent panel: a message, or its closing."""
    principal = required(user(row.text("UserIdentifier")), "UserIdentifier")
    at = row.instant("UiEventTimestamp", "Timestamp")
    if at is None:
        raise InvalidItem("Timestamp", "is required")
    identifier = required(row.text("RequestIdentifier", "UiRootActivityIdentifier"), "RequestIdentifier")
    step = row.text("MessageIdentifier") or ""
    workflow = OBJECT_WORKFLOWS.get(plain(row.text("PageObjectType") or ""))
    yield SeatSeen(principal, TOOL, seen=at)
    if row.flag("IsAgentPanelExited"):
        elapsed_ms = row.number("UiEventElapsedTime")
        seconds = None if elapsed_ms is None else min(elapsed_ms / 1000, 1e6)
        key = (identifier, step, "session")
        yield Use(principal, TOOL, Kind.SESSION, at, key, workflow=workflow, value=seconds, completed=False)
    elif step:
        yield Use(principal, TOOL, Kind.PROMPT, at, (identifier, step, "prompt"), workflow=workflow)
        if workflow and row.text("TaskName"):
            yield Use(principal, TOOL, Kind.TASK, at, (identifier, step, "task"), workflow=workflow)
    else:
        yield Note("are neither a message nor the closing of the panel: only their seats are taken")


def read_event_log_file(_row: Row, _edge: Edge) -> Iterator[Item]:
    """An entry in the list of log files."""
    yield Note("only list log files: fetch the LogFile of each, they hold the events")


def read_recommendation_response(row: Row, _edge: Edge) -> Iterator[Item]:
    """What a user answered to a recommendation, where it says who and what."""
    who = next((value for value in map(row.text, ("CreatedById", "OwnerId", "UserId")) if value), None)
    answer = plain(row.text("Reaction", "Response", "Outcome") or "")
    kind = {"accepted": Kind.ACCEPTED, "rejected": Kind.REJECTED}.get(answer)
    if who is None or not who.startswith("005"):
        yield Note("name no user who answered (OnBehalfOf is a record, not a user): no event of a person")
        return
    at = row.instant("CreatedDate")
    if at is None:
        raise InvalidItem("CreatedDate", "is required")
    principal = required(user(who), "CreatedById")
    yield SeatSeen(principal, TOOL, seen=at)
    if kind is None:
        yield Note("do not say whether the recommendation was accepted: no event")
        return
    identifier = row.text("Id", "RecommendationKey") or at.isoformat()
    yield Use(principal, TOOL, kind, at, (identifier, at.isoformat(), "reaction"))


_AGENT_COLUMNS = (
    "RequestIdentifier Timestamp UserIdentifier UserType SessionKey LoginKey AgentType AppName BotIdentifier "
    "BotSessionIdentifier ButtonLabel Channel Components FeedbackIdentifier HasToxicityWarning IsAgentPanelExited "
    "MessageIdentifier PageContext PageObjectIdentifier PageObjectType TaskName UiEventElapsedTime UiEventTimestamp "
    "UiRootActivityIdentifier VoiceOrText"
)

CONNECTORS = (
    Connector(
        name="salesforce_agent_events",
        title="Salesforce UI agent interaction event log (CSV)",
        vendor="Salesforce",
        tool=TOOL,
        lag=timedelta(days=1),
        lag_reason="complete after a day; best effort, rows may be lost",
        yields="`session` with its seconds where the panel was closed, `prompt` per message, `task` for a named task on a "
        "page whose object names a workflow",
        workflows=OBJECT_WORKFLOWS,
        kinds=(Kind.SESSION, Kind.PROMPT, Kind.TASK),
        traps=(
            "IsAgentPanelExited soon after opening is a session of few seconds with nothing completed: a quick close",
            "user ids of 15 characters differ by letter case: they become those of 18 before letters are lowered",
            "rows may be lost: absence of a row is no evidence",
        ),
        marks=(("UserIdentifier", "RequestIdentifier", "IsAgentPanelExited"),),
        columns=_AGENT_COLUMNS,
        unread=("ButtonLabel", "PageContext"),
        read=read_agent_event,
    ),
    Connector(
        name="salesforce_event_log_files",
        title="Salesforce EventLogFile objects (CSV)",
        vendor="Salesforce",
        tool=TOOL,
        lag=timedelta(days=1),
        lag_reason="a day's file is written in the night after",
        yields="nothing of a person: it says that the log files have to be fetched",
        kinds=(),
        traps=("the list of files is not the files",),
        marks=(("EventType", "LogDate", "LogFileFieldNames"),),
        containers=("records",),
        columns="Id EventType LogDate Interval Sequence LogFileContentType LogFileFieldNames LogFileFieldTypes "
        "LogFileLength ApiVersion CreatedDate LogFile attributes",
        read=read_event_log_file,
    ),
    Connector(
        name="salesforce_recommendation_responses",
        title="Salesforce RecommendationResponse (JSON)",
        vendor="Salesforce",
        tool=TOOL,
        lag=timedelta(days=1),
        lag_reason="our choice: as the event log",
        yields="`accepted` or `rejected`, where it names the user and the answer",
        kinds=(Kind.ACCEPTED, Kind.REJECTED),
        traps=("OnBehalfOf is a record and no user: without CreatedById it says that no person is named",),
        marks=(("RecommendationKey", "ActionReference"),),
        containers=("records",),
        columns="attributes Id RecommendationKey ActionReference ContextRecord OnBehalfOf CreatedDate CreatedById OwnerId "
        "UserId Reaction Response Outcome _note",
        read=read_recommendation_response,
    ),
)
