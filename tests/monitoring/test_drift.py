import math
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import polars as pl
import pytest

from monitoring.bins import MIN_GROUP, OTHER, column_of
from monitoring.chance import MISSING
from monitoring.drawing import DRAWN_COLUMNS, draw, draw_worst, keep, page_of, values_of
from monitoring.drift import GROWING, MATCHED, SHARED, Moved, measure
from monitoring.windows import COMPARED, RISK, SEAT, WEEK, Window

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
def moved(window: Window) -> Moved:
    return measure(window)


def slow_psi(window: Window, name: str) -> float:
    column = column_of(window, name)
    before, now = ([code for code in side.tolist() if code != MISSING] for side in (column.reference, column.current))
    total = 0.0
    for code in {*before, *now}:
        p, q = (max(side.count(code) / len(side), 0.0001) for side in (before, now))
        total += (p - q) * math.log(p / q)
    return total


@pytest.mark.parametrize("column", ["prompts_28", "confidence_last", "has_manager", "role", "region", RISK])
def test_the_index_is_that_of_the_formula(column: str, window: Window, moved: Moved) -> None:
    assert moved.drifts[column].psi == pytest.approx(slow_psi(window, column))


def test_only_the_shifted_columns_pass_their_limits(moved: Moved) -> None:
    assert {drift.name for drift in moved.drifts.values() if drift.is_shift} == {
        "prompts_28",
        "prompts_28_per_active_day",
        "role",
    }


def test_what_is_missing_is_judged_apart(moved: Moved) -> None:
    assert {name for name, change in moved.missing.items() if change.is_shift} == {"nps_last"}
    assert moved.missing["nps_last"].now == 1


def test_every_column_is_judged_but_those_that_the_calendar_moves(moved: Moved) -> None:
    assert set(COMPARED) - set(moved.drifts) == MATCHED | SHARED | {"nps_last"}


def test_what_only_grows_with_time_is_not_judged_where_seats_are_older(
    snapshots: Snapshots, window_of: Windows, window: Window
) -> None:
    grown = window_of(snapshots(400, seed=1), snapshots(400, seed=2).with_columns(pl.lit(40.0).alias("life_days")))
    assert not GROWING & set(measure(replace_older(grown, 0.2)).drifts)
    assert GROWING & set(measure(replace_older(grown, 0.0)).drifts)


def replace_older(window: Window, older: float) -> Window:
    return Window(**{**vars(window), "older": older})


def test_no_bin_shows_fewer_than_ten_seats(window: Window, moved: Moved) -> None:
    sizes = [
        count
        for name in moved.drifts
        for side in (column_of(window, name).current, column_of(window, name).reference)
        for count in np.unique(side[side != MISSING], return_counts=True)[1].tolist()
    ]
    assert min(sizes) >= MIN_GROUP


def test_rare_categories_are_merged_until_other_is_large_enough(snapshots: Snapshots, window_of: Windows) -> None:
    roles = (
        pl.when(pl.col(SEAT) < 4)
        .then(pl.lit("chief"))
        .when(pl.col(SEAT) < 30)
        .then(pl.lit("legal"))
        .otherwise(pl.lit("sales"))
    )
    frames = (snapshots(400, seed=seed).with_columns(roles.alias("role")) for seed in (1, 2))
    column = column_of(window_of(*frames), "role")
    assert column.labels == (OTHER, "sales")


def test_a_constant_that_moved_is_a_large_drift(snapshots: Snapshots, window_of: Windows) -> None:
    reference, current = (
        snapshots(300, seed=seed).with_columns(pl.lit(value).alias("trainings")) for seed, value in ((1, 1.0), (2, 3.0))
    )
    assert measure(window_of(reference, current)).drifts["trainings"].is_large


def test_evidently_measures_what_we_measure(window: Window, moved: Moved) -> None:
    """Our own distances are computed for hundreds of resampled windows; they must be the ones that the report shows."""
    some = {name: moved.drifts[name] for name in ("prompts_28", "confidence_last", "role", RISK)}
    found = values_of(draw(window, some))
    for name, drift in some.items():
        assert found[name] == pytest.approx(dict(drift.values), rel=1e-6), name


