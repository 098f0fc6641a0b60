"""The signals of the brief, each on a history made by hand, with numbers worked out by hand."""

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from itertools import count

import numpy as np
import pytest

from features.catalogue import BY_NAME, NUMERIC
from features.events import Event, Kind, Scores
from features.interventions import KINDS, FailureMode
from features.rules import strata, warnings_of
from features.sources import Source

DAY, HOUR, MINUTE, MICRO = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1), timedelta(microseconds=1)
ASSIGNED = datetime(2026, 3, 2, 9, tzinfo=UTC)
MIDNIGHT = datetime(2026, 3, 2, tzinfo=UTC)  # with which the date of assignment begins
TOOL = "m365_copilot"  # meaningful is a task in one of its workflows
MISSING = pytest.approx(math.nan, nan_ok=True)
_numbers = count()


def day(number, hours=1.0):
    """An instant of that day of the seat's life, from 0."""
    return ASSIGNED + number * DAY + hours * HOUR


NOW = day(30)
SLOW = Source("acme", TOOL, "admin_export", 3 * DAY, ASSIGNED, NOW)


def did(kind, at, seat="me", **fields):
    fixed = {"event_id": f"acme/{next(_numbers)}", "seat_id": f"acme/{seat}", "kind": kind, "source": "vendor"}
    return Event(**{**fixed, "occurred_at": at, "available_at": at, **fields})


def meaningful(at, seat="me", **fields):
    return did("task", at, seat, **{"workflow": "meeting_recap", **fields})


def surface(at, **fields):
    return did("task", at, workflow="lunch_menu", **fields)


def opened(at, seconds, completed, **fields):
    return did("session", at, value=seconds, completed=completed, **fields)


@pytest.fixture
def seat(oracle):
    def make(seat_id="me", **fields):
        return oracle.Version(
            f"acme/{seat_id}", **{"tool": TOOL, "assigned_at": ASSIGNED, "known_at": ASSIGNED, **fields}
        )

    return make


@pytest.fixture
def features(oracle, seat):
    """Every feature of the seat `me`, so many days after it was assigned."""

    def look(events, days, *, versions=None, sources=(), at=None):
        as_of = at or ASSIGNED + days * DAY
        world = oracle.World(tuple(versions or [seat()]), tuple(events), tuple(sources), (("acme/me", as_of),))
        return world.features().row(0, named=True)

    return look


# --- no meaningful use in the first two weeks -----------------------------------------------------------------------

LOOKED_AROUND = [opened(day(1), 120.0, None), surface(day(3)), meaningful(day(5), guided=True)]


@pytest.mark.parametrize(
    ("days", "said"), [(13.6, MISSING), (13.7, 1), (200, 1)], ids=["too early", "two weeks", "for ever"]
)
def test_no_meaningful_use_in_the_first_two_weeks_is_said_when_they_are_over(features, days, said):
    assert features(LOOKED_AROUND, days)["no_meaningful_first_14"] == said


@pytest.mark.parametrize(
    ("at", "said"), [(MIDNIGHT + 14 * DAY - MICRO, 0), (MIDNIGHT + 14 * DAY, 1)], ids=["in time", "too late"]
)
def test_one_meaningful_use_in_the_first_two_weeks_answers_it(features, at, said):
    assert features([*LOOKED_AROUND, meaningful(at)], 30)["no_meaningful_first_14"] == said


def test_one_meaningful_use_is_known_before_the_two_weeks_are_over(features):
    assert features([meaningful(day(2))], 3)["no_meaningful_first_14"] == 0


# --- use falling in weeks three and four ----------------------------------------------------------------------------

EIGHT_DAYS_THEN_TWO = [did("prompt", day(number)) for number in (0, 1, 2, 3, 7, 8, 9, 13, 15, 20)]


def test_use_in_weeks_3_and_4_is_measured_against_weeks_1_and_2(features):
    row = features(EIGHT_DAYS_THEN_TWO, 28)
    assert row["weeks_3_4_ratio"] == row["use_against_first_weeks"] == 2 / 8
    assert row["use_trend_14"] == (2 - 8) / (2 + 8)


def test_the_drop_is_not_judged_before_the_fourth_week_is_over(features):
    row = features(EIGHT_DAYS_THEN_TWO, 27.6)
    assert (row["weeks_3_4_ratio"], row["use_against_first_weeks"]) == (MISSING, MISSING)


def test_the_drop_of_weeks_3_and_4_is_remembered_while_the_present_is_compared_anew(features):
    row = features([*EIGHT_DAYS_THEN_TWO, *(did("prompt", day(number)) for number in range(28, 34))], 42)
    assert (row["weeks_3_4_ratio"], row["use_against_first_weeks"], row["use_trend_14"]) == (2 / 8, 6 / 8, 4 / 8)


def test_without_an_initial_period_of_use_there_is_no_drop(features):
    assert features([did("prompt", day(15))], 28)["weeks_3_4_ratio"] == MISSING


# --- days are whole UTC dates ---------------------------------------------------------------------------------------

