"""ServiceNow's two logs of generative AI: what was used, and what was said of the answers. Times are UTC."""

from collections.abc import Iterator
from datetime import timedelta

from features.connectors.edge import Connector, Edge, Item, Note, SeatSeen, Use, account, required
from features.connectors.row import Row, plain
from features.events import InvalidItem, Kind

TOOL = "now_assist"
ASSISTS = "servicenow_assists"  # both logs tell of the same assists
TABLE_WORKFLOWS = {  # our choice: what an assist on a record of this table is for
    "incident": "incident_summary",
    "sn_customerservice_case": "incident_summary",
    "sn_hr_core_case": "incident_summary",
    "kb_knowledge": "knowledge_article",
}
SOURCE_WORKFLOWS = (  # the first part that the log's `source` holds
    ("resolution", "resolution_notes"),
    ("knowledge", "knowledge_article"),
    ("kb", "knowledge_article"),
    ("summar", "incident_summary"),
)
FEEDBACK = {
    "accepted": Kind.ACCEPTED,
    "slightlypositive": Kind.ACCEPTED,
    "likelypositive": Kind.ACCEPTED,
    "rejected": Kind.REJECTED,
    "slightlynegative": Kind.REJECTED,
}
_LAG = timedelta(hours=6)
_LAG_REASON = "hours; 6 is our choice, on the safe side"


def read_usage(row: Row, _edge: Edge) -> Iterator[Item]:
    """Assists that a person used on a record."""
    principal = required(account("servicenow", row.text("sys_created_by")), "sys_created_by")
    identifier = required(row.text("sys_id"), "sys_id")
    at = row.instant("sys_created_on")
    if at is None:
        raise InvalidItem("sys_created_on", "is required")
    workflow = TABLE_WORKFLOWS.get((row.text("document_table") or "").lower())
    yield SeatSeen(principal, TOOL, seen=at)
    is_success = plain(row.text("status") or "success") == "success"
    assists = row.count("assists")
    if assists != 0:
        key = (identifier, "prompt")
        yield Use(principal, TOOL, Kind.PROMPT, at, key, workflow=workflow, count=assists or 1, family=ASSISTS)
    if not is_success:
        yield Use(principal, TOOL, Kind.ERROR, at, (identifier, "error"), workflow=workflow, family=ASSISTS)
    elif workflow and row.text("document") and assists != 0:
        yield Use(principal, TOOL, Kind.TASK, at, (identifier, "task"), workflow=workflow, family=ASSISTS)


def read_log(row: Row, _edge: Edge) -> Iterator[Item]:
    """One generated answer: whether it came, and what the person made of it."""
    principal = required(account("servicenow", row.text("sys_created_by")), "sys_created_by")
    identifier = required(row.text("sys_id"), "sys_id")
    at = row.instant("started_at", "sys_created_on")
    if at is None:
        raise InvalidItem("started_at", "is required")
    spoken = plain(row.text("source") or "")
    workflow = next((workflow for part, workflow in SOURCE_WORKFLOWS if part in spoken), None)
    assist = row.text("gen_ai_usage_log") or identifier
    yield SeatSeen(principal, TOOL, seen=at)
    yield Use(principal, TOOL, Kind.PROMPT, at, (assist, "prompt"), workflow=workflow, family=ASSISTS)
    if plain(row.text("status") or "success") != "success" or row.text("error_code"):
        yield Use(principal, TOOL, Kind.ERROR, at, (assist, "error"), workflow=workflow, family=ASSISTS)
    feedback = plain(row.text("feedback") or "")
    kind = FEEDBACK.get(feedback)
    if kind is not None:
        said_at = row.instant("feedback_timestamp", "completed_at") or at
        yield Use(principal, TOOL, kind, max(said_at, at), (identifier, "feedback"), workflow=workflow)
    elif feedback and feedback != "ignored":
        yield Note("have a feedback that is not one of the documented words: not counted")


CONNECTORS = (
    Connector(
        name="servicenow_gen_ai_usage",
        title="ServiceNow sys_gen_ai_usage_log (JSON)",
        vendor="ServiceNow",
        tool=TOOL,
        lag=_LAG,
        lag_reason=_LAG_REASON,
        yields="`prompt` per assist, `task` where it succeeded on a record whose table names a workflow, else `error`",
        workflows=TABLE_WORKFLOWS,
        kinds=(Kind.PROMPT, Kind.TASK, Kind.ERROR),
        traps=("one assist that both logs tell of counts once", "times without a zone are UTC"),
        marks=(("sys_id", "sys_created_by", "assists", "document_table"),),
        containers=("result", "records"),
        columns="sys_id sys_created_on sys_created_by sys_updated_on sys_updated_by sys_mod_count sys_tags assists document "
        "document_table execution_type feature status line_item_name license_name sys_domain sys_domain_path",
        read=read_usage,
    ),
    Connector(
        name="servicenow_generative_ai_log",
        title="ServiceNow sys_generative_ai_log (JSON)",
        vendor="ServiceNow",
        tool=TOOL,
        lag=_LAG,
        lag_reason=_LAG_REASON,
        yields="`prompt`, `error`, and `accepted` or `rejected` from the feedback",
        workflows=dict(SOURCE_WORKFLOWS),
        kinds=(Kind.PROMPT, Kind.ERROR, Kind.ACCEPTED, Kind.REJECTED),
        traps=(
            "Accepted, SlightlyPositive, LikelyPositive are `accepted`; Rejected, SlightlyNegative `rejected`; Ignored neither",
            "prompt and response, also edited or untranslated, are thrown away before anything looks at them",
        ),
        marks=(
            ("sys_id", "sys_created_by", "feedback", "model_name"),
            ("sys_id", "sys_created_by", "gen_ai_usage_log"),
        ),
        containers=("result", "records"),
        unread=("prompt", "untranslated_prompt", "response", "edited_response", "additional_data"),
        columns="sys_id sys_created_on sys_created_by sys_updated_on sys_updated_by sys_mod_count sys_tags started_at "
        "completed_at time_taken status error_code feedback feedback_timestamp source model_name prompt_token_count "
        "response_token_count gen_ai_usage_log sys_domain sys_domain_path",
        read=read_log,
    ),
)
