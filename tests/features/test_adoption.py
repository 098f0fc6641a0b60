import numpy as np
import pytest

from features.adoption import (
    METRICS,
    PublishedSegment,
    Standing,
    confidence,
    depth,
    estimate,
    first_proficient_day,
    idle_licences,
    nps,
    published_segments,
    retained_seats,
    retention,
    standings,
    survival,
    task_completion_rate,
    ticket_volume,
    time_to_proficiency,
    usage_rate,
)
from features.weeks import first_weeks, ticket_course

EVERY_OTHER = range(0, 100, 2)
WORK = range(0, 100, 3)


def value(sample, p):
    return estimate(sample, p.person, np.zeros(len(p), int), 1)[0]


def test_the_denominator_of_usage_is_the_roster(people):
    p = people.People().seat("a", session=[90]).seat("b").seat("c", session=[60]).population(100)
    assert value(usage_rate(p), p).value == pytest.approx(1 / 3)


def test_a_removed_seat_is_in_no_rate(people):
    p = people.People().seat("a", session=[90]).seat("b", session=[20], removed=50).population(100)
    assert (value(usage_rate(p), p).value, value(usage_rate(p), p).n) == (1, 1)


def test_depth_asks_for_meaningful_use_on_two_days(people):
    p = (
        people.People()
        .seat("a", task=[80, 90])
        .seat("b", task=[90])
        .seat("c", surface=[80, 90])
        .seat("d")
        .population(100)
    )
    found = value(depth(p), p)
    assert (found.value, found.n) == (pytest.approx(1 / 3), 3)


def test_the_completion_rate_is_of_high_value_tasks_with_and_without_ai(people):
    p = people.People().seat("a", task=[80, 81, 82], work=[80], surface=[90, 91]).population(100)
    assert value(task_completion_rate(p), p).value == pytest.approx(3 / 4)


def test_without_reports_of_work_no_completion_rate_is_said(people):
    p = people.People().seat("a", task=[80, 81]).population(100)
    assert np.isnan(value(task_completion_rate(p), p).value)


@pytest.mark.parametrize(
    ("days", "start"),
    [
        ([10, 11, 12, 17, 18, 19], 6),  # days 6 to 12 and 13 to 19
        ([10, 10, 10, 17, 18, 19], -1),  # three uses on one day are no week
        ([10, 11, 12, 25, 26, 27], -1),  # a week between
        ([10, 11, 17, 18, 19], -1),  # two uses in the first week
        ([], -1),
    ],
)
def test_the_first_proficient_fortnight_has_three_uses_on_two_days_in_each_week(people, days, start):
    p = people.People().seat("a", task=days, work=WORK).population(100)
    assert first_proficient_day(p).tolist() == [start]


def test_who_is_not_proficient_yet_is_still_on_the_way(people):
    p = people.People().seat("a", task=[10, 11, 12, 17, 18, 19]).seat("b", session=[5]).population(60)
    sample = time_to_proficiency(p)
    assert sample.value.tolist() == [6, 46]
    assert sample.happened.tolist() == [True, False]


def test_tickets_are_counted_by_seat_and_week(people):
    p = people.People().seat("a", ticket=[80, 90]).seat("b").population(100)
    assert value(ticket_volume(p), p).value == pytest.approx(100 * 2 / 8)


def test_confidence_is_the_mean_of_the_latest_answers(people):
    p = (
        people.People()
        .seat("a", confidence=[(50, 2.0), (80, 8.0)])
        .seat("b", confidence=[(85, 4.0), (90, None)])
        .population(100)
    )
    found = value(confidence(p), p)
    assert (found.value, found.n) == (6, 2)


def test_the_promoter_score_is_promoters_less_detractors(people):
    p = (
        people.People()
        .seat("a", nps=[(90, 9.0)])
        .seat("b", nps=[(90, 10.0)])
        .seat("c", nps=[(90, 6.0)])
        .seat("d", nps=[(90, 7.0)])
    )
    p = p.population(100)
    assert value(nps(p), p).value == pytest.approx(25)


def test_kept_seats_are_those_used_again_where_there_was_work(people):
    crowd = people.People()
    crowd.seat("kept", task=[20, 90], work=WORK).seat("lost", task=[20, 40], work=WORK)
    crowd.seat("holiday", task=[20, 40], work=range(41)).seat("removed", task=[20, 60], removed=65, work=[50])
    p = crowd.seat("late", task=[95], work=WORK).population(100)
    found = value(retained_seats(p), p)
    assert (found.value, found.n) == (pytest.approx(1 / 3), 3)


