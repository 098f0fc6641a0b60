"""Keys of the API: who may call what, for which organisation, until when, and how often.

A key reads `rk_<id>_<secret>`. Its id is public; of its secret, 256 random bits, only the SHA-256 is kept: a digest of so
much chance cannot be guessed back, so that no slow hash is needed, and none could be afforded at a thousand calls a second.
"""

import hashlib
import hmac
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from features.database import Database
from features.instants import from_microseconds, to_microseconds

PREFIX = "rk"
SECRET_BYTES = 32
FIRST_KEY_LOCK = 0x52454B494E444C4B  # "REKINDLK"
DEFAULT_RATE = 600.0  # our choice: calls per second; an integration in trouble must not take the service with it

_keys = sa.table(
    "keys",
    *(
        sa.column(name)
        for name in ("key_id", "digest", "name", "organization", "scopes", "rate_per_second", "created_at")
    ),
    *(sa.column(name, sa.BigInteger()) for name in ("expires_at", "revoked_at", "last_used_at")),
)


class Scope(StrEnum):
    """What a key may be used for; none contains another."""

    INGEST = "ingest"
    SCORE = "score"
    DECIDE = "decide"
    READ = "read"
    ADMIN = "admin"


@dataclass(frozen=True)
class Key:
    """A key without its secret. organization: the only one that it sees; None: all. rate: calls per second."""

    key_id: str
    digest: str
    name: str
    organization: str | None
    scopes: frozenset[Scope]
    rate_per_second: float
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None

    def is_valid(self, now: datetime) -> bool:
        """Whether it opens anything at that time."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


def parts(text: str) -> tuple[str, str] | None:
    """The id and the secret of a key as it is sent, or None where it does not look like one."""
    prefix, _, rest = text.partition("_")
    key_id, _, secret = rest.partition("_")
    return (key_id, secret) if prefix == PREFIX and key_id and secret else None


def digest_of(secret: str) -> str:
    """SHA-256 of the secret, hexadecimal."""
    return hashlib.sha256(secret.encode("utf-8", errors="surrogatepass")).hexdigest()


def opens(key: Key | None, secret: str) -> bool:
    """Whether the secret is the key's. Takes the same time for a wrong one, a right one, and no key at all."""
    expected = "" if key is None else key.digest
    return hmac.compare_digest(digest_of(secret), expected or "0" * 64) and key is not None


class Keys:
    """The keys of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(
        self,
        *,
        name: str,
        scopes: Iterable[Scope],
        now: datetime,
        organization: str | None = None,
        expires_at: datetime | None = None,
        rate_per_second: float = DEFAULT_RATE,
    ) -> tuple[Key, str]:
        """A new key, and its text, which nobody can tell again. Raises ValueError for a key that could open nothing."""
        wanted = frozenset(scopes)
        if not wanted:
            raise ValueError(f"scopes: expected at least one of {', '.join(Scope)}, came none")
        if expires_at is not None and expires_at <= now:
            raise ValueError(f"expires: expected a time to come, came {expires_at.isoformat()}")
        if not rate_per_second > 0:
            raise ValueError(f"rate: expected calls per second above 0, came {rate_per_second}")
        secret = secrets.token_urlsafe(SECRET_BYTES)
        key = Key(
            secrets.token_hex(6),
            digest_of(secret),
            name[:64],
            organization,
            wanted,
            float(rate_per_second),
            now,
            expires_at,
            revoked_at=None,
            last_used_at=None,
        )
        with self._database.write() as connection:
            _insert(connection, key)
        return key, _text(key, secret)

    def create_first(self, *, now: datetime) -> str | None:
        """The text of a key for everything, where there never was a key; else None."""
        secret = secrets.token_urlsafe(SECRET_BYTES)
        key = Key(
            secrets.token_hex(6),
            digest_of(secret),
            "first",
            None,
            frozenset(Scope),
            DEFAULT_RATE,
            now,
            None,
            None,
            None,
        )
        with self._database.write() as connection:
            if connection.dialect.name == "postgresql":  # whose writers do not queue: services that start together do
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(FIRST_KEY_LOCK)))
            if connection.execute(sa.select(_keys.c.key_id).limit(1)).first() is not None:
                return None
            _insert(connection, key)
        return _text(key, secret)

    def all(self) -> list[Key]:
        """Every key that was ever made, oldest first."""
        with self._database.read() as connection:
            rows = connection.execute(sa.select(_keys).order_by(_keys.c.created_at, _keys.c.key_id)).all()
        return [_key_of(row) for row in rows]

    def revoke(self, key_id: str, *, now: datetime) -> bool:
        """End a key; returns whether it opened anything before. Raises ValueError where there is none of that id."""
        with self._database.write() as connection:
            known = connection.execute(sa.select(_keys.c.revoked_at).where(_keys.c.key_id == key_id)).first()
            if known is None:
                raise ValueError(f"there is no key {key_id!r}; see `rekindle keys list`")
            if known.revoked_at is not None:
                return False
            connection.execute(sa.update(_keys).where(_keys.c.key_id == key_id).values(revoked_at=to_microseconds(now)))
        return True

    def used(self, last_used: dict[str, datetime]) -> None:
        """Note when keys were last used, by id."""
        with self._database.write_soon() as connection:
            for key_id, at in last_used.items():
                connection.execute(
                    sa.update(_keys).where(_keys.c.key_id == key_id).values(last_used_at=to_microseconds(at))
                )


def _insert(connection: sa.Connection, key: Key) -> None:
    instants = {
        name: None if at is None else to_microseconds(at)
        for name, at in (
            ("created_at", key.created_at),
            ("expires_at", key.expires_at),
            ("revoked_at", key.revoked_at),
            ("last_used_at", key.last_used_at),
        )
    }
    scopes = ",".join(sorted(key.scopes))
    own = {name: getattr(key, name) for name in ("key_id", "digest", "name", "organization", "rate_per_second")}
    connection.execute(sa.insert(_keys), [{**own, **instants, "scopes": scopes}])


def _text(key: Key, secret: str) -> str:
    return f"{PREFIX}_{key.key_id}_{secret}"


def _key_of(row: Any) -> Key:
    return Key(
        row.key_id,
        row.digest,
        row.name,
        row.organization,
        frozenset(map(Scope, row.scopes.split(","))),
        float(row.rate_per_second),
        from_microseconds(row.created_at),
        *(None if at is None else from_microseconds(at) for at in (row.expires_at, row.revoked_at, row.last_used_at)),
    )
