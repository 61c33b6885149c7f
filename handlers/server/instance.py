"""What one container does over its life, apart from how it is told to."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol

import anyio
from anyio import to_thread

from core.errors import Unavailable

if TYPE_CHECKING:
    from core.storage.oss import Credentials
    from handlers.server.tokens import Tokens

DRAIN_SECONDS = 25.0  # below the pre-stop time-out of s.yaml


class Worker(Protocol):
    """What the container runs; called from a thread, one notification at a time."""

    def warm(self) -> object:
        """Load models, check buckets. Called again after `close`. Raises JobError."""
        ...

    def handle(self, body: bytes, credentials: Credentials | None, request_id: str) -> bytes:
        """Deal with one notification and return a JSON summary. Raises JobError."""
        ...

    def close(self) -> None:
        """Flush, release leases. A job may still be running if it outlived its time."""
        ...


class Instance:
    """One container: warmed once, one job at a time, drained before it goes. Whoever finds no
    token is better off on another instance, or later."""

    def __init__(self, worker: Worker, tokens: Tokens, drain_seconds: float) -> None:
        self.ready = False
        self._worker = worker
        self._tokens = tokens
        self._drain_seconds = drain_seconds
        self._stopping = False
        self._closed = False
        self._lifecycle = anyio.Lock()
        self._slot = anyio.Semaphore(1)

    async def warm(self) -> None:
        async with self._lifecycle:
            if not self.ready:
                await to_thread.run_sync(self._worker.warm)
                self.ready, self._closed = True, False

    async def reopen(self) -> None:
        """The platform may thaw an instance that it had stopped, and initialize it again."""
        self._stopping = False
        await self.warm()

    async def work(self, body: bytes, credentials: Credentials | None, request_id: str) -> bytes:
        async with self._token(), self._slot:
            if self._stopping:
                raise Unavailable("JOB_BUSY", "this instance is stopping: another one takes over")
            await self.warm()
            return await to_thread.run_sync(
                self._worker.handle, body, credentials, request_id, abandon_on_cancel=True
            )

    @asynccontextmanager
    async def _token(self) -> AsyncIterator[None]:
        """Unavailable OVERLOADED if there is none."""
        token = await to_thread.run_sync(self._tokens.take)
        if token is None:
            raise Unavailable("OVERLOADED")
        try:
            yield
        finally:
            with anyio.CancelScope(shield=True):
                await to_thread.run_sync(self._tokens.give, token)

    async def idle(self) -> None:
        """Wait for the running job, as long as we are given."""
        with anyio.move_on_after(self._drain_seconds):
            async with self._slot:
                pass

    async def stop(self) -> None:
        self._stopping = True
        await self.idle()
        async with self._lifecycle:
            self.ready = False
            if not self._closed:
                self._closed = True
                await to_thread.run_sync(self._worker.close)
