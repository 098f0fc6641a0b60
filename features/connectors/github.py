"""GitHub Copilot: usage metrics of users, team membership, and who holds a seat."""

from collections.abc import Iterator
from datetime import timedelta

from features.connectors.edge import (
    Connector,
    Edge,
    Item,
    Note,
    Reached,
    SeatSeen,
    Use,
    account,
    required,
    totals,
)
from features.connectors.row import Row, end_of_day, start_of_day
from features.events import InvalidItem, Kind

TOOL = "github_copilot"


def read_user_metrics(row: Row, _edge: Edge) -> Iterator[Item]:
    """A user's day, out of a 1-day or a 28-day report: both give the same events."""
    principal = required(account("github", row.text("user_login")), "user_login")
    day = row.day("day")
    if day is None:
        raise InvalidItem("day", "is required; totals over a whole report overlap and are no events")
    seat = SeatSeen(principal, TOOL, seen=start_of_day(day))
    yield seat
    yield Reached(end_of_day(row.day("report_end_day") or day))
    reviews = 1 if row.flag("used_copilot_code_review_active") else 0  # passive review is not use
    cli = row.under("totals_by_cli")  # `active` and the interactions leave the command line out
    counts = [
        ("interactions", Kind.PROMPT, None, row.count("user_initiated_interaction_count")),
        ("acceptances", Kind.ACCEPTED, None, row.count("code_acceptance_activity_count")),
        ("cli prompts", Kind.PROMPT, "cli", cli.count("prompt_count")),
        ("reviews", Kind.TASK, "code_review", reviews),
    ]
    yield from totals(seat, day, counts)
    if row.flag("used_cli") and not cli.count("prompt_count"):
        yield Note("used the command line without a count of its prompts: nothing is counted for that")


def read_seat(row: Row, _edge: Edge) -> Iterator[Item]:
    """A licence, and when it was last used."""
    holder = row.under("assignee")
    if not holder.fields:
        yield Note("are seats that nobody holds yet")
        return
    principal = required(account("github", holder.text("login")), "assignee/login")
    assigned_at = row.instant("created_at")
    if assigned_at is None:
        raise InvalidItem("created_at", "is required")
    removal = row.day("pending_cancellation_date")
    removed_at = None if removal is None else max(start_of_day(removal), assigned_at)
    seen = row.instant("updated_at") or assigned_at
    team = row.under("assigning_team").word("slug", "name")
    yield SeatSeen(principal, TOOL, seen, assigned_at=assigned_at, removed_at=removed_at, is_roster=True, team=team)
    last = row.instant("last_activity_at")  # null after 90 days: not known, which is not never
    if last is not None:
        yield Use(principal, TOOL, Kind.SESSION, last, ("last activity", last.isoformat()))


def read_user_teams(row: Row, _edge: Edge) -> Iterator[Item]:
    """A user's team on a day."""
    principal = required(account("github", row.text("user_login")), "user_login")
    day = row.day("day")
    if day is None:
        raise InvalidItem("day", "is required: a membership holds for its day only")
    yield SeatSeen(principal, TOOL, seen=start_of_day(day), team=row.word("slug"))


def read_envelope(row: Row, _edge: Edge) -> Iterator[Item]:
    """What stands around a report: where it can be fetched."""
    links = row.raw("download_links")
    number = len(links) if isinstance(links, list) else 0
    yield Note(f"only say where to fetch the report ({number} download links): fetch those, they hold the users")


_METRICS = (
    "user_id user_login day organization_id enterprise_id report_start_day report_end_day totals_by_cli "
    "user_initiated_interaction_count code_generation_activity_count code_acceptance_activity_count "
    "loc_suggested_to_add_sum loc_suggested_to_delete_sum loc_added_sum loc_deleted_sum used_chat used_agent used_cli "
    "used_copilot_code_review_active used_copilot_code_review_passive used_copilot_coding_agent totals_by_ide "
    "totals_by_feature totals_by_language_feature totals_by_language_model totals_by_model_feature"
)

CONNECTORS = (
    Connector(
        name="github_copilot_metrics",
        title="GitHub Copilot user metrics (1-day and 28-day, NDJSON)",
        vendor="GitHub",
        tool=TOOL,
        lag=timedelta(days=3),
        lag_reason="complete after 3 full UTC days",
        yields="a seat per active user; a day's totals of `prompt`, `accepted`, and `task` for code review",
        kinds=(Kind.PROMPT, Kind.ACCEPTED, Kind.TASK),
        traps=(
            "1-day and 28-day reports of the same day give the same events, once",
            "`active` leaves the command line out: its prompts are counted from totals_by_cli",
            "passive code review is not use",
            "who opted out of telemetry in the editor is not there: rates need the billing seats",
            "no date of assignment: the first day seen stands in, until billing seats tell it",
        ),
        marks=(("user_login", "day", "user_initiated_interaction_count", "code_acceptance_activity_count"),),
        columns=_METRICS,
        read=read_user_metrics,
    ),
    Connector(
        name="github_copilot_seats",
        title="GitHub Copilot billing seats (JSON)",
        vendor="GitHub",
        tool=TOOL,
        lag=timedelta(days=1),
        lag_reason="activity shows within a day",
        yields="the roster: assignment, removal to come, team; a `session` at the last activity",
        kinds=(Kind.SESSION,),
        traps=(
            "last_activity_at is null after 90 days: unknown, so no event and not never",
            "pending_cancellation_date is a removal to come: removed_at lies ahead",
        ),
        marks=(("assignee", "created_at", "last_activity_at"),),
        containers=("seats",),
        columns=(
            "created_at updated_at pending_cancellation_date last_activity_at last_activity_editor "
            "last_authenticated_at plan_type assignee assigning_team organization total_seats"
        ),
        read=read_seat,
    ),
    Connector(
        name="github_copilot_user_teams",
        title="GitHub Copilot user teams (1-day, NDJSON)",
        vendor="GitHub",
        tool=TOOL,
        lag=timedelta(days=3),
        lag_reason="complete after 3 full UTC days",
        yields="the team of a seat",
        kinds=(),
        traps=(
            "a membership holds for its day: the latest day tells the team of the seat, no past row is split by it",
            "teams under 5 seated users are omitted: no team is then known, which is not none",
        ),
        marks=(("user_login", "day", "team_id", "slug"),),
        columns="user_id user_login day organization_id enterprise_id team_id slug",
        read=read_user_teams,
    ),
    Connector(
        name="github_copilot_envelope",
        title="GitHub Copilot report envelope (JSON)",
        vendor="GitHub",
        tool=TOOL,
        lag=timedelta(days=3),
        lag_reason="as the reports that it leads to",
        yields="nothing of a person: it says that the download links have to be fetched",
        kinds=(),
        traps=("the first of two steps: the users are in the files behind the links",),
        marks=(("download_links",),),
        columns="download_links report_start_day report_end_day report_day",
        read=read_envelope,
    ),
)
