"""The server process of the sandbox: forks one confined child a task and reports how it ended."""

from __future__ import annotations

import contextlib
import errno
import importlib
import json
import os
import resource
import select
import signal
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

PRELOAD = ("core.audio.libsndfile",)
ANSWER_LIMIT = 1 << 16
_NOBODY = 65534


@dataclass(frozen=True, slots=True)
class Limits:
    cpu_s: int = 20
    wall_s: float = 30.0
    memory: int = 512 << 20
    """Bytes of address space a task may add to what the server holds."""
    output: int = 320 << 20
    stream: bool = False
    """The task is given the descriptor of a file instead of its bytes, and writes to a pipe."""


class Task(Protocol):
    """What may run in a child: a module-level function, addressed as `module:name`."""

    def __call__(
        self, data: Any, write: Callable[[Any], object], **arguments: Any
    ) -> Mapping[str, Any]:
        """Hand bulk output to `write`, return a small JSON object."""
        ...


def read_all(fd: int, offset: int, size: int) -> bytearray:
    buffer, done = bytearray(size), 0
    while done < size and (n := os.preadv(fd, [memoryview(buffer)[done:]], offset + done)):
        done += n
    return buffer


def write_all(fd: int, data: Any) -> None:
    view = memoryview(data).cast("B")
    while view:
        view = view[os.write(fd, view) :]


# The rest runs in the server and in its children, where coverage does not follow; the tests of
# `core.audio.sandbox` make every line of it run.


@dataclass(frozen=True, slots=True)
class _Child:
    report: int
    deadline: float
    limits: Limits


def serve(control_fd: int) -> None:  # pragma: no cover
    """The server: one child a request until the other end of the control socket is closed."""
    for module in PRELOAD:
        importlib.import_module(module)
    control = socket.socket(fileno=control_fd)
    woken, waker = socket.socketpair()
    waker.setblocking(False)
    signal.set_wakeup_fd(waker.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    children: dict[int, _Child] = {}
    while True:
        soonest = min((c.deadline for c in children.values()), default=None)
        timeout = None if soonest is None else max(0.0, soonest - time.monotonic())
        ready, _, _ = select.select([control, woken], [], [], timeout)
        if woken in ready:
            woken.recv(4096)
        _reap_children(children)
        if control in ready and not _fork_child(control, children):
            break
    for pid in children:
        os.kill(pid, signal.SIGKILL)


def _fork_child(control: socket.socket, children: dict[int, _Child]) -> bool:  # pragma: no cover
    """Fork a child for the next request; False at the end of requests."""
    head, fds, _, _ = socket.recv_fds(control, 4, 3)
    if len(head) < 4:
        return False
    wanted, body = int.from_bytes(head, "little"), b""
    while len(body) < wanted and (part := control.recv(wanted - len(body))):
        body += part
    task, limits, arguments = json.loads(body)
    source, sink, report = fds
    child = _Child(report, time.monotonic() + limits["wall_s"], Limits(**limits))
    if pid := os.fork():
        children[pid] = child
        os.close(source)
        os.close(sink)
        return True
    status = 1
    try:
        status = _run_task(task, source, sink, child.limits, arguments)
    finally:
        os._exit(status)


def _run_task(
    task: str, source: int, sink: int, limits: Limits, arguments: Mapping[str, Any]
) -> int:  # pragma: no cover
    """Run the task; the exit status says how it went."""
    signal.set_wakeup_fd(-1)
    os.setpgid(0, 0)  # what it should manage to start ends with it
    low, high = sorted((source, sink))
    for first, beyond in ((3, low), (low + 1, high), (high + 1, os.sysconf("SC_OPEN_MAX"))):
        os.closerange(first, beyond)
    module, name = task.split(":")
    function: Task = getattr(importlib.import_module(module), name)
    try:
        _apply_limits(limits)
        data: Any = source
        if not limits.stream:
            data = bytes(read_all(source, 0, os.fstat(source).st_size))
        answer = json.dumps(
            function(data, lambda part: write_all(sink, part), **arguments)
        ).encode()
        write_all(sink, answer + len(answer).to_bytes(4, "little"))
    except MemoryError:
        return 3
    except OSError as exc:
        return 4 if exc.errno == errno.EFBIG else 1
    return 0


def _apply_limits(limits: Limits) -> None:  # pragma: no cover
    def limit(what: int, soft: int, hard: int) -> None:
        resource.setrlimit(what, (soft, hard))

    # The soft limit ends us by SIGXCPU, which the server can name; the hard one cannot be caught.
    limit(resource.RLIMIT_CPU, limits.cpu_s, limits.cpu_s + 1)
    statm = Path("/proc/self/statm")
    if statm.exists():  # elsewhere address space cannot be limited
        held = int(statm.read_text().split()[0]) * resource.getpagesize()
        limit(resource.RLIMIT_AS, held + limits.memory, held + limits.memory)
    limit(resource.RLIMIT_FSIZE, *(limits.output + ANSWER_LIMIT,) * 2)
    limit(resource.RLIMIT_CORE, 0, 0)
    limit(resource.RLIMIT_NPROC, 0, 0)
    limit(resource.RLIMIT_NOFILE, 0, 0)  # files that are open stay so; no file or socket opens
    if os.geteuid() == 0:
        # The superuser may fork beyond its limit, raise it, and end or inspect any process.
        with contextlib.suppress(PermissionError):  # a container may not let it change
            os.setgroups([])
            os.setresgid(_NOBODY, _NOBODY, _NOBODY)
            os.setresuid(_NOBODY, _NOBODY, _NOBODY)


def _reap_children(children: dict[int, _Child]) -> None:  # pragma: no cover
    """Report on children that ended; end those whose time is up."""
    for pid, child in list(children.items()):
        done, status = os.waitpid(pid, os.WNOHANG)
        late = time.monotonic() >= child.deadline
        if not done and late:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        if done or late:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
            word = _describe_exit(os.waitstatus_to_exitcode(status), child.limits, bool(done))
            with contextlib.suppress(OSError):  # nobody waits any more
                os.write(child.report, word.encode())
            os.close(child.report)
            del children[pid]


def _describe_exit(code: int, limits: Limits, ended: bool) -> str:  # pragma: no cover
    if not ended:
        return f"it did not end within {limits.wall_s:g} s"
    if code == -signal.SIGXCPU:
        return f"it used more than {limits.cpu_s} s of processor time"
    if code < 0:
        return f"it crashed ({signal.Signals(-code).name})"
    return {
        0: "ok",
        3: f"it needed more than {limits.memory >> 20} MiB of memory",
        4: f"it wrote more than {limits.output >> 20} MiB",
    }.get(code, "it failed inside")
