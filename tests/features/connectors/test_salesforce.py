import json

import pytest

from features.connectors.salesforce import user


@pytest.mark.parametrize(
    ("short", "long"), [("001A0000006Vm9r", "001A0000006Vm9rIAC"), ("0055g00000AbCdE", "0055g00000AbCdEAAV")]
)
def test_ids_of_15_and_18_characters_are_one_user(short, long):
    assert user(short) == user(long)


def test_ids_that_differ_by_letter_case_alone_are_two_users():
    assert user("0055g00000AbCdE") != user("0055g00000aBcDe")


def test_a_panel_that_is_closed_soon_is_a_short_session_with_nothing_completed(desk, samples):
    first = desk(samples["salesforce_agent_events"]).events[0]
    assert (first["kind"], first["value"], first["completed"]) == ("session", 8.421, False)


def test_a_named_task_on_a_page_that_names_a_workflow_is_a_task(desk, samples):
    events = desk(samples["salesforce_agent_events"]).events[1:]
    assert [(event["kind"], event["workflow"]) for event in events] == [
        ("prompt", "account_research"),
        ("task", "account_research"),
    ]


def test_the_list_of_log_files_says_what_to_fetch(desk, samples):
    assert "fetch the LogFile of each" in desk(samples["salesforce_event_log_files"]).notices[0]


@pytest.mark.parametrize("missing", ["CreatedById", "Reaction"])
def test_an_answer_without_user_or_outcome_is_told_and_no_event(desk, samples, missing):
    record = {**samples["salesforce_recommendation_responses"].records[0], missing: None}
    taken = desk(json.dumps(record).encode())
    assert (taken.events, taken.rejected, len(taken.notices)) == ([], [], 1)


def test_an_answer_is_accepted_or_rejected(desk, samples):
    record = samples["salesforce_recommendation_responses"].records[0]
    kinds = [desk(json.dumps({**record, "Reaction": said}).encode()).kinds() for said in ("Accepted", "Rejected")]
    assert kinds == [[("accepted", 1)], [("rejected", 1)]]


def test_a_step_that_says_nothing_is_told(desk, samples):
    sample = samples["salesforce_agent_events"]
    steps = [{**record, "IsAgentPanelExited": "false", "MessageIdentifier": ""} for record in sample.records]
    taken = desk(type(sample)(steps, "csv"))
    assert (taken.events, len(taken.seats)) == ([], 1)
    assert any("2 records: are neither a message" in notice for notice in taken.notices)
