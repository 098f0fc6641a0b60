import json
from datetime import date

import pytest


def page(record, **changed):
    return json.dumps({"data": [{**record, **changed}]}).encode()


@pytest.fixture
def code(samples):
    return samples["claude_code_analytics"].records[0]


@pytest.fixture
def user(samples):
    return {**samples["claude_enterprise_users"].records[0], "date": None}


def test_answers_are_summed_over_the_tools_and_stand_at_the_end_of_the_day(desk, code):
    taken = desk(page(code))
    assert taken.kinds() == [("session", 5), ("accepted", 53), ("rejected", 6), ("task", 2), ("task", 1)]
    assert {event["occurred_at"].isoformat() for event in taken.events} == {"2026-06-24T23:59:59.999999+00:00"}


def test_an_api_key_is_no_person(desk, code):
    taken = desk(page(code, actor={"type": "api_actor", "api_key_name": "ci"}))
    assert (taken.seats, taken.events, taken.rejected) == ([], [], [])
    assert any("API key" in notice for notice in taken.notices)


def test_two_terminals_of_a_day_both_count(desk, code):
    taken = desk(json.dumps({"data": [code, {**code, "terminal_type": "iTerm"}]}).encode())
    assert len({event["event_id"] for event in taken.events}) == 10


def test_users_without_a_day_are_told_and_nothing_is_made_up(desk, user):
    taken = desk(page(user))
    assert (taken.seats, taken.events, taken.rejected) == ([], [], [])
    assert any("--day" in notice for notice in taken.notices)


def test_the_day_may_be_given(desk, user):
    taken = desk(page(user), day=date(2026, 6, 24))
    assert taken.kinds() == [("session", 3), ("prompt", 14), ("task", 1)]


def test_the_day_may_stand_in_the_document(desk, user):
    document = json.dumps({"date": "2026-06-24", "data": [user]}).encode()
    assert len(desk(document).events) == 3


def test_the_day_may_stand_in_the_name_of_the_file(desk, user, tmp_path):
    path = tmp_path / "users_2026-06-24.json"
    path.write_bytes(page(user))
    assert {event["occurred_at"].date() for event in desk.files([path]).events} == {date(2026, 6, 24)}


def test_a_user_whose_counts_are_zero_is_a_seat_without_events(desk, user):
    idle = page(user, chat_metrics={"message_count": 0}, claude_code_metrics=None)
    taken = desk(idle, day=date(2026, 6, 24))
    assert (len(taken.seats), taken.events) == (1, [])


def test_the_summaries_are_told(desk, samples):
    said = desk(samples["claude_enterprise_summaries"]).notices[0]
    assert "2026-06-23 1,500 seats assigned, 12 invited, 412 active that day" in said
