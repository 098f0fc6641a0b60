"""Access: which key calls, what it may do, which seats it sees, how often it may call."""

import asyncio
import functools
import inspect
import logging
import math
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, TypeVar

from fastapi import Query, Request
from sqlalchemy.exc import SQLAlchemyError
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from features.audit import DEFAULT_PURPOSE, Reader
from features.events import organization_of, qualify
from features.keys import Key, Keys, opens, parts
from features.keys import Scope as KeyScope
from serving.groups import Groups
from serving.meters import Meters
from serving.problems import ProblemError, invalid, respond

# The document describes the service and holds nobody's data; whoever integrates reads it before they have a key.
PAGES, SIGN_IN = "/ops", "/ops/sign-in"
PUBLIC = frozenset({"/livez", "/readyz", "/metrics", "/docs", "/docs/oauth2-redirect", "/openapi.json", SIGN_IN})
PURPOSE_HEADER = "Rekindle-Purpose"
SEEN_SECONDS = 2.0  # our choice: so long a revoked key may still be let in
TRUSTED_SECONDS = 300.0  # our choice: so long the keys that were read last are trusted while the database is away
NEW_SECONDS = 0.2  # an unknown key makes us read the keys again, but not more often than this
PATIENCE_SECONDS = 0.25  # our choice: so long a call waits for keys to be read where they were read before
LONGEST_SECONDS = 10.0  # our choice: where nothing that is known can be trusted; an absent PostgreSQL is waited for 5 s
RETRY_AFTER_SECONDS = 5
_CALLER = "rekindle.caller"
_SCOPE = "_rekindle_scope"
_PURPOSE = re.compile(r"^[a-z0-9_.:-]{1,40}$")
_log = logging.getLogger(__name__)
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Caller:
    """Who calls. organization: the only one whose seats exist for it; None: all."""

    key_id: str
    organization: str | None
    scopes: frozenset[KeyScope]

    def sees(self, qualified_id: str) -> bool:
        """Whether a seat or a person of that id can exist for the caller."""
        return self.organization is None or organization_of(qualified_id) == self.organization

    def qualified(self, identifier: str) -> str:
        """The identifier with the caller's organisation, where it has none and the caller has one."""
        return identifier if self.organization is None else str(qualify(self.organization, identifier))


