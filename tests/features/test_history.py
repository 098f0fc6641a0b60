import numpy as np
import pytest

from features.events import Kind
from features.history import (
    DAY,
    END,
    EVER,
    HOUR,
    KIND_CODES,
    LAST_HOUR,
    LINE_ORIGIN_DAY,
    Bound,
    Channel,
    Events,
    History,
    Window,
    ever,
    first_dates,
    last_dates,
    last_days,
    ratio,
    take,
)

SESSION, TASK = KIND_CODES[Kind.SESSION], KIND_CODES[Kind.TASK]


def events(rows):
    """rows: (seat, at) or (seat, at, columns) in order."""
    rows = [(*row, {})[:3] for row in rows]
    columns = {"available": 0, "kind": TASK, "count": 1, "value": -1, "workflow": -1, "completed": -1, "category": -1}
    columns |= {"frustration": -1, "uncertainty": -1}
    integers = {
        name: np.array([fields.get(name, default) for _, _, fields in rows], np.int64)
        for name, default in columns.items()
    }
    flags = {
        name: np.array([fields.get(name, False) for _, _, fields in rows], bool)
        for name in ("guided", "is_meaningful", "is_opportunity", "is_quick_close", "is_high_value")
    }
    seat, at = (np.array([row[position] for row in rows], np.int64) for position in (0, 1))
    return Events(seat=seat, at=at, **integers, **flags)


def history(rows, *, seat=(0,), end=(100 * DAY,), assigned=None, as_of=None):
    given = (seat, end, as_of or end, assigned or [0] * len(end))
    seat, end, as_of, assigned = (np.array(value, np.int64) for value in given)
    return History(events(rows), seat=seat, end=end, as_of=as_of, assigned=assigned)


def every(block):
    return np.ones(block.at.size, bool)


def sessions(block):
    return block.kind == SESSION


def is_completed(block):
    return block.completed != 0


def counts(block):
    return block.count


def values(block):
    return block.value


COUNTS = Channel(every, counts)


def test_a_window_holds_its_start_and_not_its_end():
    one = history([(0, 93 * DAY - 1), (0, 93 * DAY), (0, 100 * DAY - 1), (0, 100 * DAY)])
    assert one.total(COUNTS, last_days(7)).tolist() == [2]


def test_a_window_of_the_past_ends_where_it_says():
    one = history([(0, 86 * DAY - 1), (0, 86 * DAY), (0, 93 * DAY - 1), (0, 93 * DAY)])
    assert one.total(COUNTS, last_days(7, until=7)).tolist() == [2]


def test_a_window_of_the_seats_life_stops_at_the_end():
    rows = [(0, 9 * DAY), (0, 10 * DAY), (0, 23 * DAY), (0, 24 * DAY)]
    two = history(rows, seat=(0, 0), end=(23 * DAY, 99 * DAY), assigned=(10 * DAY, 10 * DAY))
    assert two.total(COUNTS, first_dates(0, 14)).tolist() == [1, 2]


def test_a_seat_that_is_not_assigned_yet_has_empty_first_weeks():
    one = history([(0, DAY)], end=(5 * DAY,), assigned=(10 * DAY,))
    assert one.total(COUNTS, first_dates(0, 14)).tolist() == [0]


def test_seats_do_not_see_each_other():
    rows = [(0, DAY), (0, 2 * DAY), (2, DAY)]
    assert history(rows, seat=(0, 1, 2), end=(9 * DAY,) * 3).total(COUNTS, EVER).tolist() == [2, 0, 1]


def test_no_events_at_all_count_zero_and_are_missing():
    one = history([])
    assert (one.total(COUNTS, EVER).tolist(), one.days(every, EVER).tolist()) == ([0], [0.0])
    assert np.isnan([one.since_last(every), one.first_at(every), one.last_value(every)]).all()
    assert one.streak(COUNTS, is_completed).tolist() == [0.0]


def test_no_snapshots_give_no_answers():
    assert history([(0, DAY)], seat=(), end=()).total(COUNTS, EVER).size == 0


def test_a_day_is_a_utc_date():
    rows = [(0, 97 * DAY - 1), (0, 97 * DAY), (0, 98 * DAY - 1), (0, 99 * DAY)]
    assert history(rows, end=(100 * DAY + 9 * HOUR,)).days(every, EVER).tolist() == [3.0]


@pytest.mark.parametrize("dates", [1, 7, 14, 28])
def test_the_last_dates_are_whole_and_as_many_whatever_the_hour(dates):
    """Something every hour, and snapshots at every hour of a day, its midnight first: the running date is left out."""
    hourly = [(0, hour * HOUR) for hour in range(70 * 24)]
    ends = tuple(60 * DAY + hour * HOUR for hour in range(24))
    several = history(hourly, seat=(0,) * 24, end=ends)
    assert several.days(every, last_dates(dates)).tolist() == [dates] * 24
    assert several.days(every, last_dates(dates, until=dates)).tolist() == [dates] * 24
    assert several.total(COUNTS, last_dates(dates)).tolist() == [24 * dates] * 24


