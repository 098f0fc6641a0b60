"""Microsoft 365 Copilot: the usage report, the audit log, the interaction history, and Viva Insights.

None of them says what was asked or whether it helped. Where a workflow is needed, the kind of document or meeting that
Copilot was asked about names it (CONTEXT_WORKFLOWS), else the app in which it was asked (APP_WORKFLOWS). Both tables are
our choice. A prompt about a document or meeting that names a high-value workflow is counted as a task too: the documented
stand-in for meaningful use of sources that do not know it.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta

from features.connectors.edge import (
    Answered,
    Connector,
    Edge,
    Item,
    Note,
    Reached,
    SamePerson,
    SeatSeen,
    Use,
    account,
    address,
    required,
    totals,
)
from features.connectors.reading import decoded
from features.connectors.row import Row, end_of_day, plain, start_of_day
from features.events import InvalidItem, Kind

TOOL = "m365_copilot"
EARLIEST_HIRING = 1950
MESSAGES = "m365_messages"  # the audit log and the interaction history name the same messages

CONTEXT_WORKFLOWS = {
    **dict.fromkeys(("xlsx", "xlsm", "xls", "csv"), "spreadsheet_analysis"),
    **dict.fromkeys(("teamsmeeting", "meeting"), "meeting_recap"),
    **dict.fromkeys(("docx", "doc", "pdf"), "report_summary"),
}
APP_WORKFLOWS = {
    "excel": "spreadsheet_analysis",
    "word": "proposal_draft",  # nothing was there to be summarised, so something was drafted
    "powerpoint": "proposal_draft",
    "teams": "teams_chat",
    "microsoftteams": "teams_chat",
    "outlook": "mail",
    "onenote": "notes",
    "loop": "loop_page",
    **dict.fromkeys(("bizchat", "office", "m365app", "webchat", "copilotchat", "edge"), "copilot_chat"),
}
REPORT_APPS = {  # columns of the usage report, and the app that each is about
    "Copilot Chat Last Activity Date": "copilotchat",
    "Microsoft Teams Copilot Last Activity Date": "teams",
    "Word Copilot Last Activity Date": "word",
    "Excel Copilot Last Activity Date": "excel",
    "PowerPoint Copilot Last Activity Date": "powerpoint",
    "Outlook Copilot Last Activity Date": "outlook",
    "OneNote Copilot Last Activity Date": "onenote",
    "Loop Copilot Last Activity Date": "loop",
    "Edge Last Activity Date": "edge",
    "Copilot Agent Last Activity Date": "agent",
}
VIVA_ACTIONS = (  # an alias map: what tenants call the same figure
    "Copilot_Actions",
    "Total_Copilot_actions_taken",
    "Total_Copilot_actions",
    "Copilot_actions_taken",
)
VIVA_QUERIES = ("Copilot_Chat_Queries", "Copilot_Chat_Work_Prompts", "Copilot_Chat_prompts_submitted")
VIVA_ENABLED = ("Total_Copilot_enabled_days", "Copilot_enabled_days", "Copilot_licensed_days")
VIVA_HOURS = ("Collaboration_Hours", "Collaboration_span_hours", "Total_Collaboration_hours")


def workflow_of(context_types: Iterable[str | None], app: str | None) -> tuple[str | None, bool]:
    """The workflow that contexts or the app name, and whether a context named it."""
    for context in context_types:
        workflow = CONTEXT_WORKFLOWS.get(plain(context or "").removeprefix("microsoft"))
        if workflow:
            return workflow, True
    return APP_WORKFLOWS.get(plain(app or "")), False


def read_usage_detail(row: Row, _edge: Edge) -> Iterator[Item]:
    """A licensed user's dates of last use, one per app; one row of the usage report, v1 or v2, CSV or JSON."""
    principal = required(address(row.text("userPrincipalName")), "userPrincipalName")
    refreshed = row.us_day("reportRefreshDate")
    if refreshed is None:
        raise InvalidItem("reportRefreshDate", "is required")
    dates = {app: row.us_day(column) for column, app in REPORT_APPS.items()}
    last = row.us_day("lastActivityDate")
    if last is not None and last not in dates.values():
        dates["any"] = last
    counted = row.number("Prompts submitted for all apps"), row.number("Active Usage Days for all apps")
    days = row.count("Report Period")
    if (
        0 in counted and not any(counted) and days
    ):  # a visit is no use: of the period the counts say more than the dates
        first = refreshed - timedelta(days=days)
        late = [app for app, day in dates.items() if day is not None and day > first]
        if late:
            yield Note("have dates of activity in a period in which they sent no prompt: licensed and idle")
        dates |= dict.fromkeys(late)
    used = [start_of_day(day) for day in dates.values() if day is not None]
    yield SeatSeen(principal, TOOL, seen=min(used, default=start_of_day(refreshed)))
    yield Reached(end_of_day(refreshed))
    if "@" not in principal:
        yield Note("name a concealed person, who cannot be joined with other sources")
    if row.number("Prompts submitted for all apps"):
        yield Note("count prompts of the last 28 days: such totals overlap from report to report and are no events")
    for app, day in dates.items():
        if day is not None:
            key = ("last activity", app, day.isoformat())
            yield Use(principal, TOOL, Kind.PROMPT, end_of_day(day), key, workflow=APP_WORKFLOWS.get(app))


