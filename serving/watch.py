"""The watch: what became of seats when their features changed, told once when it begins and again only after it ended."""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

import httpx
import numpy as np
import polars as pl
import sqlalchemy as sa

from features.compute import pack
from features.database import Database
from features.instants import to_microseconds
from features.live import live_friction
from features.scorer import HORIZONS_DAYS, PRODUCT_HORIZON_DAYS
from features.tombstones import erased
from serving.meters import Meters
from serving.model import Champion
from serving.webhooks import Message, Topic, Webhooks

LEAVES_BELOW = 0.05  # our choice: so far must the risk fall under the threshold before it can be told again
SEEN_SECONDS = 5.0  # how long it is believed that nobody wants to be told
MATURE_AT_ONCE = 500
_PRODUCT = HORIZONS_DAYS.index(PRODUCT_HORIZON_DAYS)
_told = sa.table("told", sa.column("seat_id"), sa.column("what"), sa.column("at", sa.BigInteger()))
_decisions = sa.table(
    "decisions", sa.column("decision_id"), sa.column("seat_id"), sa.column("decided_at", sa.BigInteger())
)
_log = logging.getLogger(__name__)


class Watch:
    """Looks at features as they are pushed. Safe for one thread at a time of each process."""

    def __init__(self, webhooks: Webhooks, database: Database, champion: Champion, *, at_risk_from: float) -> None:
        """at_risk_from: the 28-day risk that is told."""
        self._webhooks, self._database, self._champion = webhooks, database, champion
        self._threshold = at_risk_from
        self._looked_at, self._is_wanted = -SEEN_SECONDS, False

    def look(self, features: pl.DataFrame) -> None:
        """Tell what begins at these seats. features: `seat_id`, `as_of` and FEATURES."""
        if not (self._is_anybody_there() and features.height):
            return
        vectors, categories = pack(features)
        risk = self._champion.current.scorer.score(vectors, categories).risk[:, _PRODUCT]
        struggling = np.array([live_friction(vector).is_struggling for vector in vectors])
        seats, instants = features["seat_id"].to_list(), features["as_of"].to_list()
        for topic, begins, ends in (
            (Topic.AT_RISK, risk >= self._threshold, risk < self._threshold - LEAVES_BELOW),
            (Topic.STRUGGLING, struggling, ~struggling),
        ):
            self._tell(topic, dict(zip(seats, instants, strict=True)), set(_where(seats, begins)), _where(seats, ends))

    def mature(self, *, now: datetime, silence: timedelta, slowest: timedelta) -> int:
        """Tell of decisions whose outcome can be judged by now. silence: W, the longest of the tools; slowest: lag of the
        slowest source.
        """
        if not self._is_anybody_there():
            return 0
        before = to_microseconds(now - timedelta(days=PRODUCT_HORIZON_DAYS) - silence - slowest)
        is_told = sa.select(_told.c.seat_id).where(
            _told.c.what == Topic.MATURED, _told.c.seat_id == _decisions.c.decision_id
        )
        query = (
            sa.select(_decisions)
            .where(_decisions.c.decided_at <= before, ~is_told.exists())
            .order_by(_decisions.c.decided_at)
            .limit(MATURE_AT_ONCE)
        )
        with self._database.write() as connection:
            rows = connection.execute(query).all()
            messages = [Message(Topic.MATURED, row.seat_id, now, {"decision_id": row.decision_id}) for row in rows]
            self._webhooks.tell(connection, messages, now=now)
            told = [{"seat_id": row.decision_id, "what": Topic.MATURED, "at": to_microseconds(now)} for row in rows]
            if told:
                connection.execute(sa.insert(_told), told)
        return len(rows)

    def _tell(self, topic: Topic, as_of: dict[str, datetime], begins: set[str], ends: Iterable[str]) -> None:
        with self._database.write() as connection:
            is_topic = _told.c.what == topic
            known = set(
                connection.execute(
                    sa.select(_told.c.seat_id).where(is_topic, _told.c.seat_id.in_(list(as_of)))
                ).scalars()
            )
            over = known & set(ends)
            if over:
                connection.execute(sa.delete(_told).where(is_topic, _told.c.seat_id.in_(sorted(over))))
            new = sorted(begins - known - erased(connection, begins))
            if new:
                rows = [{"seat_id": seat, "what": topic, "at": to_microseconds(as_of[seat])} for seat in new]
                connection.execute(sa.insert(_told), rows)
                messages = [Message(topic, seat, as_of[seat], {}) for seat in new]
                self._webhooks.tell(connection, messages, now=max(as_of.values()))

    def _is_anybody_there(self) -> bool:
        if time.monotonic() - self._looked_at >= SEEN_SECONDS:
            self._is_wanted = bool(self._webhooks.all())
            self._looked_at = time.monotonic()
        return self._is_wanted


class Courier:
    """A thread that sends what waits, and tells of matured decisions, until it is closed."""

    def __init__(
        self,
        webhooks: Webhooks,
        mature: Callable[[], int],
        *,
        clock: Callable[[], datetime],
        meters: Meters,
        seconds: float = 1.0,
        mature_seconds: float = 600.0,
    ) -> None:
        self._webhooks, self._mature, self._clock, self._meters = webhooks, mature, clock, meters
        self._seconds, self._mature_seconds = seconds, mature_seconds
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="courier", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End after the delivery at hand; what waits stays in the database."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        matured_at = -self._mature_seconds
        with httpx.Client(follow_redirects=False) as client:
            while not self._stopped.wait(self._seconds):
                try:
                    if time.monotonic() - matured_at >= self._mature_seconds:
                        self._mature()
                        matured_at = time.monotonic()
                    for state, number in self._webhooks.deliver(client, now=self._clock()).items():
                        for _ in range(number):
                            self._meters.delivery(str(state))
                except Exception as error:  # databases raise their own; the thread must outlive whatever it is
                    _log.warning("webhooks wait: %s", type(error).__name__)


def _where(seats: list[str], chosen: "np.ndarray[tuple[int], np.dtype[np.bool_]]") -> list[str]:
    return [seat for seat, is_chosen in zip(seats, chosen.tolist(), strict=True) if is_chosen]
