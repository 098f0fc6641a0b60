from datetime import UTC, datetime

import pytest

HEADER = "cadence,period_start,period_end,public_id,email,department,user_status,created_or_invited_date,messages"
ROW = "{cadence},2026-06-21,2026-06-27,u1,ada@corp.example,{department},{status},2026-05-04,{messages}"


def export(cadence="Weekly", department="", status="enabled", messages="37"):
    row = ROW.format(cadence=cadence, department=department, status=status, messages=messages)
    return f"{HEADER}\n{row}\n".encode()


def weeks(*statuses):
    """Weeks from 7 June 2026 on, one row each."""
    rows = (
        f"Weekly,2026-06-{7 * number:02},2026-06-{7 * number + 6:02},u1,ada@corp.example,,{status},2026-05-04,0\n"
        for number, status in enumerate(statuses, start=1)
    )
    return (HEADER + "\n" + "".join(rows)).encode()


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


@pytest.mark.parametrize(
    ("statuses", "last_day"),
    [
        (("enabled", "disabled", "disabled"), 20),
        (("disabled", "enabled", "disabled"), 27),
        (("disabled", "disabled", "disabled"), 13),
        (("disabled", "disabled", "enabled"), None),
    ],
)
def test_a_removal_that_every_week_repeats_happened_in_the_first_of_them(desk, statuses, last_day):
    header, *rows = weeks(*statuses).splitlines(keepends=True)
    removed = {
        desk(header + b"".join(order)).seats[0]["removed_at"] for order in (rows, rows[::-1], rows[1:] + rows[:1])
    }
    assert {None if at is None else at.day for at in removed} == {last_day}


def test_a_removal_that_the_log_knows_is_not_moved_by_a_later_report(desk):
    before = desk(weeks("enabled", "disabled"))
    header, _, _, third = weeks("enabled", "disabled", "disabled").splitlines(keepends=True)
    later = desk(header + third, known=lambda _ids: before.batches[0].seats)
    assert later.seats[0]["removed_at"] == before.seats[0]["removed_at"]
