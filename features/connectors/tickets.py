"""Support tickets about an AI tool: ServiceNow incidents, Zendesk tickets, Jira issues.

A ticket shows a person but no licence, so it makes no seat. Which tool it is about is said by its tags, components and
custom fields, else by its words (features.connectors.edge.TOOL_WORDS); one that names none is left out and counted.
Subject, description and comment are scored at once and dropped.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from features.connectors.edge import (
    Connector,
    Edge,
    Item,
    Note,
    SamePerson,
    Use,
    account,
    address,
    required,
    tool_named,
)
from features.connectors.row import Row
from features.events import InvalidItem, Kind

LAG = timedelta(hours=1)
LAG_REASON = "incremental exports follow within minutes; an hour is our choice"
TOOL = "the one that the ticket names"
_SHARED_TRAPS = (
    "text is scored at the edge and dropped; without the text model the scores are missing, not neutral",
    "a ticket that names no AI tool is left out and counted; a person without a seat of that tool too",
)
MAX_DEPTH = 20


def _ticket(
    edge: Edge, principal: str, at: datetime | None, key: str, labels: list[str | None], text: str, language: str | None
) -> Iterator[Item]:
    if at is None:
        raise InvalidItem("created", "is required")
    tool = tool_named(edge, labels, text)
    if tool is None:
        yield Note("name no AI tool: left out (--tool says which one they are about)")
        return
    yield Use(principal, tool, Kind.TICKET, at, (key, "ticket"), is_voice=True, text=text, language=language)


def read_incident(row: Row, edge: Edge) -> Iterator[Item]:
    """A ServiceNow incident, by who called."""
    caller = row.raw("caller_id")
    who = row.under("caller_id").text("value") if isinstance(caller, Mapping) else row.text("caller_id")
    principal = required(account("servicenow", who), "caller_id")
    labels = [_shown(row, name) for name in ("category", "subcategory", "cmdb_ci", "business_service")]
    text = _joined(row.text("short_description"), row.text("description"))
    key = required(row.text("sys_id", "number"), "sys_id")
    yield from _ticket(edge, principal, row.instant("opened_at", "sys_created_on"), key, labels, text, None)


def read_zendesk(row: Row, edge: Edge) -> Iterator[Item]:
    """A Zendesk ticket; or, of an export with its users, who a requester is."""
    if row.container == "users":
        mail = address(row.text("email"))
        identifier = account("zendesk", row.text("id"))
        if mail and identifier and "@" in mail:
            yield SamePerson(identifier, mail)
        return
    principal = required(account("zendesk", row.text("requester_id")), "requester_id")
    custom = [field.raw("value") for field in row.rows("custom_fields")]
    labels: list[str | None] = [value for value in custom if isinstance(value, str)]
    labels += _texts(row.raw("tags"))
    comment = row.under("satisfaction_rating").text("comment")
    text = _joined(row.text("subject", "raw_subject"), row.text("description"), comment)
    key = required(row.text("id"), "id")
    yield from _ticket(edge, principal, row.instant("created_at"), key, labels, text, None)


def read_jira(row: Row, edge: Edge) -> Iterator[Item]:
    """A Jira issue, by who reported it."""
    fields = row.under("fields")
    reporter = fields.under("reporter")
    mail, identifier = address(reporter.text("emailAddress")), account("jira", reporter.text("accountId", "name"))
    if mail and identifier:
        yield SamePerson(identifier, mail)
    principal = required(mail or identifier, "fields/reporter/accountId")
    labels: list[str | None] = [component.text("name") for component in fields.rows("components")]
    labels += _texts(fields.raw("labels"))
    text = _joined(fields.text("summary"), *_document_texts(fields.raw("description")))
    key = required(row.text("id", "key"), "id")
    yield from _ticket(edge, principal, fields.instant("created"), key, labels, text, None)


def _shown(row: Row, name: str) -> str | None:
    value = row.raw(name)
    if isinstance(value, Mapping):  # sysparm_display_value=all
        return row.under(name).text("display_value", "value")
    return value if isinstance(value, str) else None


def _texts(value: Any) -> list[str | None]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _joined(*parts: str | None) -> str:
    return "\n".join(part for part in parts if part)


def _document_texts(node: Any, depth: int = 0) -> Iterator[str]:
    """The texts of a description: plain, or a document of nested nodes (Atlassian's document format)."""
    if isinstance(node, str):
        yield node
    elif isinstance(node, list) and depth < MAX_DEPTH:
        for item in node:
            yield from _document_texts(item, depth + 1)
    elif isinstance(node, Mapping):
        if isinstance(node.get("text"), str):
            yield node["text"]
        yield from _document_texts(node.get("content") or [], depth + 1) if depth < MAX_DEPTH else ()


CONNECTORS = (
    Connector(
        name="servicenow_incidents",
        title="ServiceNow incidents (JSON)",
        vendor="ServiceNow",
        tool=TOOL,
        lag=LAG,
        lag_reason=LAG_REASON,
        yields="`ticket` with scores and category",
        kinds=(Kind.TICKET,),
        traps=(*_SHARED_TRAPS, "a reference is an object with a link and a value, or a value: both are read"),
        marks=(("number", "caller_id", "short_description"),),
        containers=("result", "records"),
        columns="number sys_id opened_at sys_created_on sys_created_by sys_updated_on closed_at resolved_at state priority "
        "impact urgency category subcategory contact_type caller_id opened_by assignment_group assigned_to cmdb_ci "
        "business_service short_description description close_code sys_domain",
        unread=("close_notes", "work_notes", "comments"),
        read=read_incident,
    ),
    Connector(
        name="zendesk_tickets",
        title="Zendesk tickets (JSON)",
        vendor="Zendesk",
        tool=TOOL,
        lag=LAG,
        lag_reason=LAG_REASON,
        yields="`ticket` with scores and category",
        kinds=(Kind.TICKET,),
        traps=(
            *_SHARED_TRAPS,
            "requesters are numbers: exported with their users (include=users) they join by address",
            "an incremental export repeats a ticket at each change: it counts once, when it was opened",
        ),
        marks=(("requester_id", "created_at", "subject"), ("requester_id", "created_at", "raw_subject")),
        containers=("tickets", "users"),
        columns="id url external_id via created_at updated_at generated_timestamp type subject raw_subject description "
        "priority status custom_status_id requester_id submitter_id assignee_id organization_id group_id "
        "collaborator_ids follower_ids email_cc_ids forum_topic_id problem_id has_incidents is_public due_at tags "
        "custom_fields fields satisfaction_rating sharing_agreement_ids followup_ids ticket_form_id brand_id "
        "allow_channelback allow_attachments from_messaging_channel email name role active time_zone locale",
        unread=("recipient",),
        read=read_zendesk,
    ),
    Connector(
        name="jira_issues",
        title="Jira issues (JSON)",
        vendor="Atlassian",
        tool=TOOL,
        lag=LAG,
        lag_reason=LAG_REASON,
        yields="`ticket` with scores and category",
        kinds=(Kind.TICKET,),
        traps=(*_SHARED_TRAPS, "a description may be text or a document of nested nodes"),
        marks=(("key", "fields", "fields/created", "fields/reporter"),),
        containers=("issues",),
        columns="id key self fields expand",
        read=read_jira,
    ),
)
