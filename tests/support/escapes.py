"""What a decoder that was taken over might try, as system calls.

`python -m tests.support.escapes` prints, as JSON, the outcome of each attempt in the sandbox and in
a process without it: `done` or the name of an error. It must own no more than its temporary folder.
"""

from __future__ import annotations

import ctypes
import errno
import json
import mmap
import os
import platform
import secrets
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from core.audio import confinement
from core.audio.sandbox import Crashed, Sandbox

TASK = "tests.support.escapes:"
AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
COLUMN = {"x86_64": 0, "aarch64": 1}[platform.machine()]
ABSENT = -1
"""Number of a system call that an architecture does not have."""
PADDING = bytes(128)
BUFFER = ctypes.create_string_buffer(8)
Call = tuple[tuple[int, int], tuple[Any, ...]]
"""Its number on x86_64 and on aarch64, and its arguments."""
UNSAFE = {"mount", "umount", "pivot_root", "swapon", "acct", "reboot", "sethostname", "adjtimex"}
UNSAFE |= {"clock_settime", "kexec", "load_module", "load_module_file"}
"""Never tried outside the sandbox."""


def path_attempts(folder: str, worker: int) -> dict[str, Call]:
    secret, other = (f"{folder}/{name}".encode() for name in ("secret", "other"))
    new = f"{folder}/new".encode()
    at, read_write = AT_FDCWD, os.O_RDWR
    how = struct.pack("QQQ", os.O_RDONLY, 0, 0)
    return {
        "open": ((2, ABSENT), (secret, 0)),
        "openat": ((257, 56), (at, secret, 0)),
        "openat2": ((437, 437), (at, secret, how, len(how))),
        "open to write": ((257, 56), (at, secret, read_write)),
        "create": ((257, 56), (at, new, os.O_CREAT | os.O_WRONLY, 0o600)),
        "open the memory of this process": ((257, 56), (at, b"/proc/self/mem", read_write)),
        "open the memory of the worker": ((257, 56), (at, b"/proc/%d/mem" % worker, 0)),
        "open the environment of the worker": ((257, 56), (at, b"/proc/%d/environ" % worker, 0)),
        "open a temporary file": ((257, 56), (at, folder.encode(), os.O_TMPFILE | read_write)),
        "stat": ((262, 79), (at, secret, PADDING * 2, 0)),
        "stat a descriptor by path": ((262, 79), (0, b"", PADDING * 2, AT_EMPTY_PATH)),
        "statx": ((332, 291), (at, secret, 0, 0x7FF, PADDING * 4)),
        "statfs": ((137, 43), (secret, PADDING * 2)),
        "access": ((269, 48), (at, secret, 4)),
        "read a link": ((267, 78), (at, b"/proc/self/exe", PADDING, 100)),
        "working directory": ((79, 17), (PADDING, 100)),
        "chdir": ((80, 49), (folder.encode(),)),
        "chroot": ((161, 51), (folder.encode(),)),
        "rename": ((316, 276), (at, secret, at, new, 0)),
        "link": ((265, 37), (at, secret, at, new, 0)),
        "symlink": ((266, 36), (secret, at, new)),
        "unlink": ((263, 35), (at, secret, 0)),
        "mkdir": ((258, 34), (at, new, 0o700)),
        "mknod": ((259, 33), (at, new, 0o010600, 0)),
        "chmod": ((268, 53), (at, other, 0o666)),
        "chown": ((260, 54), (at, other, os.getuid(), os.getgid(), 0)),
        "truncate": ((76, 45), (secret, 0)),
        "utimensat": ((280, 88), (at, other, None, 0)),
        "set an attribute": ((188, 5), (other, b"user.x", b"1", 1, 0)),
        "watch a folder": ((294, 26), (0,)),
        "watch all files": ((300, 262), (0, 0)),
        "mount": ((165, 40), (b"x", folder.encode(), b"tmpfs", 0, None)),
        "umount": ((166, 39), (folder.encode(), 0)),
        "pivot_root": ((155, 41), (folder.encode(), folder.encode())),
        "open a file system": ((430, 430), (b"tmpfs", 0)),
        "copy a mount": ((428, 428), (at, folder.encode(), 1)),
        "swapon": ((167, 224), (secret, 0)),
        "acct": ((163, 89), (new,)),
    }


