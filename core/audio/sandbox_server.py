"""The server process of the sandbox: it forks one confined child per task and reports its exit."""

from __future__ import annotations

import contextlib
import errno
import gc
import importlib
import json
import os
import resource
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from core.audio import confinement
from core.audio.confinement import Protection, confine_files, filter_system_calls, hide

DONE: Final = "ok"
DONE_UNFILTERED: Final = "ok, but its system calls were not filtered"
NOT_DECODED: Final = "the program could not decode the file"
PROGRAM: Final = "program"
"""In place of a task: run the program `arguments["command"]` from source to sink."""
UNFILTERED: Final = "its system calls cannot be filtered"
ANSWER_LIMIT = 1 << 16
_NOBODY = 65534
# One arena: each thread of a program would otherwise reserve 128 MiB of its address space.
_ENVIRONMENT_OF_PROGRAM = {"LC_ALL": "C", "MALLOC_ARENA_MAX": "1"}
_protection = Protection()
"""What holds in this process; set in a child before its task runs."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The resource limits of a task."""

    cpu_s: int = 20
    wall_s: float = 30.0
    memory: int = 512 << 20
    """Bytes of address space that a task may use beyond that of the server."""
    output: int = 320 << 20
    """Most bytes that a task may write."""
    stream: bool = False
    """If set, the task reads a file descriptor instead of bytes, and writes to a pipe."""


class Task(Protocol):
    """A module-level function that can run in a child, addressed as `module:name`."""

    def __call__(
        self, data: Any, write: Callable[[Any], object], **arguments: Any
    ) -> Mapping[str, Any]:
        """Pass bulk output to `write` and return a small JSON object."""
        ...


def read_all(fd: int, offset: int, size: int) -> bytearray:
    buffer, exited = bytearray(size), 0
    while exited < size and (n := os.preadv(fd, [memoryview(buffer)[exited:]], offset + exited)):
        exited += n
    return buffer


def write_all(fd: int, data: Any) -> None:
    view = memoryview(data).cast("B")
    while view:
        view = view[os.write(fd, view) :]


# The rest runs in the server and its children, where coverage is not measured; the tests of
# `core.audio.sandbox` execute every line of it.


@dataclass(frozen=True, slots=True)
class _Child:
    report: int
    is_program: bool
    deadline: float
    limits: Limits


def serve(control_fd: int, warm_up: str, behind: bool) -> None:  # pragma: no cover
    """Run the server: fork one child per request until the peer closes the control socket.

    warm_up: `module:function`, called first, so that no child imports or compiles anything. behind:
    at a low priority.
    """
    hide()
    if behind:
        _call_behind(warm_up)
    else:
        _find_function(warm_up)()
    gc.freeze()  # a collection in a child would write to, and so copy, the memory of every object
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # from here on it ends with its control socket
    control = socket.socket(fileno=control_fd)
    wakeup_read, wakeup_write = socket.socketpair()
    wakeup_write.setblocking(False)
    signal.set_wakeup_fd(wakeup_write.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    children: dict[int, _Child] = {}
    while True:
        next_deadline = min((c.deadline for c in children.values()), default=None)
        timeout = None if next_deadline is None else max(0.0, next_deadline - time.monotonic())
        readable, _, _ = select.select([control, wakeup_read], [], [], timeout)
        if wakeup_read in readable:
            wakeup_read.recv(4096)
        _reap_children(children)
        if control in readable and not _fork_child(control, children):
            break
    for pid in children:
        os.kill(pid, signal.SIGKILL)


def _fork_child(control: socket.socket, children: dict[int, _Child]) -> bool:  # pragma: no cover
    """Fork a child for the next request; return False if there are no more requests."""
    head, fds, _, _ = socket.recv_fds(control, 4, 3)
    if len(head) < 4:
        return False
    size, body = int.from_bytes(head, "little"), b""
    while len(body) < size and (part := control.recv(size - len(body))):
        body += part
    task, limits, arguments, required = json.loads(body)
    source, sink, report = fds
    child = _Child(report, task == PROGRAM, time.monotonic() + limits["wall_s"], Limits(**limits))
    if pid := os.fork():
        children[pid] = child
        os.close(source)
        os.close(sink)
        return True
    status = 1
    try:
        _close_all_but(source, sink)
        if task == PROGRAM:
            _run_program(arguments["command"], source, sink, child.limits)
            os._exit(5)
        function: Task = _find_function(task)
        _confine(child.limits)
        if required and not _protection.filtered:
            status = 5
        else:
            status = _run_task(function, source, sink, child.limits, arguments)
    finally:
        os._exit(status)


def _close_all_but(source: int, sink: int) -> None:  # pragma: no cover
    signal.set_wakeup_fd(-1)
    low, high = sorted((source, sink))
    for first, beyond in ((0, low), (low + 1, high), (high + 1, os.sysconf("SC_OPEN_MAX"))):
        os.closerange(first, beyond)


def _run_task(
    function: Task, source: int, sink: int, limits: Limits, arguments: Mapping[str, Any]
) -> int:  # pragma: no cover
    """Run the task and return the exit status that `_describe_exit` explains."""
    try:
        data: Any = source
        if not limits.stream:
            data = bytes(read_all(source, 0, os.lseek(source, 0, os.SEEK_END)))
        answer = json.dumps(
            function(data, lambda part: write_all(sink, part), **arguments)
        ).encode()
        write_all(sink, answer + len(answer).to_bytes(4, "little"))
    except MemoryError:
        return 3
    except OSError as exc:
        return 4 if exc.errno == errno.EFBIG else 1
    return 0 if _protection.filtered else 6


def _run_program(
    command: Sequence[str], source: int, sink: int, limits: Limits
) -> None:  # pragma: no cover
    """Replace this process by a program that reads descriptor 0 and writes descriptor 1.

    It returns if the program cannot be confined, or cannot be started.
    """
    os.dup2(source, 0)
    os.dup2(sink, 1)
    os.closerange(2, os.sysconf("SC_OPEN_MAX"))
    os.open(os.devnull, os.O_RDWR)  # descriptor 2
    for number in (signal.SIGXFSZ, signal.SIGPIPE):  # a program inherits that Python ignores them
        signal.signal(number, signal.SIG_DFL)
    os.setpgid(0, 0)
    _apply_limits(limits)
    # A program may handle SIGXCPU as a request to end, so it is killed at once.
    resource.setrlimit(resource.RLIMIT_CPU, (limits.cpu_s, limits.cpu_s))
    path = Path(command[0]).resolve()
    program = os.open(path, os.O_PATH)
    libraries = [*confinement.LIBRARIES, str(path.parent.parent / "lib")]
    if confine_files(readable=[*libraries, 0], executable=[program, *confinement.LOADERS]):
        resource.setrlimit(resource.RLIMIT_NOFILE, (16, 16))
        _drop_privileges()
        confinement.execute(program, command, _ENVIRONMENT_OF_PROGRAM)


def describe_protection(  # pragma: no cover
    data: bytes, write: Callable[[Any], object]
) -> dict[str, Any]:
    """Sandbox task: return what holds in a child, as the fields of `Protection`."""
    return asdict(_protection)


def _confine(limits: Limits) -> None:  # pragma: no cover
    """Limit this process, then take its rights. Each step needs the rights that later ones take."""
    global _protection
    os.setpgid(0, 0)  # the server kills the group, and with it any process the task started
    _apply_limits(limits)
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    landlock = confine_files()
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))  # open files stay open; none can be added
    worker = os.geteuid()
    _drop_privileges()
    hidden = hide()  # again: a change of user resets it to a setting of the system
    own_user = os.geteuid() != worker
    _protection = Protection(filter_system_calls(), landlock, hidden, own_user)