def read_audit(row: Row, _edge: Edge) -> Iterator[Item]:
    """One record of the audit log, as an object of its own or as text in the column AuditData."""
    record = _audit_record(row)
    if record.text("Operation") != "CopilotInteraction":
        yield Note("are of another operation than CopilotInteraction: left out")
        return
    principal = required(address(record.text("UserId")), "UserId")
    at = record.instant("CreationTime")
    identifier = required(record.text("Id"), "Id")
    if at is None:
        raise InvalidItem("CreationTime", "is required")
    at = at.replace(microsecond=0)
    if (object_id := account("entra", record.text("UserKey"))) and "@" in principal:
        yield SamePerson(object_id, principal)
    yield SeatSeen(principal, TOOL, seen=at)
    data = record.under("CopilotEventData")
    contexts = [context.text("Type") for context in data.rows("Contexts")]
    workflow, is_about = workflow_of(contexts, data.text("AppHost"))
    messages = data.rows("Messages")
    prompts = [message.text("Id") for message in messages if message.flag("isPrompt")]
    if not messages:  # older records do not list them: one interaction
        prompts = [None]
    yield from _asked(principal, at, [prompt or f"audit {identifier}" for prompt in prompts], workflow)
    is_answered = any(message.flag("isPrompt") is False for message in messages)
    if workflow and is_about and is_answered and prompts:
        yield _done(principal, at, prompts[0] or identifier, workflow)


def _audit_record(row: Row) -> Row:
    if not row.has("AuditData"):
        return row
    value = row.raw("AuditData")
    if isinstance(value, str):
        try:
            value = decoded(value)
        except ValueError as error:
            raise InvalidItem("AuditData", f"not JSON ({error}); long ones are cut by some ways of export") from None
    if not isinstance(value, Mapping):
        raise InvalidItem("AuditData", "expected a JSON object, came something else")
    return Row.of(row.where, value)


def read_interaction(row: Row, _edge: Edge) -> Iterator[Item]:
    """One half of an exchange: a person's prompt, or the answer, which names no person."""
    asked = row.text("requestId")
    if row.text("interactionType") != "userPrompt":
        if asked is not None:
            yield Answered(asked)
        return
    person = row.under("from").under("user")
    principal = required(
        address(person.text("userPrincipalName")) or account("entra", person.text("id")), "from/user/id"
    )
    at = row.instant("createdDateTime")
    if at is None:
        raise InvalidItem("createdDateTime", "is required")
    at = at.replace(
        microsecond=0
    )  # as the audit log has it: whichever of them is taken in first, the event is the same
    app = (row.text("appClass") or "").rpartition(".")[2]
    workflow, is_about = workflow_of([context.text("contextType") for context in row.rows("contexts")], app)
    message = required(row.text("id", "requestId"), "id")
    yield SeatSeen(principal, TOOL, seen=at)
    yield from _asked(principal, at, [message], workflow)
    if workflow and is_about and asked is not None:
        yield _done(principal, at, message, workflow, needs=asked)


