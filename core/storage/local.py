"""A folder that is a bucket."""

from __future__ import annotations

import hashlib
import json
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from core.errors import Refused, Unavailable
from core.storage import local_files
from core.storage.object_keys import check_key, check_metadata, is_valid_key
from core.storage.port import Body, Info, Object, too_large

_HIDDEN = ".meta"
_READINGS = 50
_STALE_SECONDS = 3600


class LocalStore:
    """A folder that behaves like a bucket: an object is the file at `root/key`.

    Objects are written aside and then renamed or linked into place, so that a reader sees all of an
    object or none. What is no object lives in `root/.meta`: asides, the lock of append, and user
    metadata. A metadata file names the version it belongs to (size and time of modification, which
    a copy of the folder keeps) and is there before the object is, so that no object is ever seen
    with another version's metadata.
    """

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()
        self._hidden = self._root / _HIDDEN
        self._asides = self._hidden / "aside"

    @property
    def name(self) -> str:
        return self._root.name

    def get(self, key: str, *, limit: int, etag: str = "") -> Object:
        with local_files.explained(self._root, key):
            found = self._read(key, limit, etag)
        if found is None:
            raise Refused("OBJECT_MISSING", pointer=key)
        return found

    def fetch(self, key: str, file: BinaryIO, *, limit: int) -> Info:
        def copy(path: Path, size: int) -> bytes:
            local_files.copy(path, size, file)
            return b""

        with local_files.explained(self._root, key):
            found = self._read(key, limit, "", copy)
        if found is None:
            raise Refused("OBJECT_MISSING", pointer=key)
        return found.info

    def head(self, key: str) -> Info | None:
        with local_files.explained(self._root, key):
            found = self._read(key, None, "")
        return found.info if found else None

    def put(self, key: str, data: bytes, *, metadata: Mapping[str, str] | None = None) -> None:
        with (
            local_files.explained(self._root, key),
            self._aside(key, data, metadata) as (aside, path, described),
        ):
            before = local_files.lstat(path)
            aside.replace(path)
            if before and (old := self._description(key, before)) != described:
                old.unlink(missing_ok=True)

    def put_once(self, key: str, data: Body, *, metadata: Mapping[str, str] | None = None) -> bool:
        with (
            local_files.explained(self._root, key),
            self._aside(key, data, metadata) as (aside, path, described),
        ):
            try:
                path.hardlink_to(aside)
            except FileExistsError:
                if path.is_dir():
                    raise
                described.unlink(missing_ok=True)
                return False
        return True

    def append(self, key: str, data: bytes, *, position: int) -> bool:
        """As the port says. The whole object is written anew, so that readers never see half a
        record: meant for objects of kilobytes."""
        with local_files.explained(self._root, key), self._lock():
            path = self._path(key)
            before = path.read_bytes() if local_files.lstat(path) else b""
            if len(before) != position:
                return False
            with self._aside(key, before + data, None) as (aside, path, _):
                aside.replace(path)
        return True

    def list(self, prefix: str, *, after: str = "") -> Iterator[Info]:
        base = prefix[: prefix.rfind("/") + 1]
        with local_files.explained(self._root, prefix):
            self._root.stat()
            try:
                start = self._path(base[:-1]) if base else self._root
            except Refused:
                return  # no key that we would write begins so
            for key, found in local_files.walk(start, base, prefix.encode(), after.encode()):
                if key.split("/", 1)[0] != _HIDDEN and is_valid_key(key):
                    yield _info(key, found, {})

    def delete(self, key: str) -> None:
        with local_files.explained(self._root, key), self._lock():
            path = self._path(key)
            if before := local_files.lstat(path):
                path.unlink(missing_ok=True)
                self._description(key, before).unlink(missing_ok=True)

    def now(self) -> float:
        return time.time()

    def check(self, *, writable_once: bool) -> None:
        with local_files.explained(self._root, self.name):
            for left in self._asides.glob("*"):  # by a worker that was killed
                if left.stat().st_mtime < time.time() - _STALE_SECONDS:
                    left.unlink(missing_ok=True)
            next(self._root.iterdir(), None)
            if writable_once:
                self._make_hidden()
                local_files.try_linking(self._asides)

    def _read(
        self,
        key: str,
        limit: int | None,
        etag: str,
        read: Callable[[Path, int], bytes] = local_files.read,
    ) -> Object | None:
        """A consistent reading: an object that changes meanwhile is read again. Without `limit`
        the data stay unread."""
        path = self._path(key)
        for _ in range(_READINGS):
            before = local_files.lstat(path)
            if before is None:
                self._root.stat()
                return None
            info = _info(key, before, self._metadata(key, before))
            if etag and etag != info.etag:
                raise Refused("OBJECT_CHANGED", pointer=key)
            if limit is not None and info.size > limit:
                raise too_large(key, info.size, limit)
            data = read(path, info.size) if limit is not None else b""
            after = local_files.lstat(path)
            if after and local_files.version(after) == local_files.version(before):
                return Object(info, data)
        raise Unavailable("STORAGE_UNAVAILABLE", "The file is still being written.", pointer=key)

    @contextmanager
    def _aside(
        self, key: str, data: Body, metadata: Mapping[str, str] | None
    ) -> Iterator[tuple[Path, Path, Path]]:
        """The object durable in a hidden place, where it shall go, and where its metadata are."""
        path, plain = self._path(key), check_metadata(metadata)
        self._make_hidden()
        aside = self._asides / uuid.uuid4().hex
        try:
            described = self._description(key, local_files.write(aside, data))
            if plain:
                text = aside.with_suffix(".json")
                try:
                    local_files.write(text, json.dumps(plain).encode())
                    text.replace(described)
                finally:
                    text.unlink(missing_ok=True)
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                yield aside, path, described
            except OSError:
                described.unlink(missing_ok=True)
                raise
        finally:
            aside.unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        path = self._root / check_key(key)
        if key.split("/", 1)[0] == _HIDDEN:
            raise Refused("KEY_INVALID", f"{_HIDDEN} is the store's own folder.", pointer=key)
        if os.path.realpath(path) != str(path):
            raise Refused("KEY_INVALID", "The key passes through a symbolic link.", pointer=key)
        return path

    def _description(self, key: str, found: os.stat_result) -> Path:
        named = hashlib.sha256(key.encode()).hexdigest()
        return self._hidden / f"{named}-{local_files.version(found)}.json"

    def _metadata(self, key: str, found: os.stat_result) -> dict[str, str]:
        try:
            metadata: dict[str, str] = json.loads(self._description(key, found).read_bytes())
        except FileNotFoundError:
            return {}
        return metadata

    def _make_hidden(self) -> None:
        self._hidden.mkdir(exist_ok=True)
        self._asides.mkdir(exist_ok=True)

    @contextmanager
    def _lock(self) -> Iterator[None]:
        import fcntl  # not on every system, and only append and delete need it

        self._hidden.mkdir(exist_ok=True)
        with (self._hidden / "lock").open("wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _info(key: str, found: os.stat_result, metadata: Mapping[str, str]) -> Info:
    """The ETag costs no reading, unlike a digest of the content; a file that somebody replaces by
    another of the same size and time still differs in its inode."""
    etag = (
        hashlib.sha256(f"{local_files.version(found)}-{found.st_ino}".encode())
        .hexdigest()[:32]
        .upper()
    )
    return Info(key, found.st_size, etag, found.st_mtime_ns / 1e9, metadata)