WORKDAYS = [
    [did("prompt", day(7 * week + number, hours)), did("work", day(7 * week + number, hours)), meaningful(day(7 * week + number, hours))]
    for week in range(9) for number, hours in enumerate((0, 2, 4, 6, 8))
]  # fmt: skip
OF_DAYS = {
    "active_days_7": 5, "active_days_14": 10, "active_days_28": 20, "active_days_56": 40, "active_weeks_8": 8,
    "meaningful_days_14": 10, "meaningful_days_28": 20, "meaningful_days_56": 40, "meaningful_weeks_8": 8,
    "work_days_7": 5, "work_days_28": 20, "work_days_56": 40, "used_share_14": 1, "used_share_28": 1, "used_share_56": 1,
    "use_trend_14": 0, "meaningful_trend_14": 0, "work_trend_14": 0, "weeks_3_4_ratio": 1, "use_against_first_weeks": 1,
    "no_meaningful_first_14": 0,
}  # fmt: skip


@pytest.mark.parametrize("hour", [0, 2, 5.25, 9, 10, 15, 23.99])
@pytest.mark.parametrize("weekday", range(7))
def test_five_days_a_week_are_five_of_seven_at_whatever_hour_one_looks(features, weekday, hour):
    """Weeks of Monday to Friday, at hours that move through the day, looked at in the ninth week."""
    events = [event for of_day in WORKDAYS for event in of_day]
    row = features(events, None, at=MIDNIGHT + (56 + weekday) * DAY + hour * HOUR)
    assert {name: row[name] for name in OF_DAYS} == OF_DAYS
    assert row["meaningful_gap_mean"] == pytest.approx(7 / 5, abs=0.05)


def test_use_on_every_day_is_seven_of_seven_and_the_running_date_is_not_among_them(features):
    daily = [did("prompt", MIDNIGHT + number * DAY + 8 * HOUR) for number in range(60)]
    row = features(daily, None, at=MIDNIGHT + 40 * DAY + 12 * HOUR)
    assert (row["active_days_7"], row["active_days_28"], row["uses_7"]) == (7, 28, 7)
    gone_today = features(daily[:40], None, at=MIDNIGHT + 40 * DAY + 12 * HOUR)
    assert (gone_today["active_days_7"], gone_today["uses_7"]) == (7, 6)


def test_totals_of_a_day_count_on_their_own_date_as_moments_of_it_do(features):
    at = MIDNIGHT + 40 * DAY + 9 * HOUR
    moments = [did("prompt", MIDNIGHT + number * DAY + 14 * HOUR) for number in (30, 33, 34, 39)]
    totals = [did("prompt", MIDNIGHT + (number + 1) * DAY - MICRO, count=3) for number in (30, 33, 34, 39)]
    names = ("active_days_7", "active_days_14", "active_days_28", "use_trend_14", "active_weeks_8")
    one, other = (features(events, None, at=at) for events in (moments, totals))
    assert [one[name] for name in names] == [other[name] for name in names] == [3, 4, 4, 1, 2]


def test_dates_end_before_the_date_on_which_the_data_ends(features):
    three_days_late = Source("acme", TOOL, "vendor", 3 * DAY, ASSIGNED, ASSIGNED + 99 * DAY)
    daily = [did("prompt", MIDNIGHT + number * DAY + 8 * HOUR) for number in range(37)]
    row = features(daily, None, at=MIDNIGHT + 40 * DAY + 12 * HOUR, sources=[three_days_late])
    assert row["active_days_7"] == 7


def test_meaningful_use_of_the_running_date_ends_surface_use(features):
    busy = [did("prompt", MIDNIGHT + number * DAY + 8 * HOUR) for number in range(10, 28)]
    at = MIDNIGHT + 30 * DAY + 12 * HOUR
    assert features(busy, None, at=at)["surface_days_28"] == 18
    assert features([*busy, meaningful(at - HOUR)], None, at=at)["surface_days_28"] == 0


@pytest.mark.parametrize("before", [timedelta(0), MICRO, 3 * DAY])
def test_who_used_it_before_the_seat_was_assigned_waited_no_days(features, before):
    assert features([meaningful(ASSIGNED - before)], 28)["days_to_first_meaningful"] == 0


def test_life_is_counted_to_where_the_data_ends_and_never_negative(features):
    late = Source("acme", TOOL, "vendor", 3 * DAY, ASSIGNED - 9 * DAY, ASSIGNED)
    young, older = (features([], days, sources=[late]) for days in (1, 10))
    assert [(row["life_days"], row["life_week"]) for row in (young, older)] == [(0, 1), (7, 2)]


# --- what no source can tell ----------------------------------------------------------------------------------------


def tells(*kinds, source="report", since=ASSIGNED - 9 * DAY, lag=timedelta(0)):
    return Source("acme", TOOL, source, lag, since, NOW, kinds=tuple((since, Kind(kind)) for kind in kinds))


ONLY_PROMPTS = [did("prompt", day(number)) for number in range(27)]
UNTOLD = [
    "meaningful_7",
    "meaningful_28",
    "meaningful_ever",
    "days_since_meaningful",
    "no_meaningful_first_14",
    "surface_days_28",
    "sessions_28",
    "work_days_28",
    "used_share_28",
    "unassisted_28",
    "errors_28",
    "errors_1h",
    "help_28",
    "tickets_28",
    "frustration",
    "trainings",
    "quick_closes_1h",
    "surveys_asked_180",
    "unanswered_streak",
    "team_share_28",
    "leaders_share_28",
    "champions_in_team",
]


def test_what_no_source_of_the_tool_can_tell_is_unknown_and_not_zero(features, organisation):
    """A report of prompts has no task: nobody is warned of no meaningful use."""
    row = features(ONLY_PROMPTS, 28, versions=organisation, sources=[tells("prompt")])
    assert {name: row[name] for name in UNTOLD} == dict.fromkeys(UNTOLD, MISSING)
    assert (row["active_days_28"], row["uses_28"], row["prompts_28"], row["interventions_28"]) == (27, 27, 27, 0)


