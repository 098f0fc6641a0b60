"""A request that takes too long ends with a problem; one whose answer has begun is answered to its end."""

import asyncio
from typing import Any

import httpx
import pytest
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