def _drop_privileges() -> None:  # pragma: no cover
    """The superuser could exceed or raise its limits, and kill or inspect any process."""
    if os.geteuid() == 0:
        with contextlib.suppress(OSError):  # some containers forbid it or have no such user
            os.setgroups([])
            os.setresgid(_NOBODY, _NOBODY, _NOBODY)
            os.setresuid(_NOBODY, _NOBODY, _NOBODY)


def _call_behind(address: str) -> None:  # pragma: no cover
    """Call a function without taking the processor from whoever loads models meanwhile.

    Only the thread has a low priority, because a process without rights cannot raise its own again.
    """

    def call() -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)
        _find_function(address)()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(call).result()


def _find_function(address: str) -> Any:  # pragma: no cover
    module, name = address.split(":")
    return getattr(importlib.import_module(module), name)


def _apply_limits(limits: Limits) -> None:  # pragma: no cover
    def limit(kind: int, soft: int, hard: int) -> None:
        resource.setrlimit(kind, (soft, hard))

    # The soft limit sends SIGXCPU, which the server can report; the hard limit cannot be caught.
    limit(resource.RLIMIT_CPU, limits.cpu_s, limits.cpu_s + 1)
    statm = Path("/proc/self/statm")
    if statm.exists():  # other systems cannot limit address space
        server_size = int(statm.read_text().split()[0]) * resource.getpagesize()
        limit(resource.RLIMIT_AS, server_size + limits.memory, server_size + limits.memory)
    limit(resource.RLIMIT_FSIZE, *(limits.output + ANSWER_LIMIT,) * 2)
    limit(resource.RLIMIT_CORE, 0, 0)


def _reap_children(children: dict[int, _Child]) -> None:  # pragma: no cover
    """Report the children that exited, and kill those beyond their deadline."""
    for pid, child in list(children.items()):
        exited, status = os.waitpid(pid, os.WNOHANG)
        is_late = time.monotonic() >= child.deadline
        if not exited and is_late:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        if exited or is_late:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
            code = os.waitstatus_to_exitcode(status)
            if child.is_program and code == -signal.SIGKILL:
                code = -signal.SIGXCPU
            verdict = _describe_exit(code, child.limits, bool(exited))
            if child.is_program and exited and code > 0 and code != 5:
                verdict = NOT_DECODED
            with contextlib.suppress(OSError):  # the client has stopped waiting
                os.write(child.report, verdict.encode())
            os.close(child.report)
            del children[pid]


def _describe_exit(code: int, limits: Limits, ended: bool) -> str:  # pragma: no cover
    if not ended:
        return f"it did not end within {limits.wall_s:g} s"
    if code == -signal.SIGXCPU:
        return f"it used more than {limits.cpu_s} s of processor time"
    if code == -signal.SIGXFSZ:
        code = 4  # a program; in Python the signal is an OSError
    if code < 0:
        return f"it crashed ({signal.Signals(-code).name})"
    return {
        0: DONE,
        3: f"it needed more than {limits.memory >> 20} MiB of memory",
        4: f"it wrote more than {limits.output >> 20} MiB",
        5: UNFILTERED,
        6: DONE_UNFILTERED,
    }.get(code, "it raised an exception")
