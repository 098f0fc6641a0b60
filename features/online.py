"""Conditional writes to Feast's online stores: a row never replaces a newer one, also while others write.

Feast's SQLite store lets an older write overwrite a newer one, its Redis store compares and writes in two steps. Here
both are one. What is written is what Feast writes, byte for byte, so that Feast's own reads find it (a test compares).
"""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.infra.online_stores.helpers import _mmh3
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import DoubleList, StringList, Value
from google.protobuf.timestamp_pb2 import Timestamp
from redis.exceptions import WatchError

from features.instants import from_microseconds, to_microseconds

KEY_VERSION = 3  # of Feast's entity keys; the configuration of the store says the same
REDIS_ROWS = 200  # our choice: rows of one transaction; whoever comes between makes only these be written again
MOST_TRIES = 50
READ_KEYS = 10_000


@dataclass(frozen=True)
class PackedRows:
    """The latest rows of seats, each once. vectors: (n, n_numeric); categories: (n, n_categories) names."""

    seat_ids: Sequence[str]
    as_of: Sequence[datetime]
    vectors: npt.NDArray[np.float64]
    categories: Sequence[Sequence[str]]
    catalogue: Sequence[str]

    def __len__(self) -> int:
        return len(self.seat_ids)

    def values(self) -> Iterator[tuple[bytes, datetime, dict[str, bytes]]]:
        """Of each row its entity key, its instant and its serialized values by column, as Feast has them."""
        width = self.vectors.shape[1] * 8
        head = _value(double_list_val=DoubleList(val=np.zeros(self.vectors.shape[1])))[:-width]
        body = memoryview(np.ascontiguousarray(self.vectors, dtype="<f8").tobytes())
        names: dict[tuple[str, ...], bytes] = {}
        rows = zip(self.seat_ids, self.as_of, self.categories, self.catalogue, strict=True)
        for place, (seat_id, as_of, categories, catalogue) in enumerate(rows):
            key = tuple(categories)
            if key not in names:
                names[key] = _value(string_list_val=StringList(val=key))
            yield entity_key(seat_id), as_of, {
                "vector": head + bytes(body[place * width : (place + 1) * width]),
                "categories": names[key],
                "catalogue": _text(catalogue),
                "as_of_microseconds": _number(to_microseconds(as_of)),
            }  # fmt: skip


def entity_key(seat_id: str) -> bytes:
    """The key of a seat, as Feast serializes it."""
    key = EntityKey(join_keys=["seat_id"], entity_values=[Value(string_val=seat_id)])
    return bytes(serialize_entity_key(key, entity_key_serialization_version=KEY_VERSION))


def write_sqlite(path: Path, table: str, rows: PackedRows) -> int:
    """Write the rows that are not older than what is there, in one transaction; returns how many."""
    insert = (
        f'INSERT INTO "{table}" (entity_key, feature_name, value, value_text, event_ts, created_ts) '
        "VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (entity_key, feature_name) DO UPDATE SET value = excluded.value, "
        "value_text = excluded.value_text, event_ts = excluded.event_ts, created_ts = excluded.created_ts"
    )
    with closing(sqlite3.connect(path, timeout=30, isolation_level=None)) as online:
        online.execute("BEGIN IMMEDIATE")  # from here on nobody else writes
        try:
            there = _instants_in(online, table, [entity_key(seat_id) for seat_id in rows.seat_ids])
            online.executemany(insert, _sqlite_rows(rows, there))
            written = online.total_changes // len(_COLUMNS)
            online.execute("COMMIT")
        except BaseException:
            online.execute("ROLLBACK")
            raise
    return written


def _instants_in(online: sqlite3.Connection, table: str, keys: Sequence[bytes]) -> dict[bytes, int]:
    """The instants of the rows that are there, by key: exact, while event_ts has whole seconds."""
    found: dict[bytes, int] = {}
    for start in range(0, len(keys), READ_KEYS):
        part = keys[start : start + READ_KEYS]
        query = (
            f"SELECT entity_key, value_text FROM \"{table}\" WHERE feature_name = 'as_of_microseconds' "
            f"AND entity_key IN ({','.join('?' * len(part))})"
        )
        found.update((key, int(text)) for key, text in online.execute(query, part))
    return found


_COLUMNS = ("vector", "categories", "catalogue", "as_of_microseconds")


def _sqlite_rows(
    rows: PackedRows, there: Mapping[bytes, int]
) -> Iterator[tuple[bytes, str, bytes, str | None, int, int]]:
    for (key, as_of, values), catalogue in zip(rows.values(), rows.catalogue, strict=True):
        instant = to_microseconds(as_of)
        if instant < there.get(key, instant):
            continue
        texts = {"catalogue": catalogue, "as_of_microseconds": str(instant)}
        seconds = instant // 1_000_000
        for name in _COLUMNS:
            yield key, name, values[name], texts.get(name), seconds, seconds


def write_redis(client: Any, project: str, view: str, rows: PackedRows) -> int:
    """Write the rows that are not older than what is there, each compared and written in one step; returns how many.

    client: of redis-py, untyped here. Raises RuntimeError where others write the same seats again and again.
    """
    stamp = f"_ts:{view}".encode()
    fields = {name: _mmh3(f"{view}:{name}") for name in _COLUMNS}
    all_rows = list(rows.values())
    written = 0
    for start in range(0, len(all_rows), REDIS_ROWS):
        hashes = {
            key + project.encode(): (as_of, {fields[name]: value for name, value in values.items()})
            for key, as_of, values in all_rows[start : start + REDIS_ROWS]
        }
        written += _write_newer(client, stamp, hashes)
    return written


def _write_newer(client: Any, stamp: bytes, hashes: Mapping[bytes, tuple[datetime, dict[bytes, bytes]]]) -> int:
    for _ in range(MOST_TRIES):
        with client.pipeline(transaction=True) as writing, client.pipeline(transaction=False) as reading:
            writing.watch(*hashes)
            for key in hashes:
                reading.hget(key, stamp)
            there = dict(zip(hashes, reading.execute(), strict=True))
            newer = {key: row for key, row in hashes.items() if row[0] >= _instant(there[key])}
            writing.multi()
            for key, (as_of, values) in newer.items():
                instant = Timestamp()
                instant.FromDatetime(as_of)
                writing.hset(key, mapping={stamp: instant.SerializeToString(), **values})
            try:
                writing.execute()
            except WatchError:  # somebody wrote one of them after it was read
                continue
            return len(newer)
    raise RuntimeError(f"the online store is written by others all the time: {len(hashes)} rows given up")


def _instant(stored: bytes | None) -> datetime:
    instant = Timestamp()
    instant.ParseFromString(stored or b"")
    return from_microseconds(instant.seconds * 1_000_000 + instant.nanos // 1_000)


def _value(**given: Any) -> bytes:
    """A serialized Value of one field; its type differs with the field."""
    return bytes(Value(**given).SerializeToString())


@cache
def _text(value: str) -> bytes:
    return _value(string_val=value)


def _number(value: int) -> bytes:
    return _value(int64_val=value)
