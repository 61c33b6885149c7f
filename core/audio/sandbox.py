"""Run a function on untrusted bytes in a process that may crash, hang or exhaust memory safely.

A small server process forks one child per task, which takes about 5 ms instead of 300 ms for a new
interpreter. The server is a fresh interpreter with what its tasks need, but without secrets,
threads or CUDA. There is one for each kind of task, because importing librosa takes seconds. Each
child has kernel limits on CPU time, address space and output, a wall-clock limit that the server
enforces, and no rights but to compute and to read and write two open files
(`core.audio.confinement`). Results are raw bytes and JSON, never pickles, so that a compromised
decoder cannot reach beyond its own child.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import os
import select
import socket
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Generator, Iterator, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

from core.audio.confinement import Protection
from core.audio.sandbox_server import (
    ANSWER_LIMIT,
    DONE,
    DONE_UNFILTERED,
    NOT_DECODED,
    PROGRAM,
    UNFILTERED,
    Limits,
    read_all,
    write_all,
)
from core.errors import Misconfigured

__all__ = [
    "Crashed",
    "Limits",
    "NotDecoded",
    "Sandbox",
    "Unconfined",
    "require",
    "run",
    "run_program",
    "start",
    "stream",
]

_DEFAULT = Limits()
_STARTUP_FAILED = 1
"""The exit status of an interpreter that ends with an exception."""
_log = logging.getLogger("voicedrop.sandbox")
_VARIABLES = (
    "HOME",
    "LD_LIBRARY_PATH",
    "NUMBA_CACHE_DIR",
    "NUMBA_CPU_NAME",
    "TMPDIR",
    "XDG_CACHE_HOME",
)
"""The only variables that are passed on: the environment of children must not hold secrets."""


class Crashed(Exception):
    """The child exited without an answer. The message says why."""


class NotDecoded(Crashed):
    """The program ended by itself, but not well."""


class Unconfined(Crashed):
    """The program was not started, because this system cannot confine it."""


class _ServerDied(Crashed):
    def __init__(self) -> None:
        super().__init__("the decoder server died")


class Sandbox:
    """A handle on the server process; it is thread-safe.

    Tasks raise Misconfigured SANDBOX_UNAVAILABLE if protection is required, here or in all of the
    process, and the kernel cannot filter their system calls, and DECODER_UNAVAILABLE if the server
    fails to start.
    """

    all_required: ClassVar[bool] = False

    def __init__(
        self, warm_up: str = "core.audio.libsndfile:warm_up", *, required: bool = False
    ) -> None:
        """warm_up: address `module:function` of what the server calls before its first task."""
        self._warm_up = warm_up
        self._required = required
        self._lock = threading.Lock()
        self._server: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        _sandboxes.add(self)

    def start(self, *, behind: bool = False) -> None:
        """Start the server if it is not running. It becomes ready in the background, which takes
        0.3 s where nothing but the decoders is needed; with `behind`, other work goes first."""
        self._connect(behind)

    def protection(self) -> Protection:
        """Return what holds in a child on this system. Raises Crashed."""
        _, answer = self.run("core.audio.sandbox_server:describe_protection", b"")
        return Protection(**answer)

    def run(
        self, task: str, data: bytes, limits: Limits = _DEFAULT, **arguments: Any
    ) -> tuple[bytearray, dict[str, Any]]:
        """Run a task and return what it wrote and its answer. Raises Crashed."""
        request = self._request(task, limits, arguments)
        with contextlib.suppress(_ServerDied):
            return self._run(request, data, limits)
        return self._run(request, data, limits)  # the task is repeated by a new server

    def stream(
        self, task: str, source: int, limits: Limits, **arguments: Any
    ) -> Generator[bytes, None, dict[str, Any]]:
        """Run a task, yield what it writes as it is written, and return its answer. Raises Crashed.

        source: the descriptor of a file that the task reads itself, so that neither process holds
        more than a block. `limits.stream` must be set.
        """
        request = self._request(task, limits, arguments)
        with self._serving() as control, contextlib.ExitStack() as stack:
            (out, sink), (status, report) = os.pipe(), os.pipe()
            stack.callback(os.close, out)
            stack.callback(os.close, status)
            try:
                self._send(control, request, [source, sink, report])
            finally:
                os.close(sink)
                os.close(report)
            tail = yield from _read_stream(out)
            _wait_for_status(status, limits)
            bulk, answer = _split_output(tail)
            yield bytes(bulk)
            return answer

    def run_program(self, command: Sequence[str], source: int, sink: int, limits: Limits) -> None:
        """Run a program that reads one file and writes another.

        It finds them as `/proc/self/fd/0`, which it can seek if `source` can, and descriptor 1. It
        can read nothing else but libraries, whatever VOICEDROP_SANDBOX is. Raises Crashed,
        NotDecoded, Unconfined.
        """
        request = json.dumps([PROGRAM, asdict(limits), {"command": command}, True]).encode()
        with self._serving() as control, contextlib.ExitStack() as stack:
            status, report = os.pipe()
            stack.callback(os.close, status)
            try:
                self._send(control, request, [source, sink, report])
            finally:
                os.close(report)
            try:
                _wait_for_status(status, limits)
            except Misconfigured as exc:
                raise Unconfined from exc

    def close(self) -> None:
        """Stop the server and its children, and wait for it to exit."""
        with self._lock:
            self._close()

    def _request(self, task: str, limits: Limits, arguments: dict[str, Any]) -> bytes:
        required = self._required or self.all_required
        return json.dumps([task, asdict(limits), arguments, required]).encode()

    def _connect(self, behind: bool = False) -> socket.socket:
        with self._lock:
            if self._control is None:
                self._control, self._server = _launch_server(self._warm_up, behind)
            return self._control

    @contextlib.contextmanager
    def _serving(self) -> Iterator[socket.socket]:
        """Yield the control socket. A server that dies is discarded, so that the next task starts
        another one."""
        control = self._connect()
        try:
            yield control
        except _ServerDied as exc:
            if self._discard(control) == _STARTUP_FAILED:
                raise Misconfigured("DECODER_UNAVAILABLE") from exc
            raise

    def _send(self, control: socket.socket, message: bytes, fds: list[int]) -> None:
        # The lock keeps messages whole: a stream socket may split one over several system calls.
        with self._lock:
            try:
                socket.send_fds(control, [len(message).to_bytes(4, "little") + message], fds)
            except OSError as exc:
                raise _ServerDied from exc

    def _run(self, request: bytes, data: bytes, limits: Limits) -> tuple[bytearray, dict[str, Any]]:
        with self._serving() as control, contextlib.ExitStack() as stack:
            source, sink = open_memory_file(), open_memory_file()
            status, report = os.pipe()
            for fd in (source, sink, status):
                stack.callback(os.close, fd)
            try:
                write_all(source, data)
                self._send(control, request, [source, sink, report])
            finally:
                os.close(report)
            _wait_for_status(status, limits)
            return _read_output(sink, limits)

    def _discard(self, control: socket.socket) -> int | None:
        """Stop the server if another thread has not done so, and return its exit status."""
        with self._lock:
            server = self._server
            if server is None or self._control is not control:
                return None
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(timeout=1)  # it exits after it has closed its socket
            self._close()
            return server.returncode

    def forget_server(self) -> None:
        """Forget the server, in a forked process: it is a child of the parent process."""
        self._lock = threading.Lock()  # a thread of the parent may hold the old one
        if self._control is not None and self._server is not None:
            self._control.close()
            self._server.returncode = 0  # prevents a ResourceWarning about a running child
        self._server = self._control = None

    def _close(self) -> None:
        if self._control is not None and self._server is not None:
            self._control.close()
            self._server.terminate()  # ends a server that is not ready yet; others ignore it
            try:
                self._server.wait(timeout=2)
            except subprocess.TimeoutExpired:
                self._server.kill()
                self._server.wait()
        self._server = self._control = None


_sandboxes: weakref.WeakSet[Sandbox] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    for one in _sandboxes:
        one.close()


def _forget_all() -> None:  # pragma: no cover - in forked processes, which coverage cannot measure
    for one in _sandboxes:
        one.forget_server()


os.register_at_fork(after_in_child=_forget_all)
_sandbox = Sandbox()
start = _sandbox.start
run = _sandbox.run
run_program = _sandbox.run_program
stream = _sandbox.stream


def require(required: bool) -> None:
    """Set whether no task of this process may run where the kernel cannot filter system calls."""
    Sandbox.all_required = required


def _launch_server(warm_up: str, behind: bool) -> tuple[socket.socket, subprocess.Popen[bytes]]:
    parent_end, server_end = socket.socketpair()
    with server_end:
        root = str(Path(__file__).resolve().parents[2])
        program = (
            f"import sys; sys.path.insert(0, {root!r}); "
            "from core.audio import sandbox_server; "
            f"sandbox_server.serve({server_end.fileno()}, {warm_up!r}, {behind})"
        )
        variables = {k: os.environ[k] for k in _VARIABLES if k in os.environ}
        server = subprocess.Popen(  # noqa: S603 - our own interpreter and program
            [sys.executable, "-I", "-c", program],
            env={**variables, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[server_end.fileno()],
            # Ctrl-C ends this process, which stops the server. Priorities count within a session.
            start_new_session=not behind,
            process_group=0 if behind else None,
            cwd="/",
        )
    return parent_end, server


def open_memory_file() -> int:
    """Return a descriptor of an anonymous file in memory, or on disk if the system has none."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("voicedrop")
    with tempfile.TemporaryFile() as file:  # pragma: no cover - not on Linux
        return os.dup(file.fileno())


