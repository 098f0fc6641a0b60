import json
from dataclasses import dataclass

import pytest

from features.connectors.edge import tool_named

TEXT = "Copilot keeps giving me the wrong numbers"
JIRA = {
    "id": "1",
    "key": "A-1",
    "fields": {
        "summary": TEXT,
        "created": "2026-06-24T10:02:11.000+0200",
        "reporter": {"emailAddress": "ada@corp.example", "accountId": "5b"},
    },
}
USAGE = b"Report Refresh Date,User Principal Name,Last Activity Date\n2026-06-30,ada@corp.example,2026-06-01\n"


@dataclass(frozen=True)
class Said:
    frustration: float | None
    uncertainty: float | None


@dataclass(frozen=True)
class About:
    category: str | None
    workflow: str | None


class Model:
    """Scores every text alike and remembers what it was given."""

    def __init__(self, frustration=0.7, uncertainty=None):
        self.given, self.said = [], Said(frustration, uncertainty)

    def score_text(self, text, language=None):
        self.given.append((text, language))
        return self.said

    def ticket_topic(self, _text, workflows):
        return About("how_to", next(iter(workflows)))


def issues(**changed):
    return json.dumps({"issues": [{**JIRA, "fields": {**JIRA["fields"], **changed}}]}).encode()


def tickets(taken):
    return [event for event in taken.events if event["kind"] == "ticket"]


def test_a_text_becomes_scores_category_and_workflow(desk):
    model = Model()
    (ticket,) = tickets(desk(issues(), USAGE, text=model))
    assert (ticket["frustration"], ticket["uncertainty"]) == (0.7, None)
    assert (ticket["category"], ticket["workflow"]) == ("how_to", "proposal_draft")
    assert model.given == [(TEXT, None)]


def test_without_a_model_the_scores_are_missing(desk):
    (ticket,) = tickets(desk(issues(), USAGE))
    assert (ticket["frustration"], ticket["uncertainty"], ticket["category"]) == (None, None, None)


def test_a_score_outside_its_range_is_set_aside_and_does_not_stop_the_import(desk):
    taken = desk(issues(), USAGE, text=Model(frustration=7.0))
    assert (tickets(taken), len(taken.rejected)) == ([], 1)
    assert TEXT not in taken.rejected[0]


def test_a_ticket_makes_no_seat(desk):
    taken = desk(issues())
    assert (taken.seats, taken.events, taken.rejected) == ([], [], [])
    assert any("seat of that tool is not known" in notice for notice in taken.notices)


def test_a_ticket_of_a_seat_that_the_log_knows_goes_in(desk):
    seats = desk(USAGE).batches[0].seats
    assert len(tickets(desk(issues(), known=lambda _ids: seats))) == 1


def test_a_ticket_about_something_else_is_left_out_and_counted(desk):
    taken = desk(issues(summary="My mouse cursor does not move, Claude said"), USAGE)
    assert tickets(taken) == []
    assert any("1 record: name no AI tool" in notice for notice in taken.notices)


def test_the_tool_that_is_given_is_that_of_tickets_that_name_none(desk):
    assert len(tickets(desk(issues(summary="It is wrong"), USAGE, tool="m365_copilot"))) == 1


@pytest.mark.parametrize(
    ("labels", "text", "tool"),
    [
        (["cursor"], "", "cursor"),
        (["GitHub-Copilot"], "", "github_copilot"),
        (["now_assist"], "copilot", "now_assist"),
        ([], "Github Copilot is slow", "github_copilot"),
        ([], "copilot is slow", "m365_copilot"),
        ([], "ChatGPT!", "chatgpt_enterprise"),
    ],
)
def test_labels_then_words_name_the_tool(desk, labels, text, tool):
    assert tool_named(desk.edge, labels, text) == tool


def test_jira_times_have_their_offset_without_a_colon(desk):
    (ticket,) = tickets(desk(issues(), USAGE))
    assert ticket["occurred_at"].isoformat() == "2026-06-24T08:02:11+00:00"


@pytest.mark.parametrize("depth", [1, 3, 100])
def test_a_nested_description_is_read_as_far_down_as_people_write(desk, depth):
    node = {"type": "text", "text": "deep words"}
    for _ in range(depth):
        node = {"type": "paragraph", "content": [node]}
    model = Model()
    desk(issues(description=node), USAGE, text=model)
    assert ("deep words" in model.given[0][0]) == (depth < 20)


def test_zendesk_users_join_a_number_with_an_address(desk, samples):
    ticket = samples["zendesk_tickets"].records[0]
    users = [{"id": ticket["requester_id"], "email": "ADA@corp.example"}]
    for document in ({"tickets": [ticket], "users": users}, {"users": users, "tickets": [ticket]}):
        assert len(tickets(desk(json.dumps(document).encode(), USAGE, connector=None))) == 1


def test_a_ticket_that_is_exported_at_each_change_is_one_ticket(desk, samples):
    ticket = samples["zendesk_tickets"].records[0]
    users = [{"id": ticket["requester_id"], "email": "ada@corp.example"}]
    changed = {**ticket, "updated_at": "2026-07-01T00:00:00Z", "status": "solved"}
    taken = desk(json.dumps({"tickets": [ticket, changed], "users": users}).encode(), USAGE)
    assert len({event["event_id"] for event in tickets(taken)}) == 1


@pytest.mark.parametrize("caller", [{"link": "x", "value": "6816f79c"}, "6816F79C"])
def test_a_servicenow_reference_may_be_an_object_or_a_value(desk, samples, caller):
    record = {**samples["servicenow_incidents"].records[0], "caller_id": caller}
    people = b"email,servicenow\nada@corp.example,6816f79c\n"
    taken = desk(json.dumps({"result": [record]}).encode(), people, USAGE)
    assert len(tickets(taken)) == 1