def _asked(principal: str, at: datetime, messages: Iterable[str], workflow: str | None) -> Iterator[Use]:
    for message in messages:
        yield Use(principal, TOOL, Kind.PROMPT, at, (message, "prompt"), workflow=workflow, family=MESSAGES)


def _done(principal: str, at: datetime, message: str, workflow: str, *, needs: str | None = None) -> Use:
    return Use(principal, TOOL, Kind.TASK, at, (message, "task"), workflow=workflow, family=MESSAGES, needs=needs)


def read_viva(row: Row, _edge: Edge) -> Iterator[Item]:
    """A person's week. NA or nothing is no licence; 0 is licensed and idle."""
    principal = required(account("viva", row.text("PersonId")), "PersonId")
    monday = row.us_day("MetricDate")
    if monday is None:
        raise InvalidItem("MetricDate", "is required")
    last_day = monday + timedelta(days=6)
    actions, queries = row.count(*VIVA_ACTIONS), row.count(*VIVA_QUERIES)
    enabled_days = row.number(*VIVA_ENABLED)
    if enabled_days == 0 or (enabled_days is None and actions is None and queries is None):
        yield Note("are of people without a licence in that week: neither a seat nor idle")
        return
    seat = SeatSeen(
        principal,
        TOOL,
        seen=start_of_day(monday),
        role=row.word("FunctionType"),
        function=row.word("Organization"),
        hired_on=row.us_day("HireDate", since=EARLIEST_HIRING),
    )
    yield seat
    yield Reached(end_of_day(last_day))
    asked = actions if actions is not None else queries  # the actions hold the chat queries
    yield from totals(seat, last_day, [("actions", Kind.PROMPT, None, asked)], period="week")
    hours = row.number(*VIVA_HOURS)
    if hours:
        key = ("week", monday.isoformat(), "collaboration")
        at, minutes = end_of_day(last_day), min(hours, 168.0) * 60
        yield Use(
            principal, TOOL, Kind.WORK, at, key, workflow="collaboration", value=minutes, is_total=True
        )  # evidence of work, so that silence can be told from absence


_REPORT_COLUMNS = (
    "reportRefreshDate reportPeriod userPrincipalName displayName lastActivityDate copilotActivityUserDetailsByPeriod "
    "promptsSubmittedForAllApps promptsSubmittedForCopilotChatWork promptsSubmittedForCopilotChatWeb "
    "activeUsageDaysForAllApps copilotChatWorkLastActivityDate copilotChatWebLastActivityDate "
    "microsoft365CopilotLastActivityDate "
) + " ".join(plain(column) for column in REPORT_APPS)
_AUDIT_COLUMNS = (
    "RecordId CreationDate RecordType Operation UserId AuditData AssociatedAdminUnits AssociatedAdminUnitsNames "
    "CreationTime Id OrganizationId UserKey UserType Version Workload ClientIP ClientRegion AppIdentity "
    "CopilotLogVersion CopilotEventData ResultIndex ResultCount Identity IsValid ObjectState ObjectId"
)
_VIVA_COLUMNS = " ".join(
    (
        "PersonId MetricDate Organization FunctionType LevelDesignation SupervisorIndicator HireDate Meeting_Hours",
        *VIVA_ACTIONS,
        *VIVA_QUERIES,
        *VIVA_ENABLED,
        *VIVA_HOURS,
        "Copilot_Assisted_Hours",
    )
)

