import csv
import io
import json
import re
from datetime import UTC, datetime

import pytest

from features.connectors.microsoft import workflow_of

V2 = (
    "Report Refresh Date,User Principal Name,Display Name,Last Activity Date,Copilot Chat Last Activity Date,"
    "Word Copilot Last Activity Date,Report Period,Prompts submitted for all apps\n"
    "2026-07-03,Ada@corp.example,Ada L,2026-07-02,2026-07-02,2026-06-24,28,37\n"
    "2026-07-03,ben@corp.example,Ben,,,,28,0\n"
)
AUDIT = {
    "CreationTime": "2026-06-24T09:14:36",
    "Id": "a1",
    "Operation": "CopilotInteraction",
    "UserId": "ada@corp.example",
    "CopilotEventData": {"AppHost": "Word"},
}


def at(*parts):
    return datetime(*parts, tzinfo=UTC)


def audited(**data):
    return json.dumps({**AUDIT, "CopilotEventData": data}).encode()


def test_a_date_of_last_activity_is_a_prompt_at_the_last_microsecond_of_its_day(desk):
    taken = desk(V2.encode())
    word = [event for event in taken.events if event["workflow"] == "proposal_draft"]
    assert [event["occurred_at"] for event in word] == [at(2026, 6, 24, 23, 59, 59, 999999)]
    assert taken.kinds() == [("prompt", 1), ("prompt", 1)]


def test_a_licensed_user_without_activity_is_a_seat_without_events(desk):
    taken = desk(V2.encode())
    assert (len(taken.seats), len({event["seat_id"] for event in taken.events})) == (2, 1)


def test_totals_of_28_days_are_no_events_and_it_says_so(desk):
    taken = desk(V2.encode())
    assert max(event["count"] for event in taken.events) == 1
    assert any("overlap from report to report" in notice for notice in taken.notices)


def test_the_next_report_repeats_a_date_and_adds_nothing(desk):
    later = V2.replace("2026-07-03", "2026-07-04")
    assert {event["event_id"] for event in desk(V2.encode()).events} == {
        event["event_id"] for event in desk(later.encode()).events
    }


def test_csv_and_json_of_the_same_report_are_the_same(desk):
    rows = list(csv.DictReader(io.StringIO(V2)))
    camel = [
        {
            "".join(name.title().split())[:1].lower() + "".join(name.title().split())[1:]: cell
            for name, cell in row.items()
        }
        for row in rows
    ]
    as_json = json.dumps({"value": camel}).encode()
    assert desk(as_json).events == desk(V2.encode()).events


def test_a_concealed_name_stays_opaque_and_is_told(desk):
    concealed = V2.replace("Ada@corp.example", "E58EEF6A6BBD3D0293CB306D24A42057")
    taken = desk(concealed.encode())
    assert (len(taken.seats), taken.rejected) == (2, [])
    assert any("concealed" in notice for notice in taken.notices)
    assert "e58eef" not in taken.told().lower()


def test_the_first_day_seen_stands_in_for_the_assignment(desk):
    assert sorted(seat["assigned_at"] for seat in desk(V2.encode()).seats) == [at(2026, 6, 24), at(2026, 7, 3)]


def test_a_time_without_zone_is_utc(desk):
    assert desk(json.dumps(AUDIT).encode()).events[0]["occurred_at"] == at(2026, 6, 24, 9, 14, 36)


def test_prompts_are_counted_by_the_messages_where_they_are_listed(desk):
    messages = [{"Id": "1", "isPrompt": True}, {"Id": "2", "isPrompt": False}, {"Id": "3", "isPrompt": True}]
    assert desk(audited(AppHost="bizchat", Messages=messages)).kinds() == [("prompt", 1), ("prompt", 1)]


@pytest.mark.parametrize(
    ("data", "kinds"),
    [
        (
            {
                "Contexts": [{"Type": "docx"}],
                "Messages": [{"Id": "1", "isPrompt": True}, {"Id": "2", "isPrompt": False}],
            },
            2,
        ),
        ({"Contexts": [{"Type": "docx"}], "Messages": [{"Id": "1", "isPrompt": True}]}, 1),
        ({"Contexts": [], "Messages": [{"Id": "1", "isPrompt": True}, {"Id": "2", "isPrompt": False}]}, 1),
        ({"Contexts": [{"Type": "docx"}]}, 1),
    ],
    ids=["answered, about a document", "not answered", "about nothing", "no messages listed"],
)
def test_a_task_needs_a_document_and_an_answer(desk, data, kinds):
    assert len(desk(audited(AppHost="Word", **data)).events) == kinds