def test_no_early_warning_is_given_of_what_nobody_can_see(features):
    row = features(ONLY_PROMPTS, 28, sources=[tells("prompt")])
    vector = np.array([[row[feature.name] for feature in NUMERIC]])
    assert not warnings_of(vector).any()
    assert strata(vector).tolist() == ["in_use"]
    seen = features(ONLY_PROMPTS, 28, sources=[tells("prompt"), tells("task", source="audit")])
    vector = np.array([[seen[feature.name] for feature in NUMERIC]])
    assert warnings_of(vector)[0].tolist() == [True, False, False]
    assert strata(vector).tolist() == ["not_started"]


def test_another_source_of_the_tool_that_can_tell_makes_it_zero(features):
    row = features(ONLY_PROMPTS, 28, sources=[tells("prompt"), tells("task", "work", source="audit")])
    assert (row["meaningful_28"], row["no_meaningful_first_14"], row["surface_days_28"]) == (0, 1, 27)


@pytest.mark.parametrize("other", [{"tool": "github_copilot"}, {"organization": "zeta"}], ids=str)
def test_a_source_of_another_tool_or_organisation_tells_nothing_here(features, other):
    elsewhere = replace(tells("task"), **other)
    assert features(ONLY_PROMPTS, 28, sources=[tells("prompt"), elsewhere])["meaningful_28"] == MISSING


def test_before_a_source_was_known_nobody_could_tell(features):
    later = tells("task", source="audit", since=day(27))
    looks = [features(ONLY_PROMPTS, None, at=at, sources=[tells("prompt"), later]) for at in (day(27) - MICRO, day(27))]
    assert [row["meaningful_28"] for row in looks] == [MISSING, 0]


@pytest.mark.parametrize(("began", "said"), [(7, 1), (7.7, MISSING), (40, MISSING)])
def test_first_weeks_that_no_source_saw_are_not_said_to_be_without_use(features, began, said):
    audit = tells("task", source="audit", since=MIDNIGHT + began * DAY)
    row = features(ONLY_PROMPTS, 60, sources=[tells("prompt"), audit])
    assert (row["no_meaningful_first_14"], row["meaningful_28"]) == (said, 0)


def test_a_kind_that_a_sender_first_sends_late_is_unknown_until_then_and_zero_after(features):
    """Plain events: that a sender tells of tasks is known from its first one, that it has told since it began as well."""
    learned = replace(tells("prompt"), kinds=((ASSIGNED - 9 * DAY, Kind.PROMPT), (day(20), Kind.TASK)))
    looks = [features(ONLY_PROMPTS, None, at=at, sources=[learned]) for at in (day(20) - MICRO, day(20))]
    assert [(row["meaningful_28"], row["no_meaningful_first_14"]) for row in looks] == [(MISSING, MISSING), (0, 1)]
    vectors = np.array([[row[feature.name] for feature in NUMERIC] for row in looks])
    assert warnings_of(vectors)[:, 0].tolist() == [False, True]
    assert strata(vectors).tolist() == ["in_use", "not_started"]


def test_who_has_no_source_of_the_tool_at_all_has_only_what_the_roster_and_this_product_know(features, organisation):
    row = features([], 28, versions=organisation, sources=[replace(tells(*map(str, Kind)), tool="github_copilot")])
    told = [feature.name for feature in NUMERIC if feature.needs and row[feature.name] == row[feature.name]]
    assert (told, row["life_days"], row["interventions_28"]) == ([], 28, 0)
    vector = np.array([[row[feature.name] for feature in NUMERIC]])
    assert (warnings_of(vector).any(), strata(vector).tolist()) == (False, ["not_started"])


@pytest.mark.parametrize(("at", "uses", "days"), [(-12 * HOUR, 0, 0), (-MICRO, 0, 0), (timedelta(0), 5, 1)], ids=str)
def test_the_total_of_the_running_date_counts_once_the_date_is_over(features, at, uses, days):
    """A report of today stands at the end of today, however early in the day it is sent."""
    midnight = MIDNIGHT + 20 * DAY
    total = did("prompt", midnight - MICRO, count=5)
    row = features([total], None, at=midnight + at, sources=[tells("prompt")])
    assert (row["uses_7"], row["active_days_7"]) == (uses, days)


def test_a_seat_assigned_in_another_time_zone_begins_on_the_utc_date_of_that_instant(features, seat):
    """Half past eight in the morning of 2 March in Tokyo is still 1 March: its fourteenth date is 14 March."""
    tokyo = timezone(9 * HOUR)
    begun = datetime(2026, 3, 2, 8, 30, tzinfo=tokyo)
    versions = [seat(assigned_at=begun, known_at=begun)]
    midnights = [datetime(2026, 3, date, tzinfo=UTC) for date in (14, 15)]
    said = [features([], None, at=at, versions=versions)["no_meaningful_first_14"] for at in midnights]
    assert said == [MISSING, 1]


def test_sessions_without_a_length_are_not_said_to_have_been_long(features):
    row = features([did("session", day(25), count=9)], 28)
    assert (row["sessions_7"], row["quick_close_share_7"], row["quick_close_streak"]) == (9, MISSING, MISSING)


# --- a lag that grows -----------------------------------------------------------------------------------------------