def test_the_last_date_ends_at_midnight_and_takes_what_stands_at_its_last_microsecond():
    rows = [(0, 99 * DAY - 1), (0, 99 * DAY), (0, 100 * DAY - 1), (0, 100 * DAY)]
    assert history(rows, end=(100 * DAY + 9 * HOUR,)).total(COUNTS, last_dates(1)).tolist() == [2]


def test_the_first_two_weeks_and_the_two_after_them_have_fourteen_dates_each():
    hourly = [(0, hour * HOUR) for hour in range(40 * 24)]
    three = history(hourly, seat=(0,) * 3, end=(35 * DAY,) * 3, assigned=[DAY, DAY + 9 * HOUR, DAY + 23 * HOUR])
    for window in (first_dates(0, 14), first_dates(14, 28)):
        assert three.days(every, window).tolist() == [14.0] * 3
        assert three.total(COUNTS, window).tolist() == [14 * 24] * 3


def test_snapshots_of_one_seat_at_other_hours_count_the_same_dates():
    rows = [(0, 90 * DAY), (0, 90 * DAY + 12 * HOUR), (0, 91 * DAY), (1, 90 * DAY)]
    ends = (99 * DAY + 6 * HOUR, 99 * DAY, 99 * DAY + 13 * HOUR, 99 * DAY + 6 * HOUR)
    assert history(rows, seat=(0, 0, 0, 1), end=ends).days(every, last_dates(14)).tolist() == [2.0, 2.0, 2.0, 1.0]


def test_a_clock_of_its_own_ends_elsewhere():
    given = {"seat": [0], "end": [90 * DAY], "as_of": [100 * DAY], "assigned": [0], "voice": [99 * DAY]}
    instants = {name: np.array(value, np.int64) for name, value in given.items()}
    one = History(events([(0, 80 * DAY), (0, 95 * DAY), (0, 99 * DAY)]), **instants)
    assert [one.total(COUNTS, ever(clock)).tolist() for clock in ("end", "voice", "decided")] == [[1], [2], [1]]
    assert (one.since_last(every).tolist(), one.since_last(every, "voice").tolist()) == ([10.0], [4.0])


def test_the_same_day_in_two_seats_is_two_days():
    assert history([(0, DAY), (1, DAY)], seat=(0, 1), end=(9 * DAY,) * 2).days(every, EVER).tolist() == [1.0, 1.0]


def test_gaps_are_between_days_and_need_three_of_them():
    rows = [(0, DAY), (0, 2 * DAY), (1, DAY), (1, 2 * DAY), (1, 5 * DAY), (1, 5 * DAY + 1)]
    mean, deviation = history(rows, seat=(0, 1), end=(9 * DAY,) * 2).day_gaps(every, EVER)
    assert np.isnan([mean[0], deviation[0]]).all()
    assert (mean[1], deviation[1]) == (2.0, 1.0)


def test_time_since_the_last_is_exact():
    assert history([(0, DAY), (0, 99 * DAY)]).since_last(every).tolist() == [1.0]


def test_the_first_in_a_window_is_the_first_of_its_mask():
    rows = [(0, DAY), (0, 3 * DAY, {"kind": SESSION}), (0, 4 * DAY, {"kind": SESSION})]
    assert history(rows).first_at(sessions).tolist() == [3.0 * DAY]


def test_the_value_before_the_last_is_one_step_back():
    one = history([(0, DAY, {"value": 7_000}), (0, 2 * DAY, {"value": 4_500})])
    assert (one.last_value(every).tolist(), one.last_value(every, back=1).tolist()) == ([4.5], [7.0])
    assert np.isnan(one.last_value(every, back=2)).all()


def test_one_step_back_does_not_reach_into_the_seat_before():
    one = history([(0, DAY, {"value": 7_000}), (1, DAY, {"value": 4_500})], seat=(1,))
    assert np.isnan(one.last_value(every, back=1)).all()


@pytest.mark.parametrize(("completed", "streak"), [([0, 0], 2), ([1, 0], 1), ([0, 1], 0), ([-1, 0, 0], 2)])
def test_a_streak_counts_from_the_last_that_broke_it(completed, streak):
    rows = [(0, day * DAY, {"completed": value}) for day, value in enumerate(completed, start=1)]
    assert history(rows).streak(COUNTS, is_completed).tolist() == [streak]


def test_a_streak_does_not_reach_into_the_seat_before():
    rows = [(0, DAY, {"completed": 0}), (1, DAY, {"completed": 0})]
    assert history(rows, seat=(1,)).streak(COUNTS, is_completed).tolist() == [1.0]


@pytest.mark.parametrize("lag", [0, 1, HOUR, 3 * DAY])
def test_the_last_hour_is_that_before_as_of_whatever_the_lag(lag):
    instants = (99 * DAY, 100 * DAY - HOUR - 1, 100 * DAY - HOUR, 100 * DAY - 1, 100 * DAY)
    one = history([(0, at) for at in instants], end=(100 * DAY - lag,), as_of=(100 * DAY,))
    assert one.total(COUNTS, LAST_HOUR).tolist() == [2]


