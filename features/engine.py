"""Blocks of seats on a cluster: the peers' first pass, features, and training sets; the same numbers as one process.

Each task carries what its block needs: the roster's versions of its seats and its part of the peers. It reads its own
events, and writes its own output, so nothing of it is in one worker's memory alone.
"""

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from features.archive import Archive, EventReader, LogReader, source_document, source_of
from features.catalogue import catalogue_hash
from features.cluster import Cluster
from features.coding import CODED_COLUMNS
from features.compute import compute_features
from features.events import MICROSECONDS_PER_DAY, Kind
from features.history import Integers
from features.instants import to_microseconds
from features.labels import SNAPSHOT_EVERY_DAYS, label_snapshots, weekly_snapshots
from features.log import EventLog
from features.observed import looked_at
from features.peers import Depth, Parts, Peers, count_peers, days_needed, depth_of
from features.roster import Roster
from features.runs import GIVEN_UP, Block, Manifest, Run, keep_rows, unfinished
from features.sources import Source
from features.tables import latest_seats
from features.tombstones import PERSONAL
from features.tools import ToolProfile

# our choice of a block's most: about 1 GiB with all three, half of what a worker is given (docs/scaling.md)
TASK_SEATS, TASK_EVENTS, TASK_SNAPSHOTS = 4_000, 800_000, 72_000
LABELLED_COLUMNS = (*CODED_COLUMNS, "source")
LABEL_NAMES = ("silent_after_days", "known_days", "observable_days", "ended")


@dataclass(frozen=True)
class Inputs:
    """What features are made of. version: changes with any of it; events: how many there are; known: of a log, by which the
    same inputs can be had again after others came in.
    """

    reader: EventReader
    roster: pa.Table
    sources: Sequence[Source]
    tools: Mapping[str, ToolProfile]
    version: str
    events: int = 0
    known: Mapping[str, Any] = field(default_factory=dict)

    @staticmethod
    def of_log(
        log: EventLog,
        url: str | None,
        tools: Mapping[str, ToolProfile],
        *,
        moment: datetime,
        sources: Sequence[Source] | None = None,
    ) -> "Inputs":
        """The log as it was known at the moment. url: by which the workers reach it (LogReader); sources: those of that
        moment, today's by default.
        """
        every = log.roster()
        known_at = every.column("known_at")
        roster = every.filter(pc.less_equal(known_at, pa.scalar(moment, known_at.type)))
        sources = log.sources() if sources is None else sources
        events = log.event_count(available_by=moment)
        mark = _mark_of(roster)
        mark.update(f"{events} {sources}".encode())
        version = mark.hexdigest()[:16]
        known = {
            "moment": moment.isoformat(),
            "version": version,
            "sources": [source_document(source) for source in sources],
        }
        return Inputs(LogReader(url, moment), roster, sources, tools, version, events, known)

    @staticmethod
    def gone_on_with(
        log: EventLog,
        url: str | None,
        tools: Mapping[str, ToolProfile],
        out: str,
        *,
        now: datetime,
        complete_until: Callable[[list[Source]], datetime],
        with_labels: bool = False,
        block_seats: int | None = None,
    ) -> "Inputs":
        """Those that a run at the address `out` began with in the last day and did not finish, where it is the run that
        `build_on` would make of them now, up to as far as they are complete; else the log as it is known now.
        """
        for name, known in unfinished(out).items():
            if "moment" not in known:
                continue
            moment, sources = datetime.fromisoformat(known["moment"]), list(map(source_of, known["sources"]))
            if now - moment > GIVEN_UP:  # what came since is worth more than its blocks
                continue
            found = Inputs.of_log(log, url, tools, moment=moment, sources=sources)
            if found.version != known["version"]:
                continue
            until = complete_until(sources)
            size = block_seats or seats_of_a_block(found, until=until)
            if name == fingerprint(found, until=until, with_labels=with_labels, block_seats=size):
                return found
        return Inputs.of_log(log, url, tools, moment=now)

    def is_as_before(self, log: EventLog) -> bool:
        """Whether the log still knows the same of the moment: it does unless something old came in, or somebody went."""
        moment = datetime.fromisoformat(self.known["moment"])
        return self.version == Inputs.of_log(log, None, self.tools, moment=moment, sources=self.sources).version

    @staticmethod
    def of_archive(
        archive: Archive, tools: Mapping[str, ToolProfile], *, erased: Callable[[Collection[str]], Collection[str]]
    ) -> "Inputs":
        """An archive as it was when it was opened, without whom was erased since it was written. erased: those of some
        identifiers who were.
        """
        roster = archive.roster()
        named = {name for column in PERSONAL for name in pc.unique(roster.column(column)).to_pylist() if name}
        gone = sorted(erased(named))
        version = archive.version
        if gone:
            roster = _without(roster, gone)
            version = hashlib.sha256(f"{version} {_mark_of(roster).hexdigest()}".encode()).hexdigest()[:16]
        return Inputs(archive, roster, archive.sources, tools, version, archive.rows)


