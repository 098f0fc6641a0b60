"""A request that takes too long ends with a problem; one whose answer has begun is answered to its end."""

import asyncio
import threading
from typing import Any

import anyio.to_thread
import httpx
import pytest
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from serving.deadline import Deadline


def answer(app: Any) -> httpx.Response:
    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(Deadline(app, seconds=0.05))
        async with httpx.AsyncClient(transport=transport, base_url="http://rekindle") as client:
            return await client.get("/")

    return asyncio.run(ask())


def test_too_late_is_a_problem_that_says_what_to_do() -> None:
    async def never(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(20)

    late = answer(never)

    assert (late.status_code, late.headers["content-type"]) == (504, "application/problem+json")
    assert late.json()["type"] == "urn:rekindle:problem:too-late"
    assert late.headers["retry-after"] == "5"


def test_what_has_begun_to_be_answered_is_answered_to_its_end() -> None:
    async def slowly(scope: Scope, receive: Receive, send: Send) -> None:
        async def parts() -> Any:
            yield b"first "
            await asyncio.sleep(0.2)
            yield b"last"

        await StreamingResponse(parts())(scope, receive, send)

    assert answer(slowly).text == "first last"


def test_a_timeout_of_the_applications_own_is_not_taken_for_the_deadline() -> None:
    async def fails(scope: Scope, receive: Receive, send: Send) -> None:
        raise TimeoutError("of its own")

    with pytest.raises(TimeoutError, match="of its own"):
        answer(fails)


def test_threads_that_hang_are_no_more_than_there_may_be() -> None:
    may_end, at_work = threading.Event(), 0

    def hangs() -> None:
        nonlocal at_work
        at_work += 1
        may_end.wait()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await run_in_threadpool(hangs)

    async def ask() -> list[int]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = 3
        transport = httpx.ASGITransport(Deadline(app, seconds=0.05))
        async with httpx.AsyncClient(transport=transport, base_url="http://rekindle") as client:
            try:
                return [(await client.get("/")).status_code for _ in range(8)]
            finally:
                may_end.set()

    assert asyncio.run(ask()) == [504] * 8
    assert at_work == 3
