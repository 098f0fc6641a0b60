from datetime import UTC, datetime

import pytest

HEADER = "cadence,period_start,period_end,public_id,email,department,user_status,created_or_invited_date,messages"
ROW = "{cadence},2026-06-21,2026-06-27,u1,ada@corp.example,{department},{status},2026-05-04,{messages}"


def export(cadence="Weekly", department="", status="enabled", messages="37"):
    row = ROW.format(cadence=cadence, department=department, status=status, messages=messages)
    return f"{HEADER}\n{row}\n".encode()


def test_a_week_stands_at_its_end_for_only_then_its_total_is_known(desk):
    (event,) = desk(export()).events
    assert (event["kind"], event["count"]) == ("prompt", 37)
    assert event["occurred_at"] == datetime(2026, 6, 27, 23, 59, 59, 999999, tzinfo=UTC)


@pytest.mark.parametrize("messages", ["0", "", "NA"])
def test_zero_or_unknown_messages_are_a_seat_without_events(desk, messages):
    taken = desk(export(messages=messages))
    assert (len(taken.seats), taken.events, taken.rejected) == (1, [], [])


def test_months_give_seats_only_and_it_says_why(desk):
    taken = desk(export(cadence="Monthly"))
    assert (len(taken.seats), taken.events) == (1, [])
    assert any("export by week" in notice for notice in taken.notices)


@pytest.mark.parametrize(
    ("department", "function"),
    [
        ('"[""finance""]"', "finance"),
        ("finance", "finance"),
        ("[]", None),
        ("", None),
        ('"[""R&D / Köln"", 5]"', "R D / Koln"),
    ],
)
def test_a_department_may_be_a_json_array_in_a_string(desk, department, function):
    (seat,) = desk(export(department=department)).seats
    assert seat["function"] == function


def test_the_invitation_is_the_assignment(desk):
    assert desk(export()).seats[0]["assigned_at"] == datetime(2026, 5, 4, tzinfo=UTC)


def test_a_disabled_user_has_left_the_seat(desk):
    assert desk(export(status="disabled")).seats[0]["removed_at"] is not None
    assert desk(export()).seats[0]["removed_at"] is None
