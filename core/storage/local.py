"""A folder used as a bucket."""

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

import msgspec

from core.errors import Refused, Unavailable
from core.storage import local_files
from core.storage.object_keys import check_key, check_metadata, is_valid_key
from core.storage.port import Body, Info, Object, too_large

_PRIVATE_FOLDER = ".meta"
_READ_ATTEMPTS = 50
_STALE_SECONDS = 3600


class LocalStore:
    """A folder that behaves like a bucket: an object is the file at `root/key`.

    An object is written to a temporary file and then renamed or linked into place, so that a reader
    sees all of it or nothing. `root/.meta` holds those files, the lock of append, and user
    metadata. A metadata file names the version that it belongs to (size and modification time,
    which a copy of the folder keeps) and is written before the object, so that no object is ever
    seen with the metadata of another version.
    """

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()
        self._private = self._root / _PRIVATE_FOLDER
        self._staging = self._private / "aside"

    @property
    def name(self) -> str:
        return self._root.name

    def get(self, key: str, *, limit: int, etag: str = "") -> Object:
        with local_files.translate_os_errors(self._root, key):
            found = self._read(key, limit, etag)
        if found is None:
            raise Refused("OBJECT_MISSING", pointer=key)
        return found

    def fetch(self, key: str, file: BinaryIO, *, limit: int) -> Info:
        def copy(path: Path, size: int) -> bytes:
            local_files.copy_file(path, size, file)
            return b""

        with local_files.translate_os_errors(self._root, key):
            found = self._read(key, limit, "", copy)
        if found is None:
            raise Refused("OBJECT_MISSING", pointer=key)
        return found.info

    def head(self, key: str) -> Info | None:
        with local_files.translate_os_errors(self._root, key):
            found = self._read(key, None, "")
        return found.info if found else None

    def put(self, key: str, data: bytes, *, metadata: Mapping[str, str] | None = None) -> None:
        with (
            local_files.translate_os_errors(self._root, key),
            self._stage(key, data, metadata) as (staged, path, metadata_path),
        ):
            before = local_files.stat_regular_file(path)
            staged.replace(path)
            if before and (old := self._metadata_path(key, before)) != metadata_path:
                old.unlink(missing_ok=True)

    def put_once(self, key: str, data: Body, *, metadata: Mapping[str, str] | None = None) -> bool:
        with (
            local_files.translate_os_errors(self._root, key),
            self._stage(key, data, metadata) as (staged, path, metadata_path),
        ):
            try:
                path.hardlink_to(staged)
            except FileExistsError:
                if path.is_dir():
                    raise
                metadata_path.unlink(missing_ok=True)
                return False
        return True

    def append(self, key: str, data: bytes, *, position: int) -> bool:
        """See `Store.append`. The whole object is rewritten, so that readers never see half a
        record. Meant for objects of kilobytes."""
        with local_files.translate_os_errors(self._root, key), self._lock():
            path = self._path(key)
            before = path.read_bytes() if local_files.stat_regular_file(path) else b""
            if len(before) != position:
                return False
            with self._stage(key, before + data, None) as (staged, path, _):
                staged.replace(path)
        return True

    def list(self, prefix: str, *, after: str = "") -> Iterator[Info]:
        base = prefix[: prefix.rfind("/") + 1]
        with local_files.translate_os_errors(self._root, prefix):
            self._root.stat()
            try:
                start = self._path(base[:-1]) if base else self._root
            except Refused:
                return  # no valid key begins with this prefix
            for key, found in local_files.walk(start, base, prefix.encode(), after.encode()):
                if key.split("/", 1)[0] != _PRIVATE_FOLDER and is_valid_key(key):
                    yield _info(key, found, {})

    def link(self, key: str, seconds: int) -> str:
        return ""

    def delete(self, key: str) -> None:
        with local_files.translate_os_errors(self._root, key), self._lock():
            path = self._path(key)
            if before := local_files.stat_regular_file(path):
                path.unlink(missing_ok=True)
                self._metadata_path(key, before).unlink(missing_ok=True)

    def now(self) -> float:
        return time.time()

    def check(self, *, writable_once: bool) -> None:
        with local_files.translate_os_errors(self._root, self.name):
            for left in self._staging.glob("*"):  # from a worker that was killed
                if left.stat().st_mtime < time.time() - _STALE_SECONDS:
                    left.unlink(missing_ok=True)
            next(self._root.iterdir(), None)
            if writable_once:
                self._make_folders()
                local_files.check_hard_links(self._staging)

    def _read(
        self,
        key: str,
        limit: int | None,
        etag: str,
        read: Callable[[Path, int], bytes] = local_files.read_file,
    ) -> Object | None:
        """Read an object consistently: one that changes meanwhile is read again. Without `limit`
        the data are not read."""
        path = self._path(key)
        for _ in range(_READ_ATTEMPTS):
            before = local_files.stat_regular_file(path)
            if before is None:
                self._root.stat()
                return None
            info = _info(key, before, self._metadata(key, before))
            if etag and etag != info.etag:
                raise Refused("OBJECT_CHANGED", pointer=key)
            if limit is not None and info.size > limit:
                raise too_large(key, info.size, limit)
            data = read(path, info.size) if limit is not None else b""
            after = local_files.stat_regular_file(path)
            if after and local_files.version_of(after) == local_files.version_of(before):
                return Object(info, data)
        raise Unavailable(
            "STORAGE_UNAVAILABLE", "The file keeps changing while it is read.", pointer=key
        )

    @contextmanager
    def _stage(
        self, key: str, data: Body, metadata: Mapping[str, str] | None
    ) -> Iterator[tuple[Path, Path, Path]]:
        """Write an object to a temporary file, durably. Yields the paths of that file, of the
        object and of its metadata."""
        path, plain = self._path(key), check_metadata(metadata)
        self._make_folders()
        staged = self._staging / uuid.uuid4().hex
        try:
            metadata_path = self._metadata_path(key, local_files.write_durably(staged, data))
            if plain:
                text = staged.with_suffix(".json")
                try:
                    local_files.write_durably(text, json.dumps(plain).encode())
                    text.replace(metadata_path)
                finally:
                    text.unlink(missing_ok=True)
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                yield staged, path, metadata_path
            except OSError:
                metadata_path.unlink(missing_ok=True)
                raise
        finally:
            staged.unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        path = self._root / check_key(key)
        if key.split("/", 1)[0] == _PRIVATE_FOLDER:
            raise Refused(
                "KEY_INVALID", f"{_PRIVATE_FOLDER} is reserved for the store.", pointer=key
            )
        if os.path.realpath(path) != str(path):
            raise Refused("KEY_INVALID", "The key passes through a symbolic link.", pointer=key)
        return path

    def _metadata_path(self, key: str, found: os.stat_result) -> Path:
        named = hashlib.sha256(key.encode()).hexdigest()
        return self._private / f"{named}-{local_files.version_of(found)}.json"

    def _metadata(self, key: str, found: os.stat_result) -> dict[str, str]:
        try:
            stored = self._metadata_path(key, found).read_bytes()
            return msgspec.json.decode(stored, type=dict[str, str])
        except (FileNotFoundError, msgspec.DecodeError, RecursionError):
            return {}  # what somebody else wrote there is no metadata of ours

    def _make_folders(self) -> None:
        self._private.mkdir(exist_ok=True)
        self._staging.mkdir(exist_ok=True)

    @contextmanager
    def _lock(self) -> Iterator[None]:
        import fcntl  # not available on Windows, and only needed for append and delete

        self._private.mkdir(exist_ok=True)
        with (self._private / "lock").open("wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _info(key: str, found: os.stat_result, metadata: Mapping[str, str]) -> Info:
    """Return the properties of a file. Its ETag is not a digest, so that the content need not be
    read. It includes the inode, which differs for a replacement of the same size and time."""
    etag = (
        hashlib.sha256(f"{local_files.version_of(found)}-{found.st_ino}".encode())
        .hexdigest()[:32]
        .upper()
    )
    return Info(key, found.st_size, etag, found.st_mtime_ns / 1e9, metadata)
