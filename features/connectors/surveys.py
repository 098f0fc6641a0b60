"""Pulse surveys, and the file that says which names are one person's. Both formats are our own."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from features.connectors.edge import (
    Connector,
    Edge,
    Item,
    Note,
    SamePerson,
    Use,
    account,
    address,
    person_key,
    required,
)
from features.connectors.row import Row
from features.connectors.salesforce import user as salesforce_user
from features.events import InvalidItem, Kind

QUESTIONS = (("nps_0_10", Kind.NPS), ("confidence_0_10", Kind.CONFIDENCE))
ACCOUNTS = (
    "entra",
    "github",
    "servicenow",
    "salesforce",
    "zendesk",
    "jira",
    "google",
    "claude",
    "cursor",
    "chatgpt",
    "viva",
)


def read_survey(row: Row, edge: Edge) -> Iterator[Item]:
    """What a person answered, and what was asked and not answered."""
    principal = required(person_key(row.text("user_key", "email")), "user_key")
    identifier = required(row.text("response_id"), "response_id")
    tool = row.text("tool") or edge.tool
    if tool is None:
        raise InvalidItem("tool", "is required, in the file or with --tool")
    submitted_at = row.instant("submitted_at")
    asked_at = submitted_at or row.instant("sent_at")
    if asked_at is None:
        raise InvalidItem("submitted_at", "is required, or sent_at where nobody answered")
    may_score = row.flag("consent_text_processing") is True
    text = row.text("free_text") if may_score else None
    if not may_score and row.text("free_text"):
        yield Note("have a text without consent to score it: dropped")
    for column, kind in QUESTIONS:
        answer = row.number(column)
        if answer is None:
            if row.has(column):
                yield from unanswered(principal, tool, kind, asked_at, identifier)
            continue
        if answer > 10:
            raise InvalidItem(column, "expected an answer from 0 to 10, came a higher one")
        key = (identifier, str(kind))
        scored = text if kind is Kind.CONFIDENCE or row.number("confidence_0_10") is None else None
        language = row.text("language")
        yield Use(
            principal, tool, kind, asked_at, key, value=answer, is_voice=True, text=scored, language=language
        )  # the text counts once


def unanswered(principal: str, tool: str, kind: Kind, asked_at: datetime, response: str) -> Iterator[Use]:
    """That a person was asked and did not answer: an event without a value."""
    yield Use(principal, tool, kind, asked_at, (response, str(kind)), is_voice=True)


def read_people(row: Row, _edge: Edge) -> Iterator[Item]:
    """The accounts of one person, by the address that they all join on."""
    principal = required(address(row.text("email")), "email")
    for vendor in ACCOUNTS:
        name = account(vendor, row.text(vendor))
        if name:
            yield SamePerson(_as_read(vendor, name, row.text(vendor) or ""), principal)
    key = person_key(row.text("user_key"))
    if key and key != principal:
        yield SamePerson(key, principal)


def _as_read(vendor: str, name: str, value: str) -> str:
    return (salesforce_user(value) or name) if vendor == "salesforce" else name


CONNECTORS = (
    Connector(
        name="pulse_survey",
        title="Pulse survey (CSV, our own format)",
        vendor="your own",
        tool="the one in its column `tool`",
        lag=timedelta(0),
        lag_reason="an answer is known when it is given",
        yields="`nps`, `confidence` (0 to 10) with scores of the text",
        kinds=(Kind.NPS, Kind.CONFIDENCE),
        traps=(
            "text is scored only with consent, once, and dropped",
            "asked and not answered is not the same as not asked",
            "a person without a seat of that tool is left out and counted",
        ),
        marks=(("response_id", "survey_id", "submitted_at"),),
        columns="response_id user_key email survey_id submitted_at sent_at tool nps_0_10 confidence_0_10 free_text language "
        "consent_text_processing",
        read=read_survey,
    ),
    Connector(
        name="people",
        title="Who is who (CSV, our own format)",
        vendor="your own",
        tool="none",
        lag=timedelta(0),
        lag_reason="none: it holds no events",
        yields="no events: which accounts are one person's, so that sources without addresses join",
        kinds=(),
        traps=("columns: email, user_key, " + ", ".join(ACCOUNTS) + "; who is who is kept as pseudonyms only",),
        marks=(("email", "user_key"), *(("email", vendor) for vendor in ACCOUNTS)),
        columns=" ".join(("email", "user_key", *ACCOUNTS)),
        read=read_people,
    ),
)
