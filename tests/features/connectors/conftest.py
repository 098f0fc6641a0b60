"""Exports of invented people in every format, and what becomes of a file."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from features.connectors.catalogue import CONNECTORS, recognise
from features.connectors.edge import Edge
from features.connectors.exports import Export, nobody_known, open_exports
from features.events import Batch
from features.tools import load_tools

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
ADA, BEN = "Ada.Lovelock@corp.example", "ben@corp.example"
SECRETS = ("lovelock", "corp.example", "zebrafish", "ada-octocat", "ada.sn", "203.0.113.7")
TEXT = "zebrafish is what I wrote"


@dataclass(frozen=True)
class Sample:
    """Two records of a format. shape: csv, lines or json; container: of the list in a JSON document."""

    records: Sequence[Mapping[str, Any]]
    shape: str
    container: str = ""

    def written(self, *, rename: Callable[[str], str] = str, reverse: bool = False) -> bytes:
        """The file, its columns renamed or the other way round."""
        ordered = [dict(reversed(record.items())) if reverse else dict(record) for record in self.records]
        records = [_renamed(record, rename) for record in ordered]
        if self.shape == "csv":
            out = io.StringIO()
            writer = csv.DictWriter(out, list(records[0]))
            writer.writeheader()
            writer.writerows(records)
            return out.getvalue().encode(errors="surrogatepass")
        if self.shape == "lines":
            return b"".join(json.dumps(record).encode() + b"\n" for record in records)
        document = {"kind": "page", self.container: records, "next": None} if self.container else records
        return json.dumps(document, indent=2).encode()


def _renamed(value: Any, rename: Callable[[str], str]) -> Any:
    if isinstance(value, Mapping):
        return {rename(name): _renamed(inside, rename) for name, inside in value.items()}
    return [_renamed(inside, rename) for inside in value] if isinstance(value, list) else value


def _two(first: Mapping[str, Any], **changed: Any) -> list[Mapping[str, Any]]:
    return [first, {**first, **changed}]


GRAPH = {
    "Report Refresh Date": "2026-06-30",
    "User Principal Name": ADA,
    "Display Name": "Ada Lovelock",
    "Last Activity Date": "2026-06-29",
    "Word Copilot Last Activity Date": "2026-06-29",
    "Excel Copilot Last Activity Date": "",
}
AUDIT = {
    "CreationTime": "2026-06-24T09:14:36",
    "Id": "audit-1",
    "Operation": "CopilotInteraction",
    "UserKey": "12d24f71",
    "ClientIP": "203.0.113.7",
    "UserId": ADA,
    "CopilotEventData": {
        "AppHost": "Word",
        "Contexts": [{"Id": "https://corp.example/zebrafish.docx", "Type": "docx"}],
        "Messages": [{"Id": "m1", "isPrompt": True}, {"Id": "m2", "isPrompt": False}],
    },
}
HISTORY = {
    "id": "m1",
    "requestId": "r1",
    "appClass": "IPM.SkypeTeams.Message.Copilot.Word",
    "interactionType": "userPrompt",
    "createdDateTime": "2026-06-24T09:14:36.001Z",
    "contexts": [{"displayName": "zebrafish.docx", "contextType": "docx"}],
    "from": {"user": {"id": "12d24f71", "displayName": "Ada Lovelock"}},
    "body": {"contentType": "text", "content": TEXT},
}
VIVA = {
    "PersonId": "a1f9",
    "MetricDate": "2026-06-01",
    "Organization": "Finance",
    "FunctionType": "Analyst",
    "HireDate": "2021-03-01",
    "Collaboration_Hours": "28.5",
    "Total_Copilot_enabled_days": "7",
    "Copilot_Actions": "45",
    "Copilot_Chat_Queries": "12",
}
METRICS = {
    "user_id": 1001,
    "user_login": "ada-octocat",
    "day": "2026-05-07",
    "user_initiated_interaction_count": 4,
    "code_acceptance_activity_count": 3,
    "used_cli": False,
    "used_copilot_code_review_active": True,
    "used_copilot_code_review_passive": True,
}
SEAT = {
    "created_at": "2026-04-02T09:00:00Z",
    "updated_at": "2026-04-02T09:00:00Z",
    "pending_cancellation_date": None,
    "last_activity_at": "2026-05-07T18:41:10Z",
    "assignee": {"login": "ada-octocat", "id": 1001},
    "assigning_team": {"slug": "frontend"},
}
TEAM = {"user_id": 1001, "user_login": "ada-octocat", "day": "2026-05-07", "team_id": 42, "slug": "frontend"}
ENVELOPE = {
    "download_links": ["https://corp.example/1"],
    "report_start_day": "2026-04-10",
    "report_end_day": "2026-05-07",
}
PANEL = {
    "RequestIdentifier": "rq1",
    "Timestamp": "2026-06-24T09:14:36.120Z",
    "UserIdentifier": "0055g00000AbCdE",
    "ButtonLabel": TEXT,
    "IsAgentPanelExited": "true",
    "MessageIdentifier": "m-01",
    "PageObjectType": "Account",
    "TaskName": "RecordSummary",
    "UiEventElapsedTime": "8421",
}
LOG_FILE = {
    "Id": "0AT1",
    "EventType": "LightningInteraction",
    "LogDate": "2026-06-24T00:00:00Z",
    "LogFileFieldNames": "A",
}
RESPONSE = {
    "Id": "0pr1",
    "RecommendationKey": "k1",
    "ActionReference": "Launch",
    "CreatedDate": "2026-06-24T09:20:00.000Z",
    "CreatedById": "0055g00000AbCdE",
    "Reaction": "Accepted",
}
ASSIST = {
    "sys_id": "u1",
    "sys_created_on": "2026-06-24 09:14:36",
    "sys_created_by": "ada.sn",
    "assists": "2",
    "document": "d1",
    "document_table": "incident",
    "status": "success",
}
ANSWER = {
    "sys_id": "g1",
    "sys_created_on": "2026-06-24 09:14:36",
    "sys_created_by": "ada.sn",
    "started_at": "2026-06-24 09:14:36",
    "status": "Success",
    "error_code": "",
    "feedback": "Rejected",
    "feedback_timestamp": "2026-06-24 09:15:10",
    "source": "ChatSummary",
    "model_name": "gpt_large",
    "prompt": TEXT,
    "response": TEXT,
    "gen_ai_usage_log": "u9",
}
INCIDENT = {
    "number": "INC1",
    "sys_id": "i1",
    "opened_at": "2026-06-24 10:02:11",
    "subcategory": "copilot",
    "caller_id": {"link": "https://corp.example/sys_user", "value": "6816f79c"},
    "short_description": TEXT,
    "description": "Ada Lovelock wrote this",
}
ZENDESK = {
    "id": 35436,
    "created_at": "2026-06-24T10:02:11Z",
    "subject": TEXT,
    "description": "Ada Lovelock wrote this",
    "requester_id": 20978392,
    "tags": ["copilot"],
    "custom_fields": [{"id": 1, "value": "m365_copilot"}],
    "satisfaction_rating": {"score": "bad", "comment": TEXT},
}
JIRA = {
    "id": "10002",
    "key": "AISUP-17",
    "fields": {
        "summary": TEXT,
        "description": {"type": "doc", "content": [{"type": "paragraph", "content": [{"type": "text", "text": TEXT}]}]},
        "created": "2026-06-24T10:02:11.000+0000",
        "reporter": {"accountId": "5b10ac", "emailAddress": ADA},
        "labels": ["copilot"],
        "components": [{"name": "M365 Copilot"}],
    },
}
GEMINI = {
    "id": {"time": "2026-06-24T09:14:36.000Z", "uniqueQualifier": "1001"},
    "actor": {"email": ADA, "profileId": "9001"},
    "ipAddress": "203.0.113.7",
    "events": [
        {
            "name": "feature_utilization",
            "parameters": [
                {"name": "app_name", "value": "docs"},
                {"name": "action", "value": "summarize"},
                {"name": "event_category", "value": "active_summarize"},
            ],
        }
    ],
}
CODE = {
    "date": "2026-06-24T00:00:00Z",
    "actor": {"type": "user_actor", "email_address": ADA},
    "terminal_type": "vscode",
    "core_metrics": {"num_sessions": 5, "commits_by_claude_code": 2, "pull_requests_by_claude_code": 1},
    "tool_actions": {
        "edit_tool": {"accepted": 45, "rejected": 5},
        "write_tool": {"accepted": 8, "rejected": 1},
    },
}
CLAUDE = {
    "user": {"id": "user_01", "email_address": ADA},
    "date": "2026-06-24",
    "chat_metrics": {"distinct_conversation_count": 3, "message_count": 14},
    "claude_code_metrics": {"core_metrics": {"commit_count": 1, "pull_request_count": 0, "distinct_session_count": 0}},
}
SUMMARY = {
    "starting_date": "2026-06-23",
    "daily_active_user_count": 412,
    "assigned_seat_count": 1500,
    "pending_invite_count": 12,
}
CURSOR = {
    "userId": "u_1",
    "day": "2026-06-24",
    "date": 1782259200000,
    "email": ADA,
    "isActive": True,
    "totalAccepts": 9,
    "totalRejects": 3,
    "totalTabsShown": 140,
    "totalTabsAccepted": 51,
    "composerRequests": 4,
    "chatRequests": 6,
    "agentRequests": 10,
    "cmdkUsages": 1,
}
CHATGPT = {
    "cadence": "Weekly",
    "period_start": "2026-06-21",
    "period_end": "2026-06-27",
    "public_id": "user-01",
    "name": "Ada Lovelock",
    "email": ADA,
    "department": '["finance"]',
    "user_status": "enabled",
    "created_or_invited_date": "2026-05-04",
    "is_active": "1",
    "messages": "37",
    "model_to_messages": "{'gpt-4o': 37}",
}
TRACK = {
    "type": "track",
    "event": "Copilot Draft Accepted",
    "userId": ADA,
    "messageId": "ajs-1",
    "timestamp": "2026-06-24T09:14:36.000Z",
    "originalTimestamp": "2026-06-24T09:14:36.300Z",
    "receivedAt": "2026-06-24T09:14:37.050Z",
    "context": {"ip": "203.0.113.7"},
    "properties": {"tool": "m365_copilot", "workflow": "quarterly_report", "outcome": "completed", "duration_s": 184},
}
CLOUD = {
    "specversion": "1.0",
    "id": "01J1",
    "source": "/connectors/m365",
    "type": "ai.adoption.interaction.v1",
    "subject": "user/ada-octocat",
    "time": "2026-06-24T09:14:36Z",
    "data": {"tool": "m365_copilot", "action": "prompt", "workflow": "quarterly_report", "outcome": "completed"},
}
LESSON = {
    "id": "1234",
    "actor": {"objectType": "Agent", "mbox": f"mailto:{ADA}", "name": "Ada Lovelock"},
    "verb": {"id": "http://adlnet.gov/expapi/verbs/completed"},
    "object": {
        "id": "https://coach.example.org/1",
        "definition": {"name": {"en-US": "Variance analysis with Copilot"}},
    },
    "result": {"duration": "PT3M4S"},
    "timestamp": "2026-06-24T09:14:36.000Z",
    "stored": "2026-06-24T09:14:37.000Z",
}
SPAN = {
    "name": "chat gpt-4o",
    "startTimeUnixNano": "1782292476000000000",
    "endTimeUnixNano": "1782292481377000000",
    "spanId": "s1",
    "attributes": {
        "gen_ai.operation.name": "chat",
        "gen_ai.conversation.id": "conv_1",
        "gen_ai.input.messages": TEXT,
        "error.type": None,
        "enduser.pseudo.id": "ada-octocat",
    },
}
SNOWPLOW = {
    "app_id": "copilot-addin",
    "collector_tstamp": "2026-06-24 09:14:37.050",
    "derived_tstamp": "2026-06-24 09:14:36.450",
    "event": "unstruct",
    "event_id": "sp1",
    "event_name": "copilot_action",
    "user_id": ADA,
    "user_ipaddress": "203.0.113.7",
    "unstruct_event_com_example_copilot_action_1": {"workflow": "quarterly_report", "outcome": "completed"},
}
POSTHOG = {
    "uuid": "ph1",
    "event": "copilot_draft_accepted",
    "distinct_id": ADA,
    "timestamp": "2026-06-24T09:14:36.000Z",
    "created_at": "2026-06-24T09:14:37.100Z",
    "properties": {"workflow": "quarterly_report"},
    "person": {"properties": {"role": "finance_analyst", "email": ADA}},
}
AMPLITUDE = {
    "$insert_id": "a1",
    "amplitude_id": 1,
    "user_id": ADA,
    "device_id": "d1",
    "event_type": "copilot_draft_accepted",
    "server_upload_time": "2026-06-24 09:14:37.100000",
    "event_time": "2026-06-24 09:14:36.150000",
    "processed_time": "2026-06-24 09:14:40.000000",
    "event_properties": {"workflow": "quarterly_report"},
    "ip_address": "203.0.113.7",
}
MIXPANEL = {
    "event": "copilot_draft_accepted",
    "properties": {
        "time": 1782292476,
        "distinct_id": ADA,
        "$insert_id": "x1",
        "$user_id": ADA,
        "$mp_api_timestamp_ms": 1782292477050,
        "mp_processing_time_ms": 1782292477213,
    },
}
SURVEY = {
    "response_id": "r-1",
    "user_key": "ada-octocat",
    "survey_id": "pulse-w3",
    "submitted_at": "2026-06-22T08:12:00Z",
    "tool": "m365_copilot",
    "nps_0_10": "4",
    "confidence_0_10": "3",
    "free_text": TEXT,
    "language": "en",
    "consent_text_processing": "true",
}
PEOPLE = {"email": ADA, "user_key": "ada-octocat", "github": "ada-octocat", "servicenow": "ada.sn"}


def _nested(record: Mapping[str, Any], name: str, **changed: Any) -> dict[str, Any]:
    return {**record, name: {**record[name], **changed}}


SAMPLES = {
    "graph_copilot_usage": Sample(_two(GRAPH, **{"User Principal Name": BEN}), "csv"),
    "purview_copilot": Sample(_two(AUDIT, Id="audit-2", UserId=BEN, UserKey="99"), "json"),
    "graph_ai_interactions": Sample(_two(HISTORY, id="m3", requestId="r3"), "json", "value"),
    "viva_person_query": Sample(_two(VIVA, MetricDate="2026-06-08"), "csv"),
    "github_copilot_metrics": Sample(_two(METRICS, day="2026-05-08"), "lines"),
    "github_copilot_seats": Sample(_two(SEAT, assignee={"login": "ben", "id": 2}), "json", "seats"),
    "github_copilot_user_teams": Sample(_two(TEAM, user_login="ben"), "lines"),
    "github_copilot_envelope": Sample([ENVELOPE, ENVELOPE], "json"),
    "salesforce_agent_events": Sample(_two(PANEL, RequestIdentifier="rq2", IsAgentPanelExited="false"), "csv"),
    "salesforce_event_log_files": Sample(_two(LOG_FILE, Id="0AT2"), "csv"),
    "salesforce_recommendation_responses": Sample(_two(RESPONSE, Id="0pr2"), "json"),
    "servicenow_gen_ai_usage": Sample(_two(ASSIST, sys_id="u2"), "json", "result"),
    "servicenow_generative_ai_log": Sample(_two(ANSWER, sys_id="g2", gen_ai_usage_log="u8"), "json", "result"),
    "servicenow_incidents": Sample(_two(INCIDENT, sys_id="i2"), "json", "result"),
    "zendesk_tickets": Sample(_two(ZENDESK, id=2), "json", "tickets"),
    "jira_issues": Sample(_two(JIRA, id="2"), "json", "issues"),
    "gemini_workspace": Sample(_two(GEMINI, id={"time": "2026-06-25T09:14:36.000Z", "uniqueQualifier": "2"}), "json", "items"),
    "claude_code_analytics": Sample(_two(CODE, date="2026-06-25T00:00:00Z"), "json", "data"),
    "claude_enterprise_users": Sample(_two(CLAUDE, date="2026-06-25"), "json", "data"),
    "claude_enterprise_summaries": Sample(_two(SUMMARY, starting_date="2026-06-24"), "json", "data"),
    "cursor_daily_usage": Sample(_two(CURSOR, day="2026-06-25"), "json", "data"),
    "chatgpt_engagement": Sample(_two(CHATGPT, email=BEN, public_id="user-02"), "csv"),
    "segment_track": Sample(_two(TRACK, messageId="ajs-2"), "lines"),
    "cloudevents": Sample(_two(CLOUD, id="01J2"), "json"),
    "xapi": Sample(_two(LESSON, id="5678"), "json", "statements"),
    "otel_genai": Sample(_two(SPAN, spanId="s2"), "lines"),
    "snowplow": Sample(_two(SNOWPLOW, event_id="sp2"), "lines"),
    "posthog": Sample(_two(POSTHOG, uuid="ph2"), "lines"),
    "amplitude": Sample(_two(AMPLITUDE, **{"$insert_id": "a2"}), "lines"),
    "mixpanel": Sample([MIXPANEL, _nested(MIXPANEL, "properties", **{"$insert_id": "x2"})], "lines"),
    "pulse_survey": Sample(_two(SURVEY, response_id="r-2"), "csv"),
    "people": Sample(_two(PEOPLE, email=BEN, user_key="b", github="ben", servicenow="ben"), "csv"),
}  # fmt: skip


@dataclass
class Taken:
    """What became of files."""

    batches: list[Batch]
    notices: list[str]
    seats: list[dict[str, Any]] = field(init=False)
    events: list[dict[str, Any]] = field(init=False)
    rejected: list[str] = field(init=False)

    def __post_init__(self) -> None:
        seats = [row for batch in self.batches for row in batch.seats.to_pylist()]
        self.seats = list({row["seat_id"]: row for row in seats}.values())  # one may come again to carry the watermark
        self.events = [row for batch in self.batches for row in batch.events.to_pylist()]
        self.rejected = [str(item) for batch in self.batches for item in batch.rejected]

    def told(self) -> str:
        """Everything that left the connector, as text."""
        beside = [(batch.lags, batch.aliases) for batch in self.batches]
        return repr((self.seats, self.events, self.rejected, self.notices, beside))

    def kinds(self) -> list[tuple[str, int]]:
        """Kind and count of each event, in order."""
        return [(event["kind"], event["count"]) for event in self.events]


@dataclass(frozen=True)
class Desk:
    """Takes exports in, in a folder of its own."""

    folder: Path
    edge: Edge

    def __call__(
        self,
        *contents: bytes | Sample,
        known: Any = nobody_known,
        connector: str | None = None,
        aliases: Mapping[str, str] | None = None,
        **changed: Any,
    ) -> Taken:
        """What becomes of files with these contents. connector: taken as that format, recognised or not."""
        paths = []
        for number, content in enumerate(contents):
            paths.append(self.folder / f"export{number}")
            paths[-1].write_bytes(content.written() if isinstance(content, Sample) else content)
        return self.files(paths, known=known, connector=connector, aliases=aliases, **changed)

    def files(
        self,
        paths: Iterable[Path],
        *,
        known: Any = nobody_known,
        connector: str | None = None,
        aliases: Mapping[str, str] | None = None,
        **changed: Any,
    ) -> Taken:
        """What becomes of the files."""
        notices: list[str] = []
        edge = replace(self.edge, tell=notices.append, **changed)
        exports = [Export(path, CONNECTORS[connector]) if connector else recognise(path) for path in paths]
        assert all(isinstance(export, Export) for export in exports), exports
        return Taken(list(open_exports(exports, edge, known=known, aliases=aliases)), notices)  # type: ignore[arg-type]  # asserted


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path, Edge("acme", b"k" * 32, NOW, load_tools(), tell=lambda _sentence: None))


@pytest.fixture(scope="session")
def samples() -> Mapping[str, Sample]:
    return SAMPLES


@pytest.fixture(scope="session")
def secrets() -> Sequence[str]:
    """What stands in the samples and must never leave the connector, in lower case."""
    return SECRETS
