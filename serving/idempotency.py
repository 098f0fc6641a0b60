"""Idempotency-Key: a call that writes, sent again with the same key and body, gets the answer that it got."""

import asyncio
import hashlib
import logging
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import orjson
import sqlalchemy as sa
from fastapi import Request
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from features.database import Database
from features.instants import to_microseconds
from serving.access import caller_of
from serving.cloudevents import in_headers
from serving.meters import Meters
from serving.problems import ProblemError, http_problem, invalid, log_unavailable, respond

HEADER = "Idempotency-Key"
REPLAYED = "Idempotent-Replayed"
RETENTION = timedelta(hours=24)  # our choice, and the custom: a client that retries does so within a day
IN_FLIGHT = timedelta(seconds=60)  # so long after its last renewal a claim is held; then its holder is dead
RENEW_SECONDS = 15.0
MAX_LENGTH = 255
TIDY_EVERY = 256  # calls between two removals of what is older than RETENTION
PASSING = (404, 409)  # what stood in the way, such as features that are missing, may be over soon
_log = logging.getLogger(__name__)
_READS = ("/v1/score",)  # POSTs that store nothing a second call could double
_READ_SUFFIX = "/replay"
_WORK = "rekindle.work"

_answers = sa.table(
    "answers",
    *(
        sa.column(name)
        for name in ("key_id", "idempotency_key", "fingerprint", "claim", "work_id", "status", "media_type")
    ),
    sa.column("erased_meanwhile", sa.Boolean()),
    sa.column("begun_at", sa.BigInteger()),
    sa.column("body", sa.LargeBinary()),
)


@dataclass(frozen=True)
class Answer:
    """What was answered."""

    status: int
    media_type: str
    body: bytes


@dataclass(frozen=True)
class Call:
    """One call of one key. fingerprint: a digest of what was asked."""

    key_id: str
    idempotency_key: str
    fingerprint: str

    @property
    def where(self) -> sa.ColumnElement[bool]:
        """Its row."""
        return (_answers.c.key_id == self.key_id) & (_answers.c.idempotency_key == self.idempotency_key)


@dataclass(frozen=True)
class Claim:
    """The right to make an answer. work_id: by which what the call does can be found, the same for all claims on it."""

    token: str
    work_id: str


class Answers:
    """The answers kept for retries, in one database."""

    def __init__(self, database: Database, *, clock: Callable[[], datetime]) -> None:
        self._database, self._clock = database, clock
        self._begun = 0

    def begin(self, call: Call) -> Answer | Claim:
        """The answer that the call had before; else a claim on making it, with the work of a claim before whose answer
        was not kept.

        Raises ProblemError: 422 where the key came with another body, 409 while the first call is being answered.
        """
        now = self._clock()
        claim = Claim(secrets.token_hex(16), secrets.token_hex(16))
        row = {
            "key_id": call.key_id,
            "idempotency_key": call.idempotency_key,
            "fingerprint": call.fingerprint,
            "begun_at": to_microseconds(now),
            "claim": claim.token,
            "erased_meanwhile": False,
            "status": None,
            "media_type": None,
            "body": None,
        }
        with self._database.write_soon() as connection:
            self._tidy(connection, now)
            known = connection.execute(sa.select(_answers).where(call.where)).first()
            if known is not None and known.begun_at > to_microseconds(now - RETENTION):
                if known.fingerprint != call.fingerprint:
                    raise invalid(HEADER, "was used before with another body or call; use a new one for a new call")
                if known.status is not None:
                    return Answer(known.status, known.media_type, bytes(known.body))
                if known.begun_at > to_microseconds(now - IN_FLIGHT):
                    raise _in_flight()
                claim = Claim(claim.token, known.work_id or claim.work_id)
            if known is not None:  # this one, and not what another writer has put there since
                connection.execute(sa.delete(_answers).where(call.where, _answers.c.claim == known.claim))
            insert: Any = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
            claiming = (
                insert(_answers)
                .values(row | {"work_id": claim.work_id})
                .on_conflict_do_nothing()
                .returning(_answers.c.claim)
            )
            if (
                connection.execute(claiming).first() is None
            ):  # PostgreSQL's writers do not wait for each other until here
                raise _in_flight()
        return claim

    def finish(self, call: Call, claim: Claim, answer: Answer) -> None:
        """Keep the answer, durably: it is sent only then. Where somebody was erased since the call was begun it may name
        them: then the call can be begun again instead, and finds its work.
        """
        values = {"status": answer.status, "media_type": answer.media_type, "body": answer.body}
        with self._database.write() as connection:
            kept = sa.update(_answers).where(call.where, _is_of(claim), ~_answers.c.erased_meanwhile).values(**values)
            if not connection.execute(kept).rowcount:
                self._free(connection, call, claim)

    def renew(self, call: Call, claim: Claim) -> None:
        """The call is still being answered."""
        with self._database.write_soon() as connection:
            connection.execute(
                sa.update(_answers).where(call.where, _is_of(claim)).values(begun_at=to_microseconds(self._clock()))
            )

    def release(self, call: Call, claim: Claim) -> None:
        """There is no answer to keep: the call may be begun again at once, and finds what it did."""
        with self._database.write_soon() as connection:
            self._free(connection, call, claim)

    def _free(self, connection: sa.Connection, call: Call, claim: Claim) -> None:
        given_up = to_microseconds(self._clock() - IN_FLIGHT)
        connection.execute(sa.update(_answers).where(call.where, _is_of(claim)).values(begun_at=given_up))

    def _tidy(self, connection: sa.Connection, now: datetime) -> None:
        if self._begun % TIDY_EVERY == 0:
            connection.execute(sa.delete(_answers).where(_answers.c.begun_at <= to_microseconds(now - RETENTION)))
        self._begun += 1


