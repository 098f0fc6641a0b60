"""An address of runs: nothing but runs is taken away, and several who write there leave each other's alone."""

import os
import time
from datetime import UTC, datetime
from pathlib import Path

import fsspec
import polars as pl
import pyarrow as pa
import pytest

from features.runs import Run, current, keep_rows, read_blocks, unfinished

AS_OF = datetime(2026, 5, 4, tzinfo=UTC)
FIRST, SECOND, THIRD = ("a" * 24, "b" * 24, "c" * 24)


def table(*seats: str) -> pa.Table:
    return pa.table({"seat_id": list(seats), "as_of": pa.array([AS_OF] * len(seats), pa.timestamp("us", "UTC"))})


def begun(address: str, fingerprint: str) -> Run:
    run = Run(address, fingerprint)
    run.begin({"of": fingerprint[0]})
    return run


def finished(address: str, fingerprint: str, *seats: str) -> Run:
    run = begun(address, fingerprint)
    run.finish([run.write(0, table(*seats or ("acme/s1",)))], {})
    return run


@pytest.mark.parametrize(
    "foreign",
    ["precious/letter.txt", "thesis.odt", "manifest.json", f"{FIRST}/letter.txt", "0123/block-00000.parquet"],
)
def test_an_address_with_anything_but_runs_is_refused_and_left_as_it_is(tmp_path: Path, foreign: str) -> None:
    (tmp_path / foreign).parent.mkdir(exist_ok=True)
    (tmp_path / foreign).write_text("mine")
    with pytest.raises(ValueError, match=r"holds what is no run of ours \(.*need an address of their own"):
        begun(str(tmp_path), SECOND)
    assert (tmp_path / foreign).read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == 1


def test_what_came_to_the_address_while_a_run_wrote_is_left_alone(tmp_path: Path) -> None:
    run = begun(str(tmp_path), FIRST)
    (tmp_path / "precious").mkdir()
    (tmp_path / SECOND).mkdir()
    (tmp_path / SECOND / "letter.txt").write_text("mine")
    os.utime(tmp_path / SECOND / "letter.txt", (0, 0))
    run.finish([run.write(0, table("acme/s1"))], {})
    assert (tmp_path / "precious").is_dir()
    assert (tmp_path / SECOND / "letter.txt").read_text() == "mine"


@pytest.mark.parametrize("place", ["file", "memory"])
def test_runs_at_one_address_leave_each_others_blocks_until_they_are_done(tmp_path: Path, place: str) -> None:
    address = str(tmp_path) if place == "file" else f"memory://{tmp_path.name}"
    finished(address, FIRST)
    slow = begun(address, SECOND)
    block = slow.write(0, table("acme/s2"))
    finished(address, THIRD)
    fs, root = fsspec.core.url_to_fs(address)
    assert {str(path).rsplit("/", 1)[-1] for path in fs.ls(root, detail=False)} == {SECOND, THIRD, "current.json"}
    assert list(unfinished(address)) == [SECOND]
    slow.finish([block], {})
    assert pl.concat(read_blocks(address))["seat_id"].to_list() == ["acme/s2"]
    assert unfinished(address) == {}


def test_a_run_that_was_given_up_goes_when_another_one_finishes(tmp_path: Path) -> None:
    begun(str(tmp_path), FIRST).write(0, table("acme/s1"))
    for path in (tmp_path / FIRST).iterdir():
        os.utime(path, (time.time() - 90_000,) * 2)
    finished(str(tmp_path), SECOND)
    assert not (tmp_path / FIRST).exists()


def test_runs_of_an_earlier_version_are_known_as_runs(tmp_path: Path) -> None:
    Run(str(tmp_path), FIRST).write(0, table("acme/s1"))
    finished(str(tmp_path), SECOND)
    assert (tmp_path / FIRST).exists()
    assert unfinished(str(tmp_path)) == {}


def test_what_a_run_began_with_is_kept_when_it_is_gone_on_with(tmp_path: Path) -> None:
    begun(str(tmp_path), FIRST)
    Run(str(tmp_path), FIRST).begin({"of": "later"})
    begun(str(tmp_path), SECOND)
    assert dict(unfinished(str(tmp_path))) == {FIRST: {"of": "a"}, SECOND: {"of": "b"}}


def test_rows_are_taken_out_of_blocks_while_they_are_read_and_written(tmp_path: Path) -> None:
    finished(str(tmp_path), FIRST, "acme/s1", "acme/s2")
    reading = read_blocks(str(tmp_path))
    running = begun(str(tmp_path), SECOND)
    block = running.write(0, table("acme/s2", "acme/s3"))
    untouched = running.write(1, table("acme/s3"))
    before = (tmp_path / SECOND / "block-00001.parquet").stat()
    assert keep_rows(str(tmp_path), pl.col("seat_id") != "acme/s2") == 2
    assert next(reading)["seat_id"].to_list() == ["acme/s1"]
    assert (tmp_path / SECOND / "block-00001.parquet").stat() == before
    running.finish([block, untouched], {})
    assert pl.concat(read_blocks(str(tmp_path)))["seat_id"].to_list() == ["acme/s3", "acme/s3"]
    assert current(str(tmp_path)) is not None
