"""What PostgreSQL does its own way: reads and bulk writes by COPY, months as partitions.

Partitions make an event's id unique within its month only, so the table `event_keys` keeps every id once: a trigger fills
it for single inserts, `insert_events` in one statement for many. Source: postgresql.org, "Partitioning: Limitations".
"""

import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.csv
import sqlalchemy as sa

from features.instants import EPOCH, to_microseconds

PARTITIONED = {"events": "occurred_at", "served": "served_at"}  # the tables that grow with use, and their instants
MONTHS_LOCK = 0x52454B494E444D4F  # "REKINDMO": who makes or drops a month is alone
LOCK_WAIT = "2s"  # our choice: so long callers may be held up by a month that is dropped
LOCK_NOT_AVAILABLE = "55P03"  # PostgreSQL's code of the error
KEYED = "rekindle.keyed"  # set in a transaction that fills event_keys itself
BLOCK_BYTES = 16 << 20  # a line of COPY is never so long
Month = tuple[int, int]


def read_by_copy(connection: sa.Connection, query: sa.Select[Any], schema: pa.Schema) -> pa.Table:
    """The rows of the query, which selects the columns of the schema in its order, in no particular order.

    PostgreSQL writes CSV, Arrow parses it: no row becomes a Python object. Floats keep every bit: both sides write and read
    the shortest text that gives the same number.
    """
    compiled = query.compile(dialect=connection.dialect, compile_kwargs={"render_postcompile": True})
    text = io.BytesIO()
    with (
        _cursor(connection) as cursor,
        cursor.copy(f"COPY ({compiled}) TO STDOUT (FORMAT csv)", compiled.params) as out,
    ):
        for part in out:
            text.write(part)
    if not text.tell():
        return schema.empty_table()
    text.seek(0)
    table = pyarrow.csv.read_csv(
        text,
        read_options=pyarrow.csv.ReadOptions(column_names=schema.names, use_threads=False, block_size=BLOCK_BYTES),
        parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types={field.name: _stored(field.type) for field in schema},
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,  # an empty text comes as "", a missing one as nothing
            true_values=["t"],
            false_values=["f"],
        ),
    )
    return table.cast(schema)


def insert_events(connection: sa.Connection, events: pa.Table) -> set[str]:
    """Insert the events (EVENT_SCHEMA) whose id is not there yet; returns their ids. Of one id the first counts.

    Their months must be there (`add_months`), else they go to the partition of the rest.
    """
    if not events.num_rows:
        return set()
    names = ", ".join(f'"{name}"' for name in events.column_names)
    ids = pl.Series(events.column("event_id"))
    first = events if ids.n_unique() == len(ids) else events.filter(pa.array(ids.is_first_distinct().to_list()))
    stored = first.cast(pa.schema([pa.field(f.name, _stored(f.type)) for f in first.schema]))
    connection.exec_driver_sql(f"SET LOCAL {KEYED} = 'on'")
    connection.exec_driver_sql(
        "CREATE TEMPORARY TABLE IF NOT EXISTS incoming (LIKE events INCLUDING DEFAULTS) ON COMMIT DELETE ROWS"
    )
    connection.exec_driver_sql("DELETE FROM incoming")
    with _cursor(connection) as cursor, cursor.copy(f"COPY incoming ({names}) FROM STDIN (FORMAT csv)") as into:
        for batch in stored.to_batches(max_chunksize=50_000):
            text = io.BytesIO()
            pyarrow.csv.write_csv(batch, text, pyarrow.csv.WriteOptions(include_header=False))
            into.write(text.getbuffer())
    # in the order of the ids: two who insert the same ones wait for each other and never in a circle
    new = connection.exec_driver_sql(
        "INSERT INTO event_keys SELECT event_id, occurred_at FROM incoming ORDER BY event_id "
        "ON CONFLICT DO NOTHING RETURNING event_id"
    )
    fresh = set(new.scalars())
    if len(fresh) == first.num_rows:
        chosen = "SELECT {names} FROM incoming"
    else:
        connection.exec_driver_sql("CREATE TEMPORARY TABLE IF NOT EXISTS fresh (event_id text) ON COMMIT DELETE ROWS")
        with _cursor(connection) as cursor, cursor.copy("COPY fresh FROM STDIN") as into:
            for event_id in fresh:
                into.write_row((event_id,))
        chosen = "SELECT {names} FROM incoming WHERE event_id IN (SELECT event_id FROM fresh)"
    if fresh:
        connection.exec_driver_sql(f"INSERT INTO events ({names}) {chosen.format(names=names)}")
    connection.exec_driver_sql(f"SET LOCAL {KEYED} = 'off'")
    connection.exec_driver_sql("DELETE FROM incoming")
    if len(fresh) < first.num_rows:
        connection.exec_driver_sql("DELETE FROM fresh")
    return fresh


