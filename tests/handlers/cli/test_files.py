"""Files and folders that a user names and that cannot be written."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.crypto.keys import create_keys
from core.errors import Refused
from handlers.cli import app
from handlers.cli.files import create_file, read_file, replace_file
from tests.support.full_disk import full_disk
from tests.support.runtime import REFERENCE


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["voicedrop", *arguments])
    with pytest.raises(SystemExit) as end:
        app.main()
    assert isinstance(end.value.code, int)
    return end.value.code


RECORD = ["consent", "new", str(REFERENCE), "--method", "own-voice", "--subject", "me"]


@pytest.mark.parametrize(
    ("command", "option", "code"),
    [
        (["init", "--json"], "--bucket", 1),
        (["audit", "--json"], "--out", 2),
        (["abx", str(REFERENCE), "--json"], "--out", 1),
        (RECORD, "--out", 1),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
@pytest.mark.parametrize("place", ["a-file/x", "/proc/x/y"])
def test_a_place_that_cannot_be_written_is_named_with_the_option_that_chooses_another(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: list[str],
    option: str,
    code: int,
    place: str,
) -> None:
    create_keys(tmp_path / "keys")
    (tmp_path / "bucket" / "results").mkdir(parents=True)
    (tmp_path / "a-file").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, *command, option, place) == code
    printed = capsys.readouterr()
    if "--json" in command:
        error = json.loads(printed.out)
        error = error if command[0] == "audit" else error["error"]
        assert error.get("code", error.get("error")) == "FILE_UNUSABLE"
    said = printed.out + printed.err
    assert "FILE_UNUSABLE" in said
    assert f"Choose another with {option}" in said
    assert place.split("/")[-2] in said


def test_a_folder_for_keys_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "keys").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, "init") == 1
    said = capsys.readouterr().err
    assert "FILE_UNUSABLE: keys cannot be written" in said
    assert "Choose another with VOICEDROP_KEYS" in said


@pytest.mark.parametrize("write", [replace_file, create_file])
def test_nothing_is_left_of_a_file_for_which_the_disk_has_no_space(
    tmp_path: Path, write: Callable[[Path, bytes], None]
) -> None:
    out = tmp_path / "folder" / "hello.wav"
    with full_disk(), pytest.raises(Refused, match=r"wav cannot be written: File too large"):
        write(out, bytes(30_000))
    assert list(out.parent.iterdir()) == []
    write(out, bytes(30_000))
    assert list(out.parent.iterdir()) == [out]


@pytest.mark.parametrize(
    ("name", "message"), [("nosuch", "No such file"), ("", "This is a folder: name the files")]
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(Refused, match=message) as refusal:
        read_file(tmp_path / name)
    assert (refusal.value.code, refusal.value.pointer) == ("OBJECT_MISSING", str(tmp_path / name))


def test_an_unforeseen_error_of_the_system_becomes_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    name = str(tmp_path / ("x" * 300))
    assert run(monkeypatch, "abx", name, "--json") == 1
    error: dict[str, Any] = json.loads(capsys.readouterr().out)["error"]
    assert error["code"] == "FILE_UNUSABLE"
    assert error["message"] == f"{name}: File name too long."


@pytest.mark.parametrize("place", ["bucket/results", "bucket/inbox/new", "bucket/control"])
@pytest.mark.parametrize("command", [["open", "abcd"], ["audit"]], ids=lambda command: command[0])
def test_nothing_but_objects_is_written_into_a_bucket(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: list[str],
    place: str,
) -> None:
    create_keys(tmp_path / "keys")
    (tmp_path / "bucket" / "results").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, *command, "-o", place) == (2 if command == ["audit"] else 1)
    printed = capsys.readouterr()
    assert f"FILE_UNUSABLE: {place} is in the bucket" in printed.out + printed.err


@pytest.mark.parametrize("size", [1000, None], ids=["small", "large"])
def test_a_recording_is_not_a_record_to_withdraw(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    size: int | None,
) -> None:
    create_keys(tmp_path / "keys")
    for name in ("inbox", "results", "control"):
        (tmp_path / "bucket" / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    recording = tmp_path / "me.flac"
    recording.write_bytes(REFERENCE.read_bytes()[:size])
    assert run(monkeypatch, "consent", "withdraw", str(recording)) == 1
    said = capsys.readouterr().err
    assert said.startswith("CONSENT_INVALID: Not a consent record: ")
    assert "Name the consent record, not the recording." in said
