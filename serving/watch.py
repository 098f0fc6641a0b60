"""The watch: what became of seats when their features changed, told once when it begins and again only after it ended."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import httpx
import numpy as np
import polars as pl
import sqlalchemy as sa

from features.compute import pack
from features.database import Database
from features.instants import from_microseconds, to_microseconds
from features.live import live_friction
from features.scorer import HORIZONS_DAYS, PRODUCT_HORIZON_DAYS
from features.tombstones import erased
from serving.meters import Meters
from serving.model import Champion
from serving.webhooks import Message, Topic, Webhook, Webhooks

LEAVES_BELOW = 0.05  # our choice: so far must the risk fall under the threshold before it can be told again
SEEN_SECONDS = 5.0  # how long it is believed that nobody wants to be told
MATURE_AT_ONCE = 500  # more where many were made at one instant, which stay together
THREADS = 32  # our choice: they resolve names, which takes a while where nobody knows them, and write what became of it
LAST_SECONDS = 5.0  # our choice: so long what is being sent may take when the service ends; it comes again
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
        """Tell of decisions whose outcome can be judged by now; returns how many messages that were. silence: W, the longest
        of the tools; slowest: lag of the slowest source.

        Each webhook is told in the order of decisions, those of before it was added too; it remembers how far it came.
        """
        before = now - timedelta(days=PRODUCT_HORIZON_DAYS) - silence - slowest
        number = 0
        for name in [webhook.webhook_id for webhook in self._webhooks.all() if Topic.MATURED in webhook.topics]:
            while (told := self._tell_matured(name, before, now=now)) is not None:
                number += told
        return number

    def _tell_matured(self, webhook_id: str, before: datetime, *, now: datetime) -> int | None:
        """The next decisions of one webhook, about MATURE_AT_ONCE, in one transaction; None where there are no more."""
        webhook = next((one for one in self._webhooks.all() if one.webhook_id == webhook_id), None)
        if webhook is None or webhook.disabled_at is not None:
            return None
        at = _decisions.c.decided_at
        is_next = at <= to_microseconds(before)
        if webhook.matured_until is not None:
            is_next &= at > to_microseconds(webhook.matured_until)
        with self._database.read() as connection:  # nobody waits while we look
            first = sa.select(at).where(is_next).order_by(at).limit(MATURE_AT_ONCE).subquery()
            last = connection.execute(sa.select(sa.func.max(first.c.decided_at))).scalar()
            if last is None:
                return None
            rows = connection.execute(sa.select(_decisions).where(is_next, at <= last).order_by(at)).all()
        messages = [Message(Topic.MATURED, row.seat_id, now, {"decision_id": row.decision_id}) for row in rows]
        with self._database.write() as connection:
            if not self._webhooks.told_until(connection, webhook, from_microseconds(last)):
                return None
            return self._webhooks.tell(connection, messages, now=now, only=webhook)

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
    """A thread that sends what waits, and tells of matured decisions, until it is closed. Each webhook is served by itself:
    a slow receiver, or many messages for one, hold up no other.
    """

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
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="courier", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End after the deliveries at hand, or within LAST_SECONDS; what waits stays in the database."""
        self._stopped.set()
        self._thread.join(timeout=2 * LAST_SECONDS)  # a name that nobody resolves may hold a thread for longer

    async def _run(self) -> None:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS, "webhooks"))
        stopped = asyncio.create_task(asyncio.to_thread(self._stopped.wait))
        serving: dict[str, asyncio.Task[None]] = {}
        maturing = asyncio.create_task(self._keep_maturing())
        async with httpx.AsyncClient(follow_redirects=False, limits=httpx.Limits(max_connections=None)) as client:
            while not stopped.done():
                try:
                    for webhook in await asyncio.to_thread(self._webhooks.due, now=self._clock()):
                        busy = serving.get(webhook.webhook_id)
                        if busy is None or busy.done():
                            serving[webhook.webhook_id] = asyncio.create_task(self._serve(client, webhook))
                except Exception as error:  # databases raise their own; the thread must outlive whatever it is
                    _log.warning("webhooks wait: %s", type(error).__name__)
                serving = {name: task for name, task in serving.items() if not task.done()}
                await asyncio.wait({stopped}, timeout=self._seconds)
            maturing.cancel()
            if serving:
                await asyncio.wait(serving.values(), timeout=LAST_SECONDS)
            for task in serving.values():
                task.cancel()
            await asyncio.gather(maturing, *serving.values(), return_exceptions=True)

    async def _serve(self, client: httpx.AsyncClient, webhook: Webhook) -> None:
        try:
            for state in await self._webhooks.deliver(client, webhook, clock=self._clock):
                self._meters.delivery(str(state))
        except Exception as error:  # databases raise their own; what was claimed comes again
            _log.warning("a webhook waits: %s", type(error).__name__)

    async def _keep_maturing(self) -> None:
        while True:
            try:
                await asyncio.to_thread(self._mature)
            except Exception as error:  # as above; the next time tells
                _log.warning("matured decisions wait: %s", type(error).__name__)
            await asyncio.sleep(self._mature_seconds)


def _where(seats: list[str], chosen: "np.ndarray[tuple[int], np.dtype[np.bool_]]") -> list[str]:
    return [seat for seat, is_chosen in zip(seats, chosen.tolist(), strict=True) if is_chosen]
