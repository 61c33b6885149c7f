"""The `Cache` port: where sealed files about voices are kept for later jobs.

The control bucket (`BucketCache`) and a Redis (core/storage/redis_cache.py) implement it. What is
kept may be lost or changed by somebody else at any time. So it is sealed, whoever reads it believes
only what it can open, and anything else is made again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import msgspec

from core.errors import Misconfigured, Refused
from core.storage.object_keys import VOICES, cached_key, voice_key_key, voice_prefix
from core.storage.port import Store

LIMIT = 32 * 1024 * 1024
"""Largest sealed file, in bytes."""


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """A sealed file."""

    body: bytes
    metadata: Mapping[str, str]
    """Its envelope (`sealing.envelope_metadata`)."""


class Cache(Protocol):
    """Sealed files by voice and name. A voice is named by the SHA-256 of its recording.

    A bucket raises what its methods raise. A Redis that does not answer is logged, and holds
    nothing.
    """

    def get(self, voice: str, name: str) -> Entry | None:
        """Return a file; None if there is none, or none that can be read."""
        ...

    def put(self, voice: str, name: str, entry: Entry) -> None:
        """Keep a file in place of the one that is kept under this name."""
        ...

    def forget(self, voice: str, prefix: str = "") -> None:
        """Delete what is kept of a voice under names with this prefix; by default everything."""
        ...

    def voices(self) -> set[str]:
        """Return the voices of which something is kept."""
        ...


class BucketCache:
    """The control bucket, which has the keys of voices too. Nothing is lost there by itself."""

    def __init__(self, control: Store) -> None:
        self._control = control

    def get(self, voice: str, name: str) -> Entry | None:
        return read_entry(self._control, cached_key(voice, name))

    def put(self, voice: str, name: str, entry: Entry) -> None:
        self._control.put(cached_key(voice, name), entry.body, metadata=entry.metadata)

    def forget(self, voice: str, prefix: str = "") -> None:
        """As `Cache.forget`; without a prefix the key of the voice, and that first: nothing else
        can be opened then, whatever happens next."""
        keys = [info.key for info in self._control.list(voice_prefix(voice) + prefix)]
        for key in sorted(keys, key=lambda key: key != voice_key_key(voice)):
            self._control.delete(key)

    def voices(self) -> set[str]:
        return {info.key.split("/")[1] for info in self._control.list(VOICES)}


def read_entry(store: Store, key: str) -> Entry | None:
    """Return a sealed file of a bucket; None if there is none, or none that can be read."""
    try:
        stored = store.get(key, limit=LIMIT)
    except (Refused, Misconfigured):
        return None
    return Entry(stored.data, stored.info.metadata)