def _mark_of(roster: pa.Table) -> Any:  # of hashlib, to be gone on with
    return hashlib.sha256(pl.DataFrame(pl.from_arrow(roster)).hash_rows(seed=1).to_numpy().tobytes())


def _without(roster: pa.Table, gone: Sequence[str]) -> pa.Table:
    """The roster as erasure would have left it."""
    names = pa.array(gone, pa.string())
    is_gone = pc.or_(pc.is_in(roster.column("seat_id"), names), pc.is_in(roster.column("person_id"), names))
    kept = roster.filter(pc.invert(is_gone))
    manager = kept.column("manager_person_id")
    at = kept.schema.get_field_index("manager_person_id")
    bare = pc.if_else(pc.is_in(manager, names), pa.scalar(None, manager.type), manager)
    return kept.set_column(at, kept.schema.field(at), bare)


@dataclass(frozen=True)
class _Looking:
    """A block of the first pass."""

    roster: pa.Table
    reader: EventReader
    sources: Sequence[Source]
    tools: Mapping[str, ToolProfile]
    days: Integers
    since: datetime
    kinds: Collection[Kind]


@dataclass(frozen=True)
class _Making:
    """A block of features, and of labels where they are wanted."""

    number: int
    roster: pa.Table
    reader: EventReader
    sources: Sequence[Source]
    tools: Mapping[str, ToolProfile]
    peers: Peers
    until: datetime
    with_labels: bool
    run: Run


def _silent(rows: int) -> None:
    del rows


def _nobody(identifiers: Collection[str]) -> Collection[str]:
    del identifiers
    return ()


def observe_on(cluster: Cluster, inputs: Inputs, days: Integers, *, block_seats: int = TASK_SEATS) -> Peers:
    """The peers of the midnights `days`: the depth of every block on the workers, the groups counted here."""
    book = Roster.of(inputs.roster)
    since, kinds = looked_at(inputs.roster, inputs.sources, inputs.tools, days)
    blocks = _seat_slices(len(book), block_seats)
    tasks = (
        _Looking(_versions(book, block), inputs.reader, inputs.sources, inputs.tools, days, since, kinds)
        for block in blocks
    )
    depth = np.zeros((len(book), len(days)), np.uint16)
    for block, found in zip(blocks, cluster.map(look, tasks), strict=True):
        depth[block] = found
    return count_peers(book, depth, days=days)


def look(task: _Looking) -> Depth:
    """(n_seats, d) meaningful uses before each midnight."""
    book = Roster.of(task.roster)
    events = task.reader.events(book.seat_ids.to_list(), since=task.since, kinds=task.kinds, columns=CODED_COLUMNS)
    return depth_of([events], book, sources=task.sources, tools=task.tools, days=task.days)


def build_on(
    cluster: Cluster,
    inputs: Inputs,
    out: str,
    *,
    until: datetime,
    with_labels: bool = False,
    block_seats: int | None = None,
    progress: Callable[[int], None] = _silent,
    erased: Callable[[Collection[str]], Collection[str]] = _nobody,
) -> Manifest:
    """Weekly snapshots of every seat up to `until`, with features (and labels), as blocks at the address `out`.

    block_seats: seats of a block, which bound a worker's memory; None: as `seats_of_a_block` says. What an interrupted run
    with the same inputs and blocks finished is kept. erased: those of some seats who were erased; asked at the end, so
    that who was erased meanwhile is in no complete run. Raises ClusterLost when the scheduler is gone, ValueError where
    `out` holds what is no run.
    """
    block_seats = block_seats or seats_of_a_block(inputs, until=until)
    run = Run(out, fingerprint(inputs, until=until, with_labels=with_labels, block_seats=block_seats))
    run.begin(inputs.known)
    book = Roster.of(inputs.roster)
    blocks = _seat_slices(len(book), block_seats)
    found = {number: block for number, block in run.done().items() if number < len(blocks)}
    for block in found.values():
        progress(block.rows)
    missing = [number for number in range(len(blocks)) if number not in found]
    if missing:
        days = days_needed(_every_day(inputs, until))
        peers = observe_on(cluster, inputs, days, block_seats=block_seats)
        for block in cluster.map(make, _tasks(inputs, book, blocks, missing, peers, run, until, with_labels)):
            found[block.number] = block
            progress(block.rows)
    facts = {"catalogue": catalogue_hash(), "until": until.isoformat(), "version": inputs.version,
             "computed_blocks": len(missing)}  # fmt: skip
    gone = erased(book.seat_ids.to_list())
    if gone and keep_rows(out, ~pl.col("seat_id").is_in(sorted(gone)), is_cut=False):
        there = run.done()
        found = {number: there.get(number, block) for number, block in found.items()}
    return run.finish(list(found.values()), facts)


