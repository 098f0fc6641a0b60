"""The table of growth is made point by point, and goes on where it was stopped."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(not (ROOT / "benchmarks").exists(), reason="needs a checkout, not an installed wheel")


def bench(folder: Path, *arguments: str, name: str = "bench_scale.py") -> "subprocess.CompletedProcess[str]":
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [
        sys.executable,
        "-W",
        "ignore",
        str(ROOT / "benchmarks" / name),
        "--folder",
        str(folder),
        *arguments,
    ]
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=300)


def test_points_are_measured_once_and_a_stopped_run_goes_on(tmp_path: Path) -> None:
    first = bench(tmp_path, "--sizes", "60x42", "--workers", "0", "--logs", "")
    assert first.returncode == 0, first.stderr
    again = bench(tmp_path, "--sizes", "60x42", "--workers", "0,1", "--logs", "sqlite:2000")
    assert again.returncode == 0, again.stderr
    assert "measuring features 60x42 0" in first.stdout
    assert [line for line in again.stdout.splitlines() if line.startswith("measuring")] == [
        "measuring features 60x42 1 …",
        "measuring log sqlite 2000 …",
    ]
    one, worker, log = map(json.loads, (tmp_path / "results.jsonl").read_text().splitlines())
    assert (one["events"], one["rows"]) == (worker["events"], worker["rows"])
    assert min(one["mib"], worker["mib"], worker["caller"]) > 50
    assert log["bytes"] > 100 * log["events"] > 0
    assert "| 60 | 42 |" in again.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"60x42", "11x120", "results.jsonl"}


def test_a_point_whose_process_dies_ends_the_run_and_is_no_result(tmp_path: Path) -> None:
    (tmp_path / "60x42").mkdir()
    (tmp_path / "60x42" / "manifest.json").write_text("{")
    done = bench(tmp_path, "--sizes", "60x42", "--workers", "0", "--logs", "")
    assert done.returncode == 1
    assert "the process that measured ended with status 1" in done.stderr
    assert not (tmp_path / "results.jsonl").exists()


def test_killed_workers_and_a_killed_caller_change_no_byte(tmp_path: Path) -> None:
    arguments = ("--size", "240x70", "--block", "6", "--every", "1", "--kills", "3")
    done = bench(tmp_path, *arguments, name="bench_kills.py")
    assert done.returncode == 0, done.stderr
    alone, killed, stopped = done.stdout.splitlines()
    assert "40 blocks" in alone
    assert int(killed.split()[0]) > 0
    assert killed.endswith(" 0 blocks differ")
    assert stopped.endswith(" of 40 blocks, 0 differ")
    assert "computed 40 of" not in stopped
