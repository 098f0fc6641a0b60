"""What happens around a seat: its team, its role, its manager and the organisation's leaders, as of the last midnight
that is at least SETTLES old: within that time it can be observed before anybody needs it.

A first pass over the meaningful uses makes counts by group and UTC midnight (`observe`); from them each snapshot gets
those of the others (`around`), what it added to them itself taken out. At midnight M a seat's depth is its meaningful uses
in the 28 days that end at `M - lag`, of what was available at M; the groups are those of the roster as it was known at M.
"""

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from features.coding import code_events, of_kinds
from features.history import DAY, HOUR, Booleans, Events, Floats, Integers, ratio
from features.parallel import in_order
from features.roster import Roster
from features.sources import Source
from features.tools import ToolProfile

DEPTH_DAYS = 28
SETTLES = HOUR  # our choice: until then those of the midnight before serve, online and in a batch alike
CHAMPIONS = 4  # one in four: the top quarter of depth (design: features)
NOT_COUNTED = 65_535
MOST_USES = NOT_COUNTED - 1  # of a seat in 28 days; more count as so many, so that a seat's day takes two bytes

Counts = npt.NDArray[np.int64]
Depth = npt.NDArray[np.uint16]


class Scope(StrEnum):
    """Groups that are counted, by the columns of the roster that name one."""

    FEED = "feed"
    TEAM = "team"
    ROLE = "role"
    TEAM_ROLE = "team_role"


_KEYS: Mapping[Scope, tuple[str, ...]] = {
    Scope.FEED: ("organization", "tool"),
    Scope.TEAM: ("organization", "tool", "team"),
    Scope.ROLE: ("organization", "tool", "role"),
    Scope.TEAM_ROLE: ("organization", "tool", "team", "role"),
}
# size: seats; users: those with meaningful use; uses: meaningful uses; champions: seats in the top quarter of depth;
# threshold: from how many uses on; leaders: managers with a seat; leading_users: those of them with meaningful use
_MEASURES: Mapping[Scope, tuple[str, ...]] = {
    Scope.FEED: ("threshold", "leaders", "leading_users"),
    Scope.TEAM: ("size", "users", "uses", "champions"),
    Scope.ROLE: ("size", "users", "uses"),
    Scope.TEAM_ROLE: ("champions",),
}
_PERSON = ("organization", "tool", "person_id")
_HELD = ("seat_id", *_PERSON)
_MANAGER = ("organization", "tool", "manager_person_id")


@dataclass(frozen=True)
class Peers:
    """Counts by group and midnight, and what each seat added to them.

    days: (d,) ascending, in days since 1970; keys: by scope, one row a group; counts: by scope and measure,
    (n_groups, d). held: `seat_id`, `organization`, `tool`, `person_id`, by seat, one row for each person who held it;
    depth: (n_held, d), NOT_COUNTED where the person did not hold it at that midnight.
    """

    days: Integers
    keys: Mapping[Scope, pl.DataFrame]
    counts: Mapping[Scope, Mapping[str, Counts]]
    held: pl.DataFrame
    depth: Depth

    def at(self, scope: Scope, measure: str, group: Integers, day: Integers) -> Counts:
        """(n,) the count of each group on each day; 0 for group -1. Raises ValueError for a day that is not there."""
        if not len(self.keys[scope]):
            return np.zeros(len(group), np.int64)
        return np.asarray(np.where(group >= 0, self.counts[scope][measure][group, self.place(day)], 0))

    def place(self, day: Integers) -> Integers:
        """(n,) column of each day. Raises ValueError for a day that is not there."""
        place = np.searchsorted(self.days, day)
        found = self.days[np.minimum(place, len(self.days) - 1)] == day if len(self.days) else np.zeros(len(day), bool)
        if not found.all():
            raise ValueError(f"the peers of day {int(day[~found][0])} (since 1970) were not observed")
        return place

    def held_by(self, roster: Roster) -> Integers:
        """(n_versions,) row of `held` for each version of the roster, -1 where there is none."""
        if not len(roster):
            return np.zeros(0, np.int64)
        seats = self.held["seat_id"]
        first = seats.search_sorted(roster.seat_ids[0])
        stop = seats.search_sorted(roster.seat_ids[-1], side="right")
        row = roster.positions(self.held[first:stop])
        return np.where(row >= 0, row + first, -1)

    def to_bytes(self) -> bytes:
        """For the log: everything in one Arrow file."""
        held = self.held.with_columns(pl.Series("depth", self.depth.astype(np.int64).tolist(), dtype=pl.List(pl.Int64)))
        parts = {"held": held} | {
            str(scope): keys.with_columns(
                pl.Series(name, counts.tolist(), dtype=pl.List(pl.Int64)) for name, counts in self.counts[scope].items()
            )
            for scope, keys in self.keys.items()
        }
        wide = pl.concat(
            [part.with_columns(pl.lit(name).alias("part")) for name, part in parts.items()], how="diagonal"
        )
        table = wide.to_arrow(compat_level=pl.CompatLevel.oldest())
        table = table.replace_schema_metadata({"days": ",".join(map(str, self.days.tolist()))})
        sink = io.BytesIO()
        with pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
        return sink.getvalue()

    @staticmethod
    def from_bytes(body: bytes) -> "Peers":
        """What `to_bytes` made."""
        table = pa.ipc.open_file(pa.py_buffer(body)).read_all()
        days = np.array([int(day) for day in table.schema.metadata[b"days"].decode().split(",") if day], np.int64)
        wide = pl.DataFrame(pl.from_arrow(table))

        def part(name: str, columns: Sequence[str]) -> pl.DataFrame:
            return wide.filter(pl.col("part") == name).select(columns)

        def matrix(frame: pl.DataFrame, name: str) -> Counts:
            return np.array(frame[name].to_list(), np.int64).reshape(len(frame), len(days))

        keys = {scope: part(str(scope), _KEYS[scope]) for scope in Scope}
        counts = {scope: {name: matrix(part(str(scope), [name]), name) for name in _MEASURES[scope]} for scope in Scope}
        depth = matrix(part("held", ["depth"]), "depth").astype(np.uint16)
        return Peers(days, keys, counts, part("held", _HELD), depth)


