import json
from datetime import UTC, datetime

METRICS = {
    "user_login": "ada",
    "day": "2026-05-07",
    "user_initiated_interaction_count": 4,
    "code_acceptance_activity_count": 0,
    "used_copilot_code_review_active": False,
    "used_copilot_code_review_passive": True,
}
SEAT = {
    "created_at": "2026-04-02T09:00:00Z",
    "updated_at": "2026-04-02T09:00:00Z",
    "pending_cancellation_date": None,
    "last_activity_at": None,
    "assignee": {"login": "Ada"},
    "assigning_team": {"slug": "frontend"},
}


def lines(*records):
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


def seats(*records):
    return json.dumps({"total_seats": len(records), "seats": records}).encode()


def test_a_day_in_the_1_day_and_the_28_day_report_is_the_same_day(desk):
    one_day = desk(lines(METRICS, METRICS)).events
    window = {"report_start_day": "2026-04-10", "report_end_day": "2026-05-07"}
    assert {event["event_id"] for event in desk(lines({**METRICS, **window})).events} == {
        event["event_id"] for event in one_day
    }


def test_a_zero_is_no_event(desk):
    assert desk(lines(METRICS)).kinds() == [("prompt", 4)]


def test_passive_code_review_is_not_use_and_active_is(desk):
    active = {**METRICS, "used_copilot_code_review_active": True}
    assert desk(lines(active)).kinds() == [("prompt", 4), ("task", 1)]


def test_the_command_line_counts_beside_the_interactions(desk):
    cli = {**METRICS, "used_cli": True, "totals_by_cli": {"prompt_count": 2}}
    assert [(event["workflow"], event["count"]) for event in desk(lines(cli)).events] == [(None, 4), ("cli", 2)]


def test_the_command_line_without_a_count_is_told(desk):
    assert any("command line" in notice for notice in desk(lines({**METRICS, "used_cli": True})).notices)


def test_totals_of_a_window_without_days_are_set_aside(desk):
    taken = desk(lines(METRICS, {**METRICS, "day": None}))
    assert taken.rejected == ["export0, line 2: day: is required; totals over a whole report overlap and are no events"]


def test_days_that_are_not_complete_are_left_for_later(desk):
    taken = desk(lines({**METRICS, "day": "2026-10-30"}))
    assert (taken.events, len(taken.seats)) == ([], 1)
    assert any("import them again later" in notice for notice in taken.notices)


def test_no_activity_date_is_unknown_and_no_event(desk):
    taken = desk(seats(SEAT))
    assert (taken.events, len(taken.seats)) == ([], 1)


def test_a_removal_to_come_ends_the_seat_ahead(desk):
    taken = desk(seats({**SEAT, "pending_cancellation_date": "2026-12-01"}))
    assert taken.seats[0]["removed_at"] == datetime(2026, 12, 1, tzinfo=UTC)


def test_the_roster_gives_the_assignment_whatever_was_seen_before(desk):
    early = {**METRICS, "day": "2026-03-01"}
    (seat,) = desk(lines(early), seats(SEAT)).seats
    assert (seat["assigned_at"], seat["team"]) == (datetime(2026, 4, 2, 9, tzinfo=UTC), "frontend")


def test_a_seat_that_nobody_holds_is_told(desk):
    taken = desk(seats({**SEAT, "assignee": None}))
    assert (taken.seats, taken.rejected) == ([], [])
    assert any("nobody holds" in notice for notice in taken.notices)


def test_the_latest_membership_names_the_team(desk):
    team = {"user_login": "ada", "day": "2026-05-07", "team_id": 42, "slug": "backend"}
    (seat,) = desk(lines({**team, "day": "2026-05-06", "slug": "platform"}, team), seats(SEAT)).seats
    assert seat["team"] == "backend"


def test_the_envelope_says_that_the_links_have_to_be_fetched(desk, samples):
    taken = desk(samples["github_copilot_envelope"])
    assert (taken.events, taken.rejected) == ([], [])
    assert "2 records: only say where to fetch the report (1 download links)" in taken.notices[0]
