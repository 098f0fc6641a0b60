"""From recognised files to batches: names become pseudonyms, texts become scores, seats are gathered before events.

The files are read twice. The first time gathers the roster (one entry a seat), who is the same person, and which of a
repeated event counts; the second gives the events. So the order of files and rows changes nothing, and memory grows with
the people and the repeated events, not with the rows.
"""

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import ValidationError

from features.connectors.edge import (
    Answered,
    Connector,
    Edge,
    Item,
    Note,
    Reached,
    SamePerson,
    SeatSeen,
    Use,
    event_of,
    is_future,
)
from features.connectors.identities import Identities, Roster
from features.connectors.reading import read_rows
from features.connectors.row import Row, microseconds, plain, start_of_day
from features.events import (
    BATCH_ROWS,
    EARLIEST,
    EVENT_SCHEMA,
    SEAT_SCHEMA,
    Batch,
    Event,
    InvalidItem,
    Rejected,
    Scores,
    Seat,
    events_table,
    invalid_item,
    seats_table,
)
from features.pseudonyms import pseudonym

SHOWN_COLUMNS = 12
_CODED = "name a role, function or team in letters that are not Latin: a code (name-…) stands for it, the same at every import"
NEVER = datetime.max.replace(tzinfo=UTC)
_SAID = ("role", "function", "team", "hired_on", "assigned_at")


@dataclass(frozen=True)
class Export:
    """A file and its format."""

    path: Path
    connector: Connector


@dataclass(frozen=True)
class Unrecognised:
    """A file of no known format, and why, without a word of what it holds. is_empty: it has no record at all."""

    path: Path
    reason: str
    is_empty: bool = False


def set_aside(files: Iterable[Unrecognised]) -> Batch:
    """A batch that holds nothing but the files that were not recognised."""
    rejected = tuple(Rejected(file.path.name, "", file.reason) for file in files)
    return Batch(SEAT_SCHEMA.empty_table(), EVENT_SCHEMA.empty_table(), rejected)


def nobody_known(_seat_ids: Sequence[str]) -> pa.Table:
    """No seats: the roster of an empty log."""
    return SEAT_SCHEMA.empty_table()


def open_exports(
    exports: Iterable[Export],
    edge: Edge,
    *,
    known: Roster = nobody_known,
    aliases: Mapping[str, str] | None = None,
) -> Iterator[Batch]:
    """Batches of what the files hold, seats before events; broken rows are set aside with their file and number.

    known: the seats that are in the log already: what an export does not say of a seat stays as it is, and a first day
    seen only ever moves back. aliases: who is known to be the same person (features.aliases). Raises ValueError if a file cannot be opened.
    """
    exports = sorted(exports, key=lambda export: (export.connector.name, export.path.name, str(export.path)))
    census = _Census(edge)
    for export in exports:
        _count(export, census, edge)
    people = Identities(edge, census.same, aliases or {}, {*census.holders, *census.voices}, known)
    seats, refused = census.seats(people)
    first = seats[:BATCH_ROWS]
    if first or refused or people.learned:
        yield Batch(seats_table(first), EVENT_SCHEMA.empty_table(), tuple(refused), aliases=people.learned)
    for start in range(BATCH_ROWS, len(seats), BATCH_ROWS):
        yield Batch(seats_table(seats[start : start + BATCH_ROWS]), EVENT_SCHEMA.empty_table())
    licensed = {seat.seat_id for seat in seats} | people.known.keys()
    superseded = census.superseded()
    quiet = dict(census.reached)
    for export in exports:
        reader = _Reader(export, edge, people, licensed, superseded, census.answered)
        for batch in _batches(reader, census.reached.get(export.connector.source), str(export.path)):
            if batch.events.num_rows:
                quiet.pop(export.connector.source, None)
            yield batch
    yield from _quiet(exports, seats, quiet)


def _quiet(exports: Sequence[Export], seats: Sequence[Seat], quiet: Mapping[str, datetime]) -> Iterator[Batch]:
    """Nobody did anything, and that is known: a seat of each tool carries the news, and of the connector's own tool also
    which kinds of event would have been seen.
    """
    carriers = {seat.tool: seat for seat in reversed(seats)}
    if quiet and carriers:
        yield Batch(seats_table(list(carriers.values())), EVENT_SCHEMA.empty_table(), complete_until=quiet)
    for connector in {export.connector.name: export.connector for export in exports}.values():
        if connector.source in quiet and connector.kinds and connector.tool in carriers:
            source = connector.source
            yield Batch(
                seats_table([carriers[connector.tool]]),
                EVENT_SCHEMA.empty_table(),
                lags={source: connector.lag},
                kinds={source: connector.kinds},
                complete_until={source: quiet[source]},
            )


