"""A decoder can harm its own process only."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from core.audio.sandbox import Crashed, Limits, Sandbox
from core.audio.sandbox_server import ANSWER_LIMIT
from core.errors import Misconfigured

TASKS = "tests.support.sandbox_tasks:"
STREAM = Limits(stream=True)
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    own_sandbox = Sandbox()
    own_sandbox.start()
    yield own_sandbox
    own_sandbox.close()


def children_of(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in listed.split()]


def server_pid(own_sandbox: Sandbox) -> int:
    assert own_sandbox._server is not None
    return own_sandbox._server.pid


def test_a_task_gets_its_bytes_and_hands_back_bytes_and_json(sandbox: Sandbox) -> None:
    bulk, answer = sandbox.run(TASKS + "echo", b"ab" * 100_000, times=3)
    assert bulk == b"ab" * 300_000
    assert answer == {"length": 200_000}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "limits", "message"),
    [
        ("crash", Limits(), "SIGSEGV"),
        ("spin", Limits(cpu_s=1), "processor time"),
        ("sleep", Limits(wall_s=0.3), "0.3 s"),
        ("bloat", Limits(memory=256 << 20), "256 MiB of memory"),
        ("fail", Limits(), "raised an exception"),
        ("answer_without_json", Limits(), "malformed"),
    ],
)
def test_a_misbehaving_task_is_contained_and_named(
    sandbox: Sandbox, task: str, limits: Limits, message: str
) -> None:
    with pytest.raises(Crashed, match=message):
        sandbox.run(TASKS + task, b"\xff\xff\x01\x00", limits)
    assert sandbox.run(TASKS + "echo", b"still here", times=1)[0] == b"still here"


@pytest.mark.parametrize(
    "tail",
    [b"", b"[1]\x03\x00\x00\x00", b"{nope\x05\x00\x00\x00", b"\x00\x00\x00\x01"],
    ids=["nothing", "not an object", "not json", "longer than the file"],
)
def test_a_forged_answer_is_refused(sandbox: Sandbox, tail: bytes) -> None:
    with pytest.raises(Crashed, match="malformed"):
        sandbox.run(TASKS + "answer_without_json", tail)
    with tempfile.TemporaryFile(buffering=0) as file:
        file.write(tail)
        file.seek(0)
        with pytest.raises(Crashed, match="malformed"):
            b"".join(sandbox.stream(TASKS + "answer_without_json", file.fileno(), STREAM))


def test_output_is_bounded(sandbox: Sandbox) -> None:
    limits = Limits(output=1 << 20)
    with pytest.raises(Crashed, match="wrote more than 1 MiB"):
        sandbox.run(TASKS + "echo", bytes(limits.output + ANSWER_LIMIT + 1), limits, times=1)


def test_children_hold_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSS_ACCESS_KEY_SECRET", "hunter2")
    fresh = Sandbox()
    try:
        assert "hunter2" not in str(fresh.run(TASKS + "environment", b"")[1])
    finally:
        fresh.close()


@pytest.mark.slow
def test_children_hold_no_file_but_their_own(tmp_path: Path) -> None:
    """Children inherit neither files of the parent nor the report pipes of other children."""
    with (tmp_path / "secret").open("w") as secret:
        os.set_inheritable(secret.fileno(), True)
        fresh = Sandbox()
        try:
            with ThreadPoolExecutor(16) as pool:
                waiting = [pool.submit(fresh.run, TASKS + "descriptors", b"") for _ in range(16)]
            assert all(len(one.result()[1]["open"]) == 2 for one in waiting)
        finally:
            fresh.close()


def test_many_threads_share_one_server(sandbox: Sandbox) -> None:
    server = server_pid(sandbox)
    with ThreadPoolExecutor(8) as pool:
        parts = [bytes([i]) * 50_000 for i in range(40)]
        bulks = pool.map(lambda part: sandbox.run(TASKS + "echo", part, times=2)[0], parts)
        assert list(bulks) == [part * 2 for part in parts]
    assert server_pid(sandbox) == server
    assert children_of(server) == []


@pytest.mark.slow
def test_a_server_that_dies_is_replaced() -> None:
    own_sandbox = Sandbox()
    try:
        own_sandbox.run(TASKS + "echo", b"x", times=1)
        first = server_pid(own_sandbox)
        os.kill(first, signal.SIGSTOP)
        with ThreadPoolExecutor(3) as pool:
            tasks = [pool.submit(own_sandbox.run, TASKS + "echo", b"x", times=1) for _ in range(3)]
            time.sleep(0.05)  # so that all wait for it
            os.kill(first, signal.SIGKILL)
            assert [task.result()[0] for task in tasks] == [b"x"] * 3
        second = server_pid(own_sandbox)
        assert second != first
        assert not Path(f"/proc/{first}").exists()
        kill_server(own_sandbox)
        assert own_sandbox.run(TASKS + "echo", b"x", times=1)[0] == b"x"
        assert server_pid(own_sandbox) != second
    finally:
        own_sandbox.close()


def kill_server(own_sandbox: Sandbox) -> None:
    """Kill the server and wait until it is dead; whoever started it has not noticed."""
    os.kill(server_pid(own_sandbox), signal.SIGKILL)
    os.waitid(os.P_PID, server_pid(own_sandbox), os.WEXITED | os.WNOWAIT)


@pytest.mark.slow
def test_after_a_server_that_died_the_next_task_of_any_kind_has_a_new_one(sandbox: Sandbox) -> None:
    """The output of a stream may be in use already, so it is not repeated."""
    with tempfile.TemporaryFile() as file:
        tasks: list[Callable[[], object]] = [
            lambda: list(sandbox.stream(TASKS + "environment", file.fileno(), STREAM)),
            lambda: sandbox.run_program(["/bin/true"], file.fileno(), file.fileno(), STREAM),
        ]
        for task in tasks:
            task()
            kill_server(sandbox)
            with pytest.raises(Crashed, match="decoder server died"):
                task()
            task()


@pytest.mark.slow
def test_a_server_that_dies_again_and_again_fails_the_task() -> None:
    own_sandbox = Sandbox()
    with ThreadPoolExecutor(1) as pool:
        task = pool.submit(own_sandbox.run, TASKS + "sleep", b"")
        while not task.done():
            with suppress(AssertionError, ProcessLookupError):  # there is none at this moment
                os.kill(server_pid(own_sandbox), 9)
            time.sleep(0.05)
        with pytest.raises(Crashed, match="decoder server died"):
            task.result()
    own_sandbox.close()


@pytest.mark.slow
def test_closing_ends_the_server_and_leaves_no_zombie() -> None:
    own_sandbox = Sandbox()
    own_sandbox.start()
    pid = server_pid(own_sandbox)
    own_sandbox.close()
    assert not Path(f"/proc/{pid}").exists()
    own_sandbox.close()  # a second time is harmless


@pytest.mark.slow
def test_a_server_that_does_not_leave_is_killed() -> None:
    own_sandbox = Sandbox()
    own_sandbox.run(TASKS + "echo", b"x", times=1)
    pid = server_pid(own_sandbox)
    os.kill(pid, 19)  # SIGSTOP
    own_sandbox.close()
    assert not Path(f"/proc/{pid}").exists()


@pytest.mark.slow
def test_a_forked_worker_starts_a_server_of_its_own(sandbox: Sandbox) -> None:
    program = (
        "import os\nfrom core.audio import sandbox\n"
        f"task = {TASKS + 'echo'!r}\n"
        "sandbox.run(task, b'parent', times=1)\n"
        "first = sandbox._sandbox._server.pid\n"
        "if (pid := os.fork()) == 0:\n"
        "    ok = sandbox.run(task, b'child', times=1)[0] == b'child'\n"
        "    ok = ok and sandbox._sandbox._server.pid != first\n"
        "    sandbox._sandbox.close()\n"
        "    os._exit(0 if ok else 1)\n"
        "assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0\n"
        "assert sandbox.run(task, b'parent', times=1)[0] == b'parent'\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], cwd=ROOT, capture_output=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.slow
def test_a_forgotten_server_exits_by_itself_and_is_replaced() -> None:
    own_sandbox = Sandbox()
    try:
        own_sandbox.start()
        first = server_pid(own_sandbox)
        own_sandbox.forget_server()
        own_sandbox.forget_server()  # as a child of a child would
        assert os.waitpid(first, 0)[0] == first
        assert own_sandbox.run(TASKS + "echo", b"x", times=1)[0] == b"x"
    finally:
        own_sandbox.close()


@pytest.mark.slow
def test_the_server_ends_with_a_process_that_is_killed() -> None:
    program = (
        "import os\nfrom core.audio import sandbox\nsandbox.start()\n"
        "print(sandbox._sandbox._server.pid, flush=True)\nos.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, timeout=60
    )
    server = Path(f"/proc/{int(done.stdout)}")
    deadline = time.monotonic() + 10
    while server.exists() and "zombie" not in (server / "status").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
def test_a_server_that_fails_to_start_is_for_the_operator_to_correct() -> None:
    """The recording is not at fault: its job must not end as failed."""
    own_sandbox = Sandbox(TASKS + "fail_to_start")
    with tempfile.TemporaryFile() as file:
        tasks: list[Callable[[], object]] = [
            lambda: own_sandbox.run(TASKS + "echo", b"x", times=1),
            lambda: list(own_sandbox.stream(TASKS + "environment", file.fileno(), STREAM)),
        ]
        for task in tasks:
            with pytest.raises(Misconfigured) as caught:
                task()
            assert caught.value.code == "DECODER_UNAVAILABLE"
    own_sandbox.close()
