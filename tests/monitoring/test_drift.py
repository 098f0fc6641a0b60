import math
from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from monitoring.drift import OTHER, PSI_WATCH, DriftReport, binned, measure, psi_noise
from monitoring.windows import COMPARED, RISK, SEAT, Window

Snapshots = Callable[..., pl.DataFrame]
Windows = Callable[..., Window]


@pytest.fixture(scope="module")
def window(snapshots: Snapshots, window_of: Windows) -> Window:
    current = snapshots(900, seed=2).with_columns(
        pl.col("prompts_28") * 2,
        pl.when(pl.col(SEAT) < 300).then(pl.lit("robotics")).otherwise("role").alias("role"),
        pl.lit(None, pl.Float64).alias("nps_last"),
    )
    return window_of(snapshots(1200, seed=1), current)


@pytest.fixture(scope="module")
def report(window: Window) -> DriftReport:
    return measure(window)


def slow_psi(reference: pl.Series, current: pl.Series) -> float:
    before, now = reference.drop_nulls().to_list(), current.drop_nulls().to_list()
    total = 0.0
    for name in {*before, *now}:
        p, q = (max(side.count(name) / len(side), 0.0001) for side in (before, now))  # Evidently's floor
        total += (p - q) * math.log(p / q)
    return total


@pytest.mark.parametrize("column", ["prompts_28", "confidence_last", "has_manager", "role", "region", RISK])
def test_the_index_is_that_of_the_formula(column: str, window: Window, report: DriftReport) -> None:
    bins = binned(window.reference[column], window.current[column], window.current[SEAT].to_numpy())
    assert report.drifts[column].psi == pytest.approx(slow_psi(*bins))


def test_only_the_shifted_columns_pass_their_thresholds(report: DriftReport) -> None:
    assert {drift.name for drift in report.drifts.values() if drift.is_shift} == {"prompts_28", "role"}


def test_a_column_without_values_is_not_judged(report: DriftReport) -> None:
    assert set(COMPARED) - set(report.drifts) == {"nps_last"}


def test_the_noise_bounds_the_index_of_equal_distributions_as_often_as_said() -> None:
    rng = np.random.default_rng(7)
    draws = rng.multinomial(250, [0.1] * 10, size=20_000) / 250, rng.multinomial(400, [0.1] * 10, size=20_000) / 400
    index = ((draws[0] - draws[1]) * np.log(draws[0] / draws[1])).sum(axis=1)
    share_above = float((index > psi_noise(10, 250, 400)).mean())
    # 0.001 by the chi-squared law; the law is first order, and at bins of 25 rows the tail is somewhat heavier
    assert 0.0003 < share_above < 0.003
    assert index.mean() == pytest.approx(9 * (1 / 250 + 1 / 400), rel=0.05)


def test_the_noise_falls_with_the_size_of_both_samples() -> None:
    assert psi_noise(10, 200, 200) > 2 * PSI_WATCH
    assert psi_noise(10, 20_000, 20_000) < 0.003


def test_no_bin_shows_fewer_than_ten_seats(window: Window, report: DriftReport) -> None:
    seat = window.current[SEAT].to_numpy()
    sizes = [
        count
        for column in report.drifts
        for side in binned(window.reference[column], window.current[column], seat)
        for count in side.drop_nulls().value_counts()["count"].to_list()
    ]
    assert min(sizes) >= 10


def test_days_of_one_seat_do_not_make_a_group() -> None:
    reference = pl.Series("prompts_28", np.arange(500.0))
    current = pl.Series("prompts_28", [*np.arange(500.0), *[1000.0] * 60])
    seat = np.array([*range(500), *[7] * 60])
    bins = binned(reference, current, seat)[1]
    assert bins[-1] == bins[499]  # not in a bin "over 499" of their own


def test_rare_categories_are_merged_until_other_is_large_enough() -> None:
    reference = pl.Series("role", ["sales"] * 300 + ["legal"] * 30 + ["chief"] * 3)
    current = pl.Series("role", ["sales"] * 300 + ["legal"] * 12 + ["chief"] * 1)
    _, merged = binned(reference, current, np.arange(313))
    assert dict(merged.value_counts().iter_rows()) == {"sales": 300, OTHER: 13}


def test_a_constant_that_moved_is_a_large_drift(snapshots: Snapshots, window_of: Windows) -> None:
    reference, current = (
        snapshots(300, seed=seed).select(SEAT, *COMPARED).with_columns(pl.lit(value).alias("trainings"))
        for seed, value in ((1, 1.0), (2, 3.0))
    )
    assert measure(window_of(reference, current)).drifts["trainings"].is_large


def test_the_page_needs_no_network_and_has_a_title(report: DriftReport) -> None:
    assert "<title>Rekindle: drift by column</title>" in report.html
    assert '<script src="http' not in report.html
    assert 'rel="stylesheet" href="http' not in report.html
