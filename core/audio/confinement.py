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

A program that decodes (`execute`) needs more: it is started once, loads its libraries and runs
threads. It may read nothing but these libraries and its input, which only landlock can ensure, so
without landlock it is not started.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import secrets
import struct
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

_PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 4, 22, 38  # linux/prctl.h
_SECCOMP_MODE_FILTER: Final = 2
_ALLOW, _KILL_PROCESS, _REFUSE = 0x7FFF0000, 0x80000000, 0x00050001  # the last: errno EPERM
_NOT_IMPLEMENTED: Final = 0x00050026  # errno ENOSYS
_LOAD, _AND, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x54, 0x15, 0x06  # linux/bpf_common.h
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data
_LANDLOCK_CREATE_RULESET, _LANDLOCK_ADD_RULE, _LANDLOCK_RESTRICT_SELF = 444, 445, 446
_LANDLOCK_EXECUTE, _LANDLOCK_READ_FILE = 1 << 0, 1 << 2
_CLONE_THREAD: Final = 0x10000
_PROT_READ_WRITE, _MAP_PRIVATE_ANONYMOUS_NEW = 0x3, 0x100022  # MAP_FIXED_NOREPLACE
LIBRARIES: Final = (
    *("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib"),
    *("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d"),
)
LOADERS: Final = (
    *("/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1"),
    *("/lib/ld-musl-x86_64.so.1", "/lib/ld-musl-aarch64.so.1"),
)
_Instruction = tuple[int, int, int, int]
_Check = tuple[int, int, int]
"""Of an argument: its offset, a mask, and the value of the bits in the mask."""

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
_CLONE, _CLONE3, _EXECVEAT, _PRLIMIT = (56, 220), (435, 435), (322, 281), (302, 261)
_AT_EMPTY_PATH: Final = 0x1000
_ABSENT: Final = 1 << 30
_ALLOWED_TO_PROGRAM: Final[Mapping[str, tuple[int, int]]] = {
    "stat": (4, _ABSENT),
    "access": (21, _ABSENT),
    "dup": (32, 23),
    "uname": (63, 160),
    "readlink": (89, _ABSENT),
    "getrusage": (98, 165),
    "sysinfo": (99, 179),
    "arch_prctl": (158, _ABSENT),
    "sched_getaffinity": (204, 123),
    "set_tid_address": (218, 96),
    "openat": (257, 56),
    "newfstatat": (262, 79),
    "readlinkat": (267, 78),
    "faccessat": (269, 48),
    "set_robust_list": (273, 99),
    "statx": (332, 291),
    "rseq": (334, 293),
    "faccessat2": (439, 439),
}
"""What the C library and ffmpeg call besides; a path that landlock does not allow is not opened."""


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


# The rest confines the calling process. It runs in children, where coverage is not measured; the
# tests of confinement execute it.


def hide() -> bool:  # pragma: no cover
    """Make this process and its future children not dumpable; return False if that failed."""
    return sys.platform == "linux" and _prctl(_PR_SET_DUMPABLE, 0) == 0


