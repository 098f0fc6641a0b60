"""The log as Parquet by day, on a local disk or any fsspec address (`s3://…`): what a cluster reads in place of the database.

    manifest.json                       every file of every day, the roster's, the sources; replaced in one step
    events/day=2026-05-04/….parquet     EVENT_SCHEMA by seat and instant: the day's seats from one to another, in small groups of rows
    roster-….parquet                    ROSTER_SCHEMA by seat

A block of seats is a range of their ids, so reading it opens the one or two files of each day that hold the range, and of those
reads a few groups, however many seats there are.
"""

import hashlib
import json
import os
import re
import uuid
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from itertools import groupby
from typing import Any, Protocol

import fsspec.core
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.fs
import pyarrow.parquet as pq
import sqlalchemy as sa
from fsspec.implementations.local import LocalFileSystem

from features.events import EVENT_SCHEMA, MICROSECONDS_PER_DAY, Kind
from features.instants import MICROSECOND, from_microseconds, to_microseconds
from features.log import EventLog
from features.runs import PARTIAL, write_whole
from features.sources import Source
from features.tables import ROSTER_SCHEMA

MANIFEST = "manifest.json"
OURS = re.compile(
    rf"(events/day=\d{{4}}-\d\d-\d\d/|roster-)[0-9a-f]{{32}}\.parquet({PARTIAL})?|manifest\.json{PARTIAL}"
)
DATABASE_VARIABLE = "REKINDLE_DATABASE"
FILE_ROWS = 200_000  # our choice, measured: small enough that what a file says of its groups is read in no time
NEVER_PUBLISHED = timedelta(days=1)  # our choice: whoever wrote a file so long ago does not write the archive any more
GROUP_ROWS = 10_000  # our choice: of so many rows a block of seats reads few that it does not want
TEXTS = ("seat_id", "kind", "source", "workflow", "category")
READ_AS_CODES = TEXTS[1:]  # not the seat: groups of rows are not left out by a column that is read as a dictionary

HASH_BITS = 0x7FFFFFFF
_events = sa.table("events", sa.column("occurred_at"), sa.column("event_id"))


def _silent(rows: int) -> None:
    del rows


class EventReader(Protocol):
    """Where a worker reads the events of its seats. Small, and the same on every worker."""

    def events(
        self,
        seat_ids: Sequence[str],
        *,
        since: datetime | None = None,
        kinds: Collection[Kind] | None = None,
        columns: Sequence[str],
    ) -> pa.Table:
        """The events of the seats, ascending; those of other seats may be among them."""


@dataclass(frozen=True)
class LogReader:
    """Reads from the log what was available at the moment. url: SQLAlchemy's, of a file that every worker sees; None: each
    worker's own REKINDLE_DATABASE, so that no password travels with a task.
    """

    url: str | None
    moment: datetime

    def events(
        self,
        seat_ids: Sequence[str],
        *,
        since: datetime | None = None,
        kinds: Collection[Kind] | None = None,
        columns: Sequence[str],
    ) -> pa.Table:
        """The events of the seats."""
        url = self.url or os.environ.get(DATABASE_VARIABLE)
        if not url:
            raise ValueError(
                f"a worker has no {DATABASE_VARIABLE}: every worker needs the address of the log, as this process"
            )
        read = dict.fromkeys((*columns, "available_at"))
        table = _opened(url).events(seat_ids, since=since, kinds=kinds, columns=tuple(read))
        available = table.column("available_at")
        return table.filter(pc.less_equal(available, pa.scalar(self.moment, available.type))).select(list(columns))


@lru_cache(maxsize=1)
def _opened(url: str) -> EventLog:
    """A worker keeps its connection from block to block."""
    return EventLog(url)


