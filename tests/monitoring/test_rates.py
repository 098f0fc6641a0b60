from collections.abc import Callable
from dataclasses import replace

import polars as pl
import pytest

from features.catalogue import BY_NAME, Group
from monitoring.drift import CALENDAR_FACTOR, FLOOR, OLD_FACTOR, measure
from monitoring.rates import CALENDAR, RATES, column, feature_of
from monitoring.windows import Window

Snapshots = Callable[..., pl.DataFrame]
Windows = Callable[..., Window]


def test_a_rate_is_the_amount_of_an_active_day_and_null_without_one() -> None:
    frame = pl.DataFrame({"uses_7": [12.0, 0.0, 5.0], "active_days_7": [3.0, 0.0, None]})
    assert column(frame, "uses_7_per_active_day").to_list() == [4.0, None, None]
    assert column(frame, "uses_7").to_list() == [12.0, 0.0, 5.0]


def test_a_rate_belongs_to_the_group_of_its_amount() -> None:
    assert feature_of("unassisted_7_per_work_day").group is Group.OPPORTUNITY
    assert feature_of("active_days_7") is BY_NAME["active_days_7"]
    assert all(days in CALENDAR and amount in CALENDAR for amount, days in RATES.values())


def test_shares_and_recencies_do_not_count_as_amounts_of_the_calendar() -> None:
    assert {"uses_7", "work_days_56", "active_weeks_8"} <= CALENDAR
    assert not {"used_share_28", "days_since_use", "session_seconds_28", "confidence_last"} & CALENDAR


def holiday(frame: pl.DataFrame, by: float) -> pl.DataFrame:
    """Everybody works less, and does on a day at work what they always did."""
    amounts = {*(amount for amount, _ in RATES.values()), *(days for _, days in RATES.values())}
    return frame.with_columns(pl.col(name) * by for name in amounts)


def test_doubled_use_on_as_many_days_moves_the_rate_by_more_than_the_amount(
    snapshots: Snapshots, window_of: Windows
) -> None:
    before, now = (snapshots(1500, seed=seed).with_columns(pl.lit(4.0).alias("active_days_7")) for seed in (1, 2))
    drifts = measure(window_of(before, now.with_columns(pl.col("uses_7") * 2))).drifts
    assert drifts["uses_7_per_active_day"].excess > drifts["uses_7"].excess > 1


def test_a_holiday_moves_no_rate(snapshots: Snapshots, window_of: Windows) -> None:
    drifts = measure(window_of(snapshots(1500, seed=1), holiday(snapshots(1500, seed=2), 0.8))).drifts
    assert not any(drifts[name].is_shift for name in RATES if name in drifts)


@pytest.mark.parametrize(("older", "factor"), [(0.4, 1.0), (0.6, OLD_FACTOR)])
def test_where_most_seats_are_older_than_the_reference_every_limit_is_twice_as_far(
    older: float, factor: float, snapshots: Snapshots, window_of: Windows
) -> None:
    """The limit and not only its floor: chance is wider than the floor for most columns."""
    window = window_of(snapshots(600, seed=1), snapshots(600, seed=2))
    young, old = (measure(replace(window, older=share)).drifts for share in (0.3, older))
    for name in old:
        assert old[name].limits == pytest.approx({m: factor * most for m, most in young[name].limits.items()}), name
    assert all(min(old[name].limits.values()) >= CALENDAR_FACTOR * FLOOR for name in CALENDAR & set(old))