def test_a_silence_begins_after_the_last_use_and_a_holiday_ends_what_can_be_said(people):
    crowd = people.People()
    crowd.seat("lost", task=[10, 30], work=WORK).seat("kept", task=[10, *range(30, 100, 10)], work=WORK)
    p = crowd.seat("holiday", task=[10, 30], work=[20]).seat("back", task=[10, 60], work=WORK).population(100)
    sample = retention(p)
    order = p.seats["seat_id"].to_list()
    found = {name.removeprefix("acme/"): (sample.value[n], bool(sample.happened[n])) for n, name in enumerate(order)}
    assert found == {"lost": (21, True), "kept": (80, False), "holiday": (21, False), "back": (1, True)}


def test_recoverable_are_idle_settled_seats_with_work_to_do(people):
    crowd = people.People().seat("idle", session=[5], work=WORK).seat("light", session=[80], work=WORK)
    crowd.seat("new", assigned=60, work=WORK).seat("never", work=WORK).seat("holiday", session=[5], work=[10])
    p = crowd.population(100)
    idle = dict(zip(p.seats["seat_id"], idle_licences(p).value > 0, strict=True))
    assert {name.removeprefix("acme/") for name, is_idle in idle.items() if is_idle} == {"idle", "never"}


@pytest.mark.parametrize(
    ("days", "segment"),
    [
        ([day for day in range(16, 100) for _ in range(3)], PublishedSegment.POWER),
        (range(17, 100, 7), PublishedSegment.HABITUAL),
        ([90] * 12, PublishedSegment.NOVICE),
        ([90], PublishedSegment.LOW),
        ([5], PublishedSegment.NONE),
    ],
)
def test_the_published_segments_are_as_published(people, days, segment):
    p = people.People().seat("a", prompt=days).population(100)
    assert list(PublishedSegment)[published_segments(p)[0]] is segment


def test_a_seat_younger_than_twelve_weeks_is_in_no_published_segment(people):
    p = people.People().seat("a", assigned=40, prompt=range(41, 100)).population(100)
    assert list(PublishedSegment)[published_segments(p)[0]] is PublishedSegment.TOO_NEW


@pytest.mark.parametrize(
    ("days", "standing"),
    [
        ({"task": [90]}, Standing.MEANINGFUL),
        ({"session": [90]}, Standing.SURFACE),
        ({"task": [30]}, Standing.LAPSED),
        ({}, Standing.NEVER),
    ],
)
def test_our_reading_is_by_what_a_seat_was_last_used_for(people, days, standing):
    p = people.People().seat("a", **days).population(100)
    assert list(Standing)[standings(p)[0]] is standing


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_what_happens_later_changes_no_metric(people, metric):
    early = people.People().seat("a", task=[10, 20], work=WORK, confidence=[(30, 5.0)]).population(50)
    late = people.People().seat("a", task=[10, 20, 60], work=WORK, confidence=[(30, 5.0), (70, 9.0)]).population(50)
    assert value(metric.sample(early), early) == pytest.approx(value(metric.sample(late), late), nan_ok=True) or str(
        value(metric.sample(early), early)
    ) == str(value(metric.sample(late), late))


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_every_metric_says_where_it_comes_from(metric):
    assert "Source:" in metric.sample.__doc__


def test_the_whole_is_what_its_groups_are_made_of(people):
    p = people.People().seat("a", session=[90]).seat("b").seat("c", session=[95]).population(100)
    (whole,) = estimate(usage_rate(p), p.person, np.zeros(3, int), 1)
    parts = estimate(usage_rate(p), p.person, np.array([0, 1, 1]), 2)
    assert sum(part.value * part.n for part in parts) == pytest.approx(whole.value * whole.n)
    assert survival(retention(p), np.ones(3, bool)).n == 0


def test_the_first_weeks_are_of_seats_with_eight_of_them(people):
    crowd = people.People().seat("a", session=[0, 1, 8], task=[20]).seat("b", assigned=80, session=[81])
    p = crowd.population(100)
    found = first_weeks(p, np.ones(2, bool))
    assert found.seats == 1
    assert [one.value for one in found.used] == [1, 1, 1, 0, 0, 0, 0, 0]
    assert [one.value for one in found.meaningful] == [0, 0, 1, 0, 0, 0, 0, 0]


@pytest.mark.parametrize(
    ("weeks", "peak"),
    [
        ([9, 8, 5, 2, 1, 1, 1, 1, 1, 1, 1, 1], None),
        ([9, 8, 5, 2, 1, 1, 1, 1, 9, 9, 2, 1], True),
        ([9, 8, 5, 2, 1, 2, 1, 2, 1, 2, 1, 1], None),
    ],
)
def test_a_second_peak_of_tickets_is_seen_and_noise_is_not(people, weeks, peak):
    crowd = people.People()
    for seat in range(20):
        of = [7 * week + 1 for week, n in enumerate(weeks) for k in range(2 * n) if k % 20 == seat]
        crowd.seat(f"s{seat}", ticket=of)
    p = crowd.population(7 * len(weeks))
    found = ticket_course(p, np.ones(20, bool), least=10)
    assert (found.second_peak is not None) is bool(peak)
    assert found.per_100[0] == 100 * 2 * weeks[0] / 20
