"""How much may be in hand at once: a token for every notification that was let in.

Whoever finds none is sent away and told to come again, which loses nothing. Each process has tokens
of its own, or all instances share those in a Redis: there a token is a lease by Redis's own clock,
so that those of a worker that died are free again after a minute.
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from core.errors import Misconfigured, missing_extra

if TYPE_CHECKING:
    from core.settings import Settings

log = logging.getLogger("voicedrop.tokens")

LEASE_SECONDS = 60.0
PATIENCE_SECONDS = 1.0
"""For one answer of Redis: a notification waits no longer to be let in."""

TAKE = """
local now = redis.call('TIME')
now = now[1] + now[2] / 1e6
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[2]) then return 0 end
redis.call('ZADD', KEYS[1], now + ARGV[3], ARGV[1])
redis.call('PEXPIRE', KEYS[1], 2000 * ARGV[3])
return 1
"""
KEEP = """
local now = redis.call('TIME')
now = now[1] + now[2] / 1e6
for i = 2, #ARGV do redis.call('ZADD', KEYS[1], 'XX', now + ARGV[1], ARGV[i]) end
redis.call('PEXPIRE', KEYS[1], 2000 * ARGV[1])
"""


class Tokens(Protocol):
    """May be used from any thread."""

    def take(self) -> str | None:
        """A token, or None if none is free."""
        ...

    def give(self, token: str) -> None:
        """Give it back."""
        ...


class OwnTokens:
    """Those of this process."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held: set[str] = set()
        self._lock = threading.Lock()

    def take(self) -> str | None:
        with self._lock:
            if len(self._held) >= self._limit:
                return None
            token = uuid.uuid4().hex
            self._held.add(token)
            return token

    def give(self, token: str) -> None:
        with self._lock:
            self._held.discard(token)


class SharedTokens:
    """Those in a Redis, kept alive from a thread while any is held.

    While Redis is away the process falls back on as many of its own: letting in too much for a
    while costs money, letting in nothing would stop the service.
    """

    def __init__(self, url: str, limit: int, name: str, *, lease: float = LEASE_SECONDS) -> None:
        self._redis, self._away = _connect(url)
        self._take = self._redis.register_script(TAKE)
        self._keep = self._redis.register_script(KEEP)
        self._name, self._limit, self._lease = name, limit, lease
        self._own = OwnTokens(limit)
        self._held: set[str] = set()
        self._lock = threading.Lock()
        self._keeper: threading.Thread | None = None

    def take(self) -> str | None:
        token = uuid.uuid4().hex
        try:
            if not self._take([self._name], [token, self._limit, self._lease]):
                return None
        except self._away as exc:
            log.warning("redis is away: counting alone", extra={"error": type(exc).__name__})
            return self._own.take()
        with self._lock:
            self._held.add(token)
            if self._keeper is None:
                self._keeper = threading.Thread(target=self._keep_alive, daemon=True)
                self._keeper.start()
        return token

    def give(self, token: str) -> None:
        with self._lock:
            shared = token in self._held
            self._held.discard(token)
        if not shared:
            self._own.give(token)
            return
        self._quietly(partial(self._redis.zrem, self._name, token))

    def _keep_alive(self) -> None:
        pause = threading.Event()
        while not pause.wait(self._lease / 3):
            with self._lock:
                held = list(self._held)
                if not held:
                    self._keeper = None
                    return
            self._quietly(partial(self._keep, [self._name], [self._lease, *held]))

    def _quietly(self, action: Callable[[], Any]) -> None:
        try:
            action()
        except self._away as exc:
            # The lease ends by itself, or is renewed the next time.
            log.warning("redis is away", extra={"error": type(exc).__name__})


def _connect(url: str) -> tuple[Any, type[Exception]]:
    """A client that gives up soon, and what it raises. The URL holds a password: never quoted."""
    try:
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry
    except ImportError:
        what = "The package redis, which VOICEDROP_REDIS needs,"
        raise missing_extra(what, "redis", "SETTING_INVALID") from None
    try:
        client = redis.Redis.from_url(
            url,
            socket_timeout=PATIENCE_SECONDS,
            socket_connect_timeout=PATIENCE_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
    except ValueError:
        message = "VOICEDROP_REDIS must be redis://[[user]:password@]host[:port][/database]"
        raise Misconfigured("SETTING_INVALID", message) from None
    return client, redis.RedisError


def tokens(settings: Settings) -> Tokens:
    """Raises Misconfigured SETTING_INVALID."""
    if not settings.redis:
        return OwnTokens(settings.tokens)
    # Whoever shares an inbox shares its tokens.
    return SharedTokens(settings.redis, settings.tokens, f"voicedrop:tokens:{settings.inbox}")


def tokens_from(environ: Mapping[str, str]) -> Tokens:
    """What `handlers.server` hands out. Raises Misconfigured."""
    from core.settings import Settings

    return tokens(Settings.from_environ(environ))
