"""Gemini in Google Workspace: activities of the Reports API."""

from collections.abc import Iterator
from datetime import timedelta

from features.connectors.edge import Connector, Edge, Item, Note, SamePerson, SeatSeen, Use, account, address, required
from features.connectors.row import Row, plain
from features.events import InvalidItem, Kind

TOOL = "gemini_workspace"
APP_WORKFLOWS = {  # our choice: what the feature in this app is for
    "docs": "document_draft",
    "gmail": "inbox_triage",
    "sheets": "spreadsheet_analysis",
    "slides": "presentation",
    "meet": "meeting_notes",
    "drive": "file_search",
    "chat": "chat_summary",
    "gemini_app": "gemini_chat",
    "vids": "video",
}
PASSIVE = ("inactive", "passive", "proactive")


def read_activity(row: Row, _edge: Edge) -> Iterator[Item]:
    """What a person did with Gemini in one app; an activity may hold several events."""
    actor = row.under("actor")
    mail, profile = address(actor.text("email")), account("google", actor.text("profileId"))
    if mail and profile:
        yield SamePerson(profile, mail)
    principal = required(mail or profile, "actor/email")
    at = row.instant("id/time")
    if at is None:
        raise InvalidItem("id/time", "is required")
    qualifier = required(row.text("id/uniqueQualifier"), "id/uniqueQualifier")
    yield SeatSeen(principal, TOOL, seen=at)
    for number, event in enumerate(row.rows("events")):
        parameters = {item.text("name"): item for item in event.rows("parameters")}
        app, action, category = (
            plain(parameters[name].text("value") or "") if name in parameters else ""
            for name in ("app_name", "action", "event_category")
        )
        if category.startswith(PASSIVE) or action.startswith(PASSIVE):
            yield Note("hold what Gemini offered unasked: that is not use")
            continue
        workflow = APP_WORKFLOWS.get(app) or APP_WORKFLOWS.get(app.removesuffix("app") + "_app")
        key = (qualifier, at.isoformat(), str(number))
        yield Use(principal, TOOL, Kind.PROMPT, at, (*key, "prompt"), workflow=workflow)
        if workflow and "conversation" not in category + action:
            yield Use(principal, TOOL, Kind.TASK, at, (*key, "task"), workflow=workflow)


CONNECTORS = (
    Connector(
        name="gemini_workspace",
        title="Gemini in Workspace apps (Admin SDK Reports, JSON)",
        vendor="Google",
        tool=TOOL,
        lag=timedelta(days=3),
        lag_reason="1 to 3 days",
        yields="`prompt` per use of a feature, `task` where the feature wrote or summed up something in an app that names a "
        "workflow",
        workflows=APP_WORKFLOWS,
        kinds=(Kind.PROMPT, Kind.TASK),
        traps=(
            "app, action and category stand in a list of parameters",
            "what is offered unasked (category inactive) is not use",
            "no date of assignment: the first day seen stands in",
        ),
        marks=(("id/uniqueQualifier", "actor", "events"),),
        containers=("items",),
        unread=("ipAddress",),
        columns="kind id etag actor events ownerDomain networkInfo resourceDetails",
        read=read_activity,
    ),
)
