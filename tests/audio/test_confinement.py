"""A decoder that was taken over can do nothing but compute, whoever its user is."""

from __future__ import annotations

import json
import os
import platform
import shutil
import struct
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from core.audio import confinement
from tests.support import escapes

ROOT = Path(__file__).parents[2]
USER = "10001"
"""The user of the image."""
AS_USER = ["setpriv", "--clear-groups", f"--reuid={USER}", f"--regid={USER}"]
# The interpreter may lie in a folder of root's. The attempts have this right as well.
AS_USER += ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
USERS = [USER, "root"] if os.geteuid() == 0 and shutil.which("setpriv") else ["this user"]


@pytest.fixture(scope="module", params=USERS)
def report(request: pytest.FixtureRequest) -> Any:
    program = [sys.executable, "-m", "tests.support.escapes"]
    ran = subprocess.run(
        [*(AS_USER if request.param == USER else ()), *program],
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=60,
    )
    return json.loads(ran.stdout) | {"user": request.param}


@pytest.mark.slow
def test_none_of_130_attempts_to_leave_the_sandbox_succeeds(report: Any) -> None:
    assert report["protection"]["filtered"]
    assert report["protection"]["hidden"]
    assert len(report["confined"]) > 130
    assert {what: how for what, how in report["confined"].items() if how != "EPERM"} == {}
    assert report["files"] == {"secret": "secret", "other": "other"}
    assert report["victim"] is None  # it still runs


@pytest.mark.slow
def test_a_program_that_decodes_can_only_ask_about_files_besides(report: Any) -> None:
    """It sees whether a file exists, because the filter cannot read the paths of its libraries."""
    done = {what for what, how in report["program"].items() if how == "done"}
    assert done <= {"access", "duplicate a descriptor", "read a link", "stat", "statx"} | {
        "stat a descriptor by path",
        "system name",
        "thread base",
    }
    assert report["program"]["open"] in ("EACCES", "EPERM")
    assert report["program"]["execve"] == report["program"]["fork"] == "EPERM"


@pytest.mark.slow
def test_another_process_of_the_user_cannot_read_the_memory_of_the_server(report: Any) -> None:
    """The superuser can."""
    assert report["memory of the server"] == ("done" if report["user"] == "root" else "EACCES")


@pytest.mark.slow
def test_most_of_the_attempts_succeed_without_the_sandbox(report: Any) -> None:
    outcomes = report["unconfined"]
    assert Counter(outcomes.values())["done"] > 80
    for what in ("open", "rename", "unlink", "socket INET", "fork", "ptrace", "kill", "execve"):
        assert outcomes[what] == "done"


@pytest.mark.slow
def test_other_system_call_interfaces_are_closed_and_abort_still_ends_the_process(
    report: Any,
) -> None:
    if platform.machine() == "x86_64":
        assert "SIGSYS" in report["call_as_32_bit"]
        assert report["call_as_x32"] == '{"outcome": "EPERM"}'
    assert "SIGABRT" in report["abort"]


def interpret(program: bytes, data: bytes) -> int:
    """Run a classic BPF program of the instructions that filters of ours use."""
    accumulator, at = 0, 0
    while True:
        code, if_equal, if_not, operand = struct.unpack_from("HBBI", program, at * 8)
        at += 1
        if code == 0x06:
            return int(operand)
        if code == 0x54:
            accumulator &= operand
        elif code == 0x20:
            accumulator = int.from_bytes(data[operand : operand + 4], "little")
        else:
            assert code == 0x15
            at += if_equal if accumulator == operand else if_not


@pytest.mark.parametrize("machine", confinement.ARCHITECTURES)
def test_the_filter_of_each_architecture(machine: str) -> None:
    """struct seccomp_data: number, architecture, instruction pointer, six arguments."""
    program = confinement.filter_program(machine, 4242)
    column = list(confinement.ARCHITECTURES).index(machine)

    def decide(number: int, *arguments: int, of: str = machine) -> int:
        architecture = confinement.ARCHITECTURES.get(of, 0x40000003)
        six = (*arguments, *[0] * (6 - len(arguments)))
        return interpret(program, struct.pack("IIQ6Q", number, architecture, 0, *six))

    allow, refuse, kill = 0x7FFF0000, 0x00050001, 0x80000000
    allowed = {number for number in range(2048) if decide(number) == allow}
    assert len(allowed) < 40
    everything = {
        **escapes.path_attempts("x", 1),
        **escapes.descriptor_attempts(1),
        **escapes.process_attempts(1, 0, 1, 1),
    }
    refused = {call[0][column] for call in everything.values()}
    assert not allowed & refused
    tgkill = (234, 131)[column]
    assert decide(tgkill, 4242) == allow
    assert decide(tgkill, 4243) == refuse
    program = confinement.filter_program(machine, 4242, path_of_program=(1 << 45) + 5)
    execveat, clone, clone3 = (322, 281)[column], (56, 220)[column], 435
    assert decide(execveat, 9, (1 << 45) + 5) == decide(clone, 0x3D0F00) == allow
    assert {decide(execveat, 9, (1 << 45) + 4), decide(execveat, 9, 5)} == {refuse}
    assert {decide(clone, 17), decide((59, 221)[column], (1 << 45) + 5)} == {refuse}
    assert decide(clone3) == 0x00050026
    assert decide(0x40000000 | min(allowed)) == refuse  # x32
    assert all(
        decide(min(allowed), of=name) == kill
        for name in ("i386", *confinement.ARCHITECTURES)
        if name != machine
    )


DECODE = """
import sys
from core.audio.sandbox import Sandbox
from core.errors import JobError

sandbox = Sandbox(required=sys.argv[1] == "required")
try:
    for _ in range(2):
        print(bytes(sandbox.run("tests.support.sandbox_tasks:echo", b"decoded", times=1)[0]))
    print(sandbox.protection().filtered, sandbox.protection().landlock)
except JobError as error:
    print(error.code)
finally:
    sandbox.close()
"""


def run_on_old_kernel(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.support.old_kernel", *arguments],
        cwd=ROOT,
        env=os.environ | variables,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has seccomp")
@pytest.mark.parametrize(
    ("policy", "answer"),
    [
        ("best_effort", ["b'decoded'", "b'decoded'", "False 0"]),
        ("required", ["SANDBOX_UNAVAILABLE"]),
    ],
)
def test_a_system_without_seccomp_or_landlock(policy: str, answer: list[str]) -> None:
    ran = run_on_old_kernel("-c", DECODE, policy)
    assert ran.stdout.splitlines() == answer
    warnings = ran.stderr.count("cannot filter the system calls")
    assert warnings == (policy == "best_effort")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has seccomp")
def test_doctor_says_that_nothing_confines_decoders(tmp_path: Path) -> None:
    doctor = ("-m", "handlers.cli", "doctor", "--bucket", str(tmp_path))
    # An engine without its bundle is a finding, too, but a quick one.
    variables = {"VOICEDROP_ENGINE": "gpt_sovits", "VOICEDROP_SANDBOX": "required"}
    lines = run_on_old_kernel(*doctor, **variables).stdout
    assert "BAD  sandbox: no seccomp, no landlock, not dumpable" in lines
