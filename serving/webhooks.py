"""Webhooks, after Standard Webhooks 1.0: signed, thin, retried with back-off, set aside as dead in the end.

A message is stored in the same database as the log and sent from there, so that none is lost with the process; one may
come twice, with the same `webhook-id`. It says what happened at which seat and nothing of the score: who wants to know
more asks the API, with a key, and is audited.

Who may be told is said by the operator, at this machine; no call of the API adds a webhook. Addresses inside a private
network are allowed, for receivers often live there; link-local ones, where clouds keep their credentials, never are.
Redirects are not followed, and of an answer nothing is kept but its status.
"""

import base64
import hashlib
import hmac
import ipaddress
import json
import secrets
import socket
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
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
TIMEOUT_SECONDS = 15.0
AT_ONCE = 50
SENDERS = 8  # our choice: receivers that are told at a time; a slow one holds up its own messages only
PATIENCE_SECONDS = (
    30.0  # our choice: so long one receiver is told in a row; far below CLAIM, with TIMEOUT_SECONDS on top
)
REST = timedelta(seconds=30)  # our choice: so long a receiver that did not answer is left alone, all its messages wait
CLAIM = timedelta(seconds=60)
OVERLAP = timedelta(hours=24)  # our choice: so long messages are signed with the old secret, too, after a rotation
SECRET_PREFIX = "whsec_"
FORBIDDEN = "ForbiddenAddress"
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
    sa.column("rotated_at", sa.BigInteger()),
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
    last at rotated_at.
    """

    webhook_id: str
    organization: str | None
    url: str
    topics: frozenset[Topic]
    created_at: datetime
    generation: int = 0
    rotated_at: datetime | None = None


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
        webhook = Webhook(secrets.token_hex(6), organization, url, frozenset(topics) or frozenset(Topic), now)
        row = {
            "webhook_id": webhook.webhook_id,
            "organization": organization,
            "url": url,
            "types": ",".join(sorted(webhook.topics)),
            "created_at": to_microseconds(now),
            "generation": 0,
            "rotated_at": None,
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
                None if row.rotated_at is None else from_microseconds(row.rotated_at),
            )
            for row in rows
        ]

    def remove(self, webhook_id: str) -> None:
        """End a webhook; what waits for it is dropped. Raises ValueError where there is none of that id."""
        with self._database.write() as connection:
            if not connection.execute(sa.delete(_webhooks).where(_webhooks.c.webhook_id == webhook_id)).rowcount:
                raise ValueError(f"there is no webhook {webhook_id!r}; see `rekindle webhooks list`")
            connection.execute(sa.delete(_deliveries).where(_deliveries.c.webhook_id == webhook_id))

    def rotate(self, webhook_id: str, *, now: datetime) -> str:
        """A new secret; for OVERLAP messages carry a signature of each. Raises ValueError where there is none of that id."""
        with self._database.write() as connection:
            is_it = _webhooks.c.webhook_id == webhook_id
            generation = connection.execute(sa.select(_webhooks.c.generation).where(is_it)).scalar()
            if generation is None:
                raise ValueError(f"there is no webhook {webhook_id!r}; see `rekindle webhooks list`")
            values = {"generation": generation + 1, "rotated_at": to_microseconds(now)}
            connection.execute(sa.update(_webhooks).where(is_it).values(**values))
        return self.secret(webhook_id, generation + 1)

    def resend(self, *, now: datetime, webhook_id: str | None = None, delivery_id: str | None = None) -> int:
        """Deliveries that were given up are tried again from the beginning, all or those of one webhook or the one; how many.

        They keep their `webhook-id`, so that a receiver that got one after all knows it.
        """
        query = sa.update(_deliveries).where(_deliveries.c.state == State.DEAD)
        for column, value in ((_deliveries.c.webhook_id, webhook_id), (_deliveries.c.delivery_id, delivery_id)):
            if value is not None:
                query = query.where(column == value)
        with self._database.write() as connection:
            again = {"state": State.WAITING, "attempts": 0, "due_at": to_microseconds(now)}
            return int(connection.execute(query.values(**again)).rowcount)

    def secret(self, webhook_id: str, generation: int = 0) -> str:
        """What its receiver checks signatures with; derived, so that the database holds none."""
        told = f"webhook\x1f{webhook_id}" + (f"\x1f{generation}" if generation else "")
        digest = hmac.new(self._key, told.encode(), hashlib.sha256).digest()
        return SECRET_PREFIX + base64.b64encode(digest).decode()

    def tell(self, connection: sa.Connection, messages: Sequence[Message], *, now: datetime) -> int:
        """Store the messages for everybody who wants them, in the caller's transaction; returns how many."""
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
            for webhook in self.all()
            for message in messages
            if message.topic in webhook.topics and webhook.organization in (None, organization_of(message.seat_id))
        ]
        if rows:
            connection.execute(sa.insert(_deliveries), rows)
        return len(rows)

    def deliver(self, client: httpx.Client, *, now: datetime) -> dict[State, int]:
        """Send what is due; how many came to which state. client: does not follow redirects."""
        counts = dict.fromkeys(State, 0)
        claimed: dict[str, list[Delivery]] = {}
        for delivery in self._claim(now):
            claimed.setdefault(delivery.webhook_id, []).append(delivery)
        if not claimed:
            return counts
        webhooks = {webhook.webhook_id: webhook for webhook in self.all()}
        told = [
            (webhooks[name], waiting) for name, waiting in claimed.items() if name in webhooks
        ]  # others: removed now
        with ThreadPoolExecutor(SENDERS, "webhooks") as pool:
            for states in pool.map(lambda one: self._deliver_to(client, one[0], one[1], now), told):
                for state in states:
                    counts[state] += 1
        return counts

    def _deliver_to(
        self, client: httpx.Client, webhook: Webhook, deliveries: Sequence[Delivery], now: datetime
    ) -> list[State]:
        """The messages of one receiver, one after the other; once it does not answer, what it is to get waits for REST."""
        states: list[State] = []
        end = time.monotonic() + PATIENCE_SECONDS
        for delivery in deliveries:
            answer = self._send(client, webhook, delivery, now)
            states.append(self._note(delivery, answer, now))
            if not answer.isdigit():
                self._postpone(delivery, now + REST)
            if not answer.isdigit() or time.monotonic() > end:
                self._give_back(deliveries[len(states) :], now if answer.isdigit() else now + REST)
                break
        return states

    def _postpone(self, failed: Delivery, until: datetime) -> None:
        """What else waits for the receiver of the failed delivery, which has its own time to come again."""
        others = (_deliveries.c.webhook_id == failed.webhook_id) & (_deliveries.c.delivery_id != failed.delivery_id)
        is_due = (_deliveries.c.state == State.WAITING) & (_deliveries.c.due_at < to_microseconds(until))
        with self._database.write() as connection:
            connection.execute(sa.update(_deliveries).where(others, is_due).values(due_at=to_microseconds(until)))

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

    def _claim(self, now: datetime) -> list[Delivery]:
        is_due = (_deliveries.c.state == State.WAITING) & (_deliveries.c.due_at <= to_microseconds(now))
        with self._database.read() as connection:  # the usual case takes no lock
            if connection.execute(sa.select(_deliveries.c.delivery_id).where(is_due).limit(1)).first() is None:
                return []
        with self._database.write() as connection:
            query = sa.select(_deliveries).where(is_due).order_by(_deliveries.c.due_at).limit(AT_ONCE)
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

    def _send(self, client: httpx.Client, webhook: Webhook, delivery: Delivery, now: datetime) -> str:
        """What came of it: the status, or the kind of error."""
        timestamp = str(int(now.timestamp()))
        headers = {
            "content-type": "application/json",
            "webhook-id": delivery.delivery_id,
            "webhook-timestamp": timestamp,
            "webhook-signature": self._signatures(webhook, delivery, timestamp, now),
        }
        try:
            if is_forbidden(urlsplit(webhook.url).hostname or ""):
                return FORBIDDEN
            # the body of an answer is not read: nothing of it is wanted, and it may be of any size
            sent = client.stream(
                "POST",
                webhook.url,
                content=delivery.body,
                headers=headers,
                timeout=TIMEOUT_SECONDS,
                follow_redirects=False,
            )
            with sent as answer:
                return str(answer.status_code)
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:  # OSError: a name that has no address
            return type(error).__name__

    def _note(self, delivery: Delivery, answer: str, now: datetime) -> State:
        """410 ends a delivery at once, as the standard asks; any other failure comes again until BACKOFF is used up."""
        attempts = delivery.attempts + 1
        state, due = State.WAITING, now
        if answer.startswith("2"):
            state = State.DELIVERED
        elif answer == "410" or attempts > len(BACKOFF):
            state = State.DEAD
        else:
            due = now + BACKOFF[attempts - 1]
        values = {"attempts": attempts, "state": state, "due_at": to_microseconds(due), "last_answer": answer}
        with self._database.write() as connection:
            connection.execute(
                sa.update(_deliveries).where(_deliveries.c.delivery_id == delivery.delivery_id).values(**values)
            )
        return state


def is_forbidden(host: str) -> bool:
    """Whether the host, or an address that its name stands for, is link-local, of many, or none. Raises OSError for a name
    without an address.
    """
    for *_, where in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM):
        address = ipaddress.ip_address(str(where[0]).partition("%")[0])
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        if address.is_link_local or address.is_multicast or address.is_unspecified:
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
