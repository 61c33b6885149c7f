"""The commands of the README, pasted line by line into an empty folder, do what it says."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from core.voice.gpt_sovits.convert.download import MODELS
from tests.support.command_line import ROOT, Workspace
from tests.support.untraced import environ_without_coverage

pytestmark = pytest.mark.slow
README = (ROOT / "README.md").read_text(encoding="utf-8")
TWO_COMMANDS, FIRST_JOB, SECOND_JOB, HTTP, GPT_SOVITS = re.findall(
    r"```sh\n(.*?)```", README, re.DOTALL
)


@pytest.fixture(scope="module")
def folder(spoken: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the examples, the keys of another test, and the voice that it has learned."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "examples").symlink_to(ROOT / "examples")
    shutil.copytree(spoken.root / "keys", folder / "keys")
    shutil.copytree(spoken.root / "bucket/control", folder / "bucket/control")
    return folder


@pytest.fixture(scope="module")
def first_job(folder: Path) -> str:
    """What the commands of the first job print."""
    setup, activate, *lines = FIRST_JOB.splitlines()  # the environment of the tests replaces two
    assert (setup.split()[0], activate) == ("scripts/setup", ". .venv/bin/activate")
    return paste(folder, "set -e", *lines)


@pytest.fixture(scope="module")
def second_job(folder: Path, first_job: str) -> str:
    """What the commands of the second job print, and the exit code of each."""
    lines = [
        f'{line.partition("  #")[0]}; echo "exit $?"' if line.startswith("voicedrop") else line
        for line in SECOND_JOB.splitlines()
    ]
    return paste(folder, *lines)


def paste(folder: Path, *lines: str) -> str:
    command = f'voicedrop() {{ "{sys.executable}" -m handlers.cli "$@"; }}'
    environ = environ_without_coverage()  # other tests measure the same commands
    clean = {k: v for k, v in environ.items() if not k.startswith("VOICEDROP_")}
    ran = subprocess.run(
        ["/usr/bin/env", "bash", "-c", "\n".join([command, *lines])],
        cwd=folder,
        env=clean | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def test_the_first_job_is_spoken_opened_and_traced(folder: Path, first_job: str) -> None:
    (job,) = (path.parent.name for path in (folder / "bucket/results/out").glob("*/result.json"))
    assert "jobs/my.manifest.json: succeeded, 1 of 1 items" in first_job
    assert "The signature and every digest are right." in first_job
    assert f"item hello of job {job}" in first_job
    assert (folder / "heard/hello.wav").stat().st_size > 50_000


def test_the_second_job_fails_in_part_is_repaired_and_opened_beside_the_first(
    folder: Path, second_job: str
) -> None:
    codes = re.findall(r"^exit (\d)$", second_job, re.MULTILINE)
    #        submit, submit, watch, status, consent, submit, retry, watch, open, list
    assert codes == ["1", "0", "1", "1", "0", "1", "0", "0", "0", "0"]
    before, _, after = second_job.partition("is retried as job ")
    assert "item zh: CONSENT_SCOPE: " in before
    assert "This manifest was carried out before" in before
    assert "succeeded, 2 of 2 items, 1 of them kept" in after
    retry = after[:8]
    opened = sorted(
        str(path.relative_to(folder / "heard")) for path in folder.glob("heard/**/*.wav")
    )
    assert opened == sorted([f"{retry}/hello.wav", f"{retry}/zh.wav", "hello.wav"])
    listed = [line.split()[1:3] for line in after.splitlines() if line.endswith(".manifest.json")]
    assert listed[-3:] == [["succeeded", "1/1"], ["partial", "1/2"], ["succeeded", "2/2"]]


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_a_voice_speaks_and_is_traced_over_http(folder: Path, first_job: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    # Not as a function of the shell, whose process `kill` would meet.
    serve = f'"{sys.executable}" -m handlers.cli serve --port {port} >log 2>&1 &'
    lines = HTTP.replace("8000", port).replace("voicedrop serve &", serve)
    first, *others = lines.replace("curl ", "curl -sS --retry 40 --retry-connrefused ").splitlines()
    others = [f"{line.partition('  #')[0]}; echo" for line in others[:-1]]
    end = "kill $!; wait $!; echo stopped $?"
    said = paste(folder, f"trap '{end}' EXIT", first, *others)
    _, job, traced, *stopped = said.splitlines()
    assert json.loads(job)["status"] == "succeeded"
    assert "item hello of job" in json.loads(traced)["report"]["meaning"]
    assert stopped[-1] == "stopped 130"
    assert (folder / "heard/http.wav").stat().st_size > 50_000


def test_no_other_command_of_the_readme_is_left_untested() -> None:
    """The demo and the tests run by themselves; the download is tested against a local server."""
    assert [line.split()[0] for line in TWO_COMMANDS.splitlines()] == [
        "scripts/demo",
        "scripts/test",
    ]
    name = re.match(r"voicedrop models get (\S+)", GPT_SOVITS)
    assert name is not None
    assert name[1] in MODELS
    assert f"VOICEDROP_BUNDLE=~/.cache/voicedrop/bundles/{name[1]}-int8" in GPT_SOVITS


def test_the_sizes_named_are_those_of_the_lock() -> None:
    sizes = json.loads((ROOT / "requirements/sizes.json").read_text())
    download, disk = (round(sizes["run"][n] + sizes["cpu"][n], -1) for n in (0, 1))
    assert f"{download} MB to download, {disk} MB on disk" in FIRST_JOB
