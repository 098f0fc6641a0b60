"""Deadline: a request that takes too long is ended with a problem, as every other error is."""

import asyncio

import anyio
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.problems import problem, respond

LIMIT_SECONDS = 60.0  # our choice: 1 000 seats with reasons take a few seconds
RETRY_AFTER_SECONDS = 5


class Deadline:
    """ASGI middleware that answers 504 where the application has not begun to answer within the limit."""

    def __init__(self, app: ASGIApp, seconds: float = LIMIT_SECONDS) -> None:
        self._app, self._seconds = app, seconds
        self._working: set[asyncio.Task[None]] = set()  # an event loop holds its tasks weakly

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, for so long. What has begun to be answered is answered to its end."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # anyio's scope, not the task's own cancellation: a thread at work keeps its place among those that there may be
        # until it is done, so that what hangs cannot make ever more of them. Nobody waits for it here.
        limited, is_begun = anyio.CancelScope(), False

        async def begun(message: Message) -> None:
            nonlocal is_begun
            if not limited.cancel_called:
                is_begun = True
                await send(message)

        async def work() -> None:
            with limited:
                await self._app(scope, receive, begun)

        working = asyncio.create_task(work())
        self._working.add(working)
        working.add_done_callback(self._ended)
        try:
            await asyncio.wait({working}, timeout=self._seconds)
            if is_begun or working.done():
                await working
                return
        except asyncio.CancelledError:
            working.cancel()
            raise
        limited.cancel()
        detail = f"expected to be answered within {self._seconds:g} s; what it stores may be stored nevertheless"
        late = problem(504, "too-late", "It took too long", f"{detail}: send it again with the same Idempotency-Key")
        await respond(late, {"Retry-After": str(RETRY_AFTER_SECONDS)})(scope, receive, send)

    def _ended(self, working: asyncio.Task[None]) -> None:
        self._working.discard(working)
        if not working.cancelled():
            working.exception()  # of one that was late nobody else asks for it
