"""The `Store` port: the interface to a bucket that all other packages use.

`core/storage/local.py` implements it with a folder, `core/storage/oss.py` with Alibaba Cloud OSS;
the contract tests in `tests/storage` run against both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO, Protocol

from core.errors import Refused, Unavailable


@dataclass(frozen=True, slots=True)
class Info:
    """The properties of an object."""

    key: str
    size: int
    etag: str
    """Changes whenever the content changes; without quotes."""
    modified: float
    """Unix seconds of the last modification, by the store's clock."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """User metadata: names of lower-case letters, digits and hyphens; ASCII values."""


@dataclass(frozen=True, slots=True)
class Object:
    info: Info
    data: bytes


Body = bytes | BinaryIO
"""Content to write: bytes, or a file, which is read from its beginning, for retries repeatedly."""


class Store(Protocol):
    """A bucket. Every method may raise Unavailable STORAGE_UNAVAILABLE or CREDENTIALS_EXPIRED,
    Misconfigured BUCKET_MISSING or BUCKET_FORBIDDEN."""

    @property
    def name(self) -> str:
        """The name of the bucket as in notifications, or of the folder."""
        ...

    def get(self, key: str, *, limit: int, etag: str = "") -> Object:
        """Read the whole object. Raises Refused OBJECT_MISSING; OBJECT_TOO_LARGE above `limit`
        bytes, before the body is read; OBJECT_CHANGED if `etag` is given and differs;
        REF_NOT_READABLE if the object is archived."""
        ...

    def fetch(self, key: str, file: BinaryIO, *, limit: int) -> Info:
        """As `get`, but into a file, which is emptied first. After an error the file may contain
        a part of the object."""
        ...

    def head(self, key: str) -> Info | None:
        """Return the properties of an object, or None if it does not exist."""
        ...

    def put(self, key: str, data: bytes, *, metadata: Mapping[str, str] | None = None) -> None:
        """Write or replace an object. Readers see the old or the new bytes, never a mixture."""
        ...

    def put_once(self, key: str, data: Body, *, metadata: Mapping[str, str] | None = None) -> bool:
        """Write unless the key exists. Of several writers exactly one gets True."""
        ...

    def append(self, key: str, data: bytes, *, position: int) -> bool:
        """Compare and swap: append if the object (empty if missing) is `position` bytes long;
        otherwise return False. Objects created by append must only be appended to."""
        ...

    def list(self, prefix: str, *, after: str = "") -> Iterator[Info]:
        """Yield the objects whose key begins with `prefix` and sorts after `after`, in the UTF-8
        byte order of keys, without `metadata`. Omits keys that `check_key` refuses, such as folder
        markers."""
        ...

    def link(self, key: str, seconds: int) -> str:
        """Return an address under which whoever knows it can read the object for so many seconds;
        empty if the store has no such addresses. Sends no request."""
        ...

    def delete(self, key: str) -> None:
        """Delete an object; a missing one is not an error."""
        ...

    def now(self) -> float:
        """Return Unix seconds by the store's clock. The clocks of workers are never compared."""
        ...

    def check(self, *, writable_once: bool) -> None:
        """Check at start-up that the bucket exists and is accessible. With `writable_once`, raise
        Misconfigured BUCKET_VERSIONING_UNSAFE for one on which put_once would overwrite."""
        ...


def too_large(key: str, size: int, limit: int) -> Refused:
    message = f"The object has {size} bytes; the limit is {limit}."
    return Refused("OBJECT_TOO_LARGE", message, pointer=key)


def vanished(key: str) -> Unavailable:
    """Return the error for a key that put_once found but that then could not be read."""
    return Unavailable("STORAGE_UNAVAILABLE", f"{key} exists but cannot be read.", pointer=key)


def read_log(store: Store, key: str, *, limit: int) -> bytes:
    """Return the bytes that were appended to an object; empty if it does not exist. Of one that is
    too large to be ours, return a byte that is no record."""
    try:
        return store.get(key, limit=limit).data
    except Refused as exc:
        if exc.code not in ("OBJECT_MISSING", "OBJECT_TOO_LARGE"):
            raise
        return b"" if exc.code == "OBJECT_MISSING" else b"?"


def put_unless_genuine(
    store: Store, key: str, data: bytes, *, limit: int, is_genuine: Callable[[bytes], bool]
) -> bytes:
    """Write `data` unless something genuine is stored, and return the bytes that are stored then.

    What somebody else stored at the key is replaced: it must neither be believed nor keep ours from
    being written. Raises as `put_once` and `get` do.
    """
    try:
        stored = put_once_or_read(store, key, data, limit=limit)
    except Refused as exc:
        if exc.code != "OBJECT_TOO_LARGE":
            raise
        stored = b""
    if stored != data and not is_genuine(stored):
        store.put(key, data)
        return data
    return stored


def put_once_or_read(store: Store, key: str, data: bytes, *, limit: int) -> bytes:
    """Write `data` unless the key exists, and return the bytes that are stored there.

    Raises as `put_once` and `get` do.
    """
    if store.put_once(key, data):
        return data
    try:
        return store.get(key, limit=limit).data
    except Refused as exc:
        raise (vanished(key) if exc.code == "OBJECT_MISSING" else exc) from exc
