"""Webhooks, after Standard Webhooks 1.0: signed, thin, retried with back-off, set aside as dead in the end.

A message is stored in the same database as the log and sent from there, so that none is lost with the process; one may
come twice, with the same `webhook-id`. It says what happened at which seat and nothing of the score: who wants to know
more asks the API, with a key, and is audited.
"""

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Iterable, Sequence
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
CLAIM = timedelta(seconds=60)
SECRET_PREFIX = "whsec_"
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
    *(sa.column(name) for name in ("webhook_id", "organization", "url", "types")),
    sa.column("created_at", sa.BigInteger()),
)
_deliveries = sa.table(
    "deliveries",
    *(sa.column(name) for name in ("delivery_id", "webhook_id", "seat_id", "body", "attempts", "state", "last_answer")),
    sa.column("created_at", sa.BigInteger()),
    sa.column("due_at", sa.BigInteger()),
)


@dataclass(frozen=True)
class Webhook:
    """Who wants to be told what. organization: of whose seats; None: of all."""

    webhook_id: str
    organization: str | None
    url: str
    topics: frozenset[Topic]
    created_at: datetime


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
            )
            for row in rows
        ]

    def remove(self, webhook_id: str) -> None:
        """End a webhook; what waits for it is dropped. Raises ValueError where there is none of that id."""
        with self._database.write() as connection:
            if not connection.execute(sa.delete(_webhooks).where(_webhooks.c.webhook_id == webhook_id)).rowcount:
                raise ValueError(f"there is no webhook {webhook_id!r}; see `rekindle webhooks list`")
            connection.execute(sa.delete(_deliveries).where(_deliveries.c.webhook_id == webhook_id))

    def secret(self, webhook_id: str) -> str:
        """What its receiver checks signatures with; derived, so that the database holds none."""
        digest = hmac.new(self._key, f"webhook\x1f{webhook_id}".encode(), hashlib.sha256).digest()
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
        urls = {webhook.webhook_id: webhook.url for webhook in self.all()}
        for delivery in self._claim(now):
            answer = self._send(client, urls.get(delivery.webhook_id, ""), delivery, now)
            state = self._note(delivery, answer, now)
            counts[state] += 1
        return counts

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

    def _send(self, client: httpx.Client, url: str, delivery: Delivery, now: datetime) -> str:
        """What came of it: the status, or the kind of error."""
        timestamp = str(int(now.timestamp()))
        headers = {
            "content-type": "application/json",
            "webhook-id": delivery.delivery_id,
            "webhook-timestamp": timestamp,
            "webhook-signature": signature(
                self.secret(delivery.webhook_id), delivery.delivery_id, timestamp, delivery.body
            ),
        }
        try:
            return str(client.post(url, content=delivery.body, headers=headers, timeout=TIMEOUT_SECONDS).status_code)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
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


def signature(secret: str, message_id: str, timestamp: str, body: str) -> str:
    """`v1,` and the HMAC-SHA-256 of `id.timestamp.body`. Source: Standard Webhooks 1.0, symmetric signatures."""
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX))
    digest = hmac.new(key, f"{message_id}.{timestamp}.{body}".encode(), hashlib.sha256).digest()
    return "v1," + base64.b64encode(digest).decode()


def _delivery_of(row: Any) -> Delivery:
    return Delivery(
        row.delivery_id, row.webhook_id, row.seat_id, row.body, row.attempts, State(row.state), row.last_answer
    )
