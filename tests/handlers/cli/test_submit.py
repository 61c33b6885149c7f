"""Consent records that are submitted together with recordings."""

from __future__ import annotations

import json
import os
import resource
from pathlib import Path

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
