"""Risks of feature rows in a Parquet file, block by block: a million seats in bounded memory."""

import hashlib
import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import fsspec.core
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from features.catalogue import CATEGORIES, FEATURES, MISSING_CATEGORY, NUMERIC
from features.cluster import Cluster
from features.runs import Block, Manifest, Run, current, read_blocks
from features.scorer import HORIZONS_DAYS, Method, Scorer

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
    on it. The target is there as a whole or not at all. Raises ValueError for a file that cannot be read or lacks a column,
    and where source and target are one file.
    """
    refuse_same_file(source, target)
    file, wanted = _opened(source, source), _wanted()
    scored = 0
    with (
        file,
        _replacing(target) as partial_file,
        ThreadPoolExecutor(threads) as pool,
        pq.ParquetWriter(partial_file, RISK_SCHEMA) as writer,
    ):
        tasks = (partial(_scored, b, scorer) for b in file.iter_batches(batch_size=BLOCK_ROWS, columns=wanted))
        for table in _in_order(pool, tasks, ahead=threads + 1):
            writer.write_table(table)
            scored += table.num_rows
            progress(table.num_rows)
    return scored


def score_on(
    cluster: Cluster,
    source: str,
    out: str,
    scorer: Scorer,
    *,
    progress: Callable[[int], None] = _nothing,
) -> Manifest:
    """What score_parquet writes, as blocks at the address `out`, one for each group of rows of the source.

    source: an address of one Parquet file, or of a complete run of features (`features.runs`). A run that was stopped goes
    on where it was. Raises ValueError as score_parquet does, ClusterLost when the scheduler is gone.
    """
    pieces, version = _pieces(source)
    model = pickle.dumps(scorer)
    run = Run(out, hashlib.sha256(b" ".join((version.encode(), hashlib.sha256(model).digest()))).hexdigest()[:24])
    run.begin({"source": source})
    found = {number: block for number, block in run.done().items() if number < len(pieces)}
    missing = [number for number in range(len(pieces)) if number not in found]
    tasks = (_Scoring(number, *pieces[number], model, run) for number in missing)
    for block in chain(list(found.values()), cluster.map(score_piece, tasks)):
        found[block.number] = block
        progress(block.rows)
    return run.finish(list(found.values()), {"source": source, "version": version, "computed_blocks": len(missing)})


@dataclass(frozen=True)
class _Scoring:
    """A group of rows of a file, and the model."""

    number: int
    path: str
    group: int
    model: bytes
    run: Run


def score_piece(task: _Scoring) -> Block:
    """Score one group of rows and write its risks."""
    fs, path = fsspec.core.url_to_fs(task.path)
    scorer: Scorer = pickle.loads(task.model)
    with fs.open(path, "rb") as opened:
        file = _opened(opened, task.path)
        batches = file.iter_batches(batch_size=BLOCK_ROWS, columns=_wanted(), row_groups=[task.group])
        tables = [_scored(batch, scorer) for batch in batches]
    return task.run.write(task.number, pa.concat_tables(tables) if tables else RISK_SCHEMA.empty_table())


def lacks(source: Path, scorer: Scorer) -> list[str]:
    """What of the file the model cannot use, in sentences: numbers that are missing throughout, names it never saw."""
    if scorer.method is Method.RULE:
        return []
    file, said = _opened(source, source), []
    known: dict[str, bool] = {feature.name: False for feature in NUMERIC}
    unseen: dict[str, int] = {}
    rows = 0
    with file:
        for batch in file.iter_batches(batch_size=BLOCK_ROWS, columns=_wanted()):
            frame, rows = pl.DataFrame(pl.from_arrow(batch)), rows + batch.num_rows
            there = frame.select(
                pl.col(n).cast(pl.Float64).fill_nan(None).is_not_null().any() for n, k in known.items() if not k
            )
            known |= {
                name: True for name, is_there in (there.row(0, named=True) if there.width else {}).items() if is_there
            }
            for feature in CATEGORIES:
                names = frame[feature.name].cast(pl.String).fill_null(MISSING_CATEGORY)
                is_new = ~names.is_in([MISSING_CATEGORY, *scorer.levels.get(feature.name, ())])
                unseen[feature.name] = unseen.get(feature.name, 0) + int(is_new.sum())
    for group in dict.fromkeys(feature.group for feature in NUMERIC):
        own = [feature.name for feature in NUMERIC if feature.group is group]
        if rows and not any(known[name] for name in own):
            said.append(
                f"no row knows any feature of the group {group} ({len(own)} features): the model takes them as unknown"
            )
    return said + [
        f"{count:,} of {rows:,} rows have a {name} that training saw too seldom or never: it is scored as unknown"
        for name, count in unseen.items()
        if count
    ]


def join_blocks(address: str, manifest: Manifest, target: Path) -> int:
    """The blocks of that complete run of scores as one file, there as a whole or not at all; how many rows."""
    rows = 0
    with _replacing(target) as partial_file, pq.ParquetWriter(partial_file, RISK_SCHEMA) as writer:
        for block in read_blocks(address, manifest):
            writer.write_table(block.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(RISK_SCHEMA))
            rows += block.height
    return rows


def refuse_same_file(source: Path, target: Path) -> None:
    """Raises ValueError where the risks would take the place of the features they are made from."""
    if source.resolve() == target.resolve() or (source.exists() and target.exists() and source.samefile(target)):
        raise ValueError(f"{target} is the file of feature rows itself: name another one for the risks")


@contextmanager
def _replacing(target: Path) -> Iterator[Path]:
    """A file beside the target that takes its place when the block has ended well, and is gone when it has not."""
    partial_file = target.with_name(f"{target.name}.partial")
    try:
        yield partial_file
        partial_file.replace(target)
    finally:
        partial_file.unlink(missing_ok=True)


def _pieces(source: str) -> tuple[list[tuple[str, int]], str]:
    """The file and number of every group of rows, in order; and what changes when any of them does."""
    manifest = current(source)
    paths = [source]
    if manifest is not None:
        run = Run(source, manifest.fingerprint)
        paths = [run.path(block.number) for block in manifest.blocks]
    pieces, marks = [], []
    for address in paths:
        fs, path = fsspec.core.url_to_fs(address)
        try:
            with fs.open(path, "rb") as opened:
                groups = _opened(opened, address).num_row_groups
        except OSError as error:
            raise ValueError(f"cannot read {address}: {str(error).splitlines()[0]}") from None
        pieces += [(address, group) for group in range(groups)]
        marks.append(f"{address} {fs.checksum(path)}")
    return pieces, hashlib.sha256("\n".join(marks).encode()).hexdigest()[:16]


def _wanted() -> list[str]:
    return [*KEYS, *(feature.name for feature in FEATURES)]


def _opened(source: Any, name: object) -> pq.ParquetFile:  # source: a path or an open file
    """The file of feature rows. Raises ValueError for one that cannot be read or lacks a column."""
    try:
        file = pq.ParquetFile(source)
    except (OSError, pa.ArrowInvalid) as error:
        raise ValueError(f"cannot read {name}: {str(error).splitlines()[0]}") from None
    wanted, there = _wanted(), frozenset(file.schema_arrow.names)
    missing = [column for column in wanted if column not in there]
    if missing:
        raise ValueError(f"{name} has no column {missing[0]!r} ({len(missing)} of {len(wanted)} are missing)")
    return file


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