@dataclass(frozen=True)
class DayFile:
    """A day's events of the seats from `first` to `last`. mark: by which it is known whether the log still holds the same day."""

    day: date
    file: str
    rows: int
    mark: str
    first: str
    last: str

    def holds(self, first: str, last: str) -> bool:
        """Whether there may be events of the seats from `first` to `last`."""
        return self.first <= last and self.last >= first


@dataclass(frozen=True)
class Archive:
    """What an address held when it was opened."""

    address: str
    files: tuple[DayFile, ...]
    roster_file: str
    sources: tuple[Source, ...]
    replaced: tuple[str, ...] = ()  # files of the archive before, for those who opened that

    @property
    def named(self) -> set[str]:
        """The files that it is made of."""
        return {*(file.file for file in self.files), self.roster_file}

    @staticmethod
    def open(address: str) -> "Archive":
        """The archive at the address. Raises ValueError where there is none."""
        fs, path = fsspec.core.url_to_fs(f"{address.rstrip('/')}/{MANIFEST}")
        if not fs.exists(path):
            raise ValueError(f"{address} holds no archive of events: run `rekindle archive {address}` first")
        with fs.open(path, "rb") as file:
            return _of_document(address, json.loads(file.read()))

    @property
    def version(self) -> str:
        """Changes with everything that is in the archive."""
        return hashlib.sha256(json.dumps(_document(self), sort_keys=True).encode()).hexdigest()[:16]

    @property
    def rows(self) -> int:
        """How many events there are."""
        return sum(file.rows for file in self.files)

    def roster(self) -> pa.Table:
        """ROSTER_SCHEMA by seat and `known_at`."""
        fs, path = fsspec.core.url_to_fs(f"{self.address.rstrip('/')}/{self.roster_file}")
        with fs.open(path, "rb") as file:
            return pq.read_table(file).cast(ROSTER_SCHEMA)

    def events(
        self,
        seat_ids: Sequence[str],
        *,
        since: datetime | None = None,
        kinds: Collection[Kind] | None = None,
        columns: Sequence[str],
    ) -> pa.Table:
        """The events of the seats, ascending, and of those between the first and the last of them; texts as dictionaries."""
        schema = pa.schema([_read_field(EVENT_SCHEMA.field(name)) for name in columns])
        if not seat_ids:
            return schema.empty_table()
        begin = since.astimezone(UTC).date() if since is not None else date.min
        held = (file for file in self.files if file.day >= begin and file.holds(seat_ids[0], seat_ids[-1]))
        files = [file.file for file in held]
        if not files:
            return schema.empty_table()
        wanted = (ds.field("seat_id") >= seat_ids[0]) & (ds.field("seat_id") <= seat_ids[-1])
        if since is not None:
            wanted &= ds.field("occurred_at") >= pa.scalar(since, EVENT_SCHEMA.field("occurred_at").type)
        if kinds is not None:
            wanted &= ds.field("kind").isin(sorted(map(str, kinds)))
        scanner = self._dataset(files).scanner(
            columns=list(columns), filter=wanted, use_threads=False, batch_readahead=1, fragment_readahead=1
        )
        return scanner.to_table()

    def _dataset(self, files: Sequence[str]) -> ds.Dataset:
        fs, root = fsspec.core.url_to_fs(self.address.rstrip("/"))
        form = ds.ParquetFileFormat(read_options=ds.ParquetReadOptions(dictionary_columns=READ_AS_CODES))
        is_local = isinstance(fs, LocalFileSystem)
        arrow = pyarrow.fs.LocalFileSystem() if is_local else pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(fs))
        schema = pa.schema([_read_field(item) for item in EVENT_SCHEMA])
        fragments = [form.make_fragment(f"{root}/{file}", arrow) for file in files]
        return ds.FileSystemDataset(fragments, schema, form, arrow)


