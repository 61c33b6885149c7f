"""Run a function on untrusted bytes in a process that may crash, hang or bloat without harm.

A small server process, a fresh interpreter that holds numpy and the decoders but no secrets, no
threads and no CUDA, forks one child a task (about 5 ms instead of 300 ms for a new interpreter).
Each child lives under kernel limits on CPU time, address space, files and output, and under a
wall-clock limit that the server enforces. Results come back as raw bytes and JSON, never pickled:
a decoder that was taken over must not reach further than its own child.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Generator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from core.audio.sandbox_server import ANSWER_LIMIT, Limits, read_all, write_all

__all__ = ["Crashed", "Limits", "Sandbox", "run", "start", "stream"]


_DEFAULT = Limits()


class Crashed(Exception):
    """The child ended without an answer; the text says why, in words for a human."""


class Sandbox:
    """A handle on the server process. Safe from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._server: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    def start(self) -> None:
        """Start the server unless it runs. Call early: it takes about 0.3 s, in the background."""
        self._connect()

    def run(
        self, task: str, data: bytes, limits: Limits = _DEFAULT, **arguments: Any
    ) -> tuple[bytearray, dict[str, Any]]:
        """What the task wrote, and its answer. Raises Crashed."""
        request = json.dumps([task, asdict(limits), arguments]).encode()
        for _ in range(2):
            control = self._connect()
            try:
                return _run_task(self._send, control, request, data, limits)
            except _ServerDied:
                self._discard(control)
        raise Crashed("the process that starts decoders died")

    def stream(
        self, task: str, source: int, limits: Limits, **arguments: Any
    ) -> Generator[bytes, None, dict[str, Any]]:
        """What the task writes, while it writes it; returns its answer. Raises Crashed.

        source: a descriptor of the file, which the task reads itself, so that neither side holds
        more than a block. `limits.stream` must be set.
        """
        request = json.dumps([task, asdict(limits), arguments]).encode()
        with contextlib.ExitStack() as stack:
            (out, sink), (status, report) = os.pipe(), os.pipe()
            stack.callback(os.close, out)
            stack.callback(os.close, status)
            try:
                self._send(self._connect(), request, [source, sink, report])
            except OSError as exc:
                raise Crashed("the process that starts decoders died") from exc
            finally:
                os.close(sink)
                os.close(report)
            tail = yield from _read_stream(out)
            try:
                _wait_for_status(status, limits)
            except _ServerDied as exc:
                raise Crashed("the process that starts decoders died") from exc
            bulk, answer = _split_output(tail)
            yield bytes(bulk)
            return answer

    def close(self) -> None:
        """End the server and its children, and wait for it."""
        with self._lock:
            self._close()

    def _connect(self) -> socket.socket:
        with self._lock:
            if self._control is None:
                self._control, self._server = _launch_server()
            return self._control

    def _send(self, control: socket.socket, message: bytes, fds: list[int]) -> None:
        # One writer at a time: a stream socket may cut a message between two system calls.
        with self._lock:
            socket.send_fds(control, [len(message).to_bytes(4, "little") + message], fds)

    def _discard(self, control: socket.socket) -> None:
        with self._lock:
            if self._control is control:
                self._close()

    def disown(self) -> None:
        """In a forked child: the server belongs to the parent, who waits for it. Take another."""
        self._lock = threading.Lock()  # the old one may be held by a thread that was not copied
        if self._control is not None and self._server is not None:
            self._control.close()
            self._server.returncode = 0  # nothing to wait for, nothing to warn about
        self._server = self._control = None

    def _close(self) -> None:
        if self._control is not None and self._server is not None:
            self._control.close()
            try:
                self._server.wait(timeout=2)
            except subprocess.TimeoutExpired:
                self._server.kill()
                self._server.wait()
        self._server = self._control = None


_sandbox = Sandbox()
atexit.register(_sandbox.close)
os.register_at_fork(after_in_child=_sandbox.disown)
start = _sandbox.start
run = _sandbox.run
stream = _sandbox.stream


