"""Tasks that misbehave in a confined process."""

from __future__ import annotations

import ctypes
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
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


def answer_without_json(data: bytes, write: Callable[[Any], object]) -> dict[str, Any]:
    """Leave before the server's own code can write the answer."""
    write(data)
    os._exit(0)


def environment(data: bytes, write: Callable[[Any], object]) -> dict[str, Any]:
    return dict(os.environ)


def reach(data: bytes, write: Callable[[Any], object]) -> dict[str, Any]:
    """What a decoder that was taken over might try."""
    outcome = {}
    for name, attempt in {
        "open a file": lambda: Path("/etc/passwd").read_text(),
        "open a socket": lambda: socket.socket().close(),
    }.items():
        try:
            attempt()
            outcome[name] = "done"
        except OSError as exc:
            outcome[name] = type(exc).__name__
    return outcome


def kill_server(data: bytes, write: Callable[[Any], object]) -> dict[str, Any]:
    os.kill(os.getppid(), 9)
    return {}
