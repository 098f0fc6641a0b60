"""Segments. That the planted modes are found is measured on many rollouts by benchmarks/bench_diagnosis.py."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from features.catalogue import NUMERIC
from features.connectors.simulated import Rollout
from features.interventions import FailureMode
from features.segments import Reading, SeatModes, reading, segment_findings

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
    seats, found = bench.modes_of(Rollout(seats=1800, days=126, seed=301))
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


@pytest.mark.parametrize(("manager_used", "shows"), [(0.0, True), (0.25, True), (0.4, False), (0.9, False)])
def test_leaders_are_absent_who_use_it_less_than_half_as_much_as_their_teams(manager_used, shows):
    found = findings(modes_of(100, manager_used=manager_used), 100, 10)[FailureMode.LEADERSHIP_ABSENT]
    assert found.shows is shows
    assert found.evidence.startswith("of 10 leaders")


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
        modes.team_used[mixed],
    )
    manager = np.arange(100) % 20
    chosen = np.arange(100) < 60
    assert segment_findings(modes, manager, chosen) == segment_findings(shuffled, manager[mixed], chosen[mixed])