class Parts:
    """Peers, divided by blocks of seats: what the snapshots of a block look at is found without a look at all other seats."""

    def __init__(self, peers: Peers, book: Roster) -> None:
        """peers: as they were counted from this roster."""
        self._peers, self._book = peers, book
        self._held = peers.held_by(book)
        self._groups = {scope: book.positions(peers.keys[scope]) for scope in Scope}
        managers = _distinct(book, _MANAGER)
        self._manager = book.positions(managers)
        numbered = managers.rename({"manager_person_id": "person_id"}).with_row_index("manager")
        leading = peers.held.with_row_index("row").join(numbered, on=_PERSON).sort("manager", "row")
        self._leading = leading["row"].cast(pl.Int64).to_numpy()
        self._first = np.searchsorted(leading["manager"].to_numpy(), np.arange(len(managers) + 1))

    def of(self, block: slice) -> Peers:
        """What the seats of these numbers look at, and nothing else: their own groups, themselves and their managers."""
        versions, peers = self._book.versions(block), self._peers
        leading = (
            self._leading[self._first[manager] : self._first[manager + 1]]
            for manager in _named(self._manager[versions])
        )
        rows = np.unique(np.concatenate((_named(self._held[versions]), *leading)))
        groups = {scope: _named(self._groups[scope][versions]) for scope in Scope}
        return Peers(
            peers.days,
            {scope: peers.keys[scope][groups[scope]] for scope in Scope},
            {scope: {name: values[groups[scope]] for name, values in peers.counts[scope].items()} for scope in Scope},
            peers.held[rows],
            peers.depth[rows],
        )


def _named(numbers: Integers) -> Integers:
    """Each number once, ascending; -1, which stands for none, left out."""
    found = np.unique(numbers)
    return found[found >= 0]


@dataclass(frozen=True)
class Around:
    """The peers of (n,) snapshots; NaN where there is no such group, or nobody else in it."""

    team_size: Floats
    team_size_before: Floats
    team_share: Floats
    team_share_change: Floats
    team_mean: Floats
    team_champions: Floats
    role_champion: Floats
    role_size: Floats
    role_share: Floats
    against_role: Floats
    manager_uses: Floats
    leaders: Floats
    leaders_share: Floats


def midnight_of(as_of: Integers) -> Integers:
    """(n,) the day, since 1970, whose midnight the peers of snapshots at these instants (microseconds) are of."""
    return (as_of - SETTLES) // DAY


def days_needed(as_of: Integers) -> Integers:
    """Every midnight, in days since 1970, that the peers of snapshots at these instants (microseconds) look at."""
    last = np.unique(midnight_of(as_of))
    return np.unique(np.concatenate((last, last - DEPTH_DAYS)))


