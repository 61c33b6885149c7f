"""Objects in a bucket: the port every other part writes against.

`core/storage/local.py` implements it over a folder, `core/storage/oss.py` over Alibaba Cloud OSS;
`tests/storage` holds both to one contract.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO, Protocol

from core.errors import Refused, Unavailable


@dataclass(frozen=True, slots=True)
class Info:
    """What a bucket knows about an object without reading it."""

    key: str
    size: int
    etag: str
    """Changes whenever the content does; quotes removed."""
    modified: float
    """Unix seconds by the store's clock."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """User metadata; lower-case names of letters, digits and hyphens, ASCII values."""


@dataclass(frozen=True, slots=True)
class Object:
    info: Info
    data: bytes


Body = bytes | BinaryIO
"""What is written: bytes, or a file that is read from its beginning, as often as it takes."""


class Store(Protocol):
    """A bucket. Every method may raise Unavailable STORAGE_UNAVAILABLE or CREDENTIALS_EXPIRED,
    Misconfigured BUCKET_MISSING or BUCKET_FORBIDDEN."""

    @property
    def name(self) -> str:
        """The bucket's name, as it stands in notifications (a folder's own name locally)."""
        ...

    def get(self, key: str, *, limit: int, etag: str = "") -> Object:
        """The whole object. Refused OBJECT_MISSING; OBJECT_TOO_LARGE above `limit` bytes, known
        before the body is read; OBJECT_CHANGED if `etag` is given and is not the object's;
        REF_NOT_READABLE if it is archived."""
        ...

    def fetch(self, key: str, file: BinaryIO, *, limit: int) -> Info:
        """As `get`, into an empty file, for objects that memory should not hold. After an error
        the file may hold a part."""
        ...

    def head(self, key: str) -> Info | None:
        """None if there is no such object."""
        ...

    def put(self, key: str, data: bytes, *, metadata: Mapping[str, str] | None = None) -> None:
        """Write, replacing what was there; readers see the old or the new bytes, never a mix."""
        ...

    def put_once(self, key: str, data: Body, *, metadata: Mapping[str, str] | None = None) -> bool:
        """Write unless the key exists; say whether we wrote. Of many writers one gets True."""
        ...

    def append(self, key: str, data: bytes, *, position: int) -> bool:
        """Compare and swap: append if the object (missing counts as empty) is `position` bytes
        long. False: somebody else was first. Objects made by append are only appended to."""
        ...

    def list(self, prefix: str, *, after: str = "") -> Iterator[Info]:
        """Objects whose key begins with `prefix` and sorts after `after`, in UTF-8 byte order of
        keys. `metadata` is left empty; what `check_key` refuses (folder markers) is left out."""
        ...

    def delete(self, key: str) -> None:
        """Remove; a missing object is no error."""
        ...

    def now(self) -> float:
        """Unix seconds by the store's own clock: workers' clocks are never compared."""
        ...

    def check(self, *, writable_once: bool) -> None:
        """At start-up: the bucket exists and we may use it. With `writable_once`, refuse one on
        which put_once would overwrite: Misconfigured BUCKET_VERSIONING_UNSAFE."""
        ...


def too_large(key: str, size: int, limit: int) -> Refused:
    message = f"The object has {size} bytes; at most {limit} are read."
    return Refused("OBJECT_TOO_LARGE", message, pointer=key)


def vanished(key: str) -> Unavailable:
    """put_once was refused because of an object that is then missing: try again."""
    return Unavailable("STORAGE_UNAVAILABLE", f"{key} exists but cannot be read.", pointer=key)


def put_once_or_read(store: Store, key: str, data: bytes, *, limit: int) -> bytes:
    """Write `data` unless the key exists; the bytes that are stored there, ours or another's.

    Raises as `put_once` and `get` do.
    """
    if store.put_once(key, data):
        return data
    try:
        return store.get(key, limit=limit).data
    except Refused as exc:
        raise (vanished(key) if exc.code == "OBJECT_MISSING" else exc) from exc