def descriptor_attempts(worker: int) -> dict[str, Call]:
    pair = struct.pack("ii", -1, -1)
    families = {
        name: int(getattr(socket, f"AF_{name}"))
        for name in ("UNIX", "INET", "INET6", "NETLINK", "PACKET", "ALG", "VSOCK", "CAN", "QIPCRTR")
    }
    sockets: dict[str, Call] = {
        f"socket {name}": ((41, 198), (number, socket.SOCK_DGRAM, 0))
        for name, number in families.items()
    }
    return {
        **sockets,
        "stream socket": ((41, 198), (socket.AF_INET, socket.SOCK_STREAM, 0)),
        "socket pair": ((53, 199), (socket.AF_UNIX, socket.SOCK_STREAM, 0, pair)),
        "send": ((44, 206), (0, b"x", 1, 0, None, 0)),
        "connect": ((42, 203), (0, PADDING, 16)),
        "bind": ((49, 200), (0, PADDING, 16)),
        "pipe": ((293, 59), (pair, 0)),
        "eventfd": ((290, 19), (0, 0)),
        "signalfd": ((289, 74), (-1, bytes(8), 8, 0)),
        "timerfd": ((283, 85), (1, 0)),
        "epoll": ((291, 20), (0,)),
        "memfd": ((319, 279), (b"x", 0)),
        "secret memory": ((447, 447), (0,)),
        "io_uring": ((425, 425), (8, PADDING)),
        "asynchronous input": ((206, 0), (8, bytes(8))),
        "userfaultfd": ((323, 282), (1,)),
        "perf events": ((298, 241), (struct.pack("II", 1, 112) + PADDING, 0, -1, -1, 0)),
        "bpf map": ((321, 280), (0, struct.pack("IIII", 2, 4, 4, 1) + PADDING, 72)),
        "duplicate a descriptor": ((32, 23), (0,)),
        "owner of a descriptor, for signals": ((72, 25), (0, 8, worker)),
        "flags of a descriptor": ((72, 25), (0, 3)),
        "ioctl": ((16, 29), (0, 0x5451)),  # FIOCLEX
        "type into a terminal": ((16, 29), (0, 0x5412, b"x")),  # TIOCSTI
        "truncate an open file": ((77, 46), (0, 0)),
        "chmod an open file": ((91, 52), (0, 0o600)),
        "allocate space": ((285, 47), (0, 0, 0, 4096)),
        "sendfile": ((40, 71), (0, 0, bytes(8), 1)),
        "splice": ((275, 76), (0, None, 0, None, 1, 0)),
        "copy between files": ((326, 285), (0, bytes(8), 0, bytes(8), 1, 0)),
        "shared memory": ((29, 194), (0, 4096, 0o600)),
        "message queue": ((68, 186), (0, 0o600)),
        "semaphores": ((64, 190), (0, 1, 0o600)),
        "posix message queue": ((240, 180), (b"voicedrop", os.O_CREAT | os.O_RDWR, 0o600, None)),
    }