def test_a_lag_that_grew_does_not_change_how_the_past_is_seen(features):
    daily = [did("prompt", day(number)) for number in range(60)]
    before = Source("acme", TOOL, "vendor", DAY, ASSIGNED, NOW)
    grown = replace(before, lag=9 * DAY, lags=((ASSIGNED, DAY), (day(40), 9 * DAY)))
    then = [features(daily, None, at=day(40) - MICRO, sources=[source]) for source in (before, grown)]
    assert {name: MISSING if value != value else value for name, value in then[0].items()} == then[1]
    now = [features(daily, None, at=day(40), sources=[source])["days_since_use"] for source in (before, grown)]
    assert now == [1, 1]  # to where the data ends
    assert [features(daily, None, at=day(40), sources=[s])["prompts_28"] for s in (before, grown)] == [28, 28]
    assert [features(daily, None, at=day(40), sources=[s])["life_days"] for s in (before, grown)] == [
        39 + 1 / 24,
        31 + 1 / 24,
    ]


# --- what is known sooner is not held back --------------------------------------------------------------------------


def test_tickets_and_surveys_end_at_the_lag_of_their_own_source(features):
    sources = [tells("prompt", "task", lag=5 * DAY), tells("ticket", "nps", source="desk", lag=HOUR)]
    told = [
        voiced("ticket", NOW - 2 * HOUR, 0.8, 0.5),
        did("nps", NOW - 2 * HOUR, value=3.0),
        did("prompt", NOW - 2 * HOUR),
    ]
    row = features(told, None, at=NOW, sources=sources)
    assert (row["tickets_28"], row["frustration"], row["together_56"], row["nps_last"]) == (1, 0.8, 1, 3)
    assert (row["surveys_asked_180"], row["response_share_180"], row["days_since_survey"]) == (1, 1, 1 / 24)
    assert (row["prompts_28"], row["uses_7"]) == (0, 0)
    too_fresh = [voiced("ticket", NOW - HOUR + MINUTE, 0.8, 0.5)]
    assert features(too_fresh, None, at=NOW, sources=sources)["tickets_28"] == 0


def test_interventions_and_reactions_count_to_the_moment_whatever_the_slowest_source(features):
    events = [
        did("intervention", NOW - 2 * HOUR, category="refresher"),
        did("reaction", NOW - HOUR, category="dismissed"),
    ]
    row = features(events, None, at=NOW, sources=[SLOW])
    assert (row["interventions_28"], row["days_since_intervention"], row["given_refresher_56"]) == (1, 2 / 24, 1)
    assert (row["dismissed_56"], row["last_reaction"], row["delivered_28"]) == (1, -1, 1)


@pytest.mark.parametrize(
    ("reactions", "delivered"),
    [([], MISSING), (["delivered"], 1), (["seen", "accepted"], 1), (["delivered", "delivered", "seen"], 2)],
    ids=str,
)
def test_what_was_delivered_is_told_from_what_was_decided(features, reactions, delivered):
    decided = [did("intervention", day(number), category="refresher") for number in (20, 21, 22)]
    told = [did("reaction", day(23 + number), category=stage) for number, stage in enumerate(reactions)]
    row = features([*decided, *told], 28)
    assert (row["interventions_28"], row["delivered_28"]) == (3, delivered)
    assert features([], 28)["delivered_28"] == 0


# --- repeated open and quick close without a completed task ---------------------------------------------------------

STRUGGLE = [
    opened(day(20), 300.0, True),
    opened(day(21), 5.0, False),
    opened(day(22), 29.999, False),
    opened(day(22, 2), 30.0, False),  # not quick any more
    opened(day(23), 0.0, False, count=2),
]


def test_opening_and_closing_at_once_again_and_again_is_counted_and_is_a_streak(features):
    row = features(STRUGGLE, 27)
    assert (row["sessions_7"], row["quick_close_share_7"], row["quick_close_share_28"]) == (6, 4 / 6, 4 / 6)
    assert (row["quick_close_streak"], row["open_streak"]) == (4, 5)


@pytest.mark.parametrize(
    ("came_off", "quick_closes", "opened_in_vain"),
    [
        (surface(day(24)), 0, 5),
        (opened(day(24), 90.0, True), 0, 0),
        (opened(day(24), 2.0, True), 0, 0),
        (did("work", day(24)), 4, 5),
        (did("accepted", day(24)), 4, 5),
    ],
    ids=["an assisted task", "a completed session", "a short completed session", "work without AI", "a suggestion"],
)
def test_the_streak_ends_with_something_completed(features, came_off, quick_closes, opened_in_vain):
    row = features([*STRUGGLE, came_off], 27)
    assert (row["quick_close_streak"], row["open_streak"]) == (quick_closes, opened_in_vain)


# --- surface use only, with healthy activity ------------------------------------------------------------------------


def test_healthy_activity_without_meaningful_use_is_surface_use(features):
    busy = [did("prompt", day(number)) for number in range(3, 27, 2)]  # twelve days
    row = features([*busy, *(surface(day(number)) for number in (3, 5, 7, 9, 11))], 28)
    assert (row["active_days_28"], row["meaningful_28"], row["surface_days_28"]) == (12, 0, 12)
    assert (row["high_value_share_28"], row["workflows_28"], row["days_since_meaningful"]) == (0, 0, MISSING)


def test_one_meaningful_use_is_no_surface_use(features):
    events = [*(did("prompt", day(number)) for number in range(3, 27, 2)), surface(day(5)), meaningful(day(5))]
    row = features(events, 28)
    assert (row["surface_days_28"], row["high_value_share_28"], row["workflows_28"]) == (0, 0.5, 1)


