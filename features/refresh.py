"""Features from the log as it is: the peers of a day, the features of some seats now, a sweep over all of them."""

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from features.catalogue import FEATURES
from features.coding import CODED_COLUMNS
from features.compute import SNAPSHOT_SCHEMA, compute_blocks, compute_features, pack, seat_blocks
from features.events import MICROSECONDS_PER_DAY
from features.instants import MICROSECOND, to_microseconds
from features.log import EventLog
from features.observed import observed
from features.peers import DEPTH_DAYS, Peers, midnight_of
from features.store import FeatureStore, OnlineRow
from features.tools import ToolProfile
from features.touched import RENEW, Claim


@dataclass
class Refresher:
    """Keeps online features as fresh as the log. One thread at a time uses it, another one may prepare; several processes
    may share the log.
    """

    log: EventLog
    store: FeatureStore
    tools: Mapping[str, ToolProfile]
    pushed: Callable[[pl.DataFrame], None] = lambda _features: None  # told `seat_id`, `as_of` and FEATURES of each push
    _peers: dict[int, tuple[Peers, str | None]] = field(
        default_factory=dict, init=False
    )  # of two days; version in the log
    _erasures: int = field(default=0, init=False)  # when they were read: they may name whom was erased since
    _observing: threading.Lock = field(default_factory=threading.Lock, init=False)

    def refresh(self, *, at_most: int, clock: Callable[[], datetime]) -> int:
        """Compute and push the features of seats that wait, those touched first; returns how many were refreshed.

        Whatever stops it half way, the marks stay, and the seats come again.
        """
        claim = self.log.touched.claim(at_most=at_most, now=clock())
        if not claim:
            return 0
        held = [claim]
        try:
            with self._renewing(held, clock):
                due = self._refresh(list(claim.tokens), as_of=clock())
        except Exception:
            self.log.touched.release(held[-1])
            raise
        self.log.touched.finish(held[-1], later=due)
        return len(claim)

    @contextmanager
    def _renewing(self, held: list[Claim], clock: Callable[[], datetime]) -> Iterator[None]:
        """Renews the claim for as long as the block runs: it must be short, so that the seats of the dead come soon. held:
        the claim, and every one that followed it, the last being the one that holds.
        """
        ended = threading.Event()

        def renew() -> None:
            while not ended.wait(RENEW.total_seconds()):
                try:
                    held.append(self.log.touched.renew(held[-1], now=clock()))
                except sa.exc.SQLAlchemyError as error:  # then somebody else may do the same work once more
                    _log.warning("a claim could not be renewed: %s", type(error).__name__)

        thread = threading.Thread(target=renew, name="claim", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _refresh(self, wanted: Sequence[str], *, as_of: datetime) -> dict[str, datetime]:
        """Compute and push the features of the seats; which must come again, and when."""
        seats = pc.unique(self.log.seats(wanted).column("seat_id")).to_pylist()
        events = self.log.events(seats, columns=CODED_COLUMNS)
        features = self._computed(seats, events, as_of)
        written = self.store.push(features)
        features = self._without_gone(features)
        self.pushed(features)
        due = _due_again(features, events, as_of)
        return due if written == len(seats) else self._after_newer(seats, as_of, due)

    def _after_newer(self, seats: Sequence[str], as_of: datetime, due: dict[str, datetime]) -> dict[str, datetime]:
        """`due`, and those whose online row is newer than `as_of`, just after it: another clock runs ahead of this one, or
        this one went back, and what the row was computed from may lack an event that is here.
        """
        newer = {seat: instant for seat, instant in self.store.instants(seats).items() if instant > as_of}
        return due | {seat: min(at + MICROSECOND, due.get(seat, at + MICROSECOND)) for seat, at in newer.items()}

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
        """The peers that features at `as_of` look at: those at hand or kept in the log, else observed now and kept."""
        return self._peers_of(int(midnight_of(np.array([to_microseconds(as_of)]))[0]))

    def prepare(self, now: datetime) -> None:
        """Have the peers of the last midnight at hand before features look at it, which they do once it has settled."""
        self._peers_of(to_microseconds(now) // MICROSECONDS_PER_DAY)

    def observe_day(self, as_of: datetime, *, threads: int = 1) -> Peers:
        """The peers that features at `as_of` look at, from the log as it is now; kept for the day."""
        with self._observing:
            return self._observe(int(midnight_of(np.array([to_microseconds(as_of)]))[0]), threads=threads)

    def _peers_of(self, day: int) -> Peers:
        erasures = self.log.erasures()
        found = self._at_hand(day)
        if found is not None and self._erasures == erasures:
            return found
        with self._observing:  # who comes second finds what the first made
            if self._erasures != erasures:
                self._peers, self._erasures = {}, erasures
            found = self._at_hand(day)
            if found is None:
                version = self.log.peers_version(day)  # before the body: one kept in between is read once more
                body = self.log.peers(day)
                found = self._observe(day) if body is None else self._have(day, Peers.from_bytes(body), version)
        return found

    def _at_hand(self, day: int) -> Peers | None:
        """Those in memory, unless somebody observed the day anew since: a sweep does."""
        found, version = self._peers.get(day, (None, None))
        return found if found is None or self.log.peers_version(day) in (None, version) else None

    def _observe(self, day: int, *, threads: int = 1) -> Peers:
        erasures = self.log.erasures()
        found = observed(self.log, self.tools, np.array([day - DEPTH_DAYS, day]), threads=threads)
        return self._have(day, found, self.log.keep_peers(day, found.to_bytes(), erasures_before=erasures))

    def _have(self, day: int, peers: Peers, version: str | None) -> Peers:
        latest = sorted({*self._peers, day})[-2:]
        self._peers = {one: (peers, version) if one == day else self._peers[one] for one in latest}
        return peers

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
    return pl.any_horizontal(pl.col(name).fill_nan(0) > 0 for name in LIVE)  # to Polars NaN is more than any number


LIVE = tuple(feature.name for feature in FEATURES if feature.name.endswith("_1h"))
LIVE_EVERY = timedelta(minutes=10)  # our choice: so long may a struggle be shown that is over
_log = logging.getLogger(__name__)