def write_archive(
    log: EventLog, address: str, *, until: datetime, progress: Callable[[int], None] = _silent
) -> Archive:
    """Bring the address up to what the log holds of the days that were over at `until`; returns what is there then.

    Days that are there as the log has them are left alone: a day with late or erased events is written anew, and one that
    lacks a file. Readers of the archive of before keep what they opened until the next run (`publish`). Raises ValueError
    where the address holds somebody else's manifest.
    """
    found = _opened_or_none(address)
    before = {day: list(files) for day, files in groupby(found.files if found else (), lambda file: file.day)}
    fs, root = fsspec.core.url_to_fs(address.rstrip("/"))
    fs.invalidate_cache()
    stored = {str(path) for path in fs.glob(f"{root}/events/*/*.parquet")}
    over = until.astimezone(UTC).date()
    there: list[DayFile] = []
    for day, mark in _days(log):
        if day >= over:
            continue
        files = before.get(day, [])
        is_whole = all(f"{root}/{file.file}" in stored for file in files)
        if {file.mark for file in files} != {mark} or not is_whole:
            files = _write_day(log, address, day, mark)
        there += files
        progress(sum(file.rows for file in files))
    roster = f"roster-{uuid.uuid4().hex}.parquet"
    table = log.roster()
    write_whole(f"{address.rstrip('/')}/{roster}", lambda file: pq.write_table(table, file))
    end = datetime(over.year, over.month, over.day, tzinfo=UTC) - MICROSECOND
    sources = [replace(source, watermark=min(source.watermark, end)) for source in log.sources()]
    return publish(Archive(address, tuple(there), roster, tuple(sources)))


def publish(archive: Archive) -> Archive:
    """Make this what the address holds. The files that it replaces stay until the next time, for who reads them now; those
    that were replaced the time before go, and those of a run that never came so far, once they are a day old. What is not
    named as we name files is left alone.
    """
    fs, root = fsspec.core.url_to_fs(archive.address.rstrip("/"))
    before = _opened_or_none(archive.address)
    ended = set(before.replaced) - archive.named if before else set()
    published = replace(archive, replaced=tuple(sorted(before.named - archive.named if before else ())))
    body = json.dumps({**_document(published), "replaced": published.replaced}).encode()
    write_whole(f"{archive.address.rstrip('/')}/{MANIFEST}", lambda file: file.write(body))
    kept = {f"{root}/{name}" for name in (*published.named, *published.replaced)}
    for path in (*fs.glob(f"{root}/events/*/*"), *fs.glob(f"{root}/roster-*"), *fs.glob(f"{root}/{MANIFEST}.*")):
        name = str(path).removeprefix(f"{root}/")
        if str(path) in kept or not OURS.fullmatch(name):
            continue
        if name in ended or datetime.now(UTC) - fs.modified(path) > NEVER_PUBLISHED:
            fs.rm(path)
    return published


def write_day(address: str, day: date, mark: str, events: pa.Table) -> list[DayFile]:
    """Write one day's events (EVENT_SCHEMA)."""
    ordered = events.sort_by([("seat_id", "ascending"), ("occurred_at", "ascending")])
    return [
        _write_part(address, day, mark, ordered.slice(start, FILE_ROWS))
        for start in range(0, ordered.num_rows, FILE_ROWS)
    ]


def _write_part(address: str, day: date, mark: str, part: pa.Table) -> DayFile:
    name = f"events/day={day.isoformat()}/{uuid.uuid4().hex}.parquet"

    def body(file: Any) -> None:
        pq.write_table(part, file, row_group_size=GROUP_ROWS, use_dictionary=list(TEXTS), compression="zstd")

    write_whole(f"{address.rstrip('/')}/{name}", body)
    seats = part.column("seat_id")
    return DayFile(day, name, part.num_rows, mark, seats[0].as_py(), seats[-1].as_py())


def _write_day(log: EventLog, address: str, day: date, mark: str) -> list[DayFile]:
    since = datetime(day.year, day.month, day.day, tzinfo=UTC)
    return write_day(address, day, mark, log.events(since=since, until=since + timedelta(days=1)))