@pytest.mark.parametrize(
    ("contexts", "app", "workflow", "is_about"),
    [
        (["xlsx"], "bizchat", "spreadsheet_analysis", True),
        (["TeamsMeeting"], "Teams", "meeting_recap", True),
        (["docx"], "Word", "report_summary", True),
        ([], "Word", "proposal_draft", False),
        ([None, "unheard of"], "Outlook", "mail", False),
        ([], "Somewhere", None, False),
        ([], None, None, False),
    ],
)
def test_context_then_app_name_the_workflow(contexts, app, workflow, is_about):
    assert workflow_of(contexts, app) == (workflow, is_about)


def test_another_operation_is_left_out_and_counted(desk):
    taken = desk(json.dumps({**AUDIT, "Operation": "FileAccessed"}).encode(), connector="purview_copilot")
    assert (taken.seats, taken.events, taken.rejected) == ([], [], [])
    assert "1 record: are of another operation" in taken.notices[0]


def as_export(*data):
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["RecordId", "Operation", "UserId", "AuditData"])
    writer.writerows(["x", "CopilotInteraction", "ada@corp.example", cell] for cell in data)
    return b"\xef\xbb\xbf" + out.getvalue().encode()


def test_a_cut_record_is_set_aside_with_its_row_and_the_next_goes_in(desk):
    other = json.dumps({**AUDIT, "Id": "a2"})
    taken = desk(as_export(json.dumps(AUDIT), json.dumps(AUDIT)[:40], other))
    assert len(taken.events) == 2
    assert [said.startswith("export0, row 3: AuditData: not JSON") for said in taken.rejected] == [True]


def test_a_record_longer_than_a_csv_field_may_be_by_default_goes_in(desk):
    resources = [{"SiteUrl": "x" * 1000}] * 300
    long = {**AUDIT, "CopilotEventData": {"AppHost": "Word", "AccessedResources": resources}}
    assert len(desk(as_export(json.dumps(long))).events) == 1


def test_the_csv_the_json_and_the_history_tell_of_a_message_once(desk):
    data = {"AppHost": "Word", "Contexts": [{"Type": "docx"}]}
    data["Messages"] = [{"Id": "m1", "isPrompt": True}, {"Id": "m2", "isPrompt": False}]
    record = {**AUDIT, "UserKey": "12D2", "CopilotEventData": data}
    history = {
        "id": "m1",
        "appClass": "IPM.SkypeTeams.Message.Copilot.Word",
        "interactionType": "userPrompt",
        "createdDateTime": "2026-06-24T09:14:36Z",
        "contexts": [{"contextType": "docx"}],
        "from": {"user": {"id": "12d2"}},
        "requestId": "r1",
    }
    answer = {**history, "id": "m2", "interactionType": "aiResponse", "from": {"user": None}}
    pages = json.dumps({"value": [history, answer]}).encode()
    taken = desk(json.dumps(record).encode(), as_export(json.dumps(record)), pages)
    assert (len(taken.seats), len(taken.events), len({event["event_id"] for event in taken.events})) == (1, 6, 2)
    told = [{name: event[name] for name in ("event_id", "kind", "occurred_at", "workflow")} for event in taken.events]
    assert (
        len({json.dumps(one, default=str) for one in told}) == 2
    )  # in whichever order they come, the event is the same


@pytest.mark.parametrize("is_answered", [True, False])
def test_an_audit_record_and_the_history_agree_on_what_was_done(desk, is_answered):
    messages = [{"Id": "m1", "isPrompt": True}, *([{"Id": "m2", "isPrompt": False}] if is_answered else [])]
    record = {
        **AUDIT,
        "CreationTime": "2026-06-24T09:14:36",
        "CopilotEventData": {"AppHost": "Word", "Contexts": [{"Type": "docx"}], "Messages": messages},
    }
    prompt = {
        "id": "m1", "requestId": "r1", "appClass": "IPM.SkypeTeams.Message.Copilot.Word", "interactionType": "userPrompt",
        "createdDateTime": "2026-06-24T09:14:36.881Z", "contexts": [{"contextType": "docx"}],
        "from": {"user": {"id": "12d2", "userPrincipalName": AUDIT["UserId"]}},
    }  # fmt: skip
    answer = {**prompt, "id": "m2", "interactionType": "aiResponse", "from": {"user": None}}
    pages = {"value": [answer, prompt] if is_answered else [prompt]}
    names = ("event_id", "kind", "occurred_at", "workflow", "value", "count")
    audit, history = (
        sorted(tuple(str(event[name]) for name in names) for event in desk(json.dumps(file).encode()).events)
        for file in (record, pages)
    )
    assert audit == history
    assert len(audit) == 1 + is_answered