class Gate:
    """The keys as they were read last, and how often each has called."""

    def __init__(
        self,
        keys: Keys,
        *,
        clock: Callable[[], datetime],
        workers: int = 1,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """workers: processes that share a key's rate, each an equal part of it."""
        self._keys, self._clock, self._workers, self._monotonic = keys, clock, workers, monotonic
        self._known: Mapping[str, Key] = {}
        self._read_at = self._tried_at = -math.inf
        self._tokens: dict[str, tuple[float, float]] = {}
        self._used: dict[str, datetime] = {}
        self._reads: Groups[None, bool] = Groups("keys", self._read, most=1_000)

    async def admit(self, authorization: str | None) -> Caller:
        """Who calls with this header. Raises ProblemError: 401 without a valid key, 429 where it calls too often, 503 where
        the keys cannot be read.
        """
        kind, _, text = (authorization or "").partition(" ")
        sent = parts(text.strip()) if kind.lower() == "bearer" else None
        if sent is None:
            raise _unauthorized("send `Authorization: Bearer rk_…`; `rekindle keys create` makes a key")
        key_id, secret = sent
        key = await self._key(key_id)
        now = self._clock()
        if not opens(key, secret) or key is None or not key.is_valid(now):
            raise _unauthorized("the key is unknown, revoked or expired")
        return self._admitted(key, now)

    async def admit_known(self, key_id: str) -> Caller | None:
        """Who calls with a key that was shown before; None where it is not valid any more. Raises ProblemError 429, 503."""
        key, now = await self._key(key_id), self._clock()
        return None if key is None or not key.is_valid(now) else self._admitted(key, now)

    def close(self) -> None:
        """Read no more keys."""
        self._reads.close(waits=False)

    def _admitted(self, key: Key, now: datetime) -> Caller:
        self._take_token(key)
        self._used[key.key_id] = now
        return Caller(key.key_id, key.organization, key.scopes)

    def flush(self) -> None:
        """Write when keys were last used. For a thread of its own: it waits for the database."""
        used, self._used = self._used, {}
        try:
            if used:
                self._keys.used(used)
        except SQLAlchemyError:
            self._used = {**used, **self._used}  # for the next time
            raise

    async def _key(self, key_id: str) -> Key | None:
        """The key of that id, as it was at most SEEN_SECONDS ago; as it was read last, for TRUSTED_SECONDS, while the database
        does not answer. The event loop goes on meanwhile.
        """
        now = self._monotonic()
        is_old = now - self._read_at >= SEEN_SECONDS
        if is_old or (key_id not in self._known and now - self._tried_at >= NEW_SECONDS):
            is_trusted = now - self._read_at < TRUSTED_SECONDS
            reading = self._reads.ask(None)
            await asyncio.wait({reading}, timeout=PATIENCE_SECONDS if is_trusted else LONGEST_SECONDS)
            is_read = reading.done() and reading.result()
            if not is_read and not (is_trusted and key_id in self._known):
                detail = "Keys cannot be read. Try again."
                headers = {"Retry-After": str(RETRY_AFTER_SECONDS)}
                raise ProblemError(503, "log-unavailable", "The log does not answer", detail, headers=headers)
        return self._known.get(key_id)

    def _read(self, asked: Sequence[None]) -> list[bool]:
        """Whether the keys could be read, for each who asks. In a thread of its own: it waits for the database."""
        self._tried_at = began = self._monotonic()
        try:
            self._known = {key.key_id: key for key in self._keys.all()}
        except SQLAlchemyError as error:
            _log.warning("keys cannot be read: %s", type(error).__name__)
            return [False] * len(asked)
        self._read_at = began
        return [True] * len(asked)

    def _take_token(self, key: Key) -> None:
        """A token bucket that holds one second of calls."""
        rate = key.rate_per_second / self._workers
        most = max(rate, 1.0)
        now = self._monotonic()
        tokens, before = self._tokens.get(key.key_id, (most, now))
        tokens = min(tokens + (now - before) * rate, most)
        if tokens < 1:
            self._tokens[key.key_id] = (tokens, now)
            wait = math.ceil((1 - tokens) / rate)
            detail = f"expected at most {key.rate_per_second:g} calls a second with this key; try again in {wait} s"
            raise ProblemError(429, "too-many-calls", "Too many calls", detail, headers={"Retry-After": str(wait)})
        self._tokens[key.key_id] = (tokens - 1, now)


class Guard:
    """ASGI middleware: no call but the public ones without a key. session: of a browser's `Cookie` header, for pages."""

    def __init__(
        self, app: ASGIApp, gate: Gate, meters: Meters, session: Callable[[str | None], Awaitable[Caller | None]]
    ) -> None:
        self._app, self._gate, self._meters, self._session = app, gate, meters, session

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with who calls, or answer it."""
        if scope["type"] != "http" or scope["path"] in PUBLIC:
            await self._app(scope, receive, send)
            return
        if "\x00" in scope["path"]:  # PostgreSQL would not even look for it
            nowhere = ProblemError(404, "not-found", "Not Found", "no name has a character 0: nothing is there")
            await respond(nowhere.problem)(scope, receive, send)
            return
        try:
            authorization = _header(scope, b"authorization")
            if _is_page(scope["path"]) and authorization is None:
                caller = await self._session(_header(scope, b"cookie"))
                if caller is None:
                    await RedirectResponse(SIGN_IN, 303, {"Cache-Control": "no-store"})(scope, receive, send)
                    return
                scope[_CALLER] = caller
            else:
                scope[_CALLER] = await self._gate.admit(authorization)
        except ProblemError as error:
            self._meters.turned_away(error.problem.status)
            await respond(error.problem, error.headers)(scope, receive, send)
            return
        await self._app(scope, receive, send)


def _is_page(path: str) -> bool:
    return path == PAGES or path.startswith(f"{PAGES}/")


def caller_of(request: Request) -> Caller:
    """Who calls: what the guard put there."""
    caller = request.scope[_CALLER]
    assert isinstance(caller, Caller)
    return caller


def reader_of(request: Request, call: str) -> Reader:
    """Who reads, for the audit. Raises ProblemError where the purpose is not a code."""
    purpose = request.headers.get(PURPOSE_HEADER, DEFAULT_PURPOSE)
    if not _PURPOSE.match(purpose):
        raise invalid(PURPOSE_HEADER, "expected a code of at most 40 characters a-z 0-9 _ . : - such as coaching")
    return Reader(caller_of(request).key_id, call, purpose)


def needs(scope: KeyScope) -> Callable[[F], F]:
    """The call, only for keys of the scope. It must take `request`."""

    def decorated(call: F) -> F:
        def check(request: Request) -> None:
            if scope not in caller_of(request).scopes:
                detail = f"expected a key with scope `{scope}`; see `rekindle keys list`"
                raise ProblemError(403, "missing-scope", "The key is not for this", detail)

        if inspect.iscoroutinefunction(call):

            @functools.wraps(call)
            async def checked(request: Request, **arguments: Any) -> Any:
                check(request)
                return await call(request=request, **arguments)

            checked.__dict__[_SCOPE] = scope
            return checked  # type: ignore[return-value]  # the same signature, by functools.wraps

        @functools.wraps(call)
        def checked_in_a_thread(request: Request, **arguments: Any) -> Any:
            check(request)
            return call(request=request, **arguments)

        checked_in_a_thread.__dict__[_SCOPE] = scope
        return checked_in_a_thread  # type: ignore[return-value]  # the same signature, by functools.wraps

    return decorated


def scope_of(call: Callable[..., Any]) -> KeyScope | None:
    """The scope that a call needs, None for one that is open to any key."""
    scope = getattr(call, _SCOPE, None)
    assert scope is None or isinstance(scope, KeyScope)
    return scope


def _unauthorized(detail: str) -> ProblemError:
    return ProblemError(401, "no-valid-key", "A valid key is needed", detail, headers={"WWW-Authenticate": "Bearer"})


AskedOrganization = Annotated[
    str | None, Query(pattern=r"^[^/\s\x00]{1,128}$", description="The key's own where it is left out.")
]


def organization_asked(asked: str | None, caller: Caller) -> str:
    """Whose figures are read: the key's own organisation, or the one that a key of all organisations names."""
    if caller.organization is None:
        if asked is None:
            raise invalid("organization", "expected the name of an organization: this key is for all of them")
        return asked
    if asked not in (None, caller.organization):
        detail = f"expected the key's own organization, {caller.organization!r}, or none"
        raise ProblemError(403, "other-organization", "The key is not for this organization", detail)
    return caller.organization


def _header(scope: Scope, name: bytes) -> str | None:
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), None)