# --- task completion rate on AI-assisted workflows ------------------------------------------------------------------


def unassisted(at, **fields):
    return did("work", at, **{"workflow": "meeting_recap", **fields})


def test_the_completion_rate_speaks_of_the_high_value_workflows_above_and_below(features):
    """Neither surface tasks with AI nor other work without it, nor what we led the person through, is in either."""
    events = [meaningful(day(20), count=5), meaningful(day(22), workflow="report_summary"), surface(day(22), count=9)]
    others = [did("work", day(23), count=7), unassisted(day(23), workflow="lunch_menu", count=8)]
    guided = [meaningful(day(24), count=4, guided=True)]
    row = features([*events, *others, *guided, unassisted(day(23), count=2)], 28)
    assert row["assisted_share_28"] == row["assisted_share_14"] == 6 / 8


def test_the_completion_rate_of_a_tool_that_counts_any_workflow_is_of_all_work(features, seat):
    commits = [did("task", day(20), count=3), did("work", day(21), count=1)]
    assert features(commits, 28, versions=[seat(tool="github_copilot")])["assisted_share_28"] == 3 / 4


def test_the_completion_rate_of_two_weeks_is_compared_with_the_four_before(features):
    before = [meaningful(day(10), count=6), unassisted(day(12), count=2)]
    row = features([*before, meaningful(day(50), count=2), unassisted(day(51), count=6)], 56)
    assert (row["assisted_share_14"], row["assisted_share_56"]) == (2 / 8, 8 / 16)
    assert row["assisted_trend"] == MISSING  # nothing from day 14 to 42
    later = [meaningful(day(20), count=6), unassisted(day(22), count=2)]
    assert features([*later, meaningful(day(50), count=2), unassisted(day(51), count=6)], 56)["assisted_trend"] == -0.5


def test_without_task_or_work_there_is_no_completion_rate(features):
    assert features([did("prompt", day(20)), surface(day(21))], 28)["assisted_share_28"] == MISSING


def test_where_work_without_ai_is_never_told_of_there_is_no_completion_rate(features):
    """All of it with AI, or the rest just not reported: it cannot be told."""
    assert features([meaningful(day(20), count=5), did("work", day(23))], 28)["assisted_share_28"] == MISSING
    row = features([meaningful(day(20), count=5), unassisted(day(1))], 28)
    assert (row["assisted_share_14"], row["assisted_share_28"]) == (1.0, 5 / 6)


# --- survey confidence and NPS, with non-response -------------------------------------------------------------------

SURVEYS = [
    did("confidence", day(0), value=8.0),
    did("nps", day(0), value=9.0),
    did("confidence", day(28), value=6.0),
    did("nps", day(28)),
    did("confidence", day(56), value=1.0),
    did("nps", day(56, 2)),
    did("confidence", day(70)),
    did("nps", day(70)),
]


def test_the_latest_answers_count_and_not_the_latest_questions(features):
    row = features(SURVEYS, 84, at=day(84))
    assert (row["confidence_last"], row["confidence_change"], row["nps_last"]) == (1, -5, 9)
    assert row["days_since_survey"] == 28


def test_the_slope_is_that_of_least_squares_in_points_per_four_weeks(features):
    """x = -28, 0, 28; y = 8, 6, 1: (-28 * 8 + 28 * 1) / (2 * 28 ** 2) a day."""
    assert features(SURVEYS, 84)["confidence_slope"] == -3.5


def test_who_was_asked_and_did_not_answer_is_told_from_who_was_not_asked(features):
    row = features(SURVEYS, 84)
    assert (row["surveys_asked_180"], row["response_share_180"], row["unanswered_streak"]) == (8, 4 / 8, 3)
    never_asked = features([did("prompt", day(3))], 84)
    assert (never_asked["surveys_asked_180"], never_asked["response_share_180"]) == (0, MISSING)


def test_silence_is_no_answer_of_zero(features):
    row = features([did("confidence", day(3)), did("nps", day(3))], 28)
    assert (row["confidence_last"], row["nps_last"], row["days_since_survey"]) == (MISSING, MISSING, MISSING)
    assert (row["response_share_180"], row["unanswered_streak"], row["confidence_slope"]) == (0, 2, MISSING)


def test_an_answer_of_zero_is_an_answer(features):
    row = features([did("confidence", day(3), value=0.0), did("nps", day(3), value=0.0)], 28)
    assert (row["confidence_last"], row["nps_last"]) == (0, 0)
    assert (row["response_share_180"], row["unanswered_streak"]) == (1, 0)


def test_an_answer_ends_the_silence(features):
    assert features([*SURVEYS, did("nps", day(71), value=3.0)], 84)["unanswered_streak"] == 0


def test_two_answers_of_one_day_have_no_slope(features):
    row = features([did("confidence", day(3), value=2.0), did("confidence", day(3, 2), value=9.0)], 28)
    assert (row["confidence_slope"], row["confidence_change"]) == (MISSING, 7)


# --- confidence inferred where nobody was asked ---------------------------------------------------------------------

SESSIONS = [
    opened(day(20), 300.0, True, count=3),
    opened(day(21), 300.0, False),
    opened(day(22), 300.0, None),  # of unknown outcome
]
PROMPTS = [
    did("prompt", day(20), value=3.0),  # log2(1 + 3) = 2
    did("prompt", day(20) + 5 * MINUTE, value=15.0),  # 4, and another try
    did("prompt", day(20) + 15 * MINUTE, value=63.0),  # 6, and another try, ten minutes later
    did("prompt", day(20) + 25 * MINUTE + MICRO),  # later than that
    did("accepted", day(20) + 26 * MINUTE),
    did("prompt", day(20) + 27 * MINUTE),  # something was taken between
]
SUGGESTIONS = [did("rejected", day(23), count=3)]


