"""An address of runs: nothing but runs is taken away, and several who write there leave each other's alone."""

import os
import time
from datetime import UTC, datetime
from pathlib import Path

import fsspec
import polars as pl
import pyarrow as pa
import pytest

from features.runs import Run, current, keep_rows, read_blocks, seats_in, unfinished, write_whole

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
    assert keep_rows(str(tmp_path), pl.col("seat_id") != "acme/s2", is_cut=False) == 2
    assert next(reading)["seat_id"].to_list() == ["acme/s1"]
    assert (tmp_path / SECOND / "block-00001.parquet").stat() == before
    running.finish([block, untouched], {})
    assert pl.concat(read_blocks(str(tmp_path)))["seat_id"].to_list() == ["acme/s3", "acme/s3"]
    assert current(str(tmp_path)) is not None


@pytest.mark.parametrize(("is_cut", "done"), [(True, [1]), (False, [0, 1])])
def test_a_block_that_lost_what_its_run_would_compute_is_not_done(
    tmp_path: Path, is_cut: bool, done: list[int]
) -> None:
    run = begun(str(tmp_path), FIRST)
    run.write(0, table("acme/s1", "acme/s2"))
    run.write(1, table("acme/s2"))
    assert keep_rows(str(tmp_path), pl.col("seat_id") != "acme/s1", is_cut=is_cut) == 1
    assert sorted(run.done()) == done
    assert seats_in(str(tmp_path)) == {"acme/s2"}


def test_a_damaged_block_stops_nobody_and_is_computed_again(tmp_path: Path) -> None:
    run = begun(str(tmp_path), FIRST)
    run.write(0, table("acme/s1"))
    damaged = tmp_path / FIRST / "block-00001.parquet"
    for body in (b"", (tmp_path / FIRST / "block-00000.parquet").read_bytes()[:-9]):
        damaged.write_bytes(body)
        assert seats_in(str(tmp_path)) == {"acme/s1"}
        assert keep_rows(str(tmp_path), pl.col("seat_id") != "acme/s2", is_cut=False) == 0
        assert not damaged.exists()
        assert list(run.done()) == [0]


def test_a_run_whose_beginning_was_cut_off_is_begun_again(tmp_path: Path) -> None:
    begun(str(tmp_path), FIRST)
    (tmp_path / FIRST / "run.json").write_bytes(b"")
    assert unfinished(str(tmp_path)) == {}
    begun(str(tmp_path), FIRST)
    assert unfinished(str(tmp_path)) == {FIRST: {"of": "a"}}


def test_what_a_killed_writer_left_goes_when_rows_are_taken_out_and_what_is_being_written_stays(tmp_path: Path) -> None:
    finished(str(tmp_path), FIRST)
    old, young = (tmp_path / FIRST / f"block-00000.parquet.{digit * 32}.partial" for digit in "01")
    for path in (old, young):
        path.write_bytes(b"acme/s2")
    os.utime(old, (time.time() - 4_000,) * 2)
    keep_rows(str(tmp_path), pl.col("seat_id") != "acme/s2", is_cut=False)
    assert not old.exists()
    assert young.exists()


def test_who_made_a_run_reads_that_one_and_is_told_when_another_took_its_place(tmp_path: Path) -> None:
    run = begun(str(tmp_path), FIRST)
    own = run.finish([run.write(0, table("acme/s1")), run.write(1, table("acme/s1"))], {})
    slow = begun(str(tmp_path), SECOND)
    block = slow.write(0, table("acme/s2"))
    assert pl.concat(read_blocks(str(tmp_path), own))["seat_id"].to_list() == ["acme/s1", "acme/s1"]
    reading = read_blocks(str(tmp_path), own)
    next(reading)
    slow.finish([block], {})
    with pytest.raises(ValueError, match=r"another run finished at .*: run the same command again"):
        next(reading)


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []

    def fsync(handle: int) -> None:
        assert not (tmp_path / "named").exists()
        synced.append(os.fstat(handle).st_size)

    monkeypatch.setattr(os, "fsync", fsync)
    assert write_whole(str(tmp_path / "named"), lambda file: file.write(b"whole")) == 5
    assert synced == [5]
