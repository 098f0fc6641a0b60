"""Webhooks, after Standard Webhooks 1.0: signed, thin, retried with back-off, set aside as dead in the end.

A message is stored in the same database as the log and sent from there, so that none is lost with the process; one may
come twice, with the same `webhook-id`. It says what happened at which seat and nothing of the score: who wants to know
more asks the API, with a key, and is audited.

Who may be told is said by the operator, at this machine; no call of the API adds a webhook. Addresses inside a private
network are allowed, for receivers often live there; link-local ones, where clouds keep their credentials, never are.
Redirects are not followed, and of an answer nothing is kept but its status.
"""

import asyncio
import base64
import hashlib
import hmac
import ipaddress
import json
import random
import secrets
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

import httpx
import sqlalchemy as sa

from features.database import Database
from features.events import organization_of
from features.instants import from_microseconds, to_microseconds

# Source: Standard Webhooks 1.0, deliverability and reliability.
BACKOFF = tuple(
    timedelta(seconds=seconds) for seconds in (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
)
JITTER = 0.1  # our choice: so much longer at most, so that what failed together does not come again together
TIMEOUT_SECONDS = 15.0  # for the whole of a delivery
AT_ONCE = 50  # messages of one webhook
PATIENCE_SECONDS = (
    30.0  # our choice: so long one receiver is told in a row; far below CLAIM, with TIMEOUT_SECONDS on top
)
REST = timedelta(seconds=30)  # our choice: so long a receiver that did not answer is left alone, all its messages wait
LONGEST_REST = timedelta(hours=1)  # our choice: whatever `Retry-After` says
OVERWHELMED = ("429", "502", "504")  # Source: Standard Webhooks 1.0: who answers so is to be told less often
GONE = "410"
CLAIM = timedelta(seconds=60)
OVERLAP = timedelta(hours=24)  # our choice: so long messages are signed with the old secret, too, after a rotation
SECRET_PREFIX = "whsec_"
FORBIDDEN = "ForbiddenAddress"
_EC2_IPV6 = ipaddress.ip_address("fd00:ec2::254")  # where a machine of EC2 has its credentials, too; not link-local
_LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})


class Topic(StrEnum):
    """What is told."""

    AT_RISK = "seat.at_risk"
    STRUGGLING = "seat.struggling"
    MATURED = "decision.matured"


class State(StrEnum):
    """How far a delivery is."""

    WAITING = "waiting"
    DELIVERED = "delivered"
    DEAD = "dead"


_webhooks = sa.table(
    "webhooks",
    *(sa.column(name) for name in ("webhook_id", "organization", "url", "types", "generation")),
    sa.column("created_at", sa.BigInteger()),
    *(sa.column(name, sa.BigInteger()) for name in ("rotated_at", "disabled_at", "matured_until")),
)
_deliveries = sa.table(
    "deliveries",
    *(sa.column(name) for name in ("delivery_id", "webhook_id", "seat_id", "body", "attempts", "state", "last_answer")),
    sa.column("created_at", sa.BigInteger()),
    sa.column("due_at", sa.BigInteger()),
)


@dataclass(frozen=True)
class Webhook:
    """Who wants to be told what. organization: of whose seats; None: of all. generation: how often its secret was replaced,
    last at rotated_at. disabled_at: when its receiver said that it is gone. matured_until: when the last decision was made
    that it was told has matured.
    """

    webhook_id: str
    organization: str | None
    url: str
    topics: frozenset[Topic]
    created_at: datetime
    generation: int = 0
    rotated_at: datetime | None = None
    disabled_at: datetime | None = None
    matured_until: datetime | None = None

    def wants(self, topic: Topic, seat_id: str) -> bool:
        """Whether it is told of that at the seat."""
        is_its = self.organization in (None, organization_of(seat_id))
        return self.disabled_at is None and topic in self.topics and is_its


@dataclass(frozen=True)
class Message:
    """Something to tell. about: the rest of `data`, without anything that a score says."""

    topic: Topic
    seat_id: str
    at: datetime
    about: dict[str, str]


