"""ChatGPT Enterprise: the export of user engagement."""

from collections.abc import Iterator
from datetime import timedelta

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
from features.connectors.row import Row, end_of_day, parsed_list, plain, start_of_day
from features.events import InvalidItem, Kind

TOOL = "chatgpt_enterprise"
_GONE = frozenset({"disabled", "deleted", "deactivated", "removed", "suspended"})


def read_engagement(row: Row, _edge: Edge) -> Iterator[Item]:
    """A member's week or month. A total is known when its period is over, so it stands at its end."""
    mail, identifier = address(row.text("email")), account("chatgpt", row.text("public_id"))
    if mail and identifier:
        yield SamePerson(identifier, mail)
    principal = required(mail or identifier, "email")
    first, last = row.day("period_start"), row.day("period_end")
    if first is None or last is None:
        raise InvalidItem("period_end" if first else "period_start", "is required")
    invited = row.day("created_or_invited_date")
    assigned_at = None if invited is None else start_of_day(invited)
    is_gone = plain(row.text("user_status") or "") in _GONE
    removed_at = max(end_of_day(last), assigned_at or end_of_day(last)) if is_gone else None
    department = next((name for name in parsed_list(row.text("department") or "") if name), None)
    function = Row.of(row.where, {"department": department}).word("department")
    seat = SeatSeen(
        principal,
        TOOL,
        seen=start_of_day(max(first, invited) if invited and invited <= last else first),
        assigned_at=assigned_at,
        removed_at=removed_at,
        is_roster=True,
        function=function,
    )
    yield seat
    messages = row.count("messages")
    if plain(row.text("cadence") or "weekly") != "weekly":
        yield Note(
            "are of months, which hold their weeks again and hide a silence of weeks: export by week; seats only"
        )
        return
    yield Reached(end_of_day(last))
    yield from totals(seat, last, [("messages", Kind.PROMPT, None, messages)], period="week")


CONNECTORS = (
    Connector(
        name="chatgpt_engagement",
        title="ChatGPT Enterprise user engagement (CSV)",
        vendor="OpenAI",
        tool=TOOL,
        lag=timedelta(days=1),
        lag_reason="a day after the end of the period",
        yields="the roster: assignment, department, removal; a week's total of `prompt`",
        kinds=(Kind.PROMPT,),
        traps=(
            "rows are weeks or months: months hold the same weeks again, so they give seats only, and it says so",
            "enabled with 0 messages is a seat without events; no number is unknown",
            "`department` may be a JSON array in a string; the printed Python dictionaries are thrown away unread",
            "created_or_invited_date is the assignment",
        ),
        marks=(("cadence", "period_start", "email", "messages"), ("period_start", "public_id", "messages")),
        unread=("name", "model_to_messages", "gpt_to_messages", "tool_to_messages", "project_to_messages"),
        columns="cadence period_start period_end account_id public_id email role user_role department groups user_status "
        "created_or_invited_date is_active first_day_active_in_period last_day_active_in_period messages messages_rank "
        "gpt_messages gpts_messaged tool_messages tools_messaged project_messages projects_messaged projects_created "
        "last_day_active",
        read=read_engagement,
    ),
)
