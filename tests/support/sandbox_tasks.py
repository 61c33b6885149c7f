"""Sandbox tasks that misbehave."""

from __future__ import annotations

import ctypes
import os
import resource
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
    """Exit before the server's code can write the answer."""
    write(data)
    os._exit(0)


def environment(data: bytes, write: Callable[[Any], object]) -> dict[str, Any]:
    return dict(os.environ)


def reach(data: bytes, write: Callable[[Any], object]) -> dict[str, Any]:
    """Try to open a file and a socket."""
    attempts: dict[str, Callable[[], object]] = {
        "open a file": lambda: Path("/etc/passwd").read_text(),
        "open a socket": lambda: socket.socket().close(),
    }
    outcome = {}
    for name, attempt in attempts.items():
        try:
            attempt()
            outcome[name] = "done"
        except OSError as exc:
            outcome[name] = type(exc).__name__
    return outcome


def descriptors(data: bytes, write: Callable[[Any], object]) -> dict[str, Any]:
    """Return the open file descriptors from 3 on."""
    numbers = []
    for number in range(3, 10_000):
        try:
            os.fstat(number)
        except OSError:
            continue
        numbers.append(number)
    return {"open": numbers}


def break_out(data: bytes, write: Callable[[Any], object]) -> dict[str, Any]:
    """Try what a decoder must not do, and return the outcome of each attempt."""
    unlimited = resource.RLIM_INFINITY
    attempts: dict[str, Callable[[], object]] = {
        "fork": _fork,
        "raise the limit on files": lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)),
        "raise the limit on memory": lambda: resource.setrlimit(
            resource.RLIMIT_AS, (unlimited, unlimited)
        ),
        "write a file": lambda: Path("/tmp/voicedrop-was-here").write_text("x"),
        "make a pipe": os.pipe,
        "end its parent": lambda: os.kill(os.getppid(), 0),
        "run a program": lambda: os.posix_spawn("/bin/true", ["true"], {}),
    }
    return {name: _outcome(attempt) for name, attempt in attempts.items()}


def _fork() -> None:
    if os.fork() == 0:
        os._exit(0)


def _outcome(attempt: Callable[[], object]) -> str:
    try:
        attempt()
    except (OSError, ValueError):
        return "refused"
    return "done"


def kill_server(data: bytes, write: Callable[[Any], object]) -> dict[str, Any]:
    os.kill(os.getppid(), 9)
    return {}
