import json
from datetime import UTC, datetime

import pytest


def line(record, **changed):
    return json.dumps({**record, **changed}).encode() + b"\n"


@pytest.fixture
def track(samples):
    return samples["segment_track"].records[0]


@pytest.fixture
def span(samples):
    return samples["otel_genai"].records[0]


@pytest.fixture
def lesson(samples):
    return samples["xapi"].records[0]


USAGE = b"Report Refresh Date,User Principal Name,Last Activity Date\n2026-06-30,ada.lovelock@corp.example,2026-06-01\n"


def test_an_event_occurred_by_the_corrected_clock_and_is_available_when_received(desk, track):
    event = desk(line(track)).events[0]
    assert event["occurred_at"] == datetime(2026, 6, 24, 9, 14, 36, tzinfo=UTC)
    assert event["available_at"] == datetime(2026, 6, 24, 9, 14, 37, 50_000, tzinfo=UTC)


def test_a_clock_that_runs_ahead_does_not_put_an_event_after_its_receipt(desk, track):
    event = desk(line(track, timestamp="2029-01-01T00:00:00Z")).events[0]
    assert event["occurred_at"] == event["available_at"]


def test_accepted_and_completed_are_two_facts_of_one_call(desk, track):
    assert desk(line(track)).kinds() == [("accepted", 1), ("task", 1)]
    assert desk(line(track)).events[1]["value"] == pytest.approx(184 / 60)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"userId": None}, "name no person"),
        ({"type": "identify"}, "no track calls"),
        ({"event": "Lunch", "properties": {"tool": "claude"}}, "none of the known kinds"),
        ({"event": "Lunch accepted", "properties": {}}, "name no tool"),
    ],
)
def test_what_cannot_be_an_event_is_counted_and_told(desk, track, changed, said):
    taken = desk(line(track, **changed), connector="segment_track")
    assert (taken.events, taken.rejected) == ([], [])
    assert any(said in notice for notice in taken.notices)


def test_a_workflow_that_is_a_sentence_is_set_aside_unseen(desk, track):
    taken = desk(line(track, properties={"tool": "claude", "workflow": "what Ada told me about her week, at length"}))
    assert "Ada" not in taken.rejected[0]
    assert "workflow: expected a short name" in taken.rejected[0]


def test_use_that_we_led_to_is_guided(desk, track):
    guided = {**track["properties"], "guided": True}
    assert all(event["guided"] for event in desk(line(track, properties=guided)).events)


def test_the_same_id_of_two_sources_is_two_cloud_events(desk, samples):
    record = samples["cloudevents"].records[0]
    taken = desk(json.dumps([record, {**record, "source": "/other"}, record]).encode())
    assert len({event["event_id"] for event in taken.events}) == 4


def test_a_lesson_is_training_in_minutes_for_a_seat_that_is_known(desk, lesson):
    statement = json.dumps({"statements": [lesson]}).encode()
    (event,) = [event for event in desk(statement, USAGE).events if event["source"] == "xapi"]
    assert (event["kind"], event["value"]) == ("training", pytest.approx(3 + 4 / 60))
    assert desk(statement).events == []


@pytest.mark.parametrize(
    ("verb", "kind"), [("completed", "training"), ("passed", "training"), ("experienced", "help"), ("voided", None)]
)
def test_the_verb_says_whether_it_was_a_lesson_or_reading(desk, lesson, verb, kind):
    said = {**lesson, "verb": {"id": f"http://adlnet.gov/expapi/verbs/{verb}"}}
    taken = desk(json.dumps({"statements": [said]}).encode(), USAGE)
    assert [event["kind"] for event in taken.events if event["source"] == "xapi"] == ([kind] if kind else [])


def test_a_span_is_a_prompt_and_a_failed_one_an_error_too(desk, span):
    failed = {**span["attributes"], "error.type": "timeout"}
    assert desk(line(span)).kinds() == [("prompt", 1)]
    assert desk(line(span, attributes=failed)).kinds() == [("prompt", 1), ("error", 1)]


@pytest.mark.parametrize("operation", ["execute_tool", "embeddings", None])
def test_a_span_that_asks_no_model_is_left_out(desk, span, operation):
    other = {**span["attributes"], "gen_ai.operation.name": operation}
    assert desk(line(span, attributes=other)).events == []


def test_otlp_json_gives_the_same_as_the_flat_span(desk, span):
    typed = [{"key": name, "value": {"stringValue": value}} for name, value in span["attributes"].items() if value]
    otlp = {"resourceSpans": [{"resource": {}, "scopeSpans": [{"spans": [{**span, "attributes": typed}]}]}]}
    assert desk(json.dumps(otlp).encode()).events == desk(line(span)).events


def test_a_span_is_of_the_assistant_of_ones_own_unless_it_is_told(desk, span):
    assert desk(line(span)).seats[0]["tool"] == "in_house"
    assert desk(line(span), tool="chatgpt_enterprise").seats[0]["tool"] == "chatgpt_enterprise"
