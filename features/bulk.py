"""Risks of feature rows in a Parquet file, block by block: a million seats in bounded memory."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from features.catalogue import CATEGORIES, FEATURES, MISSING_CATEGORY, NUMERIC
from features.scorer import HORIZONS_DAYS, Scorer

BLOCK_ROWS = 25_000
KEYS = ("seat_id", "as_of")
RISK_SCHEMA = pa.schema(
    [
        pa.field("seat_id", pa.string()),
        pa.field("as_of", pa.timestamp("us", "UTC")),
        *(
            pa.field(f"{name}_{days}", pa.float64())
            for name in ("risk", "low", "high")
            for days in HORIZONS_DAYS
        ),
        pa.field("expected_days", pa.float64()),
        pa.field("is_learned", pa.bool_()),
    ]
)  # fmt: skip


def _nothing(rows: int) -> None:
    del rows


def score_parquet(
    source: Path, target: Path, scorer: Scorer, *, threads: int = 1, progress: Callable[[int], None] = _nothing
) -> int:
    """Write RISK_SCHEMA for every row of the source, in its order; how many there were.

    source: `seat_id`, `as_of` and FEATURES, missing numbers null or NaN. threads: blocks at once; the result does not depend
    on it. Raises ValueError for a file that cannot be read or lacks a column.
    """
    try:
        file = pq.ParquetFile(source)
    except (OSError, pa.ArrowInvalid) as error:
        raise ValueError(f"cannot read {source}: {str(error).splitlines()[0]}") from None
    wanted = [*KEYS, *(feature.name for feature in FEATURES)]
    missing = [name for name in wanted if name not in file.schema_arrow.names]
    if missing:
        raise ValueError(f"{source} has no column {missing[0]!r} ({len(missing)} of {len(wanted)} are missing)")
    scored = 0
    with file, ThreadPoolExecutor(threads) as pool, pq.ParquetWriter(target, RISK_SCHEMA) as writer:
        tasks = (partial(_scored, b, scorer) for b in file.iter_batches(batch_size=BLOCK_ROWS, columns=wanted))
        for table in _in_order(pool, tasks, ahead=threads + 1):
            writer.write_table(table)
            scored += table.num_rows
            progress(table.num_rows)
    return scored


def _in_order(pool: ThreadPoolExecutor, tasks: Iterator[Callable[[], pa.Table]], *, ahead: int) -> Iterator[pa.Table]:
    """The results in the order of the tasks, of which only so many are held at once."""
    waiting: list[Future[pa.Table]] = []
    for task in tasks:
        waiting.append(pool.submit(task))
        if len(waiting) >= ahead:
            yield waiting.pop(0).result()
    for future in waiting:
        yield future.result()


def _scored(batch: pa.RecordBatch, scorer: Scorer) -> pa.Table:
    frame = pl.DataFrame(pl.from_arrow(batch))
    numbers = frame.select(pl.col(feature.name).cast(pl.Float64).fill_null(np.nan) for feature in NUMERIC)
    vectors = np.ascontiguousarray(numbers.to_numpy())
    names = frame.select(pl.col(feature.name).cast(pl.String).fill_null(MISSING_CATEGORY) for feature in CATEGORIES)
    risk = scorer.score(vectors, names.rows())
    columns = [
        batch.column("seat_id").cast(pa.string()),
        batch.column("as_of").cast(pa.timestamp("us", "UTC")),
        *(np.ascontiguousarray(column) for part in (risk.risk, risk.low, risk.high) for column in part.T),
        risk.expected_days,
        scorer.speaks_for(vectors),
    ]
    return pa.table(columns, schema=RISK_SCHEMA)