def process_attempts(worker: int, address: int, server: int, victim: int) -> dict[str, Call]:
    """Attempts on other processes of the same user, and on the kernel."""
    word = bytes(8)
    vector = struct.pack("QQ", 0x400000, 8)
    own, of_worker = (struct.pack("QQ", at, 8) for at in (ctypes.addressof(BUFFER), address))
    info = struct.pack("iii", 0, 0, -1) + PADDING
    return {
        "fork": ((57, ABSENT), ()),
        "clone": ((56, 220), (signal.SIGCHLD, 0, 0, 0, 0)),
        "clone3": ((435, 435), (struct.pack("QQQQQQQQ", 0, 0, 0, 0, 17, 0, 0, 0), 64)),
        "execve": ((59, 221), (b"/bin/true", struct.pack("QQ", 0, 0), struct.pack("Q", 0))),
        "execveat": ((322, 281), (AT_FDCWD, b"/bin/true", word * 2, word, 0)),
        "ptrace": ((101, 117), (0x4206, victim, 0, 0)),  # PTRACE_SEIZE
        "be traced": ((101, 117), (0, 0, 0, 0)),  # PTRACE_TRACEME
        "read the memory of the worker": ((310, 270), (worker, own, 1, of_worker, 1, 0)),
        "write the memory of the worker": ((311, 271), (worker, own, 1, of_worker, 1, 0)),
        "kill": ((62, 129), (victim, 0)),
        "kill the worker": ((62, 129), (worker, 0)),
        "kill the server": ((62, 129), (server, 0)),
        "kill everything": ((62, 129), (-1, 0)),
        "tkill": ((200, 130), (victim, 0)),
        "tgkill": ((234, 131), (victim, victim, 0)),
        "queue a signal": ((129, 138), (victim, 0, info)),
        "queue a signal to a thread": ((297, 240), (victim, victim, 0, info)),
        "pidfd": ((434, 434), (victim, 0)),
        "signal through a pidfd": ((424, 424), (0, 0, None, 0)),
        "compare processes": ((312, 272), (victim, victim, 1, 0, 0)),
        "advise another process": ((440, 440), (0, vector, 1, 20, 0)),
        "limits of another process": ((302, 261), (victim, 0, None, PADDING)),
        "raise a limit": ((302, 261), (0, 7, struct.pack("QQ", 64, 64), None)),
        "priority of another process": ((141, 140), (0, victim, 1)),
        "input priority of another process": ((251, 30), (1, victim, 0x4004)),
        "processors of another process": ((203, 122), (victim, 8, struct.pack("Q", 1))),
        "scheduler of another process": ((144, 119), (victim, 3, bytes(4))),
        "process group": ((109, 154), (0, worker)),
        "session": ((112, 157), ()),
        "migrate pages": ((256, 238), (victim, 64, word, word)),
        "move pages": ((279, 239), (victim, 0, None, None, None, 0)),
        "robust list": ((274, 100), (victim, word, word)),
        "wait": ((61, 260), (-1, None, 1, None)),
        "add a key": ((248, 217), (b"user", b"voicedrop", b"x", 1, -2)),
        "request a key": ((249, 218), (b"user", b"voicedrop", None, 0)),
        "keyctl": ((250, 219), (0, -2, 1)),
        "user namespace": ((272, 97), (0x10000000,)),
        "network namespace": ((272, 97), (0x40000000,)),
        "enter a namespace": ((308, 268), (0, 0)),
        "become dumpable": ((157, 167), (4, 1, 0, 0, 0)),
        "allow a tracer": ((157, 167), (0x59616D61, -1, 0, 0, 0)),
        "another filter": ((317, 277), (1, 0, struct.pack("HxxxxxxQ", 0, 0))),
        "setuid": ((105, 146), (0,)),
        "setresuid": ((117, 147), (0, 0, 0)),
        "setgroups": ((116, 159), (0, None)),
        "capset": ((126, 91), (struct.pack("Ii", 0x20080522, 0), bytes(24))),
        "personality": ((135, 92), (0x0040000,)),  # ADDR_NO_RANDOMIZE
        "thread base": ((158, ABSENT), (0x1003, word)),  # ARCH_GET_FS
        "input and output ports": ((172, ABSENT), (3,)),
        "load_module": ((175, 105), (PADDING, 128, b"")),
        "load_module_file": ((313, 273), (0, b"", 0)),
        "kexec": ((246, 104), (0, 0, None, 0)),
        "reboot": ((169, 142), (0, 0, 0, None)),
        "sethostname": ((170, 161), (b"x", 1)),
        "clock_settime": ((227, 112), (0, bytes(16))),
        "adjtimex": ((159, 171), (bytes(208),)),
        "kernel log": ((103, 116), (10, None, 0)),
        "timer that sends signals": ((222, 107), (1, None, word)),
        "system name": ((63, 160), (PADDING * 4,)),
    }


def all_attempts(
    folder: str, worker: int, address: int, server: int, victim: int
) -> dict[str, Call]:
    everything = {
        **path_attempts(folder, worker),
        **descriptor_attempts(worker),
        **process_attempts(worker, address, server, victim),
    }
    return {what: call for what, call in everything.items() if call[0][COLUMN] != ABSENT}


