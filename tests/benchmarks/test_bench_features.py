"""The benchmarks of the features run to their end at toy size, and keep what they promise there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(not (ROOT / "benchmarks").exists(), reason="needs a checkout, not an installed wheel")


def run(name: str, *arguments: str) -> str:
    """What the benchmark prints; fails with what it says where it does not end well."""
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", str(ROOT / "benchmarks" / name), *arguments]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_features_are_built_and_the_other_engines_agree() -> None:
    said = run("bench_features.py", "--seats", "120", "--days", "42")

    assert re.search(r"120 seats, \d+ snapshots x \d+ features", said)
    assert {"Rekindle, the same windows", "DuckDB SQL", "pandas"} <= {cell.strip() for cell in said.split("|")}


def test_a_sweep_refreshes_every_seat() -> None:
    assert "120 seats from a log of" in run("bench_sweep.py", "--seats", "120", "--days", "42")


def test_a_service_that_is_killed_loses_nothing_and_catches_up_by_itself() -> None:
    arguments = ("--seats", "80", "--days", "35", "--rate", "30", "--seconds", "4", "--kills", "1")
    said = run("bench_freshness.py", *arguments)

    assert "0 lost, 0 twice" in said
    assert "\n0 seats whose online features the service had not brought up to the log" in said
