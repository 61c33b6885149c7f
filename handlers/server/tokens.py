"""Limit the notifications in progress: each needs a token.

A notification without a token is refused and delivered again. Tokens are counted in each process,
or in a Redis that all instances share. There a token is a lease by the clock of Redis, so those of
a killed worker are free after a minute.
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from core.storage.redis_cache import connect

if TYPE_CHECKING:
    from core.settings import Settings

log = logging.getLogger("voicedrop.tokens")

LEASE_SECONDS = 60.0
ACQUIRE_SCRIPT = """
local now = redis.call('TIME')
now = now[1] + now[2] / 1e6
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[2]) then return 0 end
redis.call('ZADD', KEYS[1], now + ARGV[3], ARGV[1])
redis.call('PEXPIRE', KEYS[1], 2000 * ARGV[3])
return 1
"""
RENEW_SCRIPT = """
local now = redis.call('TIME')
now = now[1] + now[2] / 1e6
for i = 2, #ARGV do redis.call('ZADD', KEYS[1], 'XX', now + ARGV[1], ARGV[i]) end
redis.call('PEXPIRE', KEYS[1], 2000 * ARGV[1])
"""


class Tokens(Protocol):
    """A limited number of tokens. Its methods may be called from any thread."""

    def acquire(self) -> str | None:
        """Return a token, or None if none is free."""
        ...

    def release(self, token: str) -> None:
        """Make the token free again; does nothing if it is free."""
        ...


class ProcessTokens:
    """Tokens that are counted in this process."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held: set[str] = set()
        self._lock = threading.Lock()

    def acquire(self) -> str | None:
        with self._lock:
            if len(self._held) >= self._limit:
                return None
            token = uuid.uuid4().hex
            self._held.add(token)
            return token

    def release(self, token: str) -> None:
        with self._lock:
            self._held.discard(token)


class RedisTokens:
    """Tokens that are counted in a Redis. A thread renews the ones that this process holds.

    While Redis does not answer, the process counts alone, up to the same limit: too many
    notifications cost money for a while, but without any the service would stop.
    """

    def __init__(self, url: str, limit: int, name: str, *, lease: float = LEASE_SECONDS) -> None:
        self._redis, self._error = connect(url)
        self._acquire = self._redis.register_script(ACQUIRE_SCRIPT)
        self._renew = self._redis.register_script(RENEW_SCRIPT)
        self._name, self._limit, self._lease = name, limit, lease
        self._local = ProcessTokens(limit)
        self._held: set[str] = set()
        self._lock = threading.Lock()
        self._renewer: threading.Thread | None = None

    def acquire(self) -> str | None:
        token = uuid.uuid4().hex
        try:
            if not self._acquire([self._name], [token, self._limit, self._lease]):
                return None
        except self._error as exc:
            log.warning(
                "redis does not answer: counting alone",
                extra={"error": type(exc).__name__},
            )
            return self._local.acquire()
        with self._lock:
            self._held.add(token)
            if self._renewer is None:
                self._renewer = threading.Thread(target=self._renew_while_held, daemon=True)
                self._renewer.start()
        return token

    def release(self, token: str) -> None:
        with self._lock:
            is_shared = token in self._held
            self._held.discard(token)
        if not is_shared:
            self._local.release(token)
            return
        self._try(partial(self._redis.zrem, self._name, token))

    def _renew_while_held(self) -> None:
        pause = threading.Event()
        while not pause.wait(self._lease / 3):
            with self._lock:
                held = list(self._held)
                if not held:
                    self._renewer = None
                    return
            self._try(partial(self._renew, [self._name], [self._lease, *held]))

    def _try(self, action: Callable[[], Any]) -> None:
        try:
            action()
        except self._error as exc:
            # The lease expires by itself, or is renewed the next time.
            log.warning("redis does not answer", extra={"error": type(exc).__name__})


def create_tokens(settings: Settings, redis: str) -> Tokens:
    """`redis`: the URL to which the setting refers. Raises Misconfigured SETTING_INVALID."""
    if not redis:
        return ProcessTokens(settings.tokens)
    # Instances with the same inbox share its tokens.
    return RedisTokens(redis, settings.tokens, f"voicedrop:tokens:{settings.inbox}")
