"""Claude: Claude Code analytics, and the analytics of Claude Enterprise."""

import re
from collections.abc import Iterator
from datetime import date, timedelta

from features.connectors.edge import (
    Connector,
    Edge,
    Item,
    Note,
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

TOOL = "claude"
_ACTIONS = ("edit_tool", "multi_edit_tool", "write_tool", "notebook_edit_tool")
_DAY_IN_NAME = re.compile(r"(?<!\d)(20\d\d)-?(\d\d)-?(\d\d)(?!\d)")


def read_code(row: Row, _edge: Edge) -> Iterator[Item]:
    """A person's day in one terminal with Claude Code."""
    actor = row.under("actor")
    if actor.text("type") == "api_actor" or (actor.has("api_key_name") and not actor.has("email_address")):
        yield Note("are of an API key, which is no person: left out")
        return
    principal = required(address(actor.text("email_address")), "actor/email_address")
    day = row.day("date")
    if day is None:
        raise InvalidItem("date", "is required")
    terminal = row.text("terminal_type") or ""
    seat = SeatSeen(principal, TOOL, seen=start_of_day(day))
    yield seat
    yield Reached(end_of_day(day))
    core, actions = row.under("core_metrics"), row.under("tool_actions")
    accepted, rejected = (
        [actions.count(f"{tool}/{answer}") for tool in _ACTIONS] for answer in ("accepted", "rejected")
    )
    counts = [
        ("sessions", Kind.SESSION, None, core.count("num_sessions")),
        ("accepted", Kind.ACCEPTED, None, sum(filter(None, accepted))),
        ("rejected", Kind.REJECTED, None, sum(filter(None, rejected))),
        ("commits", Kind.TASK, "commit", core.count("commits_by_claude_code")),
        ("pull requests", Kind.TASK, "pull_request", core.count("pull_requests_by_claude_code")),
    ]
    yield from totals(seat, day, counts, period=f"day in {terminal}" if terminal else "day")


def read_enterprise_users(row: Row, edge: Edge) -> Iterator[Item]:
    """A person's day in Claude Enterprise. The answer itself does not say which day was asked for."""
    user = row.under("user")
    mail, identifier = address(user.text("email_address")), account("claude", user.text("id"))
    if mail and identifier:
        yield SamePerson(identifier, mail)
    principal = required(mail or identifier, "user/email_address")
    day = row.day("date", "starting_date") or _day_around(row, edge)
    if day is None:
        yield Note("do not say which day they are of: give it with --day, or in the file's name (…2026-06-24….json)")
        return
    seat = SeatSeen(principal, TOOL, seen=start_of_day(day))
    yield seat
    yield Reached(end_of_day(day))
    chat, code = row.under("chat_metrics"), row.under("claude_code_metrics").under("core_metrics")
    counts = [
        ("conversations", Kind.SESSION, "chat", chat.count("distinct_conversation_count")),
        ("messages", Kind.PROMPT, "chat", chat.count("message_count")),
        ("code sessions", Kind.SESSION, None, code.count("distinct_session_count")),
        ("code commits", Kind.TASK, "commit", code.count("commit_count")),
        ("code pull requests", Kind.TASK, "pull_request", code.count("pull_request_count")),
    ]
    yield from totals(seat, day, counts)


def _day_around(row: Row, edge: Edge) -> date | None:
    said = Row(row.where, row.document).day("date", "starting_date", "day")
    if said is not None or edge.day is not None:
        return said or edge.day
    match = _DAY_IN_NAME.search(row.where.rpartition(", ")[0])
    try:
        return date(*map(int, match.groups())) if match else None
    except ValueError:
        return None


def read_enterprise_summaries(row: Row, _edge: Edge) -> Iterator[Item]:
    """A day's totals of the organisation."""
    day, seats, active = (
        row.day("starting_date"),
        row.count("assigned_seat_count"),
        row.count("daily_active_user_count"),
    )
    invited = row.count("pending_invite_count")
    said = ", ".join(
        f"{'an unknown number of' if count is None else f'{count:,}'} {what}"
        for count, what in ((seats, "seats assigned"), (invited, "invited"), (active, "active that day"))
    )
    yield Note(f"hold no person, only totals: {day or 'on an unknown day'} {said}")


CONNECTORS = (
    Connector(
        name="claude_code_analytics",
        title="Claude Code analytics (Admin API, JSON)",
        vendor="Anthropic",
        tool=TOOL,
        lag=timedelta(hours=1),
        lag_reason="an hour",
        yields="a day's totals of `session`, `accepted`, `rejected`, and `task` for commits and pull requests",
        kinds=(Kind.SESSION, Kind.ACCEPTED, Kind.REJECTED, Kind.TASK),
        traps=(
            "an actor may be an API key: no person, left out and counted",
            "accepted and rejected are summed over the tools",
            "one person may have several rows a day, one a terminal: each counts",
        ),
        marks=(("actor", "core_metrics", "date"),),
        containers=("data",),
        columns="date actor organization_id customer_type subscription_type terminal_type core_metrics tool_actions "
        "model_breakdown",
        read=read_code,
    ),
    Connector(
        name="claude_enterprise_users",
        title="Claude Enterprise analytics, users (JSON)",
        vendor="Anthropic",
        tool=TOOL,
        lag=timedelta(days=3),
        lag_reason="3 days",
        yields="a seat per user; a day's totals of `session`, `prompt`, and `task` for commits and pull requests",
        kinds=(Kind.SESSION, Kind.PROMPT, Kind.TASK),
        traps=(
            "the answer does not say its day: --day, a date in the document, or one in the file's name; else it says so",
            "a user whose counts are all 0 is a seat without events",
        ),
        marks=(("user", "chat_metrics"), ("user", "claude_code_metrics")),
        containers=("data",),
        columns="user chat_metrics web_search_count claude_code_metrics office_metrics cowork_metrics date starting_date",
        read=read_enterprise_users,
    ),
    Connector(
        name="claude_enterprise_summaries",
        title="Claude Enterprise analytics, summaries (JSON)",
        vendor="Anthropic",
        tool=TOOL,
        lag=timedelta(days=3),
        lag_reason="3 days",
        yields="nothing of a person: it says the totals",
        kinds=(),
        traps=("seat counts are totals of the organisation, no roster",),
        marks=(("daily_active_user_count", "assigned_seat_count"),),
        containers=("data", "summaries"),
        columns="starting_date ending_date daily_active_user_count weekly_active_user_count monthly_active_user_count "
        "assigned_seat_count pending_invite_count",
        read=read_enterprise_summaries,
    ),
)
