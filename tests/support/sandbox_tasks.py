"""Sandbox tasks that misbehave."""

from __future__ import annotations

import ctypes
import errno
import os
import time
from collections.abc import Callable
from typing import Any


def echo(data: bytes, write: Callable[[Any], object], *, times: int) -> dict[str, Any]:
    for _ in range(times):
        write(data)
    return {"length": len(data)}


def crash(data: bytes, write: Callable[[Any], object]) -> dict[str, Any]:
    ctypes.string_at(0)
    return {}


def spin(data: bytes, write: Callable[[Any], object]) -> dict[str, Any]:
    while True:
        pass


def sleep(data: bytes, write: Callable[[Any], object]) -> dict[str, Any]:
    time.sleep(60)
    return {}


def bloat(data: bytes, write: Callable[[Any], object]) -> dict[str, Any]:
    return {"size": len(bytearray(1 << 30))}


def fail(data: bytes, write: Callable[[Any], object]) -> dict[str, Any]:
    raise KeyError("secret")


def answer_without_json(data: bytes | int, write: Callable[[Any], object]) -> dict[str, Any]:
    """Exit before the server's code can write the answer. data: bytes, or a descriptor."""
    write(os.read(data, 1 << 10) if isinstance(data, int) else data)
    os._exit(0)


def environment(data: bytes, write: Callable[[Any], object]) -> dict[str, Any]:
    return dict(os.environ)


def descriptors(data: bytes, write: Callable[[Any], object]) -> dict[str, Any]:
    """Return the open file descriptors."""
    numbers = []
    for number in range(10_000):
        try:
            os.lseek(number, 0, os.SEEK_CUR)
        except OSError as exc:
            if exc.errno == errno.EBADF:
                continue
        numbers.append(number)
    return {"open": numbers}


def fail_to_start() -> None:
    raise RuntimeError
