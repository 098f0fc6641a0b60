"""Segments. That the planted modes are found is measured on many rollouts by benchmarks/bench_diagnosis.py."""

import importlib.util
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from features.catalogue import CATEGORIES, NUMERIC
from features.connectors.simulated import Rollout
from features.diagnosis import COLUMN
from features.interventions import FailureMode
from features.segments import Reading, SeatModes, reading, seat_modes, segment_findings

BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks" / "bench_diagnosis.py"


@pytest.fixture(scope="module")
def bench():
    if not BENCHMARK.exists():
        pytest.skip("needs a checkout, not an installed wheel")
    spec = importlib.util.spec_from_file_location("bench_diagnosis", BENCHMARK)
    module = importlib.util.module_from_spec(spec)
    sys.modules["bench_diagnosis"] = module
    spec.loader.exec_module(module)
    return module


def test_the_planted_modes_of_a_simulated_rollout_are_found_and_no_others(bench):
    """One rollout of a seed that no threshold was looked at with; at most one of nine segments may be wrong."""
    seats, found = bench.modes_of(Rollout(seats=1800, days=126, seed=401))
    planted = bench.planted_in(seats)
    wrong = {name: (planted[name], found[name]) for name in found if planted[name] != found[name]}
    assert len(wrong) <= 1
    assert set().union(*found.values()) >= set(FailureMode) - {FailureMode.LEADERSHIP_ABSENT}


@pytest.mark.parametrize(
    ("usage", "depth", "confidence", "trained", "expected"),
    [
        (0.3, 0.9, 9, 1, Reading.BROAD_STALL),
        (0.8, 0.2, 9, 1, Reading.SURFACE_STALL),
        (0.8, 0.8, 3, 0.9, Reading.NOT_TRANSFERRING),
        (0.8, 0.8, 3, 0.1, Reading.HEALTHY),
        (0.8, 0.8, np.nan, 0.9, Reading.HEALTHY),
    ],
)
def test_usage_depth_and_confidence_are_read_together(usage, depth, confidence, trained, expected):
    assert reading(usage, depth, confidence, trained) is expected


def modes_of(n, *, share=0.0, manager_used=1.0, team_used=0.6):
    shown = (np.arange(n) < share * n).astype(float)
    strengths = {FailureMode.SURFACE_USE: shown}
    full = np.full(n, 1.0)
    return SeatModes(full > 0, strengths, np.full((n, len(NUMERIC)), np.nan), manager_used * full, team_used * full)


def findings(modes, n, leaders):
    return {f.mode: f for f in segment_findings(modes, np.arange(n) % leaders, np.ones(n, bool))}


@pytest.mark.parametrize(("share", "shows"), [(0.1, False), (0.19, False), (0.25, True), (0.6, True)])
def test_a_mode_shows_where_it_does_at_one_seat_in_five(share, shows):
    found = findings(modes_of(100, share=share), 100, 20)[FailureMode.SURFACE_USE]
    assert (found.shows, found.strength >= 0.5) == (shows, shows)


def test_two_of_ten_seats_may_be_chance():
    assert not findings(modes_of(10, share=0.2), 10, 10)[FailureMode.SURFACE_USE].shows


def test_nothing_is_said_of_fewer_than_ten_seats_or_leaders():
    assert findings(modes_of(9, share=1.0), 9, 9) == {}
    assert FailureMode.LEADERSHIP_ABSENT not in findings(modes_of(100, manager_used=0.0), 100, 9)


@pytest.mark.parametrize(("manager_used", "shows"), [(0.0, True), (0.4, True), (0.44, False), (0.9, False)])
def test_leaders_are_absent_where_use_is_less_than_seven_tenths_as_common_as_in_their_teams(manager_used, shows):
    found = findings(modes_of(100, manager_used=manager_used), 100, 10)[FailureMode.LEADERSHIP_ABSENT]
    assert found.shows is shows
    assert found.evidence.startswith("of 10 leaders")


def test_a_leader_is_looked_at_in_the_windows_of_their_people_and_never_beside_themselves():
    """Two windows: the manager used the tool in the first alone, one person in both, the other was not there yet."""
    ends = [datetime(2026, 6, 1, tzinfo=UTC), datetime(2026, 5, 4, tzinfo=UTC)]
    used = {"acme/s-m": (0, 5), "acme/s-1": (3, 3), "acme/s-2": (1, None)}
    rows = [(seat_id, end, days) for seat_id, of in used.items() for end, days in zip(ends, of, strict=True)]
    blank = {name: [np.nan] * len(rows) for name in COLUMN}
    features = pl.DataFrame({**blank, **dict.fromkeys((one.name for one in CATEGORIES), "x")}).with_columns(
        seat_id=pl.Series([row[0] for row in rows]),
        as_of=pl.Series([row[1] for row in rows]),
        active_days_28=pl.Series([float(row[2] or 0) for row in rows]),
        life_days=pl.Series([0.0 if row[2] is None else 90.0 for row in rows]),
    )
    seats = pl.DataFrame(
        {
            "seat_id": list(used),
            "organization": "acme",
            "tool": "claude",
            "person_id": ["acme/p-m", "acme/p-1", "acme/p-2"],
            "manager_person_id": "acme/p-m",
        }
    )
    modes = seat_modes(features, seats)
    assert modes.manager_used.tolist()[1:] == [0.5, 0.0]
    assert modes.used.tolist()[1:] == [1.0, 1.0]
    assert np.isnan([modes.manager_used[0], modes.used[0]]).all()


def test_where_hardly_anybody_uses_it_leaders_are_not_the_reason():
    assert FailureMode.LEADERSHIP_ABSENT not in findings(modes_of(100, manager_used=0.0, team_used=0.1), 100, 20)


def test_the_order_of_seats_changes_nothing():
    modes = modes_of(100, share=0.3)
    mixed = np.random.default_rng(1).permutation(100)
    shuffled = SeatModes(
        modes.in_use[mixed],
        {mode: values[mixed] for mode, values in modes.strengths.items()},
        modes.last[mixed],
        modes.manager_used[mixed],
        modes.used[mixed],
    )
    manager = np.arange(100) % 20
    chosen = np.arange(100) < 60
    assert segment_findings(modes, manager, chosen) == segment_findings(shuffled, manager[mixed], chosen[mixed])