# ---------------------------------------------------------------- the first reading


class _Holder:
    """What all rows together say of one seat; of two that disagree, the one that speaks of a later time."""

    __slots__ = ("first_seen", "gone", "held", "said")

    def __init__(self) -> None:
        self.first_seen = NEVER
        self.said: dict[str, tuple[datetime, str, Any]] = {}
        self.held: datetime | None = None  # the last time that a roster showed it as not removed
        self.gone: frozenset[tuple[datetime, datetime]] = frozenset()  # when a roster showed it removed, and since when

    def take(self, seat: SeatSeen) -> None:
        """Remember what a row says."""
        self.first_seen = min(self.first_seen, seat.seen)
        for name in _SAID:
            value = getattr(seat, name)
            if value is not None:
                self._say(name, (seat.seen, str(value), value))
        if seat.removed_at is not None:
            self.gone |= {(seat.seen, seat.removed_at)}
        elif seat.is_roster:
            self.held = max(seat.seen, self.held or seat.seen)

    def join(self, other: "_Holder") -> None:
        """Remember what was said of the same person under another name."""
        self.first_seen = min(self.first_seen, other.first_seen)
        for name, said in other.said.items():
            self._say(name, said)
        self.gone |= other.gone
        if other.held is not None:
            self.held = max(other.held, self.held or other.held)

    def _say(self, name: str, said: tuple[datetime, str, Any]) -> None:
        before = self.said.get(name)
        if before is None or before[:2] < said[:2]:  # the text settles a tie, whatever the order of the rows
            self.said[name] = said

    def fields(self, before: Mapping[str, Any] | None) -> dict[str, Any]:
        """The fields of the seat: what is not said stays as it was before."""
        first_day = start_of_day(self.first_seen.date())
        kept = {name: (before or {}).get(name) for name in (*_SAID, "removed_at", "manager_person_id", "region")}
        kept["assigned_at"] = min(first_day, kept["assigned_at"] or first_day)
        said = {name: value for name, (_, _, value) in self.said.items()}
        return kept | said | {"removed_at": self._removed_at(kept["removed_at"])}

    def _removed_at(self, before: datetime | None) -> datetime | None:
        """Since when it is removed: a removal that is repeated in every report happened at the first of them."""
        removals = [removed for seen, removed in self.gone if self.held is None or seen >= self.held]
        if self.held is None and before is not None:
            removals.append(before)
        return min(removals, default=None)


@dataclass
class _Census:
    """Who holds which seat, gathered over all files."""

    edge: Edge
    holders: dict[tuple[str, str], _Holder] = field(default_factory=dict)
    voices: set[tuple[str, str]] = field(default_factory=set)
    same: dict[str, str] = field(default_factory=dict)  # principals
    reached: dict[str, datetime] = field(default_factory=dict)
    answered: set[int] = field(default_factory=set)  # 8 bytes of the names
    _revision_ids: "array[int]" = field(default_factory=lambda: array("Q"))
    _revision_times: "array[int]" = field(default_factory=lambda: array("q"))

    def take(self, item: Item, connector: Connector) -> None:
        """Remember what the item says of people and seats."""
        match item:
            case SeatSeen():
                self.holders.setdefault((item.principal, item.tool), _Holder()).take(item)
            case Use(is_voice=True):
                self.voices.add((item.principal, item.tool))
            case SamePerson():
                before = self.same.get(item.alias, item.principal)
                self.same[item.alias] = min(before, item.principal)  # whatever the order of the files
            case Answered():
                self.answered.add(_short(self.edge, item.name))
            case Reached():
                until = min(item.at + connector.lag, self.edge.now)
                self.reached[connector.source] = max(until, self.reached.get(connector.source, until))

    def revise(self, key: str, at: datetime) -> None:
        """Remember that the event of this key was processed then."""
        self._revision_ids.append(_short(self.edge, key))
        self._revision_times.append(microseconds(at))

    def superseded(self) -> Mapping[int, int]:
        """Of each key that came more than once, when the one that counts was processed: 16 bytes an event."""
        ids = np.frombuffer(self._revision_ids, np.uint64) if self._revision_ids else np.empty(0, np.uint64)
        times: npt.NDArray[np.int64] = (
            np.frombuffer(self._revision_times, np.int64) if self._revision_times else np.empty(0, np.int64)
        )
        order = np.lexsort((times, ids))
        ids, times = ids[order], times[order]
        repeats = np.flatnonzero(ids[1:] == ids[:-1]) + 1
        return {int(ids[place]): int(times[place]) for place in repeats}  # ascending: the last one stays

    def seats(self, people: Identities) -> tuple[list[Seat], list[Rejected]]:
        """The seats, in the order of their identifiers, and those that cannot be."""
        joined: dict[str, _Holder] = {}
        of: dict[str, tuple[str, str]] = {}
        for (principal, tool), holder in self.holders.items():
            seat_id = people.seat_id(principal, tool)
            joined.setdefault(seat_id, _Holder()).join(holder)
            of[seat_id] = people.person_id(principal), tool
        seats, refused = [], []
        for seat_id in sorted(joined):
            person_id, tool = of[seat_id]
            fields = joined[seat_id].fields(people.known.get(seat_id))
            identity = {"person_id": person_id, "organization": self.edge.organization}
            try:
                seats.append(Seat.model_validate({"seat_id": seat_id, "tool": tool, **identity, **fields}))
            except ValidationError as error:
                problem = invalid_item(error)
                refused.append(Rejected(f"seat {seat_id}", problem.field, problem.reason))
        renamed = (row | {"person_id": person} for seat_id, row, person in people.renamed() if seat_id not in joined)
        return [*seats, *map(Seat.model_validate, renamed)], refused