def observe(
    events: Iterable[pa.Table],
    *,
    roster: pa.Table,
    sources: Sequence[Source],
    tools: Mapping[str, ToolProfile],
    days: Integers,
    threads: int = 1,
) -> Peers:
    """The counts of every group at the midnights `days` (ascending).

    events: tables that hold every meaningful use (what else is in them changes nothing), in any partition.
    """
    book = Roster.of(roster)
    depth = depth_of(events, book, sources=sources, tools=tools, days=days, threads=threads)
    return count_peers(book, depth, days=days, threads=threads)


def depth_of(
    events: Iterable[pa.Table],
    book: Roster,
    *,
    sources: Sequence[Source],
    tools: Mapping[str, ToolProfile],
    days: Integers,
    threads: int = 1,
) -> Depth:
    """(n_seats, d) meaningful uses of each seat in the DEPTH_DAYS before each midnight: seats do not need each other."""
    depth = np.zeros((len(book), len(days)), np.uint16)
    kinds = {kind for tool in book.tools for kind in tools[tool].meaningful_kinds}

    def seen(table: pa.Table) -> tuple[slice, Counts]:
        return _depth_of(code_events(of_kinds(table, kinds), book, tools), book, sources, days)

    for seats, added in in_order(seen, events, threads=threads):
        depth[seats] = np.minimum(depth[seats] + added, MOST_USES)
    return depth


def count_peers(book: Roster, depth: Depth, *, days: Integers, threads: int = 1) -> Peers:
    """The counts of every group from the depth of every seat. depth: (n_seats, d), as `depth_of` makes it."""
    keys = {scope: _distinct(book, _KEYS[scope]) for scope in Scope}
    group = {scope: book.positions(keys[scope]) for scope in Scope}
    managers = _distinct(book, _MANAGER)
    people = _People(
        manager=book.positions(managers),
        itself=book.positions(managers.rename({"manager_person_id": "person_id"})),
        size=len(managers),
    )
    counts = {
        scope: {name: np.zeros((len(keys[scope]), len(days)), np.int64) for name in _MEASURES[scope]} for scope in Scope
    }
    held = _distinct(book, _HELD)
    holder = book.positions(held)
    held_by_day = np.full((len(days), len(held)), NOT_COUNTED, np.uint16)
    every, by_day = np.arange(len(book)), np.ascontiguousarray(depth.T)
    sizes = {scope: len(keys[scope]) for scope in Scope}

    def count(place: int) -> None:
        midnight = int(days[place]) * DAY
        version = book.at(every, np.full(len(book), midnight))
        active = np.flatnonzero(book.is_active(version, midnight))
        version, uses = version[active], by_day[place, active]
        held_by_day[place, holder[version]] = uses
        for scope, measure, values in _Day(version, uses.astype(np.int64), group, sizes, people).counts():
            counts[scope][measure][:, place] = values

    for _ in in_order(count, range(len(days)), threads=threads):
        pass
    return Peers(days, keys, counts, held, np.ascontiguousarray(held_by_day.T))


@dataclass(frozen=True)
class _People:
    """By row of the roster, number of the manager it names, and of its own person among those who manage; -1 for none."""

    manager: Integers
    itself: Integers
    size: int


@dataclass(frozen=True)
class _Day:
    """The active seats at one midnight. version: (n,) row of the roster; uses: (n,) depth; group: by row."""

    version: Integers
    uses: Counts
    group: Mapping[Scope, Integers]
    sizes: Mapping[Scope, int]
    people: _People

    def counts(self) -> Iterator[tuple[Scope, str, Counts]]:
        """Every measure of every scope, (n_groups,)."""
        feed, used = self.group[Scope.FEED][self.version], self.uses > 0
        threshold = _thresholds(feed, self.uses, self.sizes[Scope.FEED])
        is_champion = used & (self.uses >= threshold[feed])
        yield Scope.FEED, "threshold", threshold
        for scope in (Scope.TEAM, Scope.ROLE):
            group, size = self.group[scope][self.version], self.sizes[scope]
            yield scope, "size", _sum(group, size)
            yield scope, "users", _sum(group, size, used)
            yield scope, "uses", _sum(group, size, self.uses)
        for scope in (Scope.TEAM, Scope.TEAM_ROLE):
            yield scope, "champions", _sum(self.group[scope][self.version], self.sizes[scope], is_champion)
        manager, itself = self.people.manager[self.version], self.people.itself[self.version]
        leads = (_sum(manager, self.people.size) > 0) & (_sum(itself, self.people.size) > 0)
        owner = np.zeros(self.people.size, np.int64)
        owner[manager[manager >= 0]] = feed[manager >= 0]
        leading_uses = _sum(itself, self.people.size, self.uses)[leads]
        yield Scope.FEED, "leaders", _sum(owner[leads], self.sizes[Scope.FEED])
        yield Scope.FEED, "leading_users", _sum(owner[leads], self.sizes[Scope.FEED], leading_uses > 0)