def _days(log: EventLog) -> Iterator[tuple[date, str]]:
    """Every day with events, and a mark of which ones the log holds of it."""
    with log.database.read() as connection:
        day: sa.ColumnElement[int] = sa.literal_column(f"occurred_at / {MICROSECONDS_PER_DAY}")
        hashes = sa.func.sum(_hash_of_id(connection))
        query = sa.select(day.label("day"), sa.func.count(), hashes).select_from(_events).group_by(day).order_by(day)
        for number, count, mixed in connection.execute(query).all():
            yield from_microseconds(int(number) * MICROSECONDS_PER_DAY).date(), f"{count}-{mixed}"


def _hash_of_id(connection: sa.Connection) -> sa.ColumnElement[int]:
    """31 bits of an event's id, whose sum over a day fits into SQLite's integers."""
    if connection.dialect.name == "postgresql":
        return sa.func.hashtextextended(_events.c.event_id, 0).op("&")(HASH_BITS)
    driver: Any = connection.connection.dbapi_connection  # sqlite3's own; it has no hash of its own
    driver.create_function("hash_of_id", 1, _crc, deterministic=True)
    return sa.func.hash_of_id(_events.c.event_id)


def _crc(text: str) -> int:
    return zlib.crc32(text.encode()) & HASH_BITS


def _opened_or_none(address: str) -> Archive | None:
    fs, path = fsspec.core.url_to_fs(f"{address.rstrip('/')}/{MANIFEST}")
    if not fs.exists(path) or not fs.size(path):  # empty: of a machine that went down
        return None
    try:
        document = json.loads(fs.cat_file(path))
    except ValueError:
        document = None
    if not isinstance(document, dict) or not {"roster", "sources"} <= document.keys():
        raise ValueError(f"{address} holds a {MANIFEST} that is no archive's: an archive needs an address of its own")
    return _of_document(address, document) if "files" in document else None  # of an earlier version: written anew


def _read_field(item: pa.Field) -> pa.Field:
    return item.with_type(pa.dictionary(pa.int32(), pa.string())) if item.name in READ_AS_CODES else item


def source_document(source: Source) -> dict[str, Any]:
    """A source as JSON."""
    return {
        "organization": source.organization,
        "tool": source.tool,
        "source": source.source,
        "lag": source.lag // MICROSECOND,
        "first_available_at": to_microseconds(source.first_available_at),
        "watermark": to_microseconds(source.watermark),
        "lags": [[to_microseconds(at), lag // MICROSECOND] for at, lag in source.known_lags],
        "kinds": [[to_microseconds(at), str(kind)] for at, kind in source.known_kinds],
    }


def source_of(document: Mapping[str, Any]) -> Source:
    """The source that `source_document` wrote."""
    return Source(
        document["organization"],
        document["tool"],
        document["source"],
        timedelta(microseconds=document["lag"]),
        from_microseconds(document["first_available_at"]),
        from_microseconds(document["watermark"]),
        tuple((from_microseconds(at), timedelta(microseconds=lag)) for at, lag in document.get("lags", ())),
        tuple((from_microseconds(at), Kind(kind)) for at, kind in document["kinds"]) if "kinds" in document else None,
    )


def _document(archive: Archive) -> dict[str, Any]:
    return {
        "roster": archive.roster_file,
        "files": [
            [file.day.isoformat(), file.file, file.rows, file.mark, file.first, file.last] for file in archive.files
        ],
        "sources": [source_document(source) for source in archive.sources],
    }


def _of_document(address: str, document: Mapping[str, Any]) -> Archive:
    if "files" not in document:
        raise ValueError(f"{address} was written by an earlier version: run `rekindle archive {address}` again")
    return Archive(
        address,
        tuple(DayFile(date.fromisoformat(day), *rest) for day, *rest in document["files"]),
        document["roster"],
        tuple(source_of(source) for source in document["sources"]),
        tuple(document.get("replaced", ())),
    )
