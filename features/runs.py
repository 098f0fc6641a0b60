"""The output of a run at an fsspec address: block by block, each whole or not there, never mixed with another run's.

    current.json              the last complete run: its folder and its blocks
    <fingerprint>/run.json    what the run began with
    <fingerprint>/block-00007.parquet

A run's folder is named after everything that its result depends on, so a run that was stopped goes on where it was, and one
with other data begins anew. Readers follow `current.json`, which is replaced in one step when the last block is there.
An address holds runs and nothing else: one with other files is refused, and nothing but runs is ever taken away. Of several
runs that write to one address at once each keeps its folder; the last to finish is the current one.
"""

import json
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import fsspec
import fsspec.core
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

CURRENT, BEGUN = "current.json", "run.json"
FOLDER = re.compile(r"[0-9a-f]{24}")
PARTIAL = r"\.[0-9a-f]{32}\.partial"
OF_A_RUN = re.compile(rf"(run\.json|block-\d{{5,}}\.parquet)({PARTIAL})?")
OF_THE_ADDRESS = re.compile(rf"current\.json({PARTIAL})?")
GIVEN_UP = timedelta(days=1)  # our choice: a run that wrote nothing for so long goes when another one finishes
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

    def begin(self, known: Mapping[str, Any]) -> None:
        """Make the run's folder, with what it began with; one that is there is gone on with.

        Raises ValueError where the address holds anything but runs.
        """
        fs, root = fsspec.core.url_to_fs(self.address.rstrip("/"))
        foreign = sorted(name for name, path in _entries(fs, root).items() if not _is_ours(fs, name, path))
        if foreign:
            raise ValueError(
                f"{self.address} holds what is no run of ours ({', '.join(foreign[:3])}{', …' if foreign[3:] else ''}): "
                "blocks need an address of their own, a new or empty folder"
            )
        if not fs.exists(f"{root}/{self.fingerprint}/{BEGUN}"):
            body = json.dumps(known).encode()
            write_whole(f"{self.address.rstrip('/')}/{self.fingerprint}/{BEGUN}", lambda file: file.write(body))

    def write(self, number: int, table: pa.Table) -> Block:
        """Write a block, whole or not at all; done twice, the second takes the place of the first."""
        return Block(number, table.num_rows, write_whole(self.path(number), lambda file: _write_block(file, table)))

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
        """Make this the address's current run, and take away the one that was, and those that were given up.

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
        before = current(self.address)
        body = json.dumps(asdict(manifest), default=str).encode()
        write_whole(f"{self.address.rstrip('/')}/{CURRENT}", lambda file: file.write(body))
        for name, path in _entries(fs, root).items():
            if name == self.fingerprint or not FOLDER.fullmatch(name) or not _is_ours(fs, name, path):
                continue
            if (before is not None and name == before.fingerprint) or _is_given_up(fs, path):
                with suppress(FileNotFoundError):  # another run finishes at the same time
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


def unfinished(address: str) -> dict[str, dict[str, Any]]:
    """By fingerprint, what each run at the address that is not the current one began with, the latest first."""
    fs, root = fsspec.core.url_to_fs(address.rstrip("/"))
    done = current(address)
    found = {}
    for name, path in _entries(fs, root).items():
        begun = f"{path}/{BEGUN}"
        if FOLDER.fullmatch(name) and (done is None or name != done.fingerprint) and fs.exists(begun):
            found[name] = (fs.modified(begun), json.loads(fs.cat_file(begun)))
    return {name: known for name, (_, known) in sorted(found.items(), key=lambda item: item[1][0], reverse=True)}


def keep_rows(address: str, condition: pl.Expr) -> int:
    """Rewrite every block at the address, of whichever run, with the rows that are to stay, each whole or not at all, so
    that who reads or writes there meanwhile is not stopped; how many rows went. condition: of `seat_id` and `as_of`.
    """
    fs, root = fsspec.core.url_to_fs(address.rstrip("/"))
    gone = 0
    for path in fs.glob(f"{root}/*/block-*.parquet"):
        with suppress(FileNotFoundError):  # another run finished just now, and took this one away
            gone += _keep_in(fs, path, condition)
    return gone


def _keep_in(fs: Any, path: str, condition: pl.Expr) -> int:  # fs: fsspec's, which has no types
    with fs.open(path, "rb") as file:
        keys = pl.DataFrame(pl.from_arrow(pq.read_table(file, columns=["seat_id", "as_of"])))
        stays = keys.select(condition.alias("stays"))["stays"]
        if stays.all():
            return 0
        table = pq.read_table(file).filter(pa.array(stays.to_list(), pa.bool_()))
    write_whole(fs.unstrip_protocol(path), lambda body: _write_block(body, table))
    return int((~stays).sum())


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


def _write_block(file: Any, table: pa.Table) -> None:  # file: open to be written, of whichever file system
    texts = [field.name for field in table.schema if not pa.types.is_floating(field.type)]
    pq.write_table(table, file, compression="lz4", use_dictionary=texts)


def _entries(fs: Any, root: str) -> dict[str, str]:  # fs: fsspec's, which has no types
    """By name, what lies at the address."""
    fs.invalidate_cache()
    try:
        paths = [str(path).rstrip("/") for path in fs.ls(root, detail=False)]
    except FileNotFoundError:
        return {}
    found = {path.rsplit("/", 1)[-1]: path for path in paths}
    return {name: path for name, path in found.items() if path != str(root).rstrip("/")}


def _is_ours(fs: Any, name: str, path: str) -> bool:
    """Whether it is a run's folder with nothing but a run's files, or a file that runs leave beside them."""
    if not fs.isdir(path):
        return OF_THE_ADDRESS.fullmatch(name) is not None
    return FOLDER.fullmatch(name) is not None and all(map(OF_A_RUN.fullmatch, _entries(fs, path)))


def _is_given_up(fs: Any, path: str) -> bool:
    now = datetime.now(UTC)
    try:
        last = max((fs.modified(file) for file in _entries(fs, path).values()), default=now)
    except FileNotFoundError:  # a block that became whole just now: somebody is at work
        return False
    return bool(now - last > GIVEN_UP)


def write_whole(address: str, body: Any) -> int:  # body: callable that writes to an open binary file
    """Write a file so that nobody ever sees a part of it; how many bytes.

    Where fsspec moves a file by copying it (neither a local disk nor an object store), a reader may come in between.
    """
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
