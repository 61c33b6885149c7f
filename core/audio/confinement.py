"""Take from this process, for good, every right that a decoder does not need.

Three mechanisms of the Linux kernel work for any user, and the process cannot undo them:

- A seccomp filter allows the system calls of `_ALLOWED`: memory, locks, clocks, and reading and
  writing files that are already open. Every other one fails with EPERM: paths, sockets, signals,
  other processes, new processes, new descriptors. A system call of another architecture ends the
  process (`Documentation/userspace-api/seccomp_filter.rst`, seccomp(2)).
- Landlock denies access to files, TCP ports, abstract sockets and signals a second time, where the
  kernel has it (`Documentation/userspace-api/landlock.rst`, landlock(7)).
- A process that is not dumpable can be read and traced only by the superuser (PR_SET_DUMPABLE in
  prctl(2)). Starting a program makes a process dumpable again, so the program itself calls `hide`.

Everything that a task needs must be loaded before; afterwards it can open no file.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

_PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 4, 22, 38  # linux/prctl.h
_SECCOMP_MODE_FILTER: Final = 2
_ALLOW, _KILL_PROCESS, _REFUSE = 0x7FFF0000, 0x80000000, 0x00050001  # the last: errno EPERM
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06  # linux/bpf_common.h
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data
_LANDLOCK_CREATE_RULESET, _LANDLOCK_RESTRICT_SELF = 444, 446

ARCHITECTURES: Final[Mapping[str, int]] = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""AUDIT_ARCH_ of linux/audit.h, by the machine name of uname(2)."""

_ALLOWED: Final[Mapping[str, tuple[int, int]]] = {
    "read": (0, 63),
    "write": (1, 64),
    "close": (3, 57),
    "fstat": (5, 80),
    "lseek": (8, 62),
    "mmap": (9, 222),
    "mprotect": (10, 226),
    "munmap": (11, 215),
    "brk": (12, 214),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "pread64": (17, 67),
    "readv": (19, 65),
    "writev": (20, 66),
    "sched_yield": (24, 124),
    "mremap": (25, 216),
    "madvise": (28, 233),
    "nanosleep": (35, 101),
    "getpid": (39, 172),
    "exit": (60, 93),
    "gettimeofday": (96, 169),
    "sigaltstack": (131, 132),
    "gettid": (186, 178),
    "futex": (202, 98),
    "restart_syscall": (219, 128),
    "clock_gettime": (228, 113),
    "clock_getres": (229, 114),
    "clock_nanosleep": (230, 115),
    "exit_group": (231, 94),
    "preadv": (295, 69),
    "getrandom": (318, 278),
    "preadv2": (327, 286),
}
"""Numbers on x86_64 (asm/unistd_64.h) and aarch64 (asm-generic/unistd.h). A number of the x32 ABI
has bit 30 set, so it equals none of them."""
_TGKILL: Final = (234, 131)


@dataclass(frozen=True, slots=True)
class Protection:
    """What holds in a process."""

    filtered: bool = False
    """The seccomp filter is in force."""
    landlock: int = 0
    """Version of landlock's interface; 0 if the kernel has none."""
    hidden: bool = False
    """No other process of the same user can read or trace it."""
    own_user: bool = False
    """It runs as another user than the worker."""


class _Filter(ctypes.Structure):
    """struct sock_fprog of linux/filter.h."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def hide() -> bool:
    """Make this process and its future children not dumpable; return False if that failed."""
    return sys.platform == "linux" and _prctl(_PR_SET_DUMPABLE, 0) == 0


def confine_files() -> int:
    """Deny files, TCP and signals by landlock; return the version of its interface, or 0.

    It needs a free file descriptor for a moment.
    """
    if sys.platform != "linux" or _prctl(_PR_SET_NO_NEW_PRIVS, 1):
        return 0
    version = _syscall(_LANDLOCK_CREATE_RULESET, None, 0, 1)
    if version < 1:  # not built in, not enabled, or not known to the kernel
        return 0
    files = (1 << {1: 13, 2: 14, 3: 15, 4: 15}.get(version, 16)) - 1
    tcp = scopes = 0b11  # bind and connect, since version 4; abstract sockets, signals, since 6
    size = 8 if version < 4 else 16 if version < 6 else 24
    rules = struct.pack("QQQ", files, tcp, scopes)[:size]  # struct landlock_ruleset_attr
    ruleset = _syscall(_LANDLOCK_CREATE_RULESET, rules, size, 0)
    if ruleset < 0:
        return 0
    failed = _syscall(_LANDLOCK_RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)
    return 0 if failed else version


def filter_system_calls() -> bool:
    """Allow only the system calls of a decoder; return False if the kernel cannot do that."""
    machine = platform.machine()
    if sys.platform != "linux" or machine not in ARCHITECTURES:
        return False
    program = filter_program(machine, os.getpid())
    loaded = _Filter(len(program) // 8, program)
    if _prctl(_PR_SET_NO_NEW_PRIVS, 1) or _prctl(
        _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(loaded)
    ):
        return False
    try:
        Path("/").stat()  # a system that emulates Linux may accept a filter and ignore it
    except PermissionError:
        return True
    return False


def filter_program(machine: str, pid: int) -> bytes:
    """Return the filter in classic BPF, 8 bytes an instruction, for a process with this id.

    Of signals it may send only those to its own threads, which abort(3) needs.
    """
    column = list(ARCHITECTURES).index(machine)
    program = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_JUMP_IF_EQUAL, 1, 0, ARCHITECTURES[machine]),
        (_RETURN, 0, 0, _KILL_PROCESS),
        (_LOAD, 0, 0, _NUMBER),
    ]
    for numbers in _ALLOWED.values():
        program += [(_JUMP_IF_EQUAL, 0, 1, numbers[column]), (_RETURN, 0, 0, _ALLOW)]
    program += [
        (_JUMP_IF_EQUAL, 0, 3, _TGKILL[column]),
        (_LOAD, 0, 0, _FIRST_ARGUMENT),
        (_JUMP_IF_EQUAL, 0, 1, pid),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _REFUSE),
    ]
    return b"".join(struct.pack("HBBI", *instruction) for instruction in program)


def _prctl(option: int, value: int, address: int = 0) -> int:
    number = ctypes.c_ulong
    result: int = _libc().prctl(option, number(value), number(address), number(0), number(0))
    return result


def _syscall(number: int, *arguments: Any) -> int:
    words = (ctypes.c_long(a) if isinstance(a, int) else a for a in arguments)
    result: int = _libc().syscall(ctypes.c_long(number), *words)
    return result


@cache
def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None)
    libc.syscall.restype = ctypes.c_long
    return libc