def test_completion_after_attempts(features):
    row = features(SESSIONS, 28)
    assert (row["session_completion_28"], row["attempts_per_completion_28"]) == (3 / 4, 4 / 3)


def test_attempts_that_all_failed_have_no_number_for_each_that_did_not(features):
    row = features([opened(day(21), 300.0, False)], 28)
    assert (row["session_completion_28"], row["attempts_per_completion_28"]) == (0, MISSING)


def test_prompt_length_and_spread(features):
    """The doublings 2, 4, 6 lie 2, 0, 2 from their mean."""
    row = features(PROMPTS, 28)
    assert row["prompt_length_28"] == (3 + 15 + 63) / 3
    assert row["prompt_length_spread_28"] == pytest.approx(math.sqrt(8 / 3), abs=1e-6)


def test_two_prompts_have_a_length_and_no_spread(features):
    row = features(PROMPTS[:2], 28)
    assert (row["prompt_length_28"], row["prompt_length_spread_28"]) == (9, MISSING)


def test_retries(features):
    assert features(PROMPTS, 28)["retry_share_28"] == 2 / 5


@pytest.mark.parametrize(
    ("between", "share"),
    [("accepted", 0), ("task", 0), ("rejected", 0.5), ("error", 0.5), ("session", 0.5)],
)
def test_only_what_was_taken_or_done_makes_the_next_prompt_a_new_one(features, between, share):
    events = [did("prompt", day(20)), did(between, day(20) + MINUTE), did("prompt", day(20) + 2 * MINUTE)]
    assert features(events, 28)["retry_share_28"] == share


def test_totals_of_a_day_have_no_length_of_their_own_and_no_retries(features):
    total = did("prompt", day(20), value=100.0, count=7)
    row = features([total, did("prompt", day(21), value=20.0, count=7)], 28)
    assert (row["prompt_length_28"], row["prompt_length_spread_28"], row["retry_share_28"]) == (60, MISSING, MISSING)


def test_the_total_of_a_day_with_one_prompt_is_a_total(features):
    """It stands at the last microsecond of its day."""
    midnight = datetime(2026, 3, 23, tzinfo=UTC)
    events = [did("prompt", midnight - DAY * n - MICRO, value=9.0) for n in range(3)]
    row = features([*events, did("prompt", midnight + MINUTE)], 28)
    assert (row["prompt_length_28"], row["prompt_length_spread_28"], row["retry_share_28"]) == (9, MISSING, 0)
    assert features(events, 28)["confidence_shown_28"] == MISSING


def test_a_prompt_soon_after_the_total_of_a_day_is_no_retry(features):
    """Totals are stamped at the last microsecond of their day."""
    midnight = datetime(2026, 3, 23, tzinfo=UTC)
    events = [did("prompt", midnight - MICRO, count=7), did("prompt", midnight + 5 * MINUTE)]
    assert features(events, 28)["retry_share_28"] == 0


def test_confidence_shown_is_the_mean_of_what_came_off_at_the_first_go(features):
    """Three of four sessions, three of five prompts, one of four suggestions."""
    row = features([*SESSIONS, *PROMPTS, *SUGGESTIONS], 28)
    assert row["confidence_shown_28"] == pytest.approx(10 * (3 / 4 + 3 / 5 + 1 / 4) / 3, rel=1e-12)


@pytest.mark.parametrize(
    ("events", "shown"), [(SESSIONS, 7.5), (SUGGESTIONS, 0), ([did("work", day(20))], MISSING)], ids=str
)
def test_confidence_shown_leaves_out_what_is_not_known(features, events, shown):
    assert features(events, 28)["confidence_shown_28"] == shown


# --- frustration and uncertainty together ---------------------------------------------------------------------------


def voiced(kind, at, frustration, uncertainty):
    return did(kind, at, scores=Scores(frustration=frustration, uncertainty=uncertainty))


@pytest.mark.parametrize("kind", ["ticket", "confidence", "nps"])
def test_frustration_and_uncertainty_in_one_ticket_or_survey(features, kind):
    row = features([voiced(kind, day(27), 0.8, 0.5)], 28)
    assert (row["frustration"], row["uncertainty"], row["together_56"]) == (0.8, 0.5, 1)
    assert row["frustration_and_uncertainty"] == 0.8 * 0.5


def test_both_in_two_tickets_are_not_together_in_one(features):
    row = features([voiced("ticket", day(26), 0.9, 0.1), voiced("ticket", day(27), 0.1, 0.9)], 28)
    assert (row["frustration"], row["uncertainty"], row["together_56"]) == (1, 1, 0)


@pytest.mark.parametrize(("uncertainty", "together"), [(1 / 3, 1), (0.33, 0), (None, 0)])
def test_together_means_at_least_a_third_of_each(features, uncertainty, together):
    assert features([voiced("ticket", day(27), 0.4, uncertainty)], 28)["together_56"] == together