def _count(export: Export, census: _Census, edge: Edge) -> None:
    connector = export.connector
    for row in _kept_rows(export):
        items = None if isinstance(row, Rejected) else _items(row, connector, edge)
        if items is None or isinstance(items, Rejected) or isinstance(row, Rejected):
            continue  # the second reading reports it
        for item in items:
            census.take(item, connector)
        revision = _revision(row, connector)
        if revision is not None:
            census.revise(*revision)


# ---------------------------------------------------------------- the second reading


class _Reader:
    """The events of one file."""

    def __init__(
        self,
        export: Export,
        edge: Edge,
        people: Identities,
        licensed: set[str],
        superseded: Mapping[int, int],
        answered: Set[int],
    ) -> None:
        self.connector, self._export, self._edge = export.connector, export, edge
        self._people, self._licensed, self._superseded, self._answered = people, licensed, superseded, answered
        self._notes: Counter[str] = Counter()
        self._unknown: set[str] = set()
        self._rows = 0
        self.records = 0
        self._seat_ids: dict[tuple[str, str], str] = {}

    def items(self) -> Iterator[Event | Rejected]:
        """Events and what was set aside, row by row; what is worth telling is told at the end."""
        for row in _kept_rows(self._export):
            self.records += 1
            if isinstance(row, Rejected):
                yield row
                continue
            self._rows += 1
            if len(self._unknown) <= SHOWN_COLUMNS:
                self._unknown.update(self.connector.unknown(row.fields.keys()))
            items = _items(row, self.connector, self._edge)
            if isinstance(items, Rejected):
                yield items
            elif self._is_superseded(row):
                self._notes["were sent again later; the latest processed counts"] += 1
            else:
                yield from self._events(items, row.where)
        self._tell()

    def _events(self, items: Iterable[Item], where: str) -> Iterator[Event | Rejected]:
        for item in items:
            if isinstance(item, Note):
                self._notes[item.sentence] += 1
            elif isinstance(item, Use):
                try:
                    event = self._event(item)
                except ValidationError as error:
                    problem = invalid_item(error)
                    yield Rejected(where, problem.field, problem.reason)
                else:
                    if event is not None:
                        yield event

    def _event(self, use: Use) -> Event | None:
        edge, lag = self._edge, self.connector.lag
        seat_id = self._seat_id(use.principal, use.tool)
        if use.is_total and use.at + lag > edge.now:
            self._notes[f"hold totals that may still grow ({_spoken(lag)}): import them again later"] += 1
            return None
        if use.needs is not None and _short(edge, use.needs) not in self._answered:
            self._notes["ask for something whose answer is in no file of this import: no task"] += 1
            return None
        if use.is_voice and seat_id not in self._licensed:
            self._notes["are of people whose seat of that tool is not known: import them again once it is"] += 1
            return None
        workflow, category, scores = _judged(use, edge)
        received = use.received if use.received is not None and not is_future(use.received, edge) else None
        at = min(use.at, received) if received else use.at  # a client's clock ran ahead: nothing arrives unhappened
        return event_of(
            use,
            event_id=edge.event_id(seat_id, use.family or self.connector.source, *use.key),
            seat_id=seat_id,
            source=self.connector.source,
            occurred_at=at,
            available_at=received or at + lag,
            workflow=workflow,
            category=category,
            scores=scores,
        )

    def _seat_id(self, principal: str, tool: str) -> str:
        seat_id = self._seat_ids.get((principal, tool))
        if seat_id is None:
            seat_id = self._people.seat_id(principal, tool)
            self._seat_ids[principal, tool] = seat_id
        return seat_id

    def _is_superseded(self, row: Row) -> bool:
        revision = _revision(row, self.connector) if self._superseded else None
        if revision is None:
            return False
        key, at = revision
        return microseconds(at) < self._superseded.get(_short(self._edge, key), -1)

    def _tell(self) -> None:
        name, tell = self._export.path.name, self._edge.tell
        if not self._rows:
            tell(f"{name}: holds no record that can be read")
        for sentence, rows in sorted(self._notes.items()):
            tell(f"{name}: {rows:,} {'record' if rows == 1 else 'records'}: {sentence}")
        if self._unknown:
            blank = "one without a name, or with an address for one"
            shown = [name or blank for name in sorted(self._unknown)[:SHOWN_COLUMNS]]
            more = " and more" if len(self._unknown) > SHOWN_COLUMNS else ""
            tell(f"{name}: fields that this format is not known to have, not read: {', '.join(shown)}{more}")