def perform(call: Call) -> str:
    libc = ctypes.CDLL(None, use_errno=True)
    numbers, arguments = call
    words = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    process = os.getpid()
    ctypes.set_errno(0)
    outcome = libc.syscall(ctypes.c_long(numbers[COLUMN]), *words)
    if os.getpid() != process:
        os._exit(0)  # a new process
    return "done" if outcome >= 0 else errno.errorcode[ctypes.get_errno()]


def attempt_all(data: bytes, write: Callable[[Any], object], **targets: Any) -> dict[str, Any]:
    """Sandbox task: make every attempt."""
    return {what: perform(call) for what, call in all_attempts(**targets).items()}


def call_as_32_bit(data: bytes, write: Callable[[Any], object]) -> dict[str, Any]:
    """Sandbox task: getpid through the 32-bit interface of the same processor (int 0x80)."""
    code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code.write(b"\xb8\x14\x00\x00\x00\xcd\x80\xc3")
    function = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))
    return {"pid": function()}


def call_as_x32(data: bytes, write: Callable[[Any], object]) -> dict[str, Any]:
    """Sandbox task: getpid by its number in the x32 interface, which is allowed otherwise."""
    return {"outcome": perform(((0x40000000 + 39, ABSENT), ()))}


def abort(data: bytes, write: Callable[[Any], object]) -> dict[str, Any]:
    """Sandbox task: what the C library does when it finds its memory damaged."""
    os.abort()


def attempt_unconfined(**targets: Any) -> dict[str, str]:
    """Make each attempt in a child of its own, without the sandbox."""
    outcomes = {}
    for what, call in all_attempts(**targets).items():
        make_files(Path(targets["folder"]))
        if what not in UNSAFE and (pid := os.fork()) == 0:
            os.dup2(os.memfd_create("file"), 0)  # as in the sandbox
            os._exit(0 if perform(call) == "done" else 1)
        if what not in UNSAFE:
            outcomes[what] = "refused" if os.waitpid(pid, 0)[1] else "done"
    return outcomes


def attempt_as_program(**targets: Any) -> dict[str, str]:
    """Make the attempts with the rights of a program that decodes."""
    out, report = os.pipe()
    if (pid := os.fork()) == 0:
        os.dup2(os.memfd_create("file"), 0)
        confinement.confine_files(readable=[*confinement.LIBRARIES, 0])
        if confinement.filter_system_calls(path_of_program=secrets.randbelow(1 << 46)):
            outcomes = {what: perform(call) for what, call in all_attempts(**targets).items()}
            os.write(report, json.dumps(outcomes).encode())
        os._exit(0)
    os.close(report)
    with os.fdopen(out, "rb") as file:
        answer: dict[str, str] = json.loads(file.read())
    os.waitpid(pid, 0)
    return answer


def run_or_describe(sandbox: Sandbox, task: str) -> str:
    try:
        return json.dumps(sandbox.run(TASK + task, b"")[1])
    except Crashed as exc:
        return str(exc)


def main() -> None:
    sandbox = Sandbox(required=True)
    report: dict[str, Any] = {"protection": asdict(sandbox.protection())}
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as victim,
    ):
        Path(folder).chmod(0o777)
        make_files(Path(folder))
        targets: dict[str, Any] = {
            "folder": folder,
            "worker": os.getpid(),
            "address": ctypes.addressof(BUFFER),
            "server": sandbox._server.pid if sandbox._server else 0,
            "victim": victim.pid,
        }
        _, report["confined"] = sandbox.run(TASK + "attempt_all", b"x", **targets)
        report["program"] = attempt_as_program(**targets)
        report["files"] = read_files(Path(folder))
        report["victim"] = victim.poll()
        for task in ("call_as_32_bit", "call_as_x32", "abort"):
            report[task] = run_or_describe(sandbox, task)
        memory: Call = ((257, 56), (AT_FDCWD, b"/proc/%d/mem" % targets["server"], 0))
        report["memory of the server"] = perform(memory)
        report["unconfined"] = attempt_unconfined(**targets)
        victim.kill()
    sandbox.close()
    sys.stdout.write(json.dumps(report))


def make_files(folder: Path) -> None:
    for path in folder.iterdir():
        path.rmdir() if path.is_dir() else path.unlink()
    for name in ("secret", "other"):
        (folder / name).write_text(name)
        (folder / name).chmod(0o666)


def read_files(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


if __name__ == "__main__":
    main()