class _ServerDied(Exception):
    pass


def _launch_server() -> tuple[socket.socket, subprocess.Popen[bytes]]:
    ours, theirs = socket.socketpair()
    with theirs:
        root = str(Path(__file__).resolve().parents[2])
        program = (
            f"import sys; sys.path.insert(0, {root!r}); "
            f"from core.audio import sandbox_server; sandbox_server.serve({theirs.fileno()})"
        )
        # No variable passes but the few that a linker needs: children must not hold our secrets.
        keep = {k: os.environ[k] for k in ("LD_LIBRARY_PATH", "TMPDIR") if k in os.environ}
        server = subprocess.Popen(  # noqa: S603 - our own interpreter and program
            [sys.executable, "-I", "-c", program],
            env={**keep, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            start_new_session=True,  # Ctrl-C in a terminal ends us, and through us the server
            cwd="/",
        )
    return ours, server


def _open_memory_file() -> int:
    """A file of memory, without a name on a disk, where the system has such a thing."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("voicedrop")
    with tempfile.TemporaryFile() as file:  # pragma: no cover - not on Linux
        return os.dup(file.fileno())


def _run_task(
    send: Callable[[socket.socket, bytes, list[int]], None],
    control: socket.socket,
    request: bytes,
    data: bytes,
    limits: Limits,
) -> tuple[bytearray, dict[str, Any]]:
    with contextlib.ExitStack() as stack:
        source, sink = _open_memory_file(), _open_memory_file()
        status, report = os.pipe()
        for fd in (source, sink, status):
            stack.callback(os.close, fd)
        try:
            write_all(source, data)
            send(control, request, [source, sink, report])
        except OSError as exc:
            raise _ServerDied from exc
        finally:
            os.close(report)
        _wait_for_status(status, limits)
        return _read_output(sink, limits)


def _read_stream(out: int) -> Generator[bytes, None, bytearray]:
    """Everything but what may belong to the answer at the end, which is returned."""
    held = bytearray()
    while part := os.read(out, 1 << 20):
        held += part
        if len(held) > 4 * ANSWER_LIMIT:
            yield bytes(held[: -ANSWER_LIMIT - 4])
            del held[: -ANSWER_LIMIT - 4]
    return held


def _split_output(tail: bytearray) -> tuple[bytearray, dict[str, Any]]:
    """Bulk and answer: JSON, then its length in 4 bytes."""
    size = int.from_bytes(tail[-4:], "little")
    bulk = len(tail) - 4 - size
    if bulk < 0 or size > ANSWER_LIMIT:
        raise Crashed("its answer was malformed")
    return tail[:bulk], _parse_answer(tail[bulk:-4])


def _parse_answer(text: bytearray) -> dict[str, Any]:
    try:
        answer = json.loads(text)
    except ValueError as exc:
        raise Crashed("its answer was malformed") from exc
    if not isinstance(answer, dict):
        raise Crashed("its answer was malformed")
    return answer


def _wait_for_status(status: int, limits: Limits) -> None:
    """Wait for the server's word on how the child ended."""
    # The server enforces the limit; the margin only guards against a server that hangs itself.
    ready, _, _ = select.select([status], [], [], limits.wall_s + 10)
    word = os.read(status, 200) if ready else b"it did not end in time"
    if not word:
        raise _ServerDied
    if word != b"ok":
        raise Crashed(word.decode())


def _read_output(sink: int, limits: Limits) -> tuple[bytearray, dict[str, Any]]:
    """The sink holds: bulk, JSON answer, length of the answer in 4 bytes."""
    size = os.fstat(sink).st_size
    tail = int.from_bytes(read_all(sink, max(0, size - 4), 4), "little")
    bulk = size - 4 - tail
    if not 0 <= bulk <= limits.output or tail > ANSWER_LIMIT:
        raise Crashed("its answer was malformed")
    answer = _parse_answer(read_all(sink, bulk, tail))
    return read_all(sink, 0, bulk), answer