def test_the_report_needs_no_network_has_a_title_and_keeps_itself(window: Window, moved: Moved, tmp_path) -> None:
    snapshot = draw(window, {"role": moved.drifts["role"]})
    html = page_of(snapshot)
    assert "<title>Rekindle: drift by column</title>" in html
    assert '<script src="http' not in html
    assert 'rel="stylesheet" href="http' not in html
    for name in ("first", "second"):
        keep(snapshot, tmp_path, name=name)
    assert len(list((tmp_path / "evidently").rglob("*.json"))) >= 2


def test_seats_are_compared_with_their_like_in_age(snapshots: Snapshots) -> None:
    """Use falls with the week of life; a window of old seats is like the old part of the reference, not like all of it."""
    from datetime import UTC, datetime

    from monitoring.windows import DAYS_SCHEMA, MOMENT, TEAM, compare

    rng = np.random.default_rng(5)
    reference = (
        snapshots(6000, seed=1)
        .with_columns(
            pl.Series(WEEK, rng.integers(0, 30, 6000)),
            (pl.col(SEAT) // 8).alias(TEAM),
            pl.Series(MOMENT, rng.integers(0, 8, 6000)),
        )
        .with_columns(pl.col("prompts_28") / (1 + pl.col(WEEK)))
    )
    current = (
        snapshots(600, seed=2)
        .with_columns(pl.Series(WEEK, rng.integers(24, 30, 600)), (pl.col(SEAT) // 8).alias(TEAM))
        .with_columns(pl.col("prompts_28") / (1 + pl.col(WEEK)))
    )
    moment = datetime(2026, 5, 4, tzinfo=UTC)
    window = compare(reference.drop(SEAT), current, moment, moment, "risk/1", pl.DataFrame(schema=DAYS_SCHEMA))
    assert not measure(window).drifts["prompts_28"].is_shift
    assert window.blocks.weight.sum() == pytest.approx(1)
    young = compare(
        reference.filter(pl.col(WEEK) < 6).drop(SEAT),
        current,
        moment,
        moment,
        "risk/1",
        pl.DataFrame(schema=DAYS_SCHEMA),
    )
    assert young.older == 1
    assert measure(young).drifts["prompts_28"].is_shift


@pytest.mark.timeout(180)
def test_evidently_shows_the_runs_of_the_workspace_in_its_own_pages(
    tmp_path: Path, window: Window, moved: Moved
) -> None:
    for name in ("run-1", "run-2"):
        keep(draw_worst(window, {"role": moved.drifts["role"]}), tmp_path, name=name)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = (
        f"from pathlib import Path; from monitoring.drawing import serve_workspace; "
        f"serve_workspace(Path({str(tmp_path / 'evidently')!r}), host='127.0.0.1', port={port})"
    )
    said = tmp_path / "said.txt"
    with said.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-c", code], cwd=Path(__file__).parents[2], stdout=file, stderr=subprocess.STDOUT
        )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            for _ in range(600):
                assert process.poll() is None, said.read_text()[-2000:]
                try:
                    page = client.get("/")
                    break
                except httpx.TransportError:
                    time.sleep(0.1)
            assert "<!doctype html>" in page.text.lower()
            (project,) = client.get("/api/projects").json()
            assert project["name"] == "Rekindle"
            told = client.get(f"/api/projects/{project['id']}/reports").text
            assert "run-1" in told
            assert "run-2" in told
    finally:
        process.terminate()
        process.wait(30)


def test_the_report_draws_the_columns_that_moved_most_by_their_worst_measure(window: Window, moved: Moved) -> None:
    found = values_of(draw_worst(window, moved.drifts))
    worst = sorted(moved.drifts.values(), key=lambda drift: -drift.excess)[:DRAWN_COLUMNS]
    assert list(found) == [drift.name for drift in worst]
    for drift in worst:
        assert found[drift.name] == {drift.worst: pytest.approx(drift.values[drift.worst], abs=1e-9)}
