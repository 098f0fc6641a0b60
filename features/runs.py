"""The output of a run at an fsspec address: block by block, each whole or not there, never mixed with another run's.

    current.json              the last complete run: its folder and its blocks
    <fingerprint>/block-00007.parquet

A run's folder is named after everything that its result depends on, so a run that was stopped goes on where it was, and one
with other data begins anew. Readers follow `current.json`, which is replaced in one step when the last block is there.
One run at a time writes to an address.
"""

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import fsspec
import fsspec.core
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

CURRENT = "current.json"
WHOLE_AT_ONCE = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "az", "memory"})  # an object appears when it is closed


@dataclass(frozen=True)
class Block:
    """A finished block."""

    number: int
    rows: int
    bytes: int


@dataclass(frozen=True)
class Manifest:
    """A complete run. facts: what the caller wanted kept beside it."""

    fingerprint: str
    blocks: tuple[Block, ...]
    facts: Mapping[str, Any]

    @property
    def rows(self) -> int:
        """Rows of all blocks."""
        return sum(block.rows for block in self.blocks)


@dataclass(frozen=True)
class Run:
    """A run that writes, or is to be read, at an address."""

    address: str
    fingerprint: str

    def path(self, number: int) -> str:
        """The address of a block."""
        return f"{self.address.rstrip('/')}/{self.fingerprint}/block-{number:05d}.parquet"

    def write(self, number: int, table: pa.Table) -> Block:
        """Write a block, whole or not at all; done twice, the second takes the place of the first."""
        path = self.path(number)
        texts = [field.name for field in table.schema if not pa.types.is_floating(field.type)]

        def body(file: Any) -> None:
            pq.write_table(table, file, compression="lz4", use_dictionary=texts)

        return Block(number, table.num_rows, write_whole(path, body))

    def done(self) -> dict[int, Block]:
        """The blocks that are there, by number; one that cannot be read counts as not there."""
        fs, folder = fsspec.core.url_to_fs(f"{self.address.rstrip('/')}/{self.fingerprint}")
        if not fs.exists(folder):
            return {}
        found = {}
        for path in fs.glob(f"{folder}/block-*.parquet"):
            number = int(str(path).rsplit("-", 1)[1].removesuffix(".parquet"))
            try:
                with fs.open(path, "rb") as file:
                    found[number] = Block(number, pq.read_metadata(file).num_rows, int(fs.size(path)))
            except (pa.ArrowInvalid, OSError):
                continue
        return found

    def finish(self, blocks: Sequence[Block], facts: Mapping[str, Any]) -> Manifest:
        """Make this the address's current run, and take other runs' folders away.

        Raises ValueError where a block is not there: workers wrote it to a place that is not the caller's.
        """
        fs, root = fsspec.core.url_to_fs(self.address.rstrip("/"))
        fs.invalidate_cache()  # of before the workers wrote
        there = {str(path).rsplit("/", 1)[-1] for path in fs.glob(f"{root}/{self.fingerprint}/block-*.parquet")}
        gone = sum(self.path(block.number).rsplit("/", 1)[-1] not in there for block in blocks)
        if gone:
            raise ValueError(
                f"{gone} of {len(blocks)} blocks that workers wrote are not at {self.address}: every worker and this "
                "process must reach the same folder or address there"
            )
        manifest = Manifest(self.fingerprint, tuple(sorted(blocks, key=lambda block: block.number)), dict(facts))
        body = json.dumps(asdict(manifest), default=str).encode()
        write_whole(f"{self.address.rstrip('/')}/{CURRENT}", lambda file: file.write(body))
        for path in fs.ls(root, detail=False):
            if fs.isdir(path) and str(path).rstrip("/").rsplit("/", 1)[-1] != self.fingerprint:
                fs.rm(path, recursive=True)
        return manifest


def current(address: str) -> Manifest | None:
    """The last complete run at the address, or None."""
    fs, path = fsspec.core.url_to_fs(f"{address.rstrip('/')}/{CURRENT}")
    if not fs.exists(path):
        return None
    with fs.open(path, "rb") as file:
        document = json.loads(file.read())
    return Manifest(document["fingerprint"], tuple(Block(**block) for block in document["blocks"]), document["facts"])


def read_blocks(address: str) -> Iterator[pl.DataFrame]:
    """The blocks of the last complete run, in order. Raises ValueError where there is none."""
    manifest = current(address)
    if manifest is None:
        raise ValueError(f"{address} holds no complete run: run `rekindle features build --engine dask` first")
    run = Run(address, manifest.fingerprint)
    for block in manifest.blocks:
        fs, path = fsspec.core.url_to_fs(run.path(block.number))
        with fs.open(path, "rb") as file:
            yield pl.DataFrame(pl.from_arrow(pq.read_table(file)))


def write_whole(address: str, body: Any) -> int:  # body: callable that writes to an open binary file
    """Write a file so that nobody ever sees a part of it; how many bytes."""
    fs, path = fsspec.core.url_to_fs(address)
    fs.makedirs(str(path).rsplit("/", 1)[0], exist_ok=True)
    protocols = {fs.protocol} if isinstance(fs.protocol, str) else set(fs.protocol)
    if protocols & WHOLE_AT_ONCE:
        with fs.open(path, "wb") as file:
            body(file)
    else:
        partial = f"{path}.{uuid.uuid4().hex}.partial"
        with fs.open(partial, "wb") as file:
            body(file)
        fs.mv(partial, path)
    return int(fs.size(path))