class Idempotent:
    """ASGI middleware: honours Idempotency-Key on every POST that writes."""

    def __init__(
        self,
        app: ASGIApp,
        answers: Answers,
        meters: Meters,
        replays: Callable[[Request, Answer], Awaitable[None]],
        working: "set[asyncio.Task[list[Message]]]",
    ) -> None:
        """replays: called before an answer that was kept is sent again. working: where the calls that are being answered
        are held, for an event loop holds its tasks weakly, and whoever stops the service waits for them.
        """
        self._app, self._answers, self._meters, self._replays = app, answers, meters, replays
        self._working = working

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer it as before."""
        idempotency_key = None if scope["type"] != "http" else _wanted(scope)
        if idempotency_key is None:
            await self._app(scope, receive, send)
            return
        try:
            await self._once(idempotency_key, scope, receive, send)
        except ProblemError as error:
            await respond(error.problem, error.headers)(scope, receive, send)
        except HTTPException as error:  # a body over the limit
            await http_problem(error)(scope, receive, send)
        except SQLAlchemyError as error:
            await log_unavailable(scope["path"], error)(scope, receive, send)

    async def _once(self, idempotency_key: str, scope: Scope, receive: Receive, send: Send) -> None:
        if not (
            1 <= len(idempotency_key) <= MAX_LENGTH and idempotency_key.isascii() and idempotency_key.isprintable()
        ):
            raise invalid(HEADER, f"expected 1 to {MAX_LENGTH} printable ASCII characters")
        body = await Request(scope, receive).body()
        sent_as = Request(scope).headers.get(
            "content-type", ""
        )  # the same bytes may be an event of ours or a CloudEvent
        attributes = orjson.dumps(in_headers(Request(scope).headers), option=orjson.OPT_SORT_KEYS).decode()
        told = (scope["method"], scope["path"], scope["query_string"].decode("latin-1"), sent_as, attributes)
        fingerprint = hashlib.sha256("\n".join(told).encode() + b"\n" + body).hexdigest()
        call = Call(caller_of(Request(scope)).key_id, idempotency_key, fingerprint)
        begun = await run_in_threadpool(self._answers.begin, call)
        if isinstance(begun, Answer):
            await self._replays(Request(scope), begun)
            self._meters.replayed()
            headers = {REPLAYED: "true"}
            await Response(begun.body, begun.status, headers, media_type=begun.media_type)(scope, receive, send)
            return
        # whoever stops waiting, as a deadline does, ends nothing: the call may have decided something by then, so its
        # answer is kept for who asks again
        working = asyncio.create_task(self._worked(call, begun, scope, _again(body)))
        self._working.add(working)
        working.add_done_callback(self._working.discard)
        for message in await asyncio.shield(working):
            await send(message)

    async def _worked(self, call: Call, claim: Claim, scope: Scope, receive: Receive) -> list[Message]:
        """The messages of the answer, once it is kept; the claim is held until then."""
        captured = _Captured()
        scope[_WORK] = claim.work_id
        app = asyncio.ensure_future(self._app(scope, receive, captured.send))
        while not (await asyncio.wait({app}, timeout=RENEW_SECONDS))[0]:
            try:
                await run_in_threadpool(self._answers.renew, call, claim)
            except SQLAlchemyError as error:  # the call waits for the same database: it will be told
                _log.warning("%s: a claim could not be renewed: %s", scope["path"], type(error).__name__)
        if app.exception() is not None or not captured.is_final:
            await run_in_threadpool(self._answers.release, call, claim)
            app.result()
        else:
            await run_in_threadpool(self._answers.finish, call, claim, captured.answer)
        return captured.messages


class _Captured:
    """The messages of an answer, held back until it is kept."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    async def send(self, message: Message) -> None:
        self.messages.append(message)

    @property
    def status(self) -> int:
        return int(self.messages[0]["status"])

    @property
    def is_final(self) -> bool:
        """Whether the same call would be answered so tomorrow."""
        return self.status < 500 and self.status not in PASSING

    @property
    def answer(self) -> Answer:
        headers = dict(self.messages[0]["headers"])
        body = b"".join(message.get("body", b"") for message in self.messages[1:])
        return Answer(self.status, headers.get(b"content-type", b"application/json").decode("latin-1"), body)


def work_of(request: Request) -> str | None:
    """By which the work of a call with an Idempotency-Key is found again, should it be begun again; None without one."""
    work_id: str | None = request.scope.get(_WORK)
    return work_id


def _is_of(claim: Claim) -> sa.ColumnElement[bool]:
    return _answers.c.claim == claim.token


def _in_flight() -> ProblemError:
    detail = f"the first call with this {HEADER} is still being answered"
    return ProblemError(409, "in-flight", "Not answered yet", detail, headers={"Retry-After": "1"})


def _wanted(scope: Scope) -> str | None:
    path = scope["path"]
    if scope["method"] != "POST" or not path.startswith("/v1/") or path in _READS or path.endswith(_READ_SUFFIX):
        return None
    name = HEADER.lower().encode()
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), None)


def _again(body: bytes) -> Receive:
    """The body, once more for who comes after us."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        return messages.pop() if messages else {"type": "http.disconnect"}

    return receive
