"""A Redis: the connection, and the `Cache` in it. The only module that imports the package redis.

    voicedrop:voices:<control>:<recording>:<name>   an `Entry` in msgpack; each has a lifetime

`control` is a digest of the setting VOICEDROP_CONTROL, because the keys that open the entries are
in that bucket.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from core.errors import Misconfigured, missing_extra
from core.storage.cache import LIMIT, Entry

log = logging.getLogger("voicedrop.cache")
T = TypeVar("T")

TIMEOUT_SECONDS = 1.0
"""Timeout of a request, for which a notification or an item waits."""
PAUSE_SECONDS = 30.0
"""How long a Redis that did not answer is not asked for entries: items would wait for it."""
_SCANNED = 1000
"""Keys that Redis looks at in one step of a search."""


def connect(url: str) -> tuple[Any, type[Exception]]:
    """Return a client without retries, and the class of its errors. No message may quote the URL,
    because it contains a password.

    Raises Misconfigured SETTING_INVALID.
    """
    try:
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry
    except ImportError:
        package = "The package redis, which VOICEDROP_REDIS needs,"
        raise missing_extra(package, "redis", "SETTING_INVALID") from None
    try:
        client = redis.Redis.from_url(
            url,
            socket_timeout=TIMEOUT_SECONDS,
            socket_connect_timeout=TIMEOUT_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
    except ValueError:
        message = "VOICEDROP_REDIS must be redis://[[user]:password@]host[:port][/database]."
        raise Misconfigured("SETTING_INVALID", message) from None
    return client, redis.RedisError


class RedisCache:
    """See `Cache`. Safe for threads."""

    def __init__(self, url: str, control: str, seconds: float) -> None:
        """`control`: the place of the control bucket. `seconds`: the lifetime of an entry.

        Raises Misconfigured SETTING_INVALID.
        """
        self._redis, self._error = connect(url)
        self._prefix = f"voicedrop:voices:{hashlib.sha256(control.encode()).hexdigest()[:16]}:"
        self._milliseconds = max(1, round(seconds * 1000))
        self._silent_until = 0.0

    def get(self, voice: str, name: str) -> Entry | None:
        # No more than we write, whatever somebody else has stored there; empty if there is nothing.
        data = self._ask(lambda: self._redis.getrange(self._key(voice, name), 0, LIMIT))
        try:
            return msgspec.msgpack.decode(data, type=Entry) if data else None
        except msgspec.DecodeError:
            return None

    def put(self, voice: str, name: str, entry: Entry) -> None:
        data = msgspec.msgpack.encode(entry)
        if len(data) <= LIMIT:
            key = self._key(voice, name)
            self._ask(lambda: self._redis.set(key, data, px=self._milliseconds))

    def forget(self, voice: str, prefix: str = "") -> None:
        """See `Cache.forget`. If Redis does not answer, a sweep does it later (`voices`)."""
        self._call(lambda: self._delete(self._key(voice, prefix)))

    def voices(self) -> set[str]:
        keys = self._call(lambda: list(self._scan(self._prefix))) or []
        return {key.decode().removeprefix(self._prefix).partition(":")[0] for key in keys}

    def check(self) -> None:
        """Raises Misconfigured SETTING_INVALID if Redis does not answer now."""
        try:
            self._redis.ping()
        except self._error as exc:
            message = f"The Redis of VOICEDROP_REDIS does not answer ({type(exc).__name__})."
            raise Misconfigured("SETTING_INVALID", message) from exc

    def _key(self, voice: str, name: str) -> str:
        return f"{self._prefix}{voice}:{name}"

    def _scan(self, prefix: str) -> Any:
        # Not by an index of our own, of which Redis could evict a part when its memory is full.
        return self._redis.scan_iter(match=f"{prefix}*", count=_SCANNED)

    def _delete(self, prefix: str) -> None:
        for key in self._scan(prefix):
            self._redis.unlink(key)

    def _ask(self, request: Callable[[], T]) -> T | None:
        """As `_call`, but None at once for a while after Redis did not answer."""
        return self._call(request) if time.monotonic() >= self._silent_until else None

    def _call(self, request: Callable[[], T]) -> T | None:
        """Return the answer; None if Redis does not answer, which is logged."""
        try:
            return request()
        except self._error as exc:
            self._silent_until = time.monotonic() + PAUSE_SECONDS
            log.warning(
                "Redis does not answer: nothing is kept there or taken from it for a while.",
                extra={"error": type(exc).__name__},
            )
            return None
