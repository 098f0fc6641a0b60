"""Features from the log as it is: the peers of a day, the features of some seats now, a sweep over all of them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from features.catalogue import FEATURES
from features.coding import CODED_COLUMNS
from features.compute import BLOCK_SEATS, SNAPSHOT_SCHEMA, compute_blocks, compute_features, pack, seat_blocks
from features.events import MICROSECONDS_PER_DAY
from features.history import Integers
from features.instants import MICROSECOND, from_microseconds, to_microseconds
from features.log import EventLog
from features.parallel import in_order
from features.peers import DEPTH_DAYS, Peers, days_needed, observe
from features.store import FeatureStore, OnlineRow
from features.tools import ToolProfile


@dataclass
class Refresher:
    """Keeps online features as fresh as the log. One thread at a time uses it; several processes may share the log."""

    log: EventLog
    store: FeatureStore
    tools: Mapping[str, ToolProfile]
    pushed: Callable[[pl.DataFrame], None] = lambda _features: None  # told `seat_id`, `as_of` and FEATURES of each push
    _peers: Peers | None = field(default=None, init=False)
    _erasures: int = field(default=0, init=False)  # when the peers were read: they may name whom was erased since

    def refresh(self, *, at_most: int, clock: Callable[[], datetime]) -> int:
        """Compute and push the features of seats that wait, those touched first; returns how many were refreshed.

        Whatever stops it half way, the marks stay, and the seats come again.
        """
        claim = self.log.touched.claim(at_most=at_most, now=clock())
        if not claim:
            return 0
        try:
            due = self._refresh(list(claim.tokens), as_of=clock())
        except Exception:
            self.log.touched.release(claim)
            raise
        self.log.touched.finish(claim, later=due)
        return len(claim)

    def _refresh(self, wanted: Sequence[str], *, as_of: datetime) -> dict[str, datetime]:
        """Compute and push the features of the seats; which must come again, and when."""
        seats = pc.unique(self.log.seats(wanted).column("seat_id")).to_pylist()
        events = self.log.events(seats, columns=CODED_COLUMNS)
        features = self._computed(seats, events, as_of)
        self.store.push(features)
        features = self._without_gone(features)
        self.pushed(features)
        return _due_again(features, events, as_of)

    def rows(self, seats: Sequence[str], *, as_of: datetime) -> list[OnlineRow]:
        """The online rows that the seats would have, computed from the log and not stored. seats: of the roster."""
        features = self._computed(seats, self.log.events(seats, columns=CODED_COLUMNS), as_of)
        vectors, categories = pack(features)
        return [
            OnlineRow(seat, as_of, np.asarray(vector, np.float64), tuple(names), is_from_log=True)
            for seat, vector, names in zip(features["seat_id"], vectors, categories, strict=True)
        ]

    def _computed(self, seats: Sequence[str], events: pa.Table, as_of: datetime) -> pl.DataFrame:
        return compute_features(
            pl.DataFrame({"seat_id": seats, "as_of": [as_of] * len(seats)}, schema=SNAPSHOT_SCHEMA),
            events=events,
            roster=self.log.roster(seats),
            sources=self.log.sources(),
            tools=self.tools,
            peers=self.peers(as_of),
        )

    def _without_gone(self, pushed: pl.DataFrame) -> pl.DataFrame:
        """Who was erased while their features were computed must not come back with them: their rows go again."""
        gone = sorted(self.log.erased(pushed["seat_id"].unique().to_list()))
        self.store.erase(gone)
        return pushed.filter(~pl.col("seat_id").is_in(gone)) if gone else pushed

    def peers(self, as_of: datetime) -> Peers:
        """The peers of the last midnight: kept ones, else observed now and kept."""
        day = as_of.astimezone(UTC).date().toordinal() - _EPOCH_ORDINAL
        erasures = self.log.erasures()
        if self._peers is None or self._peers.days[-1] != day or self._erasures != erasures:
            self._erasures = erasures
            body = self.log.peers(day)
            self._peers = Peers.from_bytes(body) if body is not None else self.observe_day(as_of)
        return self._peers

    def observe_day(self, as_of: datetime, *, threads: int = 1) -> Peers:
        """The peers of the last midnight from the log as it is now; kept for the day."""
        days = days_needed(np.array([to_microseconds(as_of)]))
        self._erasures = self.log.erasures()
        self._peers = observed(self.log, self.tools, days, threads=threads)
        self.log.keep_peers(int(days[-1]), self._peers.to_bytes(), erasures_before=self._erasures)
        return self._peers

    def sweep(self, as_of: datetime, *, threads: int = 1) -> Iterator[int]:
        """Refresh every seat, block by block; yields how many seats of each were newer than what was online.

        Features change also when nothing happens: windows move on, teams change. No mark is taken off: what was touched
        is refreshed once more, so that nothing that came on the way is lost; what is live is marked, so that it fades.
        """
        peers = self.observe_day(as_of, threads=threads)
        seats = self.log.seats()
        blocks = compute_blocks(
            seat_blocks(seats),
            snapshots=lambda block: pl.DataFrame(
                {"seat_id": block.column("seat_id").to_pylist(), "as_of": [as_of] * block.num_rows},
                schema=SNAPSHOT_SCHEMA,
            ),
            read_events=lambda wanted: self.log.events(wanted, columns=CODED_COLUMNS),
            roster=self.log.roster(),
            sources=self.log.sources(),
            tools=self.tools,
            peers=peers,
            threads=threads,
        )
        for block in blocks:
            count = self.store.push(block)
            block = self._without_gone(block)
            self.pushed(block)
            live = block.filter(_is_live())["seat_id"].to_list()
            self.log.touch(live, now=as_of)
            yield count


def _due_again(features: pl.DataFrame, events: pa.Table, as_of: datetime) -> dict[str, datetime]:
    """Seats that must come again although nothing more happens, and when.

    Those with events that were not available yet (a sender's clock may run ahead), and those with something in the last
    hour: a struggle of this moment must not be shown for a day.
    """
    due = dict.fromkeys(features.filter(_is_live())["seat_id"].to_list(), as_of + LIVE_EVERY)
    ahead = events.filter(
        pc.greater_equal(events.column("available_at"), pa.scalar(as_of, events.schema.field("available_at").type))
    )
    for row in ahead.group_by("seat_id").aggregate([("available_at", "min")]).to_pylist():
        available = row["available_at_min"] + MICROSECOND
        due[row["seat_id"]] = min(available, due.get(row["seat_id"], available))
    return due


def _is_live() -> pl.Expr:
    return pl.any_horizontal(pl.col(name) > 0 for name in LIVE)


LIVE = tuple(feature.name for feature in FEATURES if feature.name.endswith("_1h"))
LIVE_EVERY = timedelta(minutes=10)  # our choice: so long may a struggle be shown that is over
_EPOCH_ORDINAL = datetime(1970, 1, 1).toordinal()


def observed(log: EventLog, tools: Mapping[str, ToolProfile], days: Integers, *, threads: int = 1) -> Peers:
    """The peers of the midnights `days` (days since 1970, ascending), read from the log in blocks of seats."""
    roster, sources = log.roster(), log.sources()
    slowest = max((source.lag for source in sources), default=timedelta(0))
    first = from_microseconds(int(days[0]) * MICROSECONDS_PER_DAY) - timedelta(days=DEPTH_DAYS) - slowest
    kinds = {kind for tool in pc.unique(roster.column("tool")).to_pylist() for kind in tools[tool].meaningful_kinds}
    seats = pc.unique(roster.column("seat_id")).to_pylist()

    def read(start: int) -> pa.Table:
        return log.events(seats[start : start + BLOCK_SEATS], since=first, kinds=kinds, columns=CODED_COLUMNS)

    tables = in_order(read, range(0, len(seats), BLOCK_SEATS), threads=threads)
    return observe(tables, roster=roster, sources=sources, tools=tools, days=days)
