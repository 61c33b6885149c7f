"""A bucket in memory, whose clock is given to it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import BinaryIO

from core.errors import Refused
from core.storage.object_keys import check_key, check_metadata
from core.storage.port import Body, Info, Object, too_large


class MemoryStore:
    """The Store port, every method atomic as on OSS. `versioned`: as a bucket with versioning
    behaves, where put_once overwrites and says that it wrote."""

    def __init__(self, name: str, clock: Callable[[], float], *, versioned: bool = False) -> None:
        self._name, self._clock, self._versioned = name, clock, versioned
        self.objects: dict[str, Object] = {}

    @property
    def name(self) -> str:
        return self._name

    def get(self, key: str, *, limit: int, etag: str = "") -> Object:
        found = self.objects.get(check_key(key))
        if found is None:
            raise Refused("OBJECT_MISSING", pointer=key)
        if etag and etag != found.info.etag:
            raise Refused("OBJECT_CHANGED", pointer=key)
        if found.info.size > limit:
            raise too_large(key, found.info.size, limit)
        return found

    def fetch(self, key: str, file: BinaryIO, *, limit: int) -> Info:
        found = self.get(key, limit=limit)
        file.seek(0)
        file.truncate()
        file.write(found.data)
        return found.info

    def head(self, key: str) -> Info | None:
        found = self.objects.get(check_key(key))
        return found.info if found else None

    def put(self, key: str, data: bytes, *, metadata: Mapping[str, str] | None = None) -> None:
        plain = check_metadata(metadata)
        etag = hashlib.md5(data, usedforsecurity=False).hexdigest().upper()
        info = Info(check_key(key), len(data), etag, self.now(), plain)
        self.objects[key] = Object(info, bytes(data))

    def put_once(self, key: str, data: Body, *, metadata: Mapping[str, str] | None = None) -> bool:
        if check_key(key) in self.objects and not self._versioned:
            return False
        self.put(key, whole(data), metadata=metadata)
        return True

    def append(self, key: str, data: bytes, *, position: int) -> bool:
        before = self.objects[key].data if check_key(key) in self.objects else b""
        if len(before) != position:
            return False
        self.put(key, before + data)
        return True

    def list(self, prefix: str, *, after: str = "") -> Iterator[Info]:
        for key in sorted(self.objects, key=str.encode):
            if key.startswith(prefix) and key.encode() > after.encode():
                info = self.objects[key].info
                yield Info(key, info.size, info.etag, info.modified)

    def delete(self, key: str) -> None:
        self.objects.pop(check_key(key), None)

    def now(self) -> float:
        return self._clock()

    def check(self, *, writable_once: bool) -> None:
        """Nothing here can be missing."""


def whole(data: Body) -> bytes:
    """The bytes of what is to be written."""
    if isinstance(data, bytes):
        return data
    data.seek(0)
    return data.read()