def seats_of_a_block(inputs: Inputs, *, until: datetime) -> int:
    """How many seats make a block that holds no more than TASK_SEATS, TASK_EVENTS and TASK_SNAPSHOTS, as seats are on
    average. It depends on the inputs alone, so that a run can be gone on with by any number of workers.
    """
    seats = pl.DataFrame(pl.from_arrow(latest_seats(_by_seat(inputs.roster)).select(["assigned_at", "removed_at"])))
    life = pl.min_horizontal(pl.col("removed_at").fill_null(until), pl.lit(until)) - pl.col("assigned_at")
    weeks = int(seats.select((life.dt.total_days().clip(0) // SNAPSHOT_EVERY_DAYS + 1).sum()).item())
    most = (
        TASK_SEATS,
        TASK_EVENTS * seats.height // max(inputs.events, 1),
        TASK_SNAPSHOTS * seats.height // max(weeks, 1),
    )
    return max(min(most), 1)


def make(task: _Making) -> Block:
    """Compute a block and write it."""
    book = Roster.of(task.roster)
    seats = latest_seats(task.roster)
    snapshots = weekly_snapshots(seats, until=task.until)
    columns = LABELLED_COLUMNS if task.with_labels else CODED_COLUMNS
    events = task.reader.events(book.seat_ids.to_list(), columns=columns)
    frame = compute_features(
        snapshots, events=events, roster=book, sources=task.sources, tools=task.tools, peers=task.peers
    )
    if task.with_labels:
        plain = pa.table({name: _plain(events.column(name)) for name in events.column_names})
        labels = label_snapshots(snapshots, events=plain, seats=seats, sources=task.sources, tools=task.tools)
        frame = frame.hstack(labels.select(LABEL_NAMES))
    return task.run.write(task.number, frame.to_arrow(compat_level=pl.CompatLevel.oldest()))


def fingerprint(inputs: Inputs, *, until: datetime, with_labels: bool, block_seats: int) -> str:
    """Names a run after everything that its blocks depend on."""
    tools = sorted((name, repr(profile)) for name, profile in inputs.tools.items())
    text = f"{inputs.version} {catalogue_hash()} {until.isoformat()} {with_labels} {block_seats} {tools}"
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def split_labels(block: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Features and labels of a block that `build_on` made with labels."""
    return block.drop(LABEL_NAMES), block.select("seat_id", "as_of", *LABEL_NAMES)


def _tasks(
    inputs: Inputs,
    book: Roster,
    blocks: Sequence[slice],
    missing: Sequence[int],
    peers: Peers,
    run: Run,
    until: datetime,
    with_labels: bool,
) -> Iterator[_Making]:
    parts = Parts(peers, book)
    for number in missing:
        table = _versions(book, blocks[number]).cast(inputs.roster.schema)
        part = parts.of(blocks[number])
        yield _Making(
            number, table, inputs.reader, inputs.sources, inputs.tools, part, until, with_labels=with_labels, run=run
        )


def _versions(book: Roster, block: slice) -> pa.Table:
    return book.frame[book.versions(block)].to_arrow(compat_level=pl.CompatLevel.oldest())


def _seat_slices(seats: int, size: int) -> list[slice]:
    return [slice(first, min(first + size, seats)) for first in range(0, seats, size)]


def _every_day(inputs: Inputs, until: datetime) -> Integers:
    """Microseconds of every day from the first assignment to `until`."""
    first = pc.min(latest_seats(_by_seat(inputs.roster)).column("assigned_at")).as_py()
    return np.arange(to_microseconds(first), to_microseconds(until) + MICROSECONDS_PER_DAY, MICROSECONDS_PER_DAY)


def _by_seat(roster: pa.Table) -> pa.Table:
    return roster.sort_by([("seat_id", "ascending"), ("known_at", "ascending")])


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column
