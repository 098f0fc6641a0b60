"""Reads of SQLite by column: SQLite writes each column as one JSON array, Polars parses it, no row becomes an object.

Never read the file with another copy of SQLite than Python's own (Arrow's driver has one): when either closes the file,
the operating system drops the locks of both, and the log is corrupted. Source: sqlite.org/howtocorrupt.html, 2.2.1.
"""

from collections.abc import Sequence
from typing import Any

import polars as pl
import pyarrow as pa
import sqlalchemy as sa

CACHE_KIB, DEFAULT_CACHE_KIB = 256 * 1024, 2_000  # our choice, for the time of one read; SQLite's own


def read_columns(connection: sa.Connection, query: sa.Select[Any], schema: pa.Schema) -> pa.Table:
    """The rows of the query, which selects the columns of the schema in its order, in no particular order.

    Booleans are stored as 0 and 1, instants as microseconds since 1970 UTC.
    """
    rows = query.subquery()
    columns = [_as_array(column, field) for column, field in zip(rows.c, schema, strict=True)]
    connection.exec_driver_sql(f"PRAGMA cache_size={-CACHE_KIB}")  # the rows of a block of seats lie scattered
    texts: Sequence[str | None] = connection.execute(sa.select(*columns)).one()
    connection.exec_driver_sql(f"PRAGMA cache_size={-DEFAULT_CACHE_KIB}")
    arrays = [_parsed(text, field) for text, field in zip(texts, schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)


def _as_array(column: sa.ColumnElement[Any], field: pa.Field) -> sa.ColumnElement[str]:
    if pa.types.is_floating(field.type):  # in JSON SQLite writes 15 digits; its quote() writes as many as are needed
        return sa.func.group_concat(sa.func.quote(column))
    return sa.func.json_group_array(column)


def _parsed(text: str | None, field: pa.Field) -> pa.Array:
    if pa.types.is_floating(field.type):
        text = "[" + (text or "").replace("NULL", "null") + "]"
    kind = _stored(field.type)
    values = pl.Series([text], dtype=pl.String).str.json_decode(pl.List(kind)).explode(empty_as_null=False)
    return values.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(field.type)


def _stored(kind: pa.DataType) -> type[pl.DataType]:
    if pa.types.is_string(kind):
        return pl.String
    return pl.Float64 if pa.types.is_floating(kind) else pl.Int64
