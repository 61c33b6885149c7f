"""`python -m tests.support.old_kernel ARGUMENTS...` runs Python on a kernel without seccomp and
landlock: their system calls answer ENOSYS, by a filter."""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys

LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, NOT_IMPLEMENTED = 0x7FFF0000, 0x00050026
PRCTL, SECCOMP = {"x86_64": (157, 317), "aarch64": (167, 277)}[platform.machine()]
LANDLOCK = (444, 445, 446)
PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 22, 38


def main() -> None:
    program = [(LOAD, 0, 0, 0)]
    for number in (SECCOMP, *LANDLOCK):
        program += [(JUMP_IF_EQUAL, 0, 1, number), (RETURN, 0, 0, NOT_IMPLEMENTED)]
    program += [
        (JUMP_IF_EQUAL, 0, 3, PRCTL),
        (LOAD, 0, 0, 16),  # its first argument
        (JUMP_IF_EQUAL, 0, 1, PR_SET_SECCOMP),
        (RETURN, 0, 0, NOT_IMPLEMENTED),
        (RETURN, 0, 0, ALLOW),
    ]
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in program)
    instructions = ctypes.create_string_buffer(code)
    loaded = struct.pack("HxxxxxxQ", len(program), ctypes.addressof(instructions))
    libc = ctypes.CDLL(None)
    assert libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    assert libc.prctl(PR_SET_SECCOMP, 2, loaded) == 0
    os.execv(sys.executable, [sys.executable, *sys.argv[1:]])  # noqa: S606 - our interpreter


if __name__ == "__main__":
    main()