def _sum(group: Integers, size: int, weight: Counts | Booleans | None = None) -> Counts:
    """(size,) sum of the weights (of ones) by group; group -1 is left out."""
    chosen = group >= 0
    weights = None if weight is None else weight[chosen].astype(np.float64)  # whole numbers far below 2^53
    return np.bincount(group[chosen], weights, size).astype(np.int64)


def around(peers: Peers, *, roster: Roster, seat: Integers, as_of: Integers) -> Around:
    """The peers of each snapshot. seat: (n,) number in the roster; as_of: (n,) microseconds."""
    day = midnight_of(as_of)
    held = peers.held_by(roster)
    positions = {scope: roster.positions(peers.keys[scope]) for scope in Scope}
    now = _Standing(peers, roster, held, positions, seat, day)
    before = _Standing(peers, roster, held, positions, seat, day - DEPTH_DAYS)
    threshold = now.count(Scope.FEED, "threshold")
    is_champion = (now.own > 0) & (now.own >= threshold)
    team_size, role_size = (now.others(scope, "size", now.is_counted) for scope in (Scope.TEAM, Scope.ROLE))
    team_share, role_share = (
        ratio(now.others(scope, "users", now.own > 0), size)
        for scope, size in ((Scope.TEAM, team_size), (Scope.ROLE, role_size))
    )
    size_before = before.others(Scope.TEAM, "size", before.is_counted)
    share_before = ratio(before.others(Scope.TEAM, "users", before.own > 0), size_before)
    role_mean = ratio(now.others(Scope.ROLE, "uses", now.own), role_size)
    leaders = now.count(Scope.FEED, "leaders").astype(np.float64)
    return Around(
        team_size=now.named(Scope.TEAM, team_size),
        team_size_before=before.named(Scope.TEAM, size_before),
        team_share=team_share,
        team_share_change=team_share - share_before,
        team_mean=ratio(now.others(Scope.TEAM, "uses", now.own), team_size),
        team_champions=now.named(Scope.TEAM, now.others(Scope.TEAM, "champions", is_champion)),
        role_champion=now.named(Scope.TEAM_ROLE, np.minimum(now.others(Scope.TEAM_ROLE, "champions", is_champion), 1)),
        role_size=now.named(Scope.ROLE, role_size),
        role_share=role_share,
        against_role=ratio(now.own.astype(np.float64), np.nan_to_num(role_mean)),
        manager_uses=now.manager_uses(),
        leaders=leaders,
        leaders_share=ratio(now.count(Scope.FEED, "leading_users").astype(np.float64), leaders),
    )


