"""Deadline: a request that takes too long is ended with a problem, as every other error is."""

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.problems import problem, respond

LIMIT_SECONDS = 60.0  # our choice: 1 000 seats with reasons take a few seconds
RETRY_AFTER_SECONDS = 5


class Deadline:
    """ASGI middleware that answers 504 where the application has not begun to answer within the limit."""

    def __init__(self, app: ASGIApp, seconds: float = LIMIT_SECONDS) -> None:
        self._app, self._seconds = app, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, for so long. What has begun to be answered is answered to its end."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        deadline = asyncio.timeout(self._seconds)

        async def begun(message: Message) -> None:
            if not deadline.expired():
                deadline.reschedule(None)
                await send(message)

        try:
            async with deadline:
                await self._app(scope, receive, begun)
        except TimeoutError:
            if not deadline.expired():  # somebody else's
                raise
            detail = f"expected to be answered within {self._seconds:g} s; what it stores may be stored nevertheless"
            late = problem(
                504, "too-late", "It took too long", f"{detail}: send it again with the same Idempotency-Key"
            )
            await respond(late, {"Retry-After": str(RETRY_AFTER_SECONDS)})(scope, receive, send)
