import json

import pytest


def page(record, **changed):
    return json.dumps({"result": [{**record, **changed}]}).encode()


@pytest.fixture
def answer(samples):
    return samples["servicenow_generative_ai_log"].records[0]


@pytest.fixture
def assist(samples):
    return samples["servicenow_gen_ai_usage"].records[0]


@pytest.mark.parametrize(
    ("feedback", "kinds"),
    [
        ("Accepted", ["prompt", "accepted"]),
        ("SlightlyPositive", ["prompt", "accepted"]),
        ("LikelyPositive", ["prompt", "accepted"]),
        ("Rejected", ["prompt", "rejected"]),
        ("SlightlyNegative", ["prompt", "rejected"]),
        ("Ignored", ["prompt"]),
        ("", ["prompt"]),
    ],
)
def test_feedback_is_accepted_rejected_or_neither(desk, answer, feedback, kinds):
    taken = desk(page(answer, feedback=feedback))
    assert [event["kind"] for event in taken.events] == kinds
    assert taken.notices == []


def test_a_feedback_that_is_not_documented_is_told(desk, answer):
    assert "not one of the documented words" in desk(page(answer, feedback="Splendid")).notices[0]


@pytest.mark.parametrize("changed", [{"status": "Error"}, {"error_code": "429"}])
def test_an_answer_that_failed_is_an_error(desk, answer, changed):
    assert "error" in [event["kind"] for event in desk(page(answer, **changed)).events]


def test_an_assist_that_both_logs_tell_of_is_one_prompt(desk, answer, assist):
    taken = desk(page(assist), page(answer, gen_ai_usage_log=assist["sys_id"]))
    prompts = [event["event_id"] for event in taken.events if event["kind"] == "prompt"]
    assert (len(prompts), len(set(prompts))) == (2, 1)


@pytest.mark.parametrize(
    ("assists", "kinds"), [("3", [("prompt", 3), ("task", 1)]), ("0", []), ("", [("prompt", 1), ("task", 1)])]
)
def test_assists_are_counted_and_zero_is_none(desk, assist, assists, kinds):
    assert desk(page(assist, assists=assists)).kinds() == kinds


def test_an_assist_that_failed_is_an_error_and_no_task(desk, assist):
    assert desk(page(assist, status="failure")).kinds() == [("prompt", 2), ("error", 1)]
