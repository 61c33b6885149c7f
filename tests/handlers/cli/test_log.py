"""The commands that read the log say what is missing and what to do, and take what they print."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from core.storage.object_keys import LOG, LOG_REFUSED, queue_key
from handlers.cli import app
from tests.support.audited_bucket import add_job, fill_bucket
from tests.support.runtime import local_runtime

OPEN = ("open", "0" * 32)
READING = [("log", "verify"), ("audit",), ("log", "integrate"), OPEN]
"""The commands that an auditor may try."""


@dataclass(frozen=True)
class Ran:
    code: int
    output: str
    """Standard output."""
    errors: str

    @property
    def text(self) -> str:
        """What a person reads, whose terminal shows both."""
        return self.output + self.errors


Run = Callable[..., Ran]


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("logged")
    fill_bucket(root, [0])
    return root


@pytest.fixture
def root(logged: Path, tmp_path: Path) -> Path:
    return shutil.copytree(logged, tmp_path / "bucket")


@pytest.fixture
def run(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Run:
    """Return a function that runs a command on `root`, or on the folder `bucket`."""
    monkeypatch.chdir(tmp_path)
    for name in ("BUCKET", "RESULTS", "INBOX", "CONTROL"):
        monkeypatch.delenv(f"VOICEDROP_{name}", raising=False)
    monkeypatch.setenv("VOICEDROP_KEYS", str(root / "keys"))

    def run(*arguments: str, bucket: Path = root) -> Ran:
        monkeypatch.setattr("sys.argv", ["voicedrop", *arguments, "--bucket", str(bucket)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            app.main()
        printed = capsys.readouterr()
        return Ran(int(ended.value.code or 0), printed.out, printed.err)

    return run


def in_a_mail(printed: str) -> str:
    return f"Dear auditor,\r\n\r\nthe log of today:\r\n\r\n{printed}\r\nRegards\r\n"


@pytest.mark.parametrize(
    ("options", "keep"),
    [([], str), ([], in_a_mail), (["--json"], str)],
    ids=["printed", "in a mail", "json"],
)
def test_what_integrate_prints_can_be_kept_and_fed_back(
    run: Run, root: Path, tmp_path: Path, options: list[str], keep: Callable[[str], str]
) -> None:
    kept = tmp_path / "kept.txt"
    kept.write_text(keep(run("log", "integrate", *options).output), newline="")
    add_job(local_runtime(root), 1)
    assert run("log", "integrate").code == 0
    verified = run("log", "verify", "--checkpoint", str(kept))
    assert (verified.code, "continues the checkpoint of 1 entries" in verified.output) == (0, True)
    assert run("audit", "--checkpoint", str(kept)).code == 0


@pytest.mark.parametrize("command", [("log", "verify"), ("audit",)])
def test_a_file_without_a_checkpoint_is_no_contradiction_of_the_log(
    run: Run, tmp_path: Path, command: tuple[str, ...]
) -> None:
    kept = tmp_path / "kept.txt"
    kept.write_text("1 entries are in the log.\n")
    ran = run(*command, "--checkpoint", str(kept))
    assert (ran.code != 0, "There is no checkpoint in it: keep what" in ran.text) == (True, True)


@pytest.mark.parametrize("command", READING, ids=" ".join)
def test_missing_keys_are_named_and_nobody_is_told_to_create_keys(
    run: Run, root: Path, command: tuple[str, ...]
) -> None:
    for path in (root / "keys").iterdir():
        path.unlink()
    ran = run(*command)
    assert ran.code
    assert ("KEY_NOT_FOUND" in ran.text, str(root / "keys") in ran.text) == (True, True)
    assert ("VOICEDROP_KEYS" in ran.text, "init" in ran.text) == (True, False)


@pytest.mark.parametrize("command", [("log", "verify"), ("audit",)])
def test_the_public_key_of_somebody_else_is_said_to_be_that(
    run: Run, root: Path, tmp_path: Path, command: tuple[str, ...]
) -> None:
    local_runtime(tmp_path / "other")
    shutil.rmtree(root / "keys")
    shutil.copytree(tmp_path / "other/keys", root / "keys")
    ran = run(*command)
    assert ran.code == 1
    assert ("public key" in ran.text, "init" in ran.text) == (True, False)


@pytest.mark.parametrize("command", READING, ids=" ".join)
def test_a_wrong_bucket_is_said_to_be_that(
    run: Run, root: Path, tmp_path: Path, command: tuple[str, ...]
) -> None:
    ran = run(*command, bucket=root / "results")
    assert ran.code
    assert "BUCKET_MISSING" in ran.text
    assert "--bucket names the folder that contains" in " ".join(ran.text.split())
    assert "init" not in ran.text.replace(str(tmp_path), "")
    assert not (tmp_path / "audit").exists()


def test_what_is_not_logged_is_said_with_the_reason(run: Run, root: Path) -> None:
    foreign = root / "control" / queue_key("0" * 32)
    foreign.parent.mkdir(parents=True, exist_ok=True)
    foreign.write_bytes(b"garbage")
    ran = run("log", "integrate")
    assert ran.code == 0
    assert f"Not logged, kept as {LOG_REFUSED}" in " ".join(ran.errors.split())


def test_a_protection_that_nobody_made_is_not_removed(run: Run) -> None:
    ran = run("protect", "remove", "nobody")
    assert ran.code == 1
    assert "No protection has the label 'nobody'" in " ".join(ran.text.split())


def test_an_absent_log_is_said_to_be_that(run: Run, root: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept.txt"
    kept.write_text(run("log", "integrate").output)
    shutil.rmtree(root / "results" / LOG)
    ran = run("log", "verify")
    assert (ran.code, "LOG_MISSING" in ran.text, "contradict" in ran.text) == (1, True, False)
    ran = run("log", "verify", "--checkpoint", str(kept))
    assert (ran.code, "it was deleted" in ran.text) == (1, True)
    ran = run("log", "integrate")
    assert (ran.code, ran.output) == (0, "")
    assert "nothing was ever logged" in ran.errors
    shutil.rmtree(root / "results/out")
    assert "This bucket has no log" in run("audit").text
    assert "the log was deleted" in run("audit", "--checkpoint", str(kept)).text