@pytest.mark.parametrize(("days", "weight"), [(28, 1), (41, 2**-0.5), (48, 0.5), (62, 0.25), (90, 0)])
def test_a_complaint_fades_by_half_in_two_weeks(features, days, weight):
    row = features([voiced("ticket", day(27), 0.8, 0.5)], days)
    assert row["frustration"] == pytest.approx(0.8 * weight, abs=0.8 / 1024)
    assert row["frustration_and_uncertainty"] == pytest.approx(0.4 * weight**2, abs=1e-3)


# --- time from training to first use --------------------------------------------------------------------------------


def test_time_from_training_to_the_first_use(features):
    row = features([did("training", day(1)), opened(day(4), 90.0, None), meaningful(day(11)), meaningful(day(12))], 28)
    assert (row["training_to_any_use_days"], row["training_to_use_days"], row["days_to_first_meaningful"]) == (
        3, 10, 10 + 25 / 24,
    )  # fmt: skip


def test_who_used_it_before_the_training_did_not_wait_for_it(features):
    row = features([meaningful(day(0)), did("training", day(1)), meaningful(day(11))], 28)
    assert (row["training_to_any_use_days"], row["training_to_use_days"]) == (MISSING, MISSING)


def test_who_only_looked_around_before_the_training_still_waited_with_meaningful_use(features):
    row = features([opened(day(0), 90.0, None), did("training", day(1)), meaningful(day(11))], 28)
    assert (row["training_to_any_use_days"], row["training_to_use_days"]) == (MISSING, 10)


@pytest.mark.parametrize(
    ("after", "unused"),
    [
        ([], 20),
        ([surface(day(10))], 20),
        ([meaningful(day(10))], 0),
        ([meaningful(day(10)), did("training", day(15))], 13),
        ([meaningful(day(10)), did("training", day(15)), meaningful(day(16))], 0),
    ],
    ids=["nothing", "surface use", "use", "use and another training", "use after both"],
)
def test_days_since_a_training_that_nothing_came_of(features, after, unused):
    row = features([did("training", day(8)), *after], 28, at=day(28))
    assert row["trained_unused_days"] == unused


def test_without_training_nothing_is_said_of_it(features):
    row = features([meaningful(day(3))], 28)
    names = ("days_since_training", "training_to_use_days", "training_to_any_use_days", "trained_unused_days")
    assert [row[name] for name in names] == [MISSING] * 4
    assert row["trainings"] == 0


# --- the manager's and the leaders' own use -------------------------------------------------------------------------


@pytest.fixture
def organisation(seat):
    """Two managers with a seat of their own, one of whom leads `me`; one manager without a seat; nobody leads Eve."""
    return [
        seat("me", manager_person_id="acme/anna", team="red", role="sales"),
        seat("bob", manager_person_id="acme/bert", team="red", role="sales"),
        seat("cas", manager_person_id="acme/cleo", team="blue", role="legal"),
        seat("anna", person="acme/anna"),
        seat("bert", person="acme/bert"),
        seat("eve", person="acme/eve", team="red", role="legal"),
    ]


def test_the_managers_own_use(features, organisation):
    events = [meaningful(day(20), "anna", count=4), surface(day(21), seat="anna"), meaningful(day(3), "bert")]
    row = features(events, 28, versions=organisation)
    assert (row["has_manager"], row["manager_meaningful_28"]) == (1, 4)


def test_a_manager_who_holds_a_seat_and_does_not_use_it_is_told_from_one_without(features, organisation, seat):
    assert features([], 28, versions=organisation)["manager_meaningful_28"] == 0
    of_cleo = [seat("me", manager_person_id="acme/cleo"), *organisation[1:]]
    row = features([], 28, versions=of_cleo)
    assert (row["has_manager"], row["manager_meaningful_28"]) == (1, MISSING)


@pytest.mark.parametrize(("users", "share"), [([], 0), (["anna"], 1 / 2), (["anna", "bert"], 1), (["eve"], 0)], ids=str)
def test_the_leaders_own_use(features, organisation, users, share):
    row = features([meaningful(day(20), name) for name in users], 28, versions=organisation)
    assert (row["leaders"], row["leaders_share_28"]) == (2, share)


def test_the_managers_use_is_that_of_the_last_midnight(features, organisation):
    this_morning = meaningful(datetime(2026, 3, 30, 0, 0, tzinfo=UTC), "anna")
    late_last_night = meaningful(datetime(2026, 3, 30, 0, 0, tzinfo=UTC) - MICRO, "anna")
    looks = [features([use], 28, versions=organisation) for use in (this_morning, late_last_night)]
    assert [row["manager_meaningful_28"] for row in looks] == [0, 1]


# --- a peer champion in the same role -------------------------------------------------------------------------------


def test_a_champion_in_the_team_with_the_same_role(features, organisation):
    """Of the four who used it, one is the top quarter: Bob, of the same team and role."""
    numbers = {"bob": 9, "eve": 8, "cas": 2, "me": 1}
    row = features([meaningful(day(20), name, count=n) for name, n in numbers.items()], 28, versions=organisation)
    assert (row["champions_in_team"], row["champion_same_role"]) == (1, 1)
    assert (row["team_size"], row["team_share_28"], row["team_meaningful_28"]) == (2, 1, 17 / 2)
    assert (row["role_size"], row["role_share_28"], row["meaningful_against_role"]) == (1, 1, 1 / 9)


def test_a_champion_of_another_role_is_no_model(features, organisation):
    numbers = {"bob": 8, "eve": 9, "cas": 2, "me": 1}
    row = features([meaningful(day(20), name, count=n) for name, n in numbers.items()], 28, versions=organisation)
    assert (row["champions_in_team"], row["champion_same_role"]) == (1, 0)