def months_of(instants: pa.Array | pa.ChunkedArray | Sequence[datetime]) -> set[Month]:
    """The months (UTC) that the instants lie in."""
    if isinstance(instants, Sequence):  # a few of one request: a data frame would cost more than what follows
        return {(instant.year, instant.month) for instant in instants}
    if not len(instants):
        return set()
    column = pl.Series(instants, dtype=pl.Datetime("us", "UTC"))
    frame = pl.DataFrame({"year": column.dt.year(), "month": column.dt.month()}).unique()
    return {(int(year), int(month)) for year, month in frame.iter_rows()}


def add_months(connection: sa.Connection, table: str, months: Iterable[Month]) -> None:
    """Make the partitions that are not there, in a transaction of its own: who reads the table meanwhile is not waited for
    while other locks are held. Rows of a month that waited in the partition of the rest move to it.
    """
    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(MONTHS_LOCK)))
    instant, rest = PARTITIONED[table], f"{table}_rest"
    for month in sorted(months):
        name = partition_name(table, month)
        if connection.execute(sa.select(sa.func.to_regclass(name))).scalar() is not None:
            continue
        low, high = bounds(month)
        connection.exec_driver_sql(f"CREATE TABLE {name} (LIKE {table} INCLUDING DEFAULTS INCLUDING CONSTRAINTS)")
        connection.exec_driver_sql(
            f"WITH moved AS (DELETE FROM {rest} WHERE {instant} >= {low} AND {instant} < {high} RETURNING *) "
            f"INSERT INTO {name} SELECT * FROM moved"
        )
        connection.exec_driver_sql(f"ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES FROM ({low}) TO ({high})")


def months_over(connection: sa.Connection, table: str, *, before: datetime) -> list[Month]:
    """The months with a partition that end at or before the instant. What is older but shares its month with what stays is
    left to a DELETE.
    """
    return [month for month in months_there(connection, table) if bounds(month)[1] <= to_microseconds(before)]


def drop_month(connection: sa.Connection, table: str, month: Month) -> int:
    """Drop a month's partition; how many rows went with it. For a transaction of its own: it waits for everybody who uses
    the table and holds everybody up who comes after, so it waits LOCK_WAIT at most, and `is_lock_refused` tells its error.
    """
    name = partition_name(table, month)
    if connection.execute(sa.select(sa.func.to_regclass(name))).scalar() is None:
        return 0  # somebody else did it
    rows = int(connection.exec_driver_sql(f"SELECT count(*) FROM {name}").scalar_one())
    connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{LOCK_WAIT}'")
    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(MONTHS_LOCK)))
    connection.exec_driver_sql(f"ALTER TABLE {table} DETACH PARTITION {name}")
    connection.exec_driver_sql(f"DROP TABLE {name}")
    return rows


def is_lock_refused(error: sa.exc.DBAPIError) -> bool:
    """Whether a lock was not had within the time that it was waited for."""
    return getattr(error.orig, "sqlstate", None) == LOCK_NOT_AVAILABLE


def months_there(connection: sa.Connection, table: str) -> list[Month]:
    """The months that have a partition, oldest first."""
    names = connection.exec_driver_sql(
        "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid "
        f"WHERE i.inhparent = '{table}'::regclass"
    ).scalars()
    found = [str(name).removeprefix(f"{table}_y") for name in names if not str(name).endswith("_rest")]
    return sorted((int(year), int(month)) for year, month in (name.split("m") for name in found))


def partition_name(table: str, month: Month) -> str:
    """The table of a month: `events_y2026m05`."""
    return f"{table}_y{month[0]:04d}m{month[1]:02d}"


def bounds(month: Month) -> tuple[int, int]:
    """The microseconds since 1970 at which the month begins, and at which the next one does."""
    begins = np.datetime64(f"{month[0]:04d}-{month[1]:02d}", "M")
    low, high = (int(instant.astype("datetime64[us]").astype(np.int64)) for instant in (begins, begins + 1))
    return low, high


def following(month: Month) -> Month:
    """The month after."""
    return (month[0], month[1] + 1) if month[1] < 12 else (month[0] + 1, 1)


def month_start(before: datetime) -> datetime:
    """Everything before it lies in months that are over: the keys of those alone may go with their partitions."""
    at = before.astimezone(UTC)
    return max(at.replace(day=1, hour=0, minute=0, second=0, microsecond=0), EPOCH)


def _stored(kind: pa.DataType) -> pa.DataType:
    """How the log stores the type: instants as microseconds since 1970."""
    return pa.int64() if pa.types.is_timestamp(kind) else kind


@contextmanager
def _cursor(connection: sa.Connection) -> Iterator[Any]:  # psycopg's; SQLAlchemy does not say which driver it is
    """The driver's own cursor, for COPY; what it raises is what SQLAlchemy would have made of it."""
    dialect = connection.dialect
    base = dialect.loaded_dbapi.Error
    try:
        with connection.connection.dbapi_connection.cursor() as cursor:  # type: ignore[union-attr]  # it is open
            yield cursor
    except base as error:
        raise sa.exc.DBAPIError.instance("COPY", None, error, base, dialect=dialect) from error