def confine_files(
    *, readable: Sequence[str | int] = (), executable: Sequence[str | int] = ()
) -> int:  # pragma: no cover
    """Deny files, TCP and signals by landlock; return the version of its interface, or 0.

    readable: files and folders, or descriptors of files, that may be read. executable: files, or
    descriptors of files, that may be executed, too. Needs free file descriptors for a moment.
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
    for place in readable:
        _allow_file(ruleset, place, _LANDLOCK_READ_FILE)
    for place in executable:
        _allow_file(ruleset, place, _LANDLOCK_READ_FILE | _LANDLOCK_EXECUTE)
    failed = _syscall(_LANDLOCK_RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)
    return 0 if failed else version


def _allow_file(ruleset: int, place: str | int, rights: int) -> None:  # pragma: no cover
    """Allow access to a file or a folder; one that does not exist needs no rule."""
    try:
        file = os.dup(place) if isinstance(place, int) else os.open(place, os.O_PATH)
    except OSError:
        return
    rule = struct.pack("=Qi", rights, file)  # struct landlock_path_beneath_attr
    _syscall(_LANDLOCK_ADD_RULE, ruleset, 1, rule, 0)
    os.close(file)


def filter_system_calls(*, path_of_program: int | None = None) -> bool:  # pragma: no cover
    """Allow only the system calls of a decoder; return False if the kernel cannot do that.

    path_of_program: the address of the path with which execveat(2) may start a program.
    """
    machine = platform.machine()
    if sys.platform != "linux" or machine not in ARCHITECTURES:
        return False
    program = filter_program(machine, os.getpid(), path_of_program)
    loaded = _Filter(len(program) // 8, program)
    if _prctl(_PR_SET_NO_NEW_PRIVS, 1) or _prctl(
        _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(loaded)
    ):
        return False
    # A system that emulates Linux may accept a filter and ignore it.
    return _libc().sync_file_range(-1, 0, 0, 0) == -1 and ctypes.get_errno() == errno.EPERM


def filter_program(machine: str, pid: int, path_of_program: int | None = None) -> bytes:
    """Return the filter in classic BPF, 8 bytes an instruction, for a process with this id.

    Of signals it may send only those to its own threads, which abort(3) needs. execveat(2) may
    start a program if the path lies at this address. The program may start threads, no processes.
    """
    column = _column(machine)
    instructions: list[_Instruction] = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_JUMP_IF_EQUAL, 1, 0, ARCHITECTURES[machine]),
        (_RETURN, 0, 0, _KILL_PROCESS),
        (_LOAD, 0, 0, _NUMBER),
    ]
    allowed = [numbers[column] for numbers in _ALLOWED.values()]
    if path_of_program is not None:
        allowed += [numbers[column] for numbers in _ALLOWED_TO_PROGRAM.values()]
    for number in allowed:
        instructions += _rule(number)
    instructions += _rule(_TGKILL[column], _equal(0, pid)[:1])
    if path_of_program is not None:
        thread = (_ARGUMENTS, _CLONE_THREAD, _CLONE_THREAD)
        instructions += _rule(_CLONE[column], [thread])
        # The flags of clone3 lie in memory, where no filter sees them; libraries then use clone.
        instructions += _rule(_CLONE3[column], action=_NOT_IMPLEMENTED)
        instructions += _rule(_EXECVEAT[column], _equal(1, path_of_program))
        instructions += _rule(_PRLIMIT[column], [*_equal(0, 0), *_equal(2, 0)])  # reads its own
    instructions.append((_RETURN, 0, 0, _REFUSE))
    return b"".join(struct.pack("HBBI", *instruction) for instruction in instructions)


def _column(machine: str = "") -> int:
    return list(ARCHITECTURES).index(machine or platform.machine())


def _equal(argument: int, value: int) -> list[_Check]:
    """Check the two halves of a 64-bit argument; the lower one is first."""
    at = _ARGUMENTS + 8 * argument
    return [(at, 0xFFFFFFFF, value & 0xFFFFFFFF), (at + 4, 0xFFFFFFFF, value >> 32)]


def _rule(number: int, checks: Sequence[_Check] = (), action: int = _ALLOW) -> list[_Instruction]:
    """Return the instructions that decide about a system call, and pass by all others."""
    rule: list[_Instruction] = [(_JUMP_IF_EQUAL, 0, 3 * len(checks) + 2, number)]
    for left, (offset, mask, value) in zip(range(len(checks) - 1, -1, -1), checks, strict=True):
        rule += [(_LOAD, 0, 0, offset), (_AND, 0, 0, mask)]
        rule.append((_JUMP_IF_EQUAL, 0, 3 * left + 1, value))
    return [*rule, (_RETURN, 0, 0, action), (_RETURN, 0, 0, _REFUSE)]


def execute(
    program: int, arguments: Sequence[str], environment: Mapping[str, str]
) -> None:  # pragma: no cover
    """Replace this process by a program in a filter of its own, or return if that is refused.

    program: a descriptor of its file, because its folder may be closed to the user of this process.
    arguments: the first is the program's name.

    The filter allows execveat(2) only for a path at one random address, of 2^46. The program has
    another address space and does not know it, so it can start nothing.
    """
    start = secrets.randbelow(1 << 34) + (1 << 4) << 12
    libc = _libc()
    libc.mmap.restype = ctypes.c_void_p
    mapped = libc.mmap(
        *(ctypes.c_void_p(start), ctypes.c_size_t(1 << 12)),
        *(_PROT_READ_WRITE, _MAP_PRIVATE_ANONYMOUS_NEW, -1, ctypes.c_long(0)),
    )
    if mapped != start:  # something else lies there, or the memory limit is reached
        return
    empty_path = start + secrets.randbelow(1 << 12)  # new memory is all zeros
    words = [os.fsencode(word) for word in arguments]
    variables = [os.fsencode(f"{name}={value}") for name, value in environment.items()]
    word_array = (ctypes.c_char_p * (len(words) + 1))(*words)
    variable_array = (ctypes.c_char_p * (len(variables) + 1))(*variables)
    if filter_system_calls(path_of_program=empty_path):
        path = ctypes.c_void_p(empty_path)
        _syscall(_EXECVEAT[_column()], program, path, word_array, variable_array, _AT_EMPTY_PATH)


def _prctl(option: int, value: int, address: int = 0) -> int:  # pragma: no cover
    number = ctypes.c_ulong
    result: int = _libc().prctl(option, number(value), number(address), number(0), number(0))
    return result


def _syscall(number: int, *arguments: Any) -> int:  # pragma: no cover
    words = (ctypes.c_long(a) if isinstance(a, int) else a for a in arguments)
    result: int = _libc().syscall(ctypes.c_long(number), *words)
    return result


@cache
def _libc() -> ctypes.CDLL:  # pragma: no cover
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    return libc
