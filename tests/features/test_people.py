"""Retention in small steps, and erasure in the folders of other processes."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from features.catalogue import FEATURES
from features.compute import FEATURE_DTYPES
from features.database import Database
from features.events import Batch, Event, Seat, events_table, seats_table
from features.log import EventLog
from features.people import People
from features.runs import Run, read_blocks
from features.store import FeatureStore

NOW = datetime(2026, 5, 20, 9, 30, tzinfo=UTC)
DAY = timedelta(days=1)
SEATS = ("acme/s1", "acme/s2")


@pytest.fixture
def log(database_url: str) -> Iterator[EventLog]:
    opened = EventLog(database_url)
    seats = [
        Seat(seat_id=seat, person_id=f"{seat}-p", organization="acme", tool="claude", assigned_at=NOW - 90 * DAY)
        for seat in SEATS
    ]
    opened.append(Batch(seats_table(seats), events_table([])), now=NOW)
    yield opened
    opened.close()


def event(number: int, at: datetime) -> Event:
    return Event(
        event_id=f"acme/e{number}", seat_id=SEATS[0], kind="session", source="vendor", occurred_at=at, available_at=at
    )


def features(*days: int) -> pl.DataFrame:
    keys = [(seat, NOW - day * DAY) for day in days for seat in SEATS]
    frame = pl.DataFrame(keys, schema={"seat_id": pl.String, "as_of": pl.Datetime("us", "UTC")}, orient="row")
    return frame.with_columns(
        *(pl.lit("claude" if f.name == "tool" else "" if f.is_category else 1.0).cast(FEATURE_DTYPES[f.name]).alias(f.name)
          for f in FEATURES)
    )  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    """A trainer's: offline features, and blocks of a finished run."""
    made = FeatureStore(tmp_path / "trainer")
    made.apply()
    made.write_offline([features(40, 5)])
    run = Run(str(tmp_path / "trainer" / "blocks" / "training"), "a" * 24)
    run.begin({})
    run.finish([run.write(0, features(40, 5).to_arrow(compat_level=pl.CompatLevel.oldest()))], {})
    return made


def blocks(store: FeatureStore) -> pl.DataFrame:
    return pl.concat(read_blocks(str(store.home / "blocks" / "training")))


def test_whoever_was_erased_through_a_service_leaves_the_trainers_folder(
    log: EventLog, store: FeatureStore, tmp_path: Path
) -> None:
    of_the_service = FeatureStore(tmp_path / "service")
    of_the_service.apply()
    people = People(log.database)
    assert people.catch_up(store) == 0
    people.erase("acme/s1-p", store=of_the_service, now=NOW)
    assert store.seats_kept() == set(SEATS)
    assert [people.catch_up(store), people.catch_up(store)] == [1, 0]
    assert store.seats_kept() == {"acme/s2"}
    assert set(store.snapshots()["seat_id"]) == set(blocks(store)["seat_id"]) == {"acme/s2"}


def test_retention_leaves_a_trainer_its_blocks_without_what_is_old(log: EventLog, store: FeatureStore) -> None:
    """It may be reading them."""
    reading = read_blocks(str(store.home / "blocks" / "training"))
    found = People(log.database).retain(older_than=30 * DAY, store=store, now=NOW)
    assert found.offline_rows > 0
    assert next(reading)["as_of"].min() == blocks(store)["as_of"].min() == NOW - 5 * DAY


def test_an_erasure_while_offline_features_are_written_harms_neither(store: FeatureStore) -> None:
    def written() -> Iterator[pl.DataFrame]:
        yield features(3)
        store.erase(["acme/s1"])
        yield features(2)

    assert store.write_offline(written()) == 4
    assert store.snapshots()["as_of"].unique().sort().to_list() == [NOW - 3 * DAY, NOW - 2 * DAY]
    assert not list(store.home.glob("offline/*/*.partial"))


def test_others_write_between_the_steps_of_retention(
    log: EventLog, store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("features.people.DELETED_AT_ONCE", 3)
    old = [event(number, NOW - 15 * DAY - timedelta(hours=number)) for number in range(10)]
    log.append(Batch(seats_table([]), events_table([*old, event(99, NOW - DAY)])), now=NOW)
    begun = []

    def write() -> object:
        begun.append(1)
        return log.database.write()

    people = People(Database(write, log.database.read, log.database.write_soon))  # type: ignore[arg-type]  # it counts
    assert people.retain(older_than=10 * DAY, store=store, now=NOW).events == 10
    assert len(begun) >= 4
    assert log.events().column("event_id").to_pylist() == ["acme/e99"]