def test_the_answer_of_an_exchange_counts_nothing(desk, samples):
    half = {**samples["graph_ai_interactions"].records[0], "interactionType": "aiResponse", "from": {"user": None}}
    taken = desk(json.dumps({"value": [half]}).encode())
    assert (taken.events, taken.rejected) == ([], [])


VIVA = (
    "PersonId,MetricDate,Organization,FunctionType,HireDate,Collaboration_Hours,Total_Copilot_enabled_days,{actions}\n"
    "a1f9,2026-06-01,Finance,Analyst,2021-03-01,28.5,7,45\n"
    "a1f9,2026-06-08,Finance,Analyst,2021-03-01,30.1,7,0\n"
    "b2c3,2026-06-01,Finance,Analyst,2021-03-01,30.1,7,0\n"
    "d4e6,2026-06-01,Marketing,Manager,2018-09-10,35.0,0,{missing}\n"
)


@pytest.mark.parametrize("missing", ["", "NA", "null"])
@pytest.mark.parametrize("actions", ["Copilot_Actions", "Total Copilot actions taken", "copilot_actions_taken"])
def test_unlicensed_is_no_seat_and_idle_is_a_seat_without_use(desk, actions, missing):
    taken = desk(VIVA.format(actions=actions, missing=missing).encode())
    assert [event["count"] for event in taken.events if event["kind"] == "prompt"] == [45]
    assert (len(taken.seats), taken.rejected) == (2, [])
    assert any("without a licence" in notice for notice in taken.notices)


def test_a_week_stands_at_the_end_of_its_sunday(desk):
    taken = desk(VIVA.format(actions="Copilot_Actions", missing="").encode())
    assert min(event["occurred_at"] for event in taken.events) == at(2026, 6, 7, 23, 59, 59, 999999)


def test_hours_of_collaboration_are_evidence_of_work_in_minutes(desk):
    taken = desk(VIVA.format(actions="Copilot_Actions", missing="").encode())
    assert taken.events[1]["kind"] == "work"
    assert taken.events[1]["value"] == pytest.approx(28.5 * 60)


def test_the_roster_knows_role_function_and_hiring(desk):
    (first, _) = desk(VIVA.format(actions="Copilot_Actions", missing="").encode()).seats
    assert (first["role"], first["function"], str(first["hired_on"])) == ("Analyst", "Finance", "2021-03-01")


def test_who_was_hired_long_ago_is_no_broken_row(desk):
    long_ago = VIVA.format(actions="Copilot_Actions", missing="").replace("2021-03-01", "1987-03-01")
    assert str(desk(long_ago.encode()).seats[0]["hired_on"]) == "1987-03-01"


@pytest.mark.parametrize(
    ("last", "prompts", "days", "events"),
    [
        ("2026-06-09", "0", "0", 0),  # within the 28 days in which nothing was asked: a visit
        ("2026-06-01", "0", "0", 1),  # before them the counts say nothing
        ("2026-06-09", "", "", 1),
        ("2026-06-09", "0", "1", 1),
    ],
)
def test_no_prompt_in_a_period_is_licensed_and_idle_whatever_dates_lie_in_it(desk, last, prompts, days, events):
    header = "Report Refresh Date,User Principal Name,Last Activity Date,Copilot Chat Last Activity Date,Report Period,"
    header += "Prompts submitted for all apps,Active Usage Days for all apps\n"
    taken = desk(f"{header}2026-07-03,ben@corp.example,{last},{last},28,{prompts},{days}\n".encode())
    assert (len(taken.seats), len(taken.events)) == (1, events)


def test_dates_as_spreadsheets_in_the_united_states_write_them_are_read(desk):
    iso = VIVA.format(actions="Copilot_Actions", missing="")
    days = sorted(set(re.findall(r"\d{4}-\d\d-\d\d", iso)))
    us = iso
    for day in days:
        year, month, number = map(int, day.split("-"))
        us = us.replace(day, f"{month}/{number}/{year}")
    assert desk(us.encode()).events == desk(iso.encode()).events
    assert desk(V2.replace("2026-07-02", "7/2/2026").encode()).events == desk(V2.encode()).events


def test_a_date_with_the_day_first_is_set_aside_with_its_row(desk):
    taken = desk(V2.replace("2026-07-03,ben", "23/7/2026,ben").encode())
    (said,) = taken.rejected
    assert ", row 3: reportRefreshDate: expected month/day/year" in said
