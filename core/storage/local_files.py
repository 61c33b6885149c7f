"""File operations of `LocalStore`: durable writes, versions, listing in key order, errors."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from core.errors import JobError, Misconfigured, Refused, Unavailable

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
_BAD_NAME = {errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.EILSEQ}


def write_durably(path: Path, data: bytes | BinaryIO) -> os.stat_result:
    """Write a new file and sync it to disk. The modification time distinguishes versions; because
    file systems may only count milliseconds, the digits below are chosen at random."""
    millisecond = time.time_ns() // 1_000_000 - 1
    modified = millisecond * 1_000_000 + secrets.randbelow(1_000_000)
    with path.open("xb") as file:
        if isinstance(data, bytes):
            file.write(data)
        else:
            data.seek(0)
            shutil.copyfileobj(data, file, 1 << 20)
        file.flush()
        os.utime(file.fileno(), ns=(modified, modified))
        os.fsync(file.fileno())
        return os.fstat(file.fileno())


def read_file(path: Path, size: int) -> bytes:
    """Read at most `size` bytes, even if the file has grown, or none if it was deleted."""
    with suppress(FileNotFoundError), _open_file(path) as file:
        return file.read(size)
    return b""


def copy_file(path: Path, size: int, into: BinaryIO) -> None:
    """Do the same as `read_file`, into a file whose content is replaced."""
    into.seek(0)
    into.truncate()
    with suppress(FileNotFoundError), _open_file(path) as file:
        while size > 0 and (part := file.read(min(size, 1 << 20))):
            into.write(part)
            size -= len(part)


def _open_file(path: Path) -> BinaryIO:
    """Open what was a regular file a moment ago. If a symbolic link or a pipe has replaced it, the
    link is not followed and the pipe does not block."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    return os.fdopen(os.open(path, flags), "rb")


def check_hard_links(asides: Path) -> None:
    """Find out at start-up, not at the first commit, if the file system has no hard links."""
    first, second = asides / uuid.uuid4().hex, asides / uuid.uuid4().hex
    try:
        write_durably(first, b"")
        second.hardlink_to(first)
    finally:
        first.unlink(missing_ok=True)
        second.unlink(missing_ok=True)


def stat_regular_file(path: Path) -> os.stat_result | None:
    """Return the status of a regular file; None for anything else, or nothing."""
    try:
        found = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found if stat.S_ISREG(found.st_mode) else None


def version_of(found: os.stat_result) -> str:
    return f"{found.st_size}-{found.st_mtime_ns}"


def walk(
    folder: Path, base: str, prefix: bytes, after: bytes
) -> Iterator[tuple[str, os.stat_result]]:
    """Yield the files below `folder`, whose keys begin with `base`, in the byte order of keys:
    `a-b`, `a/b`, `a0`."""
    for key, entry in _entries(folder, base):
        name = key.encode()
        if entry.is_dir(follow_symlinks=False):
            relevant = name.startswith(prefix) or prefix.startswith(name)
            if relevant and (name > after or after.startswith(name)):
                yield from walk(Path(entry.path), key, prefix, after)
        elif (
            name.startswith(prefix)
            and name > after
            and (found := stat_regular_file(Path(entry.path)))
        ):
            yield key, found


def _entries(folder: Path, base: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
    try:
        entries = list(os.scandir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return  # deleted meanwhile
    keyed = []
    for entry in entries:
        key = base + entry.name + ("/" if entry.is_dir(follow_symlinks=False) else "")
        if _encodable(key):
            keyed.append((key, entry))
    yield from sorted(keyed, key=lambda pair: pair[0].encode())


def _encodable(key: str) -> bool:
    """Return False for names that are not UTF-8, which Python decodes to lone surrogates."""
    return not any("\ud800" <= char <= "\udfff" for char in key)


@contextmanager
def translate_os_errors(root: Path, key: str) -> Iterator[None]:
    """Turn an OSError into a JobError."""
    try:
        yield
    except OSError as exc:
        raise _to_job_error(root, key, exc) from exc


def _to_job_error(root: Path, key: str, exc: OSError) -> JobError:
    if not root.is_dir():
        return Misconfigured("BUCKET_MISSING", f"There is no folder {root}.")
    why = f"{root}: {exc.strerror}."
    if exc.errno in _NO_SPACE:
        return Unavailable("NO_SPACE", why, pointer=key)
    if exc.errno in _FORBIDDEN:
        advice = f"Let this user read and write in {root}: ls -ld shows what is permitted."
        return Misconfigured("BUCKET_FORBIDDEN", why, pointer=key, advice=advice)
    if exc.errno in _BAD_NAME:
        return Refused(
            "KEY_INVALID", f"The file system does not support this name: {why}", pointer=key
        )
    return Unavailable("STORAGE_UNAVAILABLE", why, pointer=key)
