"""The signals of the brief, each on a history made by hand, with numbers worked out by hand."""

import math
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest

from features.catalogue import BY_NAME
from features.events import Event, Scores
from features.interventions import KINDS, FailureMode
from features.log import Source

DAY, HOUR, MINUTE, MICRO = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1), timedelta(microseconds=1)
ASSIGNED = datetime(2026, 3, 2, 9, tzinfo=UTC)
TOOL = "m365_copilot"  # meaningful is a task in one of its workflows
MISSING = pytest.approx(math.nan, nan_ok=True)
_numbers = count()


def day(number, hours=1.0):
    """An instant of that day of the seat's life, from 0."""
    return ASSIGNED + number * DAY + hours * HOUR


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
    ("days", "said"), [(13.99, MISSING), (14, 1), (200, 1)], ids=["too early", "two weeks", "for ever"]
)
def test_no_meaningful_use_in_the_first_two_weeks_is_said_when_they_are_over(features, days, said):
    assert features(LOOKED_AROUND, days)["no_meaningful_first_14"] == said


@pytest.mark.parametrize(
    ("at", "said"), [(ASSIGNED + 14 * DAY - MICRO, 0), (ASSIGNED + 14 * DAY, 1)], ids=["in time", "too late"]
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
    row = features(EIGHT_DAYS_THEN_TWO, 27.99)
    assert (row["weeks_3_4_ratio"], row["use_against_first_weeks"]) == (MISSING, MISSING)


def test_the_drop_of_weeks_3_and_4_is_remembered_while_the_present_is_compared_anew(features):
    row = features([*EIGHT_DAYS_THEN_TWO, *(did("prompt", day(number)) for number in range(28, 34))], 42)
    assert (row["weeks_3_4_ratio"], row["use_against_first_weeks"], row["use_trend_14"]) == (2 / 8, 6 / 8, 4 / 8)


def test_without_an_initial_period_of_use_there_is_no_drop(features):
    assert features([did("prompt", day(15))], 28)["weeks_3_4_ratio"] == MISSING


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

NOW = day(30)
LIVE = ("quick_closes_1h", "failed_attempts_1h", "errors_1h", "rejected_1h")
RIGHT_NOW = [
    opened(NOW - 50 * MINUTE, 4.0, False),
    opened(NOW - 30 * MINUTE, 4.0, False),
    opened(NOW - 20 * MINUTE, 4.0, None),  # quick, its outcome unknown
    opened(NOW - 10 * MINUTE, 400.0, False),
    did("error", NOW - 5 * MINUTE, count=2),
    did("rejected", NOW - MINUTE, count=5),
]
SLOW = Source("acme", TOOL, "admin_export", 3 * DAY, ASSIGNED, NOW)


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