@dataclass(frozen=True)
class Delivery:
    """One message on its way to one webhook."""

    delivery_id: str
    webhook_id: str
    seat_id: str
    body: str
    attempts: int
    state: State
    last_answer: str


@dataclass(frozen=True)
class Answer:
    """What came of a delivery. said: the status, or the kind of error. retry_after: where the receiver says so."""

    said: str
    retry_after: timedelta | None = None

    @property
    def rest(self) -> timedelta | None:
        """So long the receiver is left alone with whatever else waits for it; None: not at all."""
        if self.said.startswith("2"):
            return None
        if self.retry_after is not None:
            return min(max(self.retry_after, REST), LONGEST_REST)
        return REST if self.said in OVERWHELMED or not self.said.isdigit() else None


class Webhooks:
    """The webhooks and their messages, in one database. key: from which each webhook's secret is derived."""

    def __init__(self, database: Database, *, key: bytes) -> None:
        self._database, self._key = database, key

    def add(self, url: str, *, topics: Iterable[Topic], organization: str | None, now: datetime) -> Webhook:
        """A new webhook. Raises ValueError for an address that messages may not go to."""
        parts = urlsplit(url)
        if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOCAL):
            raise ValueError(f"url: expected https://…, or http:// to this machine, came {url[:100]!r}")
        if parts.username or parts.password or not parts.hostname:
            raise ValueError("url: expected a host, and no name or password before it")
        try:
            parts.hostname.encode("idna")
        except UnicodeError:
            raise ValueError(f"url: expected a host whose labels have 1 to 63 characters, came {url[:100]!r}") from None
        webhook = Webhook(secrets.token_hex(6), organization, url, frozenset(topics) or frozenset(Topic), now)
        row = {
            "webhook_id": webhook.webhook_id,
            "organization": organization,
            "url": url,
            "types": ",".join(sorted(webhook.topics)),
            "created_at": to_microseconds(now),
            "generation": 0,
        }
        with self._database.write() as connection:
            connection.execute(sa.insert(_webhooks), [row])
        return webhook

    def all(self) -> list[Webhook]:
        """Every webhook, oldest first."""
        with self._database.read() as connection:
            rows = connection.execute(sa.select(_webhooks).order_by(_webhooks.c.created_at)).all()
        return [
            Webhook(
                row.webhook_id,
                row.organization,
                row.url,
                frozenset(map(Topic, row.types.split(","))),
                from_microseconds(row.created_at),
                row.generation,
                *(
                    None if at is None else from_microseconds(at)
                    for at in (row.rotated_at, row.disabled_at, row.matured_until)
                ),
            )
            for row in rows
        ]

    def remove(self, webhook_id: str) -> None:
        """End a webhook; what waits for it is dropped. Raises ValueError where there is none of that id."""
        with self._database.write() as connection:
            if not connection.execute(sa.delete(_webhooks).where(_webhooks.c.webhook_id == webhook_id)).rowcount:
                raise _unknown(webhook_id)
            connection.execute(sa.delete(_deliveries).where(_deliveries.c.webhook_id == webhook_id))

    def rotate(self, webhook_id: str, *, now: datetime) -> str:
        """A new secret; for OVERLAP messages carry a signature of each. Raises ValueError where there is none of that id."""
        with self._database.write() as connection:
            is_it = _webhooks.c.webhook_id == webhook_id
            generation = connection.execute(sa.select(_webhooks.c.generation).where(is_it)).scalar()
            if generation is None:
                raise _unknown(webhook_id)
            values = {"generation": generation + 1, "rotated_at": to_microseconds(now)}
            connection.execute(sa.update(_webhooks).where(is_it).values(**values))
        return self.secret(webhook_id, generation + 1)

    def resend(self, *, now: datetime, webhook_id: str | None = None, delivery_id: str | None = None) -> int:
        """Deliveries that were given up are tried again from the beginning, all or those of one webhook or the one; how many.

        They keep their `webhook-id`, so that a receiver that got one after all knows it. One that had said that it is gone
        is told again from then on. Raises ValueError where there is no webhook of that id.
        """
        which = _deliveries.c.state == State.DEAD
        for column, value in ((_deliveries.c.webhook_id, webhook_id), (_deliveries.c.delivery_id, delivery_id)):
            if value is not None:
                which &= column == value
        theirs = sa.true() if webhook_id is None else _webhooks.c.webhook_id == webhook_id
        with self._database.write() as connection:
            if webhook_id is not None and connection.execute(sa.select(_webhooks).where(theirs)).first() is None:
                raise _unknown(webhook_id)
            if delivery_id is not None:
                theirs = _webhooks.c.webhook_id.in_(sa.select(_deliveries.c.webhook_id).where(which))
            connection.execute(sa.update(_webhooks).where(theirs).values(disabled_at=None))
            again = {"state": State.WAITING, "attempts": 0, "due_at": to_microseconds(now)}
            return int(connection.execute(sa.update(_deliveries).where(which).values(**again)).rowcount)

    def secret(self, webhook_id: str, generation: int = 0) -> str:
        """What its receiver checks signatures with; derived, so that the database holds none."""
        told = f"webhook\x1f{webhook_id}" + (f"\x1f{generation}" if generation else "")
        digest = hmac.new(self._key, told.encode(), hashlib.sha256).digest()
        return SECRET_PREFIX + base64.b64encode(digest).decode()

    def tell(
        self,
        connection: sa.Connection,
        messages: Sequence[Message],
        *,
        now: datetime,
        only: Webhook | None = None,
    ) -> int:
        """Store the messages for everybody who wants them, or for the one, in the caller's transaction; returns how many."""
        rows = [
            {
                "delivery_id": f"msg_{secrets.token_hex(12)}",
                "webhook_id": webhook.webhook_id,
                "seat_id": message.seat_id,
                "body": json.dumps(
                    {
                        "type": message.topic,
                        "timestamp": message.at.isoformat().replace("+00:00", "Z"),
                        "data": {"seat_id": message.seat_id, **message.about},
                    },
                    separators=(",", ":"),
                ),
                "created_at": to_microseconds(now),
                "attempts": 0,
                "due_at": to_microseconds(now),
                "state": State.WAITING,
                "last_answer": "",
            }
            for webhook in (self.all() if only is None else [only])
            for message in messages
            if webhook.wants(message.topic, message.seat_id)
        ]
        if rows:
            connection.execute(sa.insert(_deliveries), rows)
        return len(rows)

    def told_until(self, connection: sa.Connection, webhook: Webhook, until: datetime) -> bool:
        """Note that the webhook is told of decisions made up to then, in the caller's transaction; False where another
        process was faster.
        """
        before = None if webhook.matured_until is None else to_microseconds(webhook.matured_until)
        is_as_read = (_webhooks.c.webhook_id == webhook.webhook_id) & _webhooks.c.matured_until.is_not_distinct_from(
            before
        )
        noted = sa.update(_webhooks).where(is_as_read).values(matured_until=to_microseconds(until))
        return connection.execute(noted).rowcount > 0

    def due(self, *, now: datetime) -> list[Webhook]:
        """The webhooks for which something waits."""
        its = _deliveries.c.webhook_id == _webhooks.c.webhook_id
        is_due = (_deliveries.c.state == State.WAITING) & (_deliveries.c.due_at <= to_microseconds(now))
        waits = sa.select(_deliveries.c.delivery_id).where(its, is_due).exists()  # not counted: there may be many
        with self._database.read() as connection:
            names = set(connection.execute(sa.select(_webhooks.c.webhook_id).where(waits)).scalars())
        return [webhook for webhook in self.all() if webhook.webhook_id in names] if names else []

    async def deliver(
        self, client: httpx.AsyncClient, webhook: Webhook, *, clock: Callable[[], datetime]
    ) -> list[State]:
        """Send what is due of one webhook, one message after the other, and say what became of each.

        Ends after AT_ONCE messages or PATIENCE_SECONDS, and once the receiver does not answer or asks for a pause: then
        whatever waits for it waits that long. client: does not follow redirects.
        """
        states: list[State] = []
        end = time.monotonic() + PATIENCE_SECONDS
        claimed = await asyncio.to_thread(self._claim, webhook, clock())
        for delivery in claimed:
            answer = await self._send(client, webhook, delivery, clock)
            now = clock()  # a pause begins with the answer
            states.append(await asyncio.to_thread(self._note, webhook, delivery, answer, now))
            if answer.rest is not None or answer.said == GONE or time.monotonic() > end:
                await asyncio.to_thread(self._give_back, claimed[len(states) :], now)
                if answer.rest is not None:
                    await asyncio.to_thread(self._postpone, webhook, now + answer.rest)
                break
        return states

    def _postpone(self, webhook: Webhook, until: datetime) -> None:
        """Whatever waits for the receiver waits until then at least."""
        its = (_deliveries.c.webhook_id == webhook.webhook_id) & (_deliveries.c.state == State.WAITING)
        is_early = _deliveries.c.due_at < to_microseconds(until)
        with self._database.write() as connection:
            connection.execute(sa.update(_deliveries).where(its, is_early).values(due_at=to_microseconds(until)))

    def _give_back(self, deliveries: Sequence[Delivery], due: datetime) -> None:
        """The claim on those that were not tried ends."""
        ids = [delivery.delivery_id for delivery in deliveries]
        is_theirs = _deliveries.c.delivery_id.in_(ids) & (_deliveries.c.state == State.WAITING)
        with self._database.write() as connection:
            connection.execute(sa.update(_deliveries).where(is_theirs).values(due_at=to_microseconds(due)))

    def deliveries(self, *, state: State | None = None, limit: int = 100) -> list[Delivery]:
        """The latest deliveries."""
        query = sa.select(_deliveries).order_by(_deliveries.c.created_at.desc()).limit(limit)
        if state is not None:
            query = query.where(_deliveries.c.state == state)
        with self._database.read() as connection:
            return [_delivery_of(row) for row in connection.execute(query)]

    def states(self) -> dict[tuple[str, State], int]:
        """How many messages of each webhook are in each state; a waiting one that was tried counts with those waiting."""
        columns = (_deliveries.c.webhook_id, _deliveries.c.state)
        query = sa.select(*columns, sa.func.count()).group_by(*columns)
        with self._database.read() as connection:
            return {(webhook_id, State(state)): int(n) for webhook_id, state, n in connection.execute(query)}

    def failing(self, limit: int = 50) -> list[Delivery]:
        """The latest messages that could not be delivered, for good or so far."""
        query = (
            sa.select(_deliveries)
            .where(_deliveries.c.state != State.DELIVERED, _deliveries.c.attempts > 0)
            .order_by(_deliveries.c.created_at.desc())
            .limit(limit)
        )
        with self._database.read() as connection:
            return [_delivery_of(row) for row in connection.execute(query)]

    def _claim(self, webhook: Webhook, now: datetime) -> list[Delivery]:
        is_due = (_deliveries.c.state == State.WAITING) & (_deliveries.c.due_at <= to_microseconds(now))
        its = _deliveries.c.webhook_id == webhook.webhook_id
        with self._database.write() as connection:
            query = sa.select(_deliveries).where(is_due, its).order_by(_deliveries.c.due_at).limit(AT_ONCE)
            rows = connection.execute(query.with_for_update(skip_locked=True)).all()
            held = to_microseconds(now + CLAIM)
            connection.execute(
                sa.update(_deliveries)
                .where(_deliveries.c.delivery_id.in_([row.delivery_id for row in rows]))
                .values(due_at=held)
            )
        return [_delivery_of(row) for row in rows]

    def _signatures(self, webhook: Webhook, delivery: Delivery, timestamp: str, now: datetime) -> str:
        """Of the secret, and within OVERLAP of a rotation of the one before, which a receiver may still have."""
        generations = [webhook.generation]
        if webhook.rotated_at is not None and now - webhook.rotated_at < OVERLAP:
            generations.append(webhook.generation - 1)
        secrets_ = [self.secret(webhook.webhook_id, generation) for generation in generations]
        return " ".join(signature(secret, delivery.delivery_id, timestamp, delivery.body) for secret in secrets_)

    async def _send(
        self, client: httpx.AsyncClient, webhook: Webhook, delivery: Delivery, clock: Callable[[], datetime]
    ) -> Answer:
        now = clock()
        timestamp = str(int(now.timestamp()))
        headers = {
            "content-type": "application/json",
            "webhook-id": delivery.delivery_id,
            "webhook-timestamp": timestamp,
            "webhook-signature": self._signatures(webhook, delivery, timestamp, now),
        }
        try:
            # httpx counts each wait for itself: who sends a byte at a time would never be too slow for it
            async with asyncio.timeout(TIMEOUT_SECONDS):
                if await asyncio.to_thread(is_forbidden, urlsplit(webhook.url).hostname or ""):
                    return Answer(FORBIDDEN)
                # the body of an answer is not read: nothing of it is wanted, and it may be of any size
                sent = client.stream(
                    "POST", webhook.url, content=delivery.body, headers=headers, timeout=None, follow_redirects=False
                )
                async with sent as answer:
                    said = str(answer.status_code)
                    return Answer(said, _retry_after(answer.headers.get("retry-after", ""), clock()))
        except Exception as error:  # whatever it is, it was an attempt: else it would come again without end
            return Answer(type(error).__name__)

    def _note(self, webhook: Webhook, delivery: Delivery, answer: Answer, now: datetime) -> State:
        """410 ends the webhook, as the standard asks; any other failure comes again until BACKOFF is used up."""
        attempts = delivery.attempts + 1
        state, due = State.WAITING, now
        if answer.said.startswith("2"):
            state = State.DELIVERED
        elif answer.said == GONE or attempts > len(BACKOFF):
            state = State.DEAD
        else:
            due = now + BACKOFF[attempts - 1] * random.uniform(1.0, 1.0 + JITTER)
        values = {"attempts": attempts, "state": state, "due_at": to_microseconds(due), "last_answer": answer.said}
        its = _deliveries.c.webhook_id == webhook.webhook_id
        with self._database.write() as connection:
            connection.execute(
                sa.update(_deliveries).where(_deliveries.c.delivery_id == delivery.delivery_id).values(**values)
            )
            if answer.said == GONE:
                is_it = _webhooks.c.webhook_id == webhook.webhook_id
                connection.execute(sa.update(_webhooks).where(is_it).values(disabled_at=to_microseconds(now)))
                dead = sa.update(_deliveries).where(its, _deliveries.c.state == State.WAITING)
                connection.execute(dead.values(state=State.DEAD, last_answer=GONE))
        return state