def test_a_champion_of_another_team_is_none_here(features, organisation):
    numbers = {"bob": 8, "eve": 7, "cas": 9, "me": 1}
    row = features([meaningful(day(20), name, count=n) for name, n in numbers.items()], 28, versions=organisation)
    assert (row["champions_in_team"], row["champion_same_role"]) == (0, 0)


def test_a_champion_who_stopped_is_one_no_more(features, organisation):
    uses = [meaningful(day(2), "bob", count=99), meaningful(day(20), "cas")]
    row = features(uses, 40, versions=organisation)
    assert (row["champions_in_team"], row["team_share_28"], row["team_share_change_28"]) == (0, 0, -1 / 2)


# --- interventions already tried ------------------------------------------------------------------------------------


def test_what_was_tried_is_counted_by_kind(features):
    tried = [("refresher", 1), ("refresher", 30), ("coach_call", 40), ("own_workshop", 50)]
    row = features([did("intervention", day(number), category=name) for name, number in tried], 60, at=day(60))
    assert {name: row[f"given_{name}_56"] for name in KINDS} == {
        **dict.fromkeys(KINDS, 0), "refresher": 1, "coach_call": 1,
    }  # fmt: skip
    assert (row["interventions_28"], row["days_since_intervention"]) == (2, 10)


def test_before_anything_was_tried_nothing_is_said_of_it(features):
    row = features([meaningful(day(3))], 60)
    assert (row["interventions_28"], row["days_since_intervention"], row["last_reaction"]) == (0, MISSING, MISSING)


@pytest.mark.parametrize(
    ("reactions", "counts", "last"),
    [
        (["seen"], (1, 0, 0), MISSING),
        (["seen", "accepted"], (1, 1, 0), 1),
        (["seen", "dismissed"], (1, 0, 1), -1),
        (["dismissed", "seen", "accepted"], (1, 1, 1), 1),
        (["accepted", "delivered", "seen", "dismissed"], (1, 1, 1), -1),
        (["accepted", "delivered", "seen"], (1, 1, 0), 1),
    ],
    ids=str,
)
def test_what_the_person_made_of_it(features, reactions, counts, last):
    events = [did("reaction", day(number), category=stage) for number, stage in enumerate(reactions, start=20)]
    row = features(events, 60)
    assert (row["seen_56"], row["taken_56"], row["dismissed_56"]) == counts
    assert row["last_reaction"] == last


# --- friction at this moment ----------------------------------------------------------------------------------------

LIVE = ("quick_closes_1h", "failed_attempts_1h", "errors_1h", "rejected_1h")
RIGHT_NOW = [
    opened(NOW - 50 * MINUTE, 4.0, False),
    opened(NOW - 30 * MINUTE, 4.0, False),
    opened(NOW - 20 * MINUTE, 4.0, None),  # quick, its outcome unknown
    opened(NOW - 10 * MINUTE, 400.0, False),
    did("error", NOW - 5 * MINUTE, count=2),
    did("rejected", NOW - MINUTE, count=5),
]


@pytest.mark.parametrize("sources", [(), (SLOW,)], ids=["all live", "one source of the tool three days late"])
def test_a_struggle_of_this_hour_is_seen_at_once(features, sources):
    row = features(RIGHT_NOW, None, at=NOW, sources=sources)
    assert [row[name] for name in LIVE] == [3, 3, 2, 5]


def test_the_other_windows_still_end_where_the_data_is_complete(features):
    row = features([*RIGHT_NOW, opened(NOW - 3 * DAY - MICRO, 4.0, False)], None, at=NOW, sources=[SLOW])
    assert (row["sessions_7"], row["errors_28"], row["open_streak"]) == (1, 0, 1)


@pytest.mark.parametrize(
    ("at", "available_at", "counted"),
    [
        (NOW - HOUR - MICRO, None, 0),
        (NOW - HOUR, None, 1),
        (NOW - MICRO, None, 1),
        (NOW, None, 0),
        (NOW - HOUR, NOW, 1),
        (NOW - MINUTE, NOW + MICRO, 0),
    ],
    ids=["over", "an hour ago", "just now", "not yet", "heard of just now", "not heard of yet"],
)
@pytest.mark.parametrize("sources", [(), (SLOW,)], ids=["all live", "one source of the tool three days late"])
def test_the_hour_is_the_last_one_of_what_is_known(features, at, available_at, counted, sources):
    row = features([did("error", at, available_at=available_at or at)], None, at=NOW, sources=sources)
    assert row["errors_1h"] == counted


# --- what the signals are for ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", FailureMode)
def test_every_failure_mode_has_features_that_speak_to_it(mode):
    assert [feature for feature in BY_NAME.values() if feature.mode is mode]


def test_a_total_of_a_day_told_of_minutes_after_it_is_no_struggle_of_this_hour(features):
    """Totals stand at the last microsecond of their day, also those of one session."""
    midnight = datetime(2026, 3, 23, tzinfo=UTC)
    told = {"available_at": midnight + 5 * MINUTE}
    total = opened(midnight - MICRO, 2.0, False, count=3, **told)
    event = opened(midnight - 2 * MICRO, 2.0, False, **told)
    row = features([total, event, did("error", midnight - MICRO, **told)], 0, at=midnight + 10 * MINUTE)
    assert (row["quick_closes_1h"], row["failed_attempts_1h"], row["errors_1h"]) == (1, 1, 0)
    assert row["quick_close_share_7"] == 1
