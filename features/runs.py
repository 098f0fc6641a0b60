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
import os
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
from fsspec.implementations.local import LocalFileSystem

CURRENT, BEGUN = "current.json", "run.json"
FOLDER = re.compile(r"[0-9a-f]{24}")
PARTIAL = r"\.[0-9a-f]{32}\.partial"
OF_A_RUN = re.compile(rf"(run\.json|block-\d{{5,}}\.parquet)({PARTIAL})?")
OF_THE_ADDRESS = re.compile(rf"current\.json({PARTIAL})?")
GIVEN_UP = timedelta(days=1)  # our choice: a run that wrote nothing for so long goes when another one finishes
LEFT_OVER = timedelta(hours=1)  # our choice: a file that is being written grows all the while
CUT = b"cut"  # in a block's metadata: rows were taken out of it that its run would compute
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
        if _begun(fs, f"{root}/{self.fingerprint}/{BEGUN}") is None:
            body = json.dumps(known).encode()
            write_whole(f"{self.address.rstrip('/')}/{self.fingerprint}/{BEGUN}", lambda file: file.write(body))

    def write(self, number: int, table: pa.Table) -> Block:
        """Write a block, whole or not at all; done twice, the second takes the place of the first."""
        return Block(number, table.num_rows, write_whole(self.path(number), lambda file: _write_block(file, table)))

    def done(self) -> dict[int, Block]:
        """The blocks that are there, by number; one that cannot be read, or that lost rows to retention, counts as not there."""
        fs, folder = fsspec.core.url_to_fs(f"{self.address.rstrip('/')}/{self.fingerprint}")
        if not fs.exists(folder):
            return {}
        found = {}
        for path in fs.glob(f"{folder}/block-*.parquet"):
            number = int(str(path).rsplit("-", 1)[1].removesuffix(".parquet"))
            try:
                with fs.open(path, "rb") as file:
                    metadata = pq.read_metadata(file)
            except (pa.ArrowInvalid, OSError):
                continue
            if CUT not in (metadata.metadata or {}):
                found[number] = Block(number, metadata.num_rows, int(fs.size(path)))
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
        if FOLDER.fullmatch(name) and (done is None or name != done.fingerprint):
            known = _begun(fs, begun)
            if known is not None:
                found[name] = (fs.modified(begun), known)
    return {name: known for name, (_, known) in sorted(found.items(), key=lambda item: item[1][0], reverse=True)}


def _begun(fs: Any, path: str) -> dict[str, Any] | None:  # fs: fsspec's, which has no types
    """What a run began with; None where it is not there, or was cut off."""
    if not fs.exists(path):
        return None
    try:
        known: dict[str, Any] = json.loads(fs.cat_file(path))
    except ValueError:
        return None
    return known


def seats_in(address: str) -> set[str]:
    """The seats in the blocks at the address, of whichever run; of a block that cannot be read nothing is known."""
    fs, root = fsspec.core.url_to_fs(address.rstrip("/"))
    found: set[str] = set()
    for path in fs.glob(f"{root}/*/block-*.parquet"):
        # damaged, or of a run that another one replaced just now
        with suppress(pa.ArrowInvalid, OSError), fs.open(path, "rb") as file:
            found.update(pq.read_table(file, columns=["seat_id"]).column("seat_id").unique().to_pylist())
    return found


def keep_rows(address: str, condition: pl.Expr, *, is_cut: bool) -> int:
    """Rewrite every block at the address, of whichever run, with the rows that are to stay, each whole or not at all, so
    that who reads or writes there meanwhile is not stopped; how many rows went. condition: of `seat_id` and `as_of`.
    is_cut: the run would compute those rows again, so a block without them is not done. A block that cannot be read goes, and
    so does what is left of one that was never whole.
    """
    fs, root = fsspec.core.url_to_fs(address.rstrip("/"))
    gone = 0
    for path in fs.glob(f"{root}/*/block-*.parquet"):
        with suppress(FileNotFoundError):  # another run finished just now, and took this one away
            try:
                gone += _keep_in(fs, path, condition, is_cut=is_cut)
            except pa.ArrowInvalid:
                fs.rm(path)
    for path in fs.glob(f"{root}/*/block-*.partial"):
        with suppress(FileNotFoundError):  # it became whole
            if datetime.now(UTC) - fs.modified(path) > LEFT_OVER:
                fs.rm(path)
    return gone


def _keep_in(fs: Any, path: str, condition: pl.Expr, *, is_cut: bool) -> int:  # fs: fsspec's, which has no types
    with fs.open(path, "rb") as file:
        keys = pl.DataFrame(pl.from_arrow(pq.read_table(file, columns=["seat_id", "as_of"])))
        stays = keys.select(condition.alias("stays"))["stays"]
        if stays.all():
            return 0
        table = pq.read_table(file).filter(pa.array(stays.to_list(), pa.bool_()))
    if is_cut:
        table = table.replace_schema_metadata({**(table.schema.metadata or {}), CUT: b""})
    write_whole(fs.unstrip_protocol(path), lambda body: _write_block(body, table))
    return int((~stays).sum())


def read_blocks(address: str, manifest: Manifest | None = None) -> Iterator[pl.DataFrame]:
    """The blocks of a complete run, in order. manifest: which one; the last by default. Raises ValueError where there is none,
    or another one finished and took it away.
    """
    manifest = manifest or current(address)
    if manifest is None:
        raise ValueError(f"{address} holds no complete run: run `rekindle features build --engine dask` first")
    run = Run(address, manifest.fingerprint)
    for block in manifest.blocks:
        fs, path = fsspec.core.url_to_fs(run.path(block.number))
        try:
            with fs.open(path, "rb") as file:
                frame = pl.DataFrame(pl.from_arrow(pq.read_table(file)))
        except FileNotFoundError:
            raise ValueError(
                f"another run finished at {address} and took the place of this one: run the same command again"
            ) from None
        yield frame


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
            if isinstance(
                fs, LocalFileSystem
            ):  # else a machine that goes down may leave the name without what it names
                file.flush()
                os.fsync(file.fileno())
        fs.mv(partial, path)
    return int(fs.size(path))