def test_what_lies_between_the_end_and_as_of_is_in_no_other_window():
    one = history([(0, 96 * DAY), (0, 97 * DAY), (0, 100 * DAY - 1)], end=(97 * DAY,), as_of=(100 * DAY,))
    assert [one.total(COUNTS, window).tolist() for window in (EVER, last_days(7), first_dates(0, 1000))] == [[1]] * 3
    assert one.since_last(every).tolist() == [1.0]


def test_a_streak_may_be_ended_by_what_it_does_not_count():
    rows = [(0, DAY, {"kind": SESSION}), (0, 2 * DAY), (0, 3 * DAY, {"kind": SESSION}), (0, 4 * DAY, {"kind": SESSION})]
    one = history(rows)
    assert one.streak(Channel(sessions, counts), lambda block: block.kind == TASK).tolist() == [2.0]


def test_a_streak_adds_up_totals():
    rows = [(0, DAY, {"completed": 1}), (0, 2 * DAY, {"completed": 0, "count": 7}), (0, 3 * DAY, {"completed": 0})]
    assert history(rows).streak(COUNTS, is_completed).tolist() == [8.0]


SPREAD = (Channel(every, values), Channel(every, lambda block: block.value**2), COUNTS)


def test_a_spread_is_the_deviation_from_the_mean_and_needs_enough():
    rows = [(0, day * DAY, {"value": value}) for day, value in enumerate((2_000, 4_000, 6_000), start=1)]
    rows += [(1, DAY, {"value": 9_000}), (1, 2 * DAY, {"value": 1_000})]
    two = history(rows, seat=(0, 1), end=(9 * DAY,) * 2).spread(*SPREAD, EVER, least=3)
    assert np.allclose(two, [(8 / 3) ** 0.5, np.nan], rtol=1e-12, equal_nan=True)


def test_equal_values_have_no_spread():
    rows = [(0, day * DAY, {"value": 3_333}) for day in range(1, 8)]
    assert history(rows).spread(*SPREAD, EVER, least=3).tolist() == [pytest.approx(0, abs=1e-6)]


@pytest.mark.parametrize("origin", [0, LINE_ORIGIN_DAY - 3, LINE_ORIGIN_DAY + 600])
def test_a_trend_line_is_that_of_least_squares_wherever_its_days_lie(origin):
    rows = [(0, (origin + day) * DAY + 5, {"value": value}) for day, value in ((0, 8_000), (28, 6_000), (56, 1_000))]
    one = history(rows, end=((origin + 90) * DAY,))
    assert one.trend_line(every, EVER).tolist() == [pytest.approx(-3.5 / 28, rel=1e-12)]


def test_a_trend_line_needs_two_days():
    rows = [(0, DAY, {"value": 1_000}), (0, 2 * DAY - 1, {"value": 9_000}), (1, DAY, {"value": 1_000})]
    rows += [(1, 2 * DAY, {"value": 9_000})]
    two = history(rows, seat=(0, 1), end=(9 * DAY,) * 2).trend_line(every, EVER)
    assert np.array_equal(two, [np.nan, 8.0], equal_nan=True)


def test_a_mean_is_weighted_and_missing_without_weight():
    def amount(block):
        return block.value * block.count

    rows = [(0, DAY, {"value": 1_000, "count": 3}), (0, DAY, {"value": 5_000})]
    two = history(rows, seat=(0, 1), end=(9 * DAY,) * 2)
    assert np.array_equal(two.mean(Channel(every, amount), COUNTS, EVER), [2.0, np.nan], equal_nan=True)


@pytest.mark.parametrize("bound", [END, Bound("end", -1000 * DAY), Bound("birth", 1000 * DAY), Bound("seat", 0)])
def test_a_bound_far_outside_the_data_stays_in_its_seat(bound):
    rows = [(seat, day * DAY) for seat in range(3) for day in range(3)]
    two = history(rows, seat=(1, 1), end=(2 * DAY, 200 * DAY))
    assert set(two.index(bound).tolist()) <= {3, 5, 6}


def test_an_empty_window_holds_nothing():
    assert history([(0, DAY)]).total(COUNTS, Window(END, Bound("end", -DAY))).tolist()[0] <= 0


def test_a_block_too_wide_for_one_64_bit_key_is_still_exact():
    """A million seats over 200 days."""
    rows = [(0, 0), (0, 5 * DAY), (2**20, DAY), (2**20, 200 * DAY - 1)]
    three = history(rows, seat=(0, 2**20, 2**20), end=(5 * DAY, 200 * DAY - 1, 200 * DAY))
    assert three.total(COUNTS, EVER).tolist() == [1, 1, 2]
    assert three.total(COUNTS, last_days(5)).tolist() == [1, 0, 1]


def test_take_brings_positions_into_range():
    assert take(np.array([5, 6, 7]), np.array([-1, 1, 9])).tolist() == [5, 6, 7]
    assert take(np.array([], np.int64), np.array([0, 1])).tolist() == [0, 0]


def test_a_ratio_without_a_whole_is_missing():
    assert np.array_equal(ratio(np.array([1.0, 0.0]), np.array([2.0, 0.0])), [0.5, np.nan], equal_nan=True)
