import json

import pytest


def activity(record, **parameters):
    listed = [{"name": name, "value": value} for name, value in parameters.items()]
    return json.dumps({"items": [{**record, "events": [{"parameters": listed}]}]}).encode()


@pytest.mark.parametrize(
    ("app", "workflow"),
    [("docs", "document_draft"), ("gmail", "inbox_triage"), ("sheets", "spreadsheet_analysis"), ("unheard", None)],
)
def test_the_app_names_the_workflow(desk, samples, app, workflow):
    taken = desk(activity(samples["gemini_workspace"].records[0], app_name=app, action="summarize"))
    assert {event["workflow"] for event in taken.events} == {workflow}
    assert [event["kind"] for event in taken.events] == ["prompt", "task"][: 2 if workflow else 1]


def test_what_is_offered_unasked_is_not_use(desk, samples):
    record = samples["gemini_workspace"].records[0]
    taken = desk(activity(record, app_name="docs", event_category="inactive"))
    assert (taken.events, len(taken.seats)) == ([], 1)
    assert any("unasked" in notice for notice in taken.notices)


def test_a_conversation_is_a_prompt_and_no_task(desk, samples):
    record = samples["gemini_workspace"].records[0]
    assert desk(activity(record, app_name="docs", event_category="active_conversations")).kinds() == [("prompt", 1)]


def test_several_events_of_one_activity_all_count(desk, samples):
    record = samples["gemini_workspace"].records[0]
    twice = json.dumps({"items": [{**record, "events": record["events"] * 2}]}).encode()
    assert len({event["event_id"] for event in desk(twice).events}) == 4
