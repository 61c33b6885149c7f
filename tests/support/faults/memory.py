"""A bucket in memory with a clock of the caller's."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import BinaryIO

from core.errors import Refused
from core.storage.object_keys import check_key, check_metadata
from core.storage.port import Body, Info, Object, too_large


class MemoryStore:
    """The Store port; every method is atomic, as on OSS. `versioned`: put_once overwrites and
    reports success, as in a bucket with versioning."""

    def __init__(self, name: str, clock: Callable[[], float], *, versioned: bool = False) -> None:
        self._name, self._clock, self._versioned = name, clock, versioned
        self.objects: dict[str, Object] = {}

    @property
    def name(self) -> str:
        return self._name

    def get(self, key: str, *, limit: int, etag: str = "") -> Object:
        stored = self.objects.get(check_key(key))
        if stored is None:
            raise Refused("OBJECT_MISSING", pointer=key)
        if etag and etag != stored.info.etag:
            raise Refused("OBJECT_CHANGED", pointer=key)
        if stored.info.size > limit:
            raise too_large(key, stored.info.size, limit)
        return stored

    def fetch(self, key: str, file: BinaryIO, *, limit: int) -> Info:
        stored = self.get(key, limit=limit)
        file.seek(0)
        file.truncate()
        file.write(stored.data)
        return stored.info

    def head(self, key: str) -> Info | None:
        stored = self.objects.get(check_key(key))
        return stored.info if stored else None

    def put(self, key: str, data: bytes, *, metadata: Mapping[str, str] | None = None) -> None:
        plain = check_metadata(metadata)
        etag = hashlib.md5(data, usedforsecurity=False).hexdigest().upper()
        info = Info(check_key(key), len(data), etag, self.now(), plain)
        self.objects[key] = Object(info, bytes(data))

    def put_once(self, key: str, data: Body, *, metadata: Mapping[str, str] | None = None) -> bool:
        if check_key(key) in self.objects and not self._versioned:
            return False
        self.put(key, read_body(data), metadata=metadata)
        return True

    def link(self, key: str, seconds: int) -> str:
        return ""

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
        """Do nothing: a bucket in memory always exists."""


def read_body(data: Body) -> bytes:
    if isinstance(data, bytes):
        return data
    data.seek(0)
    return data.read()