class _Standing:
    """Where (n,) seats stood at the midnights `day`, and what they themselves had added to the counts of then."""

    def __init__(
        self,
        peers: Peers,
        roster: Roster,
        held: Integers,
        positions: Mapping[Scope, Integers],
        seat: Integers,
        day: Integers,
    ) -> None:
        """held, positions: (n_versions,) what Peers.held_by and Roster.positions say of the roster's versions."""
        self._positions = positions
        self._peers, self._roster, self._day = peers, roster, day
        self._groups: dict[Scope, Integers] = {}
        self._version = roster.at(seat, day * DAY)
        self._place = peers.place(day)
        row = held[self._version]
        depth = peers.depth[row, self._place] if len(peers.held) else np.full(len(seat), NOT_COUNTED, np.uint16)
        self.is_counted: Booleans = (row >= 0) & (depth != NOT_COUNTED)
        self.own: Counts = np.where(self.is_counted, depth, 0).astype(np.int64)

    def count(self, scope: Scope, measure: str) -> Counts:
        """(n,) of the seat's group."""
        return self._peers.at(scope, measure, self._group(scope), self._day)

    def others(self, scope: Scope, measure: str, itself: Counts | Booleans) -> Floats:
        """(n,) the same without what the seat added itself."""
        group = self._group(scope)
        return (self._peers.at(scope, measure, group, self._day) - np.where(group >= 0, itself, 0)).astype(np.float64)

    def named(self, scope: Scope, values: Floats) -> Floats:
        """The values; NaN where the roster does not say which group the seat is in. A new one has not been counted."""
        named = self._roster.frame.select(pl.all_horizontal(pl.col(_KEYS[scope]).is_not_null())).to_series().to_numpy()
        return np.where(named[self._version], values, np.nan)

    def manager_uses(self) -> Floats:
        """(n,) meaningful uses of the seat's manager; NaN where none is named or has a seat of the tool."""
        managers = _distinct(self._roster, _MANAGER)
        named = managers["manager_person_id"].implode()
        held = (
            self._peers.held.with_row_index("row")
            .filter(pl.col("person_id").is_in(named))
            .join(managers.with_row_index("manager"), left_on=_PERSON, right_on=_MANAGER)
        )
        depth = self._peers.depth[held["row"].to_numpy()]
        counted = depth != NOT_COUNTED
        seats, uses = np.zeros((2, len(managers) + 1, len(self._peers.days)), np.int64)  # the last is no manager's
        np.add.at(seats, held["manager"].to_numpy(), counted)
        np.add.at(uses, held["manager"].to_numpy(), np.where(counted, depth, 0))
        own = self._roster.positions(managers)[self._version]
        return np.where(seats[own, self._place] > 0, uses[own, self._place], np.nan)

    def _group(self, scope: Scope) -> Integers:
        if scope not in self._groups:
            self._groups[scope] = self._positions[scope][self._version]
        return self._groups[scope]


def _distinct(book: Roster, columns: Sequence[str]) -> pl.DataFrame:
    return book.frame.select(columns).drop_nulls().unique().sort(columns)


def _depth_of(events: Events, book: Roster, sources: Sequence[Source], days: Integers) -> tuple[slice, Counts]:
    """The depth that the events make, (seats, d), and of which seats: each counts from the first midnight that sees it
    to the last. Where the lag changes on the way (a slower source became known), each stretch of one lag is counted by
    itself.
    """
    used = np.flatnonzero(events.is_meaningful)
    seat, at, available, count = (column[used] for column in (events.seat, events.at, events.available, events.count))
    midnights = days * DAY
    first_version = book.at(np.arange(len(book)), np.zeros(len(book), np.int64))
    feed = book.feed[first_version]
    low, high = (int(seat.min()), int(seat.max()) + 1) if len(seat) else (0, 0)
    marks = np.zeros((len(days) + 1, high - low), np.float64)  # whole numbers far below 2^53
    for number in np.unique(feed[low:high]):
        chosen = np.flatnonzero(feed[seat] == number)
        any_version = np.full(len(days), first_version[np.argmax(feed == number)])
        lag = book.lag(sources, any_version, midnights)
        edges = [0, *(np.flatnonzero(np.diff(lag)) + 1).tolist(), len(days)]
        for start, stop in pairwise(edges):
            ends = midnights[start:stop] - lag[start]
            enter = np.maximum(
                np.searchsorted(ends, at[chosen], side="right"),
                np.searchsorted(midnights[start:stop], available[chosen], side="left"),
            )
            leave = np.searchsorted(ends, at[chosen] + DEPTH_DAYS * DAY, side="right")
            seen = leave > enter
            column, weight = seat[chosen][seen] - low, count[chosen][seen]
            width = high - low
            for edge, sign in ((enter, 1), (leave, -1)):
                flat = (start + edge[seen]) * width + column
                marks += sign * np.bincount(flat, weight, marks.size).reshape(marks.shape)
    return slice(low, high), np.cumsum(marks[:-1], axis=0).T.astype(np.int64)


def _thresholds(feed: Integers, uses: Counts, feeds: int) -> Counts:
    """(n_feeds,) depth from which on a seat is in the top quarter of those that used the tool; 1 where none did.

    Of n users it is the depth of the one at place ceil(n / 4) from the top; who is level with it is in, too.
    """
    used = uses > 0
    keys = np.sort(feed[used] * (MOST_USES + 1) + MOST_USES - uses[used])  # by feed, the most uses first
    sizes = np.bincount(feed[used], minlength=feeds)
    place = np.cumsum(sizes) - sizes + np.maximum(-(-sizes // CHAMPIONS), 1) - 1
    found = np.ones(feeds, np.int64)
    found[sizes > 0] = MOST_USES - keys[place[sizes > 0]] % (MOST_USES + 1)
    return found
