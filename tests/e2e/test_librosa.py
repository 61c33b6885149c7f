"""librosa is imported to prepare a recording, beside everything else, and for nothing else."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest

from tests.support.command_line import EXAMPLE_INBOX, Workspace

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("without_coverage")]

HELLO = json.loads((EXAMPLE_INBOX / "jobs/hello.manifest.json").read_text())
LIBROSA = "llvmlite"
"""The name of a library that is loaded with librosa and with nothing else."""
PREPARING = "core.speech.numba_cache"
"""Part of the command line of the process that imports librosa."""


def run(workspace: Workspace, *arguments: str) -> tuple[int, set[str]]:
    """Run a command; return its exit code and which of its processes had librosa."""
    process = workspace.start(*arguments)
    found: set[str] = set()
    while process.poll() is None:
        for pid in (process.pid, *descendants(process.pid)):
            if PREPARING in read(f"/proc/{pid}/cmdline"):
                found.add("the process that prepares recordings")
            elif LIBROSA in read(f"/proc/{pid}/maps"):
                found.add("another process")
        time.sleep(0.05)  # importing librosa takes far longer
    process.communicate()
    return process.returncode, found


def descendants(pid: int) -> list[int]:
    children = map(int, read(f"/proc/{pid}/task/{pid}/children").split())
    return [one for child in children for one in (child, *descendants(child))]


def read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:  # the process has ended
        return ""


@pytest.fixture(scope="module")
def workspace(spoken: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A copy of the workspace in which the voice of the example is kept."""
    root = shutil.copytree(spoken.root, tmp_path_factory.mktemp("kept"), dirs_exist_ok=True)
    return Workspace(root)


def put_manifest(workspace: Workspace, name: str, **fields: object) -> None:
    path = workspace.root / "bucket/inbox/jobs" / f"{name}.manifest.json"
    path.write_text(json.dumps(HELLO | fields))


def test_a_recording_is_prepared_with_librosa_in_a_process_of_its_own(workspace: Workspace) -> None:
    """This shows that the tests below can fail. A dry run examines every recording."""
    put_manifest(workspace, "dry", mode="validate")
    assert run(workspace, "watch", "--once") == (0, {"the process that prepares recordings"})


def test_a_job_with_a_known_voice_does_not_import_librosa(workspace: Workspace) -> None:
    put_manifest(workspace, "known", items=[HELLO["items"][0] | {"text": "Once more."}])
    assert run(workspace, "watch", "--once") == (0, set())


def test_commands_that_only_read_do_not_import_librosa(
    spoken: Workspace, workspace: Workspace
) -> None:
    (job,) = (path.name for path in (spoken.root / "bucket/results/out").iterdir())
    assert run(workspace, "open", job, "--out", "heard") == (0, set())
    clip = next((workspace.root / "heard").glob("*.wav"))
    assert run(workspace, "trace", str(clip)) == (0, set())
    assert run(workspace, "audit") == (0, set())
    manifest = workspace.root / "bucket/inbox/jobs/hello.manifest.json"
    assert run(workspace, "submit", str(manifest))[1] == set()
