"""An archive holds what the log holds, whoever writes to either meanwhile, and who reads it is not disturbed."""

import os
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

import features.archive
from features.archive import Archive, LogReader, write_archive, write_day
from features.database import Database
from features.events import Batch, Event, Seat, events_table, seats_table
from features.log import EventLog
from features.people import _delete, _events

NOW = datetime(2026, 5, 20, 9, 30, tzinfo=UTC)
DAY = timedelta(days=1)
SEATS = ("acme/s1", "acme/s2")


@pytest.fixture
def log(database_url: str) -> Iterator[EventLog]:
    opened = EventLog(database_url)
    seats = [
        Seat(seat_id=seat, person_id=seat, organization="acme", tool="claude", assigned_at=NOW - 90 * DAY)
        for seat in SEATS
    ]
    opened.append(Batch(seats_table(seats), events_table([])), now=NOW)
    add(opened, *(event(f"acme/e{n}", SEATS[n % 2], NOW - (n + 2) * DAY) for n in range(6)))
    yield opened
    opened.close()


def event(name: str, seat: str, at: datetime) -> Event:
    return Event(event_id=name, seat_id=seat, kind="session", source="vendor", occurred_at=at, available_at=at)


def add(log: EventLog, *events: Event) -> None:
    log.append(Batch(seats_table([]), events_table(events)), now=NOW)


def names(archive: Archive) -> list[str]:
    return sorted(archive.events(SEATS, columns=["event_id"]).column("event_id").to_pylist())


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*.parquet")}


def erase_events(database: Database, seat: str) -> None:
    with database.write() as connection:
        _delete(connection, _events, "seat_id", [seat])


def test_one_event_less_and_another_one_more_is_another_day(log: EventLog, tmp_path: Path) -> None:
    at = NOW - 3 * DAY
    before = names(write_archive(log, str(tmp_path), until=NOW))
    erase_events(log.database, "acme/s2")  # its event of that day goes; one of the same instant comes late
    add(log, event("acme/late", "acme/s1", at))
    after = names(write_archive(log, str(tmp_path), until=NOW))
    assert "acme/e1" in before
    assert after == ["acme/e0", "acme/e2", "acme/e4", "acme/late"]


def test_days_that_did_not_change_are_left_alone(log: EventLog, tmp_path: Path) -> None:
    first = write_archive(log, str(tmp_path), until=NOW)
    again = write_archive(log, str(tmp_path), until=NOW)
    assert again.files == first.files


def test_who_opened_an_archive_reads_it_until_the_run_after_the_next(log: EventLog, tmp_path: Path) -> None:
    opened = write_archive(log, str(tmp_path), until=NOW)
    add(log, event("acme/late", "acme/s1", NOW - 3 * DAY))
    write_archive(log, str(tmp_path), until=NOW)
    assert len(names(opened)) == 6
    assert opened.roster().num_rows == 2
    last = write_archive(log, str(tmp_path), until=NOW)
    assert "acme/late" in names(last)
    gone = opened.named - last.named
    assert gone
    assert files(tmp_path) == last.named | set(last.replaced)
    assert not gone & files(tmp_path)


def test_a_file_that_is_lost_is_written_again(log: EventLog, tmp_path: Path) -> None:
    first = write_archive(log, str(tmp_path), until=NOW)
    (tmp_path / first.files[2].file).unlink()
    again = write_archive(log, str(tmp_path), until=NOW)
    assert names(again) == [f"acme/e{n}" for n in range(6)]
    assert len(set(again.files) - set(first.files)) == 1


def test_two_who_write_at_once_leave_each_others_files(
    log: EventLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second one publishes while the first one has written its days and not published them."""
    once: list[Callable[[], Archive]] = [lambda: write_archive(log, str(tmp_path), until=NOW)]
    publish = features.archive.publish

    def after_the_other(archive: Archive) -> Archive:
        if once:
            once.pop()()
        return publish(archive)

    monkeypatch.setattr(features.archive, "publish", after_the_other)
    archive = write_archive(log, str(tmp_path), until=NOW)
    assert names(archive) == names(Archive.open(str(tmp_path))) == [f"acme/e{n}" for n in range(6)]


def test_what_was_never_published_goes_after_a_day(log: EventLog, tmp_path: Path) -> None:
    write_archive(log, str(tmp_path), until=NOW)
    day = (NOW - 3 * DAY).date()
    old, new = (write_day(str(tmp_path), day, "x", log.events(["acme/s1"]))[0].file for _ in range(2))
    os.utime(tmp_path / old, (time.time() - 90_000,) * 2)
    archive = write_archive(log, str(tmp_path), until=NOW)
    assert files(tmp_path) == archive.named | set(archive.replaced) | {new}


def test_files_of_somebody_else_stay_however_old_and_parts_of_a_file_go_after_a_day(
    log: EventLog, tmp_path: Path
) -> None:
    hexes = "0" * 32
    theirs = {
        "events/day=2026-05-04/theirs.parquet",
        "events/2026/part-0.parquet",
        f"events/theirs/{hexes}.parquet",
        "roster-of-the-choir.parquet",
        "roster-notes.txt",
        "manifest.json.bak",
    }
    parts = {
        f"events/day=2026-05-04/{hexes}.parquet.{hexes}.partial",
        f"roster-{hexes}.parquet.{hexes}.partial",
        f"manifest.json.{hexes}.partial",
    }
    for name in theirs | parts:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("mine")
        os.utime(tmp_path / name, (time.time() - 90_000,) * 2)
    young = tmp_path / f"roster-{hexes[1:]}1.parquet.{hexes}.partial"
    young.write_text("at work")
    write_archive(log, str(tmp_path), until=NOW)
    assert {name for name in theirs if (tmp_path / name).exists()} == theirs
    assert not any((tmp_path / name).exists() for name in parts)
    assert young.exists()


@pytest.mark.parametrize("body", ['{"metadata": {}, "nodes": {}}', "[]", "not JSON"])
def test_somebody_elses_manifest_is_refused_and_left_as_it_is(log: EventLog, tmp_path: Path, body: str) -> None:
    (tmp_path / "manifest.json").write_text(body)
    with pytest.raises(ValueError, match=r"holds a manifest\.json that is no archive's"):
        write_archive(log, str(tmp_path), until=NOW)
    assert files(tmp_path) == set()
    assert (tmp_path / "manifest.json").read_text() == body


def test_an_archive_is_the_same_whether_it_was_written_at_once_or_brought_up_to_date(
    log: EventLog, tmp_path: Path
) -> None:
    write_archive(log, str(tmp_path / "one"), until=NOW - 5 * DAY)
    one = write_archive(log, str(tmp_path / "one"), until=NOW)
    two = write_archive(log, str(tmp_path / "two"), until=NOW)
    tables = [
        pl.DataFrame(pl.from_arrow(made.events(SEATS, columns=["event_id", "occurred_at"]))) for made in (one, two)
    ]
    assert tables[0].sort("event_id").equals(tables[1].sort("event_id"))
    assert isinstance(one.roster(), pa.Table)


def test_a_worker_that_knows_no_database_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REKINDLE_DATABASE", raising=False)
    with pytest.raises(ValueError, match="a worker has no REKINDLE_DATABASE"):
        LogReader(None, NOW).events(["acme/s1"], columns=["kind"])
