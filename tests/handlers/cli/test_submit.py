"""Consent records that are submitted together with recordings."""

from __future__ import annotations

import json
import os
import resource
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from core.consent import records
from core.errors import UNAVAILABLE, Refused, Unavailable
from handlers.cli.screen import further_advice, print_error
from handlers.cli.submit import submit_job
from tests.support.runtime import (
    consent_record,
    finish_job,
    local_runtime,
    local_settings,
    put_job,
)

NOW, DAY = datetime.now(UTC).replace(microsecond=0), timedelta(days=1)
MANIFEST = {
    "schema": "voicedrop/job/1",
    "voices": {
        "me": {
            "reference": "refs/me.flac",
            "aux": ["refs/other.flac"],
            "consent": "consent/me.json",
            "language": "en",
        },
        "unused": {"reference": "refs/b.flac", "consent": "consent/me.json", "language": "en"},
    },
    "items": [{"id": "a", "text": "Words.", "voice": "me"}],
}


def submit(folder: Path, *names: str) -> list[str]:
    """Submit the manifest with these files; return the keys that are stored then."""
    runtime = local_runtime(folder)
    manifest = folder / "x.manifest.json"
    submit_job(local_settings(folder), manifest, [folder / name for name in names])
    return [info.key for info in runtime.inbox.list("")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("me", "other", "b"):
        (tmp_path / f"{name}.flac").write_bytes(name.encode())
    (tmp_path / "me.json").write_bytes(records.format_consent(consent_record(b"me")))
    (tmp_path / "x.manifest.json").write_text(json.dumps(MANIFEST))
    return tmp_path


def test_a_full_disk_is_answered_with_what_the_user_must_do(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing was stored, so no worker retries it."""
    local_runtime(folder)
    settings = local_settings(folder)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        with pytest.raises(Unavailable, match="NO_SPACE") as caught:
            submit_job(settings, folder / "x.manifest.json", [folder / "me.flac"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    print_error(caught.value)
    said = " ".join(capsys.readouterr().err.split())
    assert said.endswith(
        "The disk is full: make room on it. Run the command again when this is resolved."
    )


@pytest.mark.parametrize("code", UNAVAILABLE)
def test_no_user_is_promised_that_a_command_is_retried(code: str) -> None:
    error = Unavailable(code)
    assert "retried" not in f"{error.message} {error.advice}"
    assert further_advice(error).endswith("Run the command again when this is resolved.")


def test_a_record_that_does_not_cover_a_recording_beside_it_is_refused(folder: Path) -> None:
    with pytest.raises(Refused) as refusal:
        submit(folder, "me.flac", "other.flac", "me.json")
    assert (refusal.value.code, refusal.value.pointer) == ("CONSENT_SCOPE", "/voices/me/aux/0")
    begin = "The record consent/me.json does not cover refs/other.flac of `aux`. "
    assert refusal.value.message.startswith(begin)
    assert not (folder / "inbox/jobs").exists()
    assert not (folder / "inbox/refs/me.flac").exists()


@pytest.mark.parametrize("where", ["beside", "stored"])
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"scope": records.Scope(languages=["en"])}, "consent/me.json allows en"),
        ({"valid_from": NOW + DAY, "valid_until": None}, "is not valid yet, but from "),
        ({"valid_from": NOW - 2 * DAY, "valid_until": NOW - DAY}, "was valid until "),
    ],
    ids=["language", "future", "expired"],
)
def test_what_a_record_does_not_allow_is_said_before_anything_is_stored(
    folder: Path, capsys: pytest.CaptureFixture[str], where: str, changes: dict[str, Any], said: str
) -> None:
    record = records.format_consent(consent_record(b"me", **changes))
    (folder / "me.json").write_bytes(record)
    runtime = local_runtime(folder)
    if where == "stored":
        runtime.inbox.put("consent/me.json", record)
    item = {"id": "zh", "text": "这是我的声音。", "voice": "me", "language": "zh"}
    (folder / "x.manifest.json").write_text(json.dumps(MANIFEST | {"items": [item]}))
    submit(folder, *(["me.json"] if where == "beside" else []))
    assert f"item zh: CONSENT_{'SCOPE' if 'allows' in said else 'EXPIRED'}" in (
        shown := capsys.readouterr().err
    )
    assert said in shown
    assert runtime.inbox.head("jobs/x.manifest.json") is None


def test_the_same_error_is_said_once_with_the_other_lines(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    header = json.dumps({k: v for k, v in MANIFEST.items() if k != "items"})
    bad = (json.dumps({"id": f"i{n}", "text": "Words.", "speed": 9}) for n in range(300))
    other = json.dumps({"id": "z", "text": "", "voice": "me"})
    (folder / "x.manifest.jsonl").write_text("\n".join([header, *bad, other]))
    local_runtime(folder)
    output = submit_job(local_settings(folder), folder / "x.manifest.jsonl", [])
    assert len(output.data["errors"]) == 301
    alike, single, _ = capsys.readouterr().err.splitlines()
    assert "x.manifest.jsonl, line 2: item i0: VALUE_RANGE: " in alike
    assert "; the same in line 3 (item i1), line 4 (item i2), " in alike
    assert alike.endswith(" and 294 more")
    assert "x.manifest.jsonl, line 302: item z: TEXT_EMPTY: " in single


def test_what_is_missing_and_what_was_submitted_before_is_said(folder: Path) -> None:
    local_runtime(folder)
    first, again = (
        submit_job(local_settings(folder), folder / "x.manifest.json", []).lines for _ in range(2)
    )
    (recording,) = (line for line in first if "refs/me.flac" in line)
    assert recording.endswith("the job waits for this recording, up to 900 s.")
    (record,) = (line for line in first if "consent/me.json" in line)
    assert "without this consent record its voice is refused" in record
    assert again == [*first, "This manifest was submitted before, and its job is not finished."]


def test_a_record_that_the_manifest_does_not_name_is_answered_with_the_field(folder: Path) -> None:
    manifest = json.loads((folder / "x.manifest.json").read_text())
    del manifest["voices"]["me"]["consent"]
    (folder / "x.manifest.json").write_text(json.dumps(manifest))
    (folder / "mine.json").write_bytes((folder / "me.json").read_bytes())
    with pytest.raises(Refused, match=r'the voice `me` .* add "consent": "consent/mine\.json"'):
        submit(folder, "mine.json")


def test_a_recording_that_needs_ffmpeg_is_remarked_on_where_it_is_missing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(folder))
    (folder / "other.flac").write_bytes(b"\0\0\0\x20ftypM4A \0\0\0\0")
    local_runtime(folder)
    files = [folder / "me.flac", folder / "other.flac"]
    lines = submit_job(local_settings(folder), folder / "x.manifest.json", files).lines
    (warning,) = (line for line in lines if line.startswith("Warning: "))
    assert warning.startswith("Warning: refs/other.flac cannot be read on this machine. M4A or MP4")
    assert "`apt install ffmpeg`" in warning


def test_what_is_not_submitted_or_not_used_is_not_compared(folder: Path) -> None:
    stored = submit(folder, "me.flac", "b.flac", "me.json")
    assert {"refs/me.flac", "refs/b.flac", "consent/me.json", "jobs/x.manifest.json"} <= set(stored)


@pytest.mark.parametrize(
    ("size", "code"), [(None, "JSON_SYNTAX"), (1 << 40, "OBJECT_TOO_LARGE")], ids=["text", "size"]
)
def test_a_file_that_is_no_manifest_is_refused_as_that(
    folder: Path, size: int | None, code: str
) -> None:
    manifest = folder / "x.manifest.json"
    manifest.write_text("{")
    if size:
        os.truncate(manifest, size)
    with pytest.raises(Refused) as refusal:
        submit(folder)
    assert refusal.value.code == code
    assert "recording" not in refusal.value.message


def test_advice_on_files_that_are_confused_is_about_these_files(folder: Path) -> None:
    (folder / "me.flac").write_bytes(b"fLaC\xff")
    settings = local_settings(folder)
    local_runtime(folder)
    for manifest, files, what in (
        ("me.flac", ["x.manifest.json"], "looks like a recording: name the manifest first"),
        ("me.json", ["x.manifest.json"], "looks like a consent record: name the manifest first"),
        ("x.manifest.json", ["b.flac", "me.wav"], "Rename the file, or correct the manifest."),
    ):
        (folder / "me.wav").touch()
        with pytest.raises(Refused, match=what) as refusal:
            submit_job(settings, folder / manifest, [folder / name for name in files])
        assert further_advice(refusal.value) == "", "no more advice, on other mistakes"


@pytest.mark.slow
def test_a_manifest_that_succeeded_before_is_answered_with_how_to_open_it(tmp_path: Path) -> None:
    runtime = local_runtime(tmp_path)
    key = put_job(runtime)
    job = finish_job(key, runtime).job_id
    manifest = tmp_path / key.rpartition("/")[2]
    manifest.write_bytes(runtime.inbox.get(key, limit=10**6).data)
    output = submit_job(local_settings(tmp_path), manifest, [])
    assert output.exit_code == 0
    assert f"voicedrop open {job[:8]}" in output.lines[-1]
