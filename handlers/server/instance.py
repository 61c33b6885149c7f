"""The life of a container, independent of HTTP: load models, carry out calls, stop."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Protocol

import anyio
from anyio import to_thread

from core.errors import Unavailable

if TYPE_CHECKING:
    from core.storage.oss import Credentials
    from handlers.server.tokens import Tokens

DRAIN_SECONDS = 25.0  # less than the pre-stop time-out in s.yaml


class Worker(Protocol):
    """Carries out notifications. `handle` is called from threads, several at once."""

    def warm(self, credentials: Credentials | None) -> object:
        """Load keys and models. Called again after `close` if the instance is resumed. Raises
        JobError."""
        ...

    def handle(self, body: bytes, credentials: Credentials | None, request_id: str) -> bytes:
        """Carry out one notification and return a JSON summary. Raises JobError."""
        ...

    def close(self) -> None:
        """Drop the models. A job that did not finish in time may still be running."""
        ...


class Instance:
    """A container that carries out some calls at once and waits for them before it stops. A
    notification without a token is refused, so that the platform delivers it elsewhere, or later.

    `open_tokens` is called until it succeeds once, with the credentials of a call: where the tokens
    are may be a secret that only the function's role can read."""

    def __init__(
        self,
        worker: Worker,
        open_tokens: Callable[[Credentials | None], Tokens],
        drain_seconds: float,
        at_once: int = 1,
    ) -> None:
        self.ready = self._stopping = self._closed = False
        self._worker, self._open_tokens, self._drain_seconds = worker, open_tokens, drain_seconds
        self._tokens: Tokens | None = None
        self._lifecycle, self._opening, self._draining = anyio.Lock(), anyio.Lock(), anyio.Lock()
        self._slots, self._at_once = anyio.Semaphore(at_once), at_once

    async def warm(self, credentials: Credentials | None) -> None:
        async with self._lifecycle:
            if not self.ready:
                await self._shared_tokens(credentials)
                await to_thread.run_sync(self._worker.warm, credentials)
                self.ready, self._closed = True, False

    async def reopen(self, credentials: Credentials | None) -> None:
        """Accept work again, because the platform may resume an instance that it stopped."""
        self._stopping = False
        await self.warm(credentials)

    async def work(self, body: bytes, credentials: Credentials | None, request_id: str) -> bytes:
        async with self._token(credentials), self._slots:
            if self._stopping:
                raise Unavailable(
                    "JOB_BUSY",
                    "This instance is stopping; another one will do it.",
                )
            await self.warm(credentials)
            return await to_thread.run_sync(
                self._worker.handle, body, credentials, request_id, abandon_on_cancel=True
            )

    async def _shared_tokens(self, credentials: Credentials | None) -> Tokens:
        async with self._opening:
            if self._tokens is None:
                self._tokens = await to_thread.run_sync(self._open_tokens, credentials)
            return self._tokens

    @asynccontextmanager
    async def _token(self, credentials: Credentials | None) -> AsyncIterator[None]:
        """Hold a token. Raises Unavailable OVERLOADED if none is free."""
        tokens = await self._shared_tokens(credentials)
        token = await to_thread.run_sync(tokens.acquire)
        if token is None:
            raise Unavailable("OVERLOADED")
        try:
            yield
        finally:
            with anyio.CancelScope(shield=True):
                await to_thread.run_sync(tokens.release, token)

    async def drain(self) -> None:
        """Wait for the calls in progress, for at most the drain time."""
        with anyio.move_on_after(self._drain_seconds):
            async with self._draining, AsyncExitStack() as taken:
                for _ in range(self._at_once):
                    await taken.enter_async_context(self._slots)

    async def stop(self) -> None:
        self._stopping = True
        await self.drain()
        async with self._lifecycle:
            self.ready = False
            if not self._closed:
                self._closed = True
                await to_thread.run_sync(self._worker.close)
