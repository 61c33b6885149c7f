"""`voicedrop watch` on a terminal and in a pipe: interrupted, resumed, and beside another one."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from core.job import commit
from tests.support.command_line import ROOT
from tests.support.runtime import local_runtime, put_job
from tests.support.untraced import environ_without_coverage

pytestmark = pytest.mark.slow
ITEMS = [{"id": name, "text": f"The words of item {name}."} for name in "abc"]
CTRL_C = b"\x03"
SECONDS = 120
"""Longest wait for a process. A lease that was not released would take 300 s to expire."""


def watch(folder: Path, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.support.watcher", str(folder), *options],
        cwd=ROOT,
        env=environ_without_coverage(),  # the one on a terminal is measured
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def watch_on_terminal(folder: Path) -> tuple[int, int]:
    """Start a watch whose terminal this is; return its process id and the terminal."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(ROOT)
        command = [sys.executable, "-m", "tests.support.watcher", str(folder)]
        os.execv(sys.executable, command)  # noqa: S606 (after `pty.fork`)
    return pid, terminal


def read_until(terminal: int, words: str, shown: str = "") -> str:
    """Return what the terminal shows, up to these words or its end."""
    while words not in shown:
        try:
            shown += os.read(terminal, 4096).decode()
        except OSError:  # the process has ended
            return shown
    return shown


def test_ctrl_c_stops_a_watch_and_the_next_one_continues_at_once(tmp_path: Path) -> None:
    runtime = local_runtime(tmp_path)
    keys = [put_job(runtime, name=name, items=ITEMS) for name in ("one", "two")]
    jobs = [commit.read_manifest(key, runtime).job_id for key in keys]
    pid, terminal = watch_on_terminal(tmp_path)
    shown = read_until(terminal, "(1 of 3)")
    os.write(terminal, CTRL_C)
    shown = read_until(terminal, "\0", shown)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 130
    assert "learning the voice" in shown
    assert "Stopped. The next `voicedrop watch` continues" in shown
    assert "Traceback" not in shown
    assert [commit.read_result(job, runtime) for job in jobs] == [None, None]

    resumed = watch(tmp_path, "--once")
    out, err = resumed.communicate(timeout=SECONDS)
    assert resumed.returncode == 0
    assert " a: made before (1 of 3)" in err
    assert out.count("succeeded, 3 of 3 items") == 2
    assert "\x1b" not in out + err


def test_two_watches_side_by_side_make_a_job_once(tmp_path: Path) -> None:
    runtime = local_runtime(tmp_path)
    put_job(runtime, items=ITEMS)
    both = [watch(tmp_path, "--once") for _ in range(2)]
    shown = [one.communicate(timeout=SECONDS) for one in both]
    assert [one.returncode for one in both] == [0, 0]
    assert all("succeeded, 3 of 3 items" in out for out, _ in shown)
    assert sum(err.count("(3 of 3)") for _, err in shown) == 1
    assert all(err.count("has the lease") <= 1 for _, err in shown)
    assert len(list(runtime.results.list("events/"))) == 1