def _read_stream(out: int) -> Generator[bytes, None, bytearray]:
    """Yield all bytes except the last ones, which may contain the answer and are returned."""
    buffer = bytearray()
    while part := os.read(out, 1 << 20):
        buffer += part
        if len(buffer) > 4 * ANSWER_LIMIT:
            yield bytes(buffer[: -ANSWER_LIMIT - 4])
            del buffer[: -ANSWER_LIMIT - 4]
    return buffer


def _split_output(tail: bytearray) -> tuple[bytearray, dict[str, Any]]:
    """Split output into bulk and answer: the answer is JSON, followed by its length in 4 bytes."""
    size = int.from_bytes(tail[-4:], "little")
    bulk = len(tail) - 4 - size
    if bulk < 0 or size > ANSWER_LIMIT:
        raise Crashed("its answer was malformed")
    return tail[:bulk], parse_answer(tail[bulk:-4])


def parse_answer(text: bytes | bytearray) -> dict[str, Any]:
    """Parse what a task says. Raises Crashed: a decoder that was taken over may write anything."""
    try:
        answer = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise Crashed("its answer was malformed") from exc
    if not isinstance(answer, dict):
        raise Crashed("its answer was malformed")
    return answer


def _wait_for_status(status: int, limits: Limits) -> None:
    """Wait until the server reports the exit of the child. Raises Crashed and Misconfigured."""
    # The server enforces the limit; the margin only matters if the server itself hangs.
    ready, _, _ = select.select([status], [], [], limits.wall_s + 10)
    verdict = os.read(status, 200) if ready else b"it did not end in time"
    if not verdict:
        raise _ServerDied
    if verdict == UNFILTERED.encode():
        raise Misconfigured("SANDBOX_UNAVAILABLE")
    if verdict == NOT_DECODED.encode():
        raise NotDecoded
    if verdict == DONE_UNFILTERED.encode():
        _warn_once()
    elif verdict != DONE.encode():
        raise Crashed(verdict.decode())


@cache
def _warn_once() -> None:
    _log.warning(
        "this system cannot filter the system calls of decoders: a hostile recording that takes "
        "over its decoder could do what this user may do (VOICEDROP_SANDBOX, docs/operations.md)"
    )


def _read_output(sink: int, limits: Limits) -> tuple[bytearray, dict[str, Any]]:
    """Read the output of a task: bulk, JSON answer, length of the answer in 4 bytes."""
    size = os.fstat(sink).st_size
    tail = int.from_bytes(read_all(sink, max(0, size - 4), 4), "little")
    bulk = size - 4 - tail
    if not 0 <= bulk <= limits.output or tail > ANSWER_LIMIT:
        raise Crashed("its answer was malformed")
    answer = parse_answer(read_all(sink, bulk, tail))
    return read_all(sink, 0, bulk), answer
