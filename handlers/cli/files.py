"""Reading and writing the files that a command names."""

from __future__ import annotations

import os
from pathlib import Path

from core.errors import Refused


def read_file(path: Path, *, limit: int | None = None) -> bytes:
    """Raises Refused OBJECT_MISSING, or OBJECT_TOO_LARGE above `limit` bytes."""
    try:
        if limit is not None and path.stat().st_size > limit:
            raise Refused("OBJECT_TOO_LARGE", pointer=str(path))
        return path.read_bytes()
    except OSError as exc:
        raise Refused("OBJECT_MISSING", f"{exc.strerror}.", pointer=str(path)) from exc


def replace_file(path: Path, data: bytes) -> None:
    """Write a file in one step: other processes see all of it, or what was there before."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(data)
    temporary.replace(path)