def _unknown(webhook_id: str) -> ValueError:
    return ValueError(f"there is no webhook {webhook_id!r}; see `rekindle webhooks list`")


def _retry_after(header: str, now: datetime) -> timedelta | None:
    """Of `Retry-After`, seconds or a date; None where it says nothing that can be read."""
    if header.isascii() and header.isdigit():
        return timedelta(seconds=min(int(header[:9]), LONGEST_REST.total_seconds()))
    try:
        at = parsedate_to_datetime(header)
    except (ValueError, OverflowError):
        return None
    return at - now if at.tzinfo is not None else None


def is_forbidden(host: str) -> bool:
    """Whether the host, or an address that its name stands for, is link-local, of many, or none. Raises OSError for a name
    without an address.
    """
    for *_, where in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM):
        address = ipaddress.ip_address(str(where[0]).partition("%")[0])
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        if address.is_link_local or address.is_multicast or address.is_unspecified or address == _EC2_IPV6:
            return True
    return False


def signature(secret: str, message_id: str, timestamp: str, body: str) -> str:
    """`v1,` and the HMAC-SHA-256 of `id.timestamp.body`. Source: Standard Webhooks 1.0, symmetric signatures."""
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX))
    digest = hmac.new(key, f"{message_id}.{timestamp}.{body}".encode(), hashlib.sha256).digest()
    return "v1," + base64.b64encode(digest).decode()


def _delivery_of(row: Any) -> Delivery:
    return Delivery(
        row.delivery_id, row.webhook_id, row.seat_id, row.body, row.attempts, State(row.state), row.last_answer
    )
