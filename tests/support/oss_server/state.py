"""The state of the server; one lock makes each request atomic."""

from __future__ import annotations

import hashlib
import pickle
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import crcmod

from tests.support.oss_server.errors import OssError

crc64 = crcmod.mkCrcFun(0x142F0E1EBA9EA3693, initCrc=0, xorOut=0xFFFFFFFFFFFFFFFF, rev=True)


def md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest().upper()


@dataclass(frozen=True)
class AccessKey:
    id: str
    secret: str
    token: str = ""
    expires: float = float("inf")
    buckets: frozenset[str] | None = None
    """The buckets that the key may access; None for all."""
    policy: Callable[[str, str], bool] | None = None
    """Returns whether a RAM policy grants an action (`oss:GetObject`) on a resource (`bucket/key`,
    `bucket`); None grants every action."""


@dataclass(frozen=True)
class Stored:
    """An object; immutable."""

    data: bytes
    etag: str
    kind: str = "Normal"
    headers: dict[str, str] = field(default_factory=dict)
    """Content-Type and similar headers."""
    metadata: dict[str, str] = field(default_factory=dict)
    modified: float = field(default_factory=lambda: float(int(time.time())))
    storage_class: str = "Standard"
    restore: str = ""
    acl: str = "default"
    tags: dict[str, str] = field(default_factory=dict)
    target: str = ""
    """The target of a symbolic link."""
    content_md5: str = ""

    @property
    def crc(self) -> str:
        return str(crc64(self.data))


@dataclass
class Upload:
    key: str
    started: float
    template: Stored
    forbid_overwrite: bool
    parts: dict[int, tuple[bytes, float]] = field(default_factory=dict)
    sequential: bool = False


@dataclass
class Bucket:
    name: str
    owner: str
    created: float = field(default_factory=time.time)
    acl: str = "private"
    storage_class: str = "Standard"
    versioning: str = ""
    """Empty: never enabled. No versions are kept, but the state affects other requests."""
    lifecycle: bytes = b""
    """The rules as XML; empty for none."""
    objects: dict[str, Stored] = field(default_factory=dict)
    uploads: dict[str, Upload] = field(default_factory=dict)


class State:
    def __init__(self, region: str, folder: Path | None = None, ahead: float = 0.0) -> None:
        self.region = region
        self.ahead = ahead
        self.lock = threading.RLock()
        self.keys: dict[str, AccessKey] = {}
        self.buckets: dict[str, Bucket] = {}
        self._folder = folder
        if folder:
            folder.mkdir(parents=True, exist_ok=True)
            for path in folder.glob("*.bucket"):
                self.buckets[path.stem] = pickle.loads(path.read_bytes())  # noqa: S301
            for path in folder.glob("*/*.object"):
                key, stored = pickle.loads(path.read_bytes())  # noqa: S301
                self.buckets[path.parent.name].objects[key] = stored

    def now(self) -> float:
        return time.time() + self.ahead

    def bucket(self, name: str) -> Bucket:
        try:
            return self.buckets[name]
        except KeyError:
            raise OssError("NoSuchBucket", details={"BucketName": name}) from None

    def object(self, bucket: str, key: str) -> Stored:
        try:
            return self.bucket(bucket).objects[key]
        except KeyError:
            raise OssError("NoSuchKey", details={"Key": key}) from None

    def store(self, bucket: Bucket, key: str, stored: Stored | None) -> None:
        """Store an object; None deletes it."""
        if stored is None:
            bucket.objects.pop(key, None)
        else:
            bucket.objects[key] = stored
        if self._folder:
            name = hashlib.sha256(key.encode()).hexdigest()
            _save(self._folder / bucket.name / f"{name}.object", stored and (key, stored))

    def store_bucket(self, bucket: Bucket) -> None:
        """Store a new bucket or changed settings."""
        self.buckets[bucket.name] = bucket
        if self._folder:
            bare = Bucket(**{**vars(bucket), "objects": {}, "uploads": {}})
            _save(self._folder / f"{bucket.name}.bucket", bare)

    def remove_bucket(self, bucket: Bucket) -> None:
        del self.buckets[bucket.name]
        if self._folder:
            _save(self._folder / f"{bucket.name}.bucket", None)


def _save(path: Path, value: object) -> None:
    """Write a file; None deletes it."""
    if value is None:
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(exist_ok=True)
    aside = path.with_name(uuid.uuid4().hex)
    aside.write_bytes(pickle.dumps(value))
    aside.replace(path)