CONNECTORS = (
    Connector(
        name="graph_copilot_usage",
        title="Microsoft 365 Copilot usage detail (Graph, v1 and v2, CSV or JSON)",
        vendor="Microsoft",
        tool=TOOL,
        lag=timedelta(days=3),
        lag_reason="reports are refreshed 2 to 3 days late",
        yields="a seat per licensed user; a `prompt` a day and app that is a date of last activity",
        workflows=APP_WORKFLOWS,
        kinds=(Kind.PROMPT,),
        traps=(
            "concealed names (a hash for the principal name) stay opaque, and it says so",
            "an absent date, empty or null, is no use of that app; a user without any date is a seat without events",
            "columns are found by name, in any order and letter case",
            "v2 says 0 prompts and active days over a period: licensed and idle, whatever dates of activity lie in it",
            "v2 counts prompts over 28 days: totals that overlap from report to report, so no events; it says so",
            "no date of assignment: the first day seen stands in",
        ),
        marks=(("reportRefreshDate", "userPrincipalName", "lastActivityDate"),),
        containers=("value",),
        unread=("displayName",),
        columns=_REPORT_COLUMNS,
        read=read_usage_detail,
    ),
    Connector(
        name="purview_copilot",
        title="Purview audit log, CopilotInteraction (JSON or CSV)",
        vendor="Microsoft",
        tool=TOOL,
        lag=timedelta(days=3),
        lag_reason="audit records may take 2 to 3 days; they cannot be fetched after 7",
        yields="`prompt` per prompt, `task` where an answered one was about a document or meeting that names a workflow",
        workflows={**CONTEXT_WORKFLOWS, **APP_WORKFLOWS},
        kinds=(Kind.PROMPT, Kind.TASK),
        traps=(
            "byte order marks; times without Z are UTC",
            "AuditData that was cut is set aside with its row",
            "fields vary by tenant: none but Id, UserId, CreationTime and Operation is needed",
            "the type of the context, else the app, names the workflow",
            "the CSV, the JSON and the interaction history tell of the same messages once",
        ),
        marks=(("AuditData", "UserId", "Operation"), ("CopilotEventData", "UserId", "CreationTime", "Operation")),
        containers=("value", "records"),
        unread=("ClientIP",),
        columns=_AUDIT_COLUMNS,
        read=read_audit,
    ),
    Connector(
        name="graph_ai_interactions",
        title="Microsoft 365 Copilot interaction history (Graph)",
        vendor="Microsoft",
        tool=TOOL,
        lag=timedelta(hours=6),
        lag_reason="hours; 6 is our choice, on the safe side",
        yields="`prompt` per prompt, `task` where its context names a workflow and it was answered",
        workflows={**CONTEXT_WORKFLOWS, **APP_WORKFLOWS},
        kinds=(Kind.PROMPT, Kind.TASK),
        traps=(
            "bodies, attachments, links and mentions are thrown away before anything looks at them",
            "prompt and answer are one exchange (`requestId`): the prompt counts, and as a task where it was answered",
            "times are cut to the second, as the audit log has them: in whichever order they come, a message is the same event",
            "people are named by an object id: joined where the audit log or a people file tells whose it is",
        ),
        marks=(("interactionType", "createdDateTime", "appClass", "from"),),
        containers=("value",),
        unread=("body", "attachments", "links", "mentions"),
        columns="id sessionId requestId appClass interactionType conversationType etag createdDateTime locale contexts from",
        read=read_interaction,
    ),
    Connector(
        name="viva_person_query",
        title="Viva Insights person query (CSV)",
        vendor="Microsoft",
        tool=TOOL,
        lag=timedelta(days=6),
        lag_reason="up to 6 days",
        yields="a seat per licensed person; a week's `prompt` total; collaboration hours as `work`",
        kinds=(Kind.PROMPT, Kind.WORK),
        traps=(
            "names of metrics vary by tenant: an alias map",
            "NA or nothing is no licence: no seat; 0 is licensed and idle: a seat without events",
            "a week's total stands at the last microsecond of its Sunday",
            "people are named by Viva's own hash, which joins with no other source but through a people file",
        ),
        marks=(("PersonId", "MetricDate"),),
        columns=_VIVA_COLUMNS,
        read=read_viva,
    ),
)
