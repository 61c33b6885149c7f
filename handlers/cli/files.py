"""Reading and writing the files that a command names."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from core.errors import Refused
from core.settings import Settings


def read_file(path: Path, *, limit: int | None = None) -> bytes:
    """Raises Refused OBJECT_MISSING, or OBJECT_TOO_LARGE above `limit` bytes."""
    with reading(path), path.open("rb") as file:
        if limit is not None and os.fstat(file.fileno()).st_size > limit:
            raise Refused("OBJECT_TOO_LARGE", pointer=str(path))
        return file.read()


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn an OSError in the block, which reads a file, into Refused OBJECT_MISSING."""
    try:
        yield
    except IsADirectoryError as exc:
        message = "This is a folder: name the files in it."
        raise Refused("OBJECT_MISSING", message, pointer=str(path), advice="") from exc
    except OSError as exc:
        raise Refused("OBJECT_MISSING", f"{exc.strerror}.", pointer=str(path)) from exc


@contextmanager
def writing(path: Path, option: str = "--out") -> Iterator[None]:
    """Turn an OSError in the block into Refused FILE_UNUSABLE.

    path: the file or folder that is written. option: the option or setting that chooses another.
    """
    try:
        yield
    except OSError as exc:
        reason = "A file has the name of the folder" if _is_taken(exc) else exc.strerror
        message = f"{path} cannot be written: {reason}. Choose another with {option}."
        raise Refused("FILE_UNUSABLE", message, pointer=str(path)) from exc


def _is_taken(error: OSError) -> bool:
    return isinstance(error, FileExistsError | NotADirectoryError)


def make_folder(folder: Path, option: str = "--out") -> None:
    """Make a folder and those above it, unless they exist. Raises Refused FILE_UNUSABLE."""
    with writing(folder, option):
        folder.mkdir(parents=True, exist_ok=True)


def refuse_bucket(settings: Settings, out: Path) -> None:
    """Raise Refused FILE_UNUSABLE if the folder `out` is in a bucket, whose objects all belong to
    jobs: a file there would be taken for one that nobody made."""
    for place in (settings.inbox, settings.results, settings.control):
        if not place.startswith("oss://") and out.resolve().is_relative_to(Path(place).resolve()):
            message = f"{out} is in the bucket {place}. Choose a folder outside it with --out."
            raise Refused("FILE_UNUSABLE", message, pointer=str(out), advice="")


def replace_file(path: Path, data: bytes) -> None:
    """Write a file, and its folder, in one step: other processes see all of it, or what was there
    before. Raises Refused FILE_UNUSABLE, and leaves no part of the data then."""
    make_folder(path.parent)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with writing(path):
        try:
            temporary.write_bytes(data)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def create_file(path: Path, data: bytes) -> None:
    """Write a new file, and its folder. Raises Refused FILE_EXISTS and FILE_UNUSABLE, and leaves no
    part of the data then."""
    make_folder(path.parent)
    with writing(path):
        try:
            file = path.open("xb")
        except FileExistsError as exc:
            raise Refused("FILE_EXISTS", pointer=str(path)) from exc
        try:
            with file:
                file.write(data)
        except BaseException:
            path.unlink()
            raise