def _batches(reader: _Reader, reached: datetime | None, file: str) -> Iterator[Batch]:
    """One batch at the least: it says how many records the file has."""
    source = reader.connector.source
    lags = {source: reader.connector.lag}
    kinds = {} if reader.connector.kinds is None else {source: reader.connector.kinds}
    complete_until = {} if reached is None else {source: reached}
    items, told = reader.items(), 0
    while (chunk := list(islice(items, BATCH_ROWS))) or not told or reader.records > told:
        events = events_table([item for item in chunk if isinstance(item, Event)])
        rejected = tuple(item for item in chunk if isinstance(item, Rejected))
        yield Batch(
            SEAT_SCHEMA.empty_table(),
            events,
            rejected,
            lags=lags,
            kinds=kinds,
            complete_until=complete_until,
            file=file,
            records=reader.records - told,
        )
        told = reader.records
        if not chunk:
            break


def _kept_rows(export: Export) -> Iterator[Row | Rejected]:
    """The rows, without the fields that nothing may look at."""
    connector = export.connector
    unread = {plain(name) for name in connector.unread}
    for row in read_rows(export.path, frozenset(map(plain, connector.containers))):
        if unread and isinstance(row, Row):
            kept = {name: value for name, value in row.fields.items() if name not in unread}
            yield Row(row.where, kept, row.container, row.document)
        else:
            yield row


def _items(row: Row, connector: Connector, edge: Edge) -> list[Item] | Rejected:
    """What the row says, all of it or why none of it."""
    try:
        items = list(connector.read(row, edge))
        for item in items:
            _check(item, connector, edge)
    except InvalidItem as error:
        return Rejected(row.where, error.field, error.reason)
    spelt = [item.spelt(edge) if isinstance(item, SeatSeen) else item for item in items]
    if any(one is not other for one, other in zip(items, spelt, strict=True)):
        spelt.append(Note(_CODED))
    return spelt


def _check(item: Item, connector: Connector, edge: Edge) -> None:
    if not isinstance(item, SeatSeen | Use):
        return
    if item.tool not in edge.tools:
        raise InvalidItem("tool", f"expected one with a profile ({', '.join(sorted(edge.tools))}), came another")
    at = min(item.at, item.received or item.at) if isinstance(item, Use) else item.assigned_at or item.seen
    ahead = timedelta(days=1) if isinstance(item, SeatSeen) or item.is_total else timedelta(0)  # the day is running
    if is_future(at - ahead, edge):
        raise InvalidItem("", f"{connector.title}: expected a time no later than now ({edge.now:%Y-%m-%d}), came {at}")
    if at < EARLIEST:
        raise InvalidItem("", f"{connector.title}: expected a time after {EARLIEST.date()}, came {at}")


def _revision(row: Row, connector: Connector) -> tuple[str, datetime] | None:
    try:
        return connector.revision(row) if connector.revision else None
    except InvalidItem:
        return None


def _short(edge: Edge, key: str) -> int:
    return int(pseudonym(edge.key, key)[:16], 16)


def _judged(use: Use, edge: Edge) -> tuple[str | None, str | None, Scores | None]:
    """Workflow, category and scores of a use; its text is not needed any more after this."""
    if not use.text or edge.text is None:
        return use.workflow, None, None
    said = edge.text.score_text(use.text, use.language)
    scores = None
    if said.frustration is not None or said.uncertainty is not None:
        scores = Scores(frustration=said.frustration, uncertainty=said.uncertainty)
    if use.kind != "ticket":
        return use.workflow, None, scores
    topic = edge.text.ticket_topic(use.text, edge.tools[use.tool].high_value_workflows)
    return use.workflow or topic.workflow, topic.category, scores


def _spoken(lag: timedelta) -> str:
    hours = round(lag.total_seconds() / 3600)
    return f"{hours // 24} days" if hours >= 48 else f"{hours} hours"
