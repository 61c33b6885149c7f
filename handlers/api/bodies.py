"""Bodies of limited size that arrive in limited time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from core.errors import Unavailable

MAX_BODY = 64 << 20
"""Bytes of a request. A recording may have as many (core/audio/decoding.py)."""
MAX_TOGETHER = 192 << 20
"""Bytes of all requests whose bodies are in memory."""
BODY_SECONDS = 60.0
_RELEASE = "voicedrop.release"


class BoundedBodies:
    """Refuses a body of more than `limit` bytes with 413, whether or not its length is stated, and
    with 429 one for which there is no room beside those of other requests."""

    def __init__(
        self, app: ASGIApp, *, limit: int = MAX_BODY, together: int = MAX_TOGETHER
    ) -> None:
        self._app, self._limit, self._together = app, limit, together
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        received = 0

        async def receive_bounded() -> Message:
            nonlocal received
            message = await receive()
            size = len(message.get("body", b""))
            received += size
            self._held += size
            if received > self._limit:
                raise HTTPException(413, f"A request has at most {self._limit} bytes.")
            if self._held > self._together:
                raise Unavailable("OVERLOADED")
            return message

        def release() -> None:
            nonlocal received
            self._held -= received
            received = 0

        scope[_RELEASE] = release
        try:
            await self._app(scope, receive_bounded, send)
        finally:
            release()


def release_body(request: Request) -> None:
    """Say that the body of a request that goes on is no longer in memory."""
    request.scope[_RELEASE]()


@asynccontextmanager
async def arriving() -> AsyncIterator[None]:
    """Limit the time that a body may take to arrive in the block. Raises HTTPException 408, or 400
    if the caller hung up."""
    try:
        with anyio.fail_after(BODY_SECONDS):
            yield
    except TimeoutError:
        message = f"The body did not arrive within {BODY_SECONDS:g} s."
        raise HTTPException(408, message) from None
    except ClientDisconnect:
        raise HTTPException(400, "The body is incomplete.") from None
