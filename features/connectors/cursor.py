"""Cursor: daily usage data of the Admin API."""

from collections.abc import Iterator
from datetime import timedelta

from features.connectors.edge import (
    Connector,
    Edge,
    Item,
    Reached,
    SamePerson,
    SeatSeen,
    account,
    address,
    required,
    totals,
)
from features.connectors.row import Row, end_of_day, start_of_day
from features.events import InvalidItem, Kind

TOOL = "cursor"


def read_day(row: Row, _edge: Edge) -> Iterator[Item]:
    """A member's day; an inactive one is licensed and idle."""
    mail, identifier = address(row.text("email")), account("cursor", row.text("userId"))
    if mail and identifier:
        yield SamePerson(identifier, mail)
    principal = required(mail or identifier, "email")
    at = row.epoch("date", per_second=1000)
    day = row.day("day") or (None if at is None else at.date())
    if day is None:
        raise InvalidItem("date", "is required")
    seat = SeatSeen(principal, TOOL, seen=start_of_day(day))
    yield seat
    yield Reached(end_of_day(day))
    asked = [row.count(name) for name in ("composerRequests", "chatRequests", "agentRequests", "cmdkUsages")]
    counts = [
        ("requests", Kind.PROMPT, None, sum(filter(None, asked))),
        ("accepts", Kind.ACCEPTED, None, row.count("totalAccepts")),
        ("rejects", Kind.REJECTED, None, row.count("totalRejects")),
        ("tabs", Kind.ACCEPTED, "tab", row.count("totalTabsAccepted")),
    ]
    yield from totals(seat, day, counts if row.flag("isActive") is not False else [])


CONNECTORS = (
    Connector(
        name="cursor_daily_usage",
        title="Cursor daily usage data (Admin API, JSON)",
        vendor="Cursor",
        tool=TOOL,
        lag=timedelta(days=1),
        lag_reason="a day",
        yields="a seat per member; a day's totals of `prompt`, `accepted`, `rejected`",
        kinds=(Kind.PROMPT, Kind.ACCEPTED, Kind.REJECTED),
        traps=(
            "`date` is in milliseconds",
            "rows with isActive false are licensed and idle: a seat without events",
            "a tab that was shown and not taken is not rejected",
        ),
        marks=(("email", "isActive", "date"), ("userId", "isActive", "composerRequests")),
        containers=("data",),
        columns="userId day date email isActive totalLinesAdded totalLinesDeleted acceptedLinesAdded acceptedLinesDeleted "
        "totalApplies totalAccepts totalRejects totalTabsShown totalTabsAccepted composerRequests chatRequests "
        "agentRequests cmdkUsages subscriptionIncludedReqs apiKeyReqs usageBasedReqs bugbotUsages mostUsedModel "
        "applyMostUsedExtension tabMostUsedExtension clientVersion",
        read=read_day,
    ),
)
