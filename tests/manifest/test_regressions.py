"""Inputs that once left a job without a result, or were wrongly accepted."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from core.job import commit
from core.job.runtime import Runtime
from core.storage import local_files
from core.storage.local import LocalStore
from handlers.oss import handle
from tests.support.runtime import local_runtime, put_job, run_job


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    return local_runtime(tmp_path)


def put_job_with_reference(runtime: Runtime, reference: str) -> str:
    """Put a manifest whose voice has this reference; return its key."""
    voice = {"reference": reference, "language": "en", "consent": "consent/alice.json"}
    return put_job(runtime, voices={"alice": voice})


def test_a_lone_surrogate_in_a_pointer_still_gives_a_result(runtime: Runtime) -> None:
    done = run_job(put_job(runtime, labels={"n" * 65 + "\ud800": "a"}), runtime)
    assert done.error
    assert (done.status, done.error.code) == ("rejected", "VALUE_RANGE")
    assert done.error.pointer.endswith("\\ud800")
    assert commit.read_result(done.job_id, runtime) == done


LONE_SURROGATE = "\ud83d"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"mode": LONE_SURROGATE}, "/mode"),
        ({"defaults": {"format": LONE_SURROGATE}}, "/defaults/format"),
        ({"label": {"cue": LONE_SURROGATE}}, "/label/cue"),
        ({"output": {"titles": {"c": LONE_SURROGATE}}}, "/output/titles/c"),
        ({"output": {"concatenate": LONE_SURROGATE}}, "/output/concatenate"),
    ],
)
def test_a_lone_surrogate_instead_of_a_literal(
    runtime: Runtime, fields: dict[str, Any], pointer: str
) -> None:
    done = run_job(put_job(runtime, **fields), runtime)
    assert done.error
    assert (done.error.code, done.error.pointer) == ("TEXT_SURROGATE", pointer)
    items = [
        {"id": "a", "text": "Some words."},
        {"id": "b", "text": "More.", "format": LONE_SURROGATE},
    ]
    done = run_job(put_job(runtime, name="two", items=items, mode="validate"), runtime)
    assert [item.error.code if item.error else "" for item in done.items] == ["", "TEXT_SURROGATE"]


@pytest.mark.parametrize("title", ["a\0b", "a\nb", "a\x1b[31m", "a\tb"])
def test_a_title_with_control_characters_is_refused(runtime: Runtime, title: str) -> None:
    done = run_job(put_job(runtime, output={"titles": {"c": title}}), runtime)
    assert done.error
    assert (done.error.code, done.error.pointer) == ("TEXT_CONTROL", "/output/titles/c")


def test_a_reference_that_is_a_symbolic_link_is_not_followed_and_fails_its_voice(
    runtime: Runtime, tmp_path: Path
) -> None:
    key = put_job_with_reference(runtime, "refs/link.flac")
    (tmp_path / "inbox/refs/link.flac").symlink_to(tmp_path / "inbox/refs/alice.flac")
    done = run_job(key, runtime)
    error = done.items[0].error
    assert error
    assert (done.status, error.code, error.pointer) == (
        "failed",
        "KEY_INVALID",
        "/voices/alice/reference",
    )
    assert commit.read_result(done.job_id, runtime) == done


@pytest.mark.parametrize("name", ["n" * 256, "名" * 86], ids=["letters", "bytes"])
def test_a_reference_with_too_long_a_name_fails_its_voice(runtime: Runtime, name: str) -> None:
    done = run_job(put_job_with_reference(runtime, f"refs/{name}"), runtime)
    assert done.items[0].error
    assert (done.status, done.items[0].error.code) == ("failed", "KEY_INVALID")


def test_a_pipe_in_the_inbox_is_not_an_object_and_does_not_block(
    runtime: Runtime, tmp_path: Path
) -> None:
    key = put_job_with_reference(runtime, "refs/pipe.flac")
    os.mkfifo(tmp_path / "inbox/refs/pipe.flac")
    done = run_job(key, runtime)
    assert done.items[0].error
    assert done.items[0].error.code == "REF_NOT_FOUND"


def test_a_link_or_pipe_that_replaces_a_file_is_not_followed(tmp_path: Path) -> None:
    LocalStore(tmp_path).put("secret", b"secret")
    os.mkfifo(tmp_path / "pipe")
    reader = threading.Thread(
        target=local_files.read_file, args=(tmp_path / "pipe", 9), daemon=True
    )
    reader.start()
    reader.join(10)
    assert not reader.is_alive()
    assert local_files.read_file(tmp_path / "pipe", 9) == b""
    (tmp_path / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(OSError, match="symbolic links"):
        local_files.read_file(tmp_path / "link", 9)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rate", "code"),
    [
        (1, "AUDIO_RATE_UNSUPPORTED"),
        (0x3E00, None),
        (655_350, "AUDIO_RATE_UNSUPPORTED"),
        (0x7FFFFFFF, "AUDIO_HEADER_INVALID"),
    ],
)
def test_a_clip_of_any_rate_gets_a_report(runtime: Runtime, rate: int, code: str | None) -> None:
    head = b".snd" + b"".join(n.to_bytes(4, "big") for n in (24, 0xFFFFFFFF, 3, rate, 1))
    runtime.inbox.put("audit/clip.au", head + bytes(20_000))
    record = {
        "eventName": "ObjectCreated:PutObject",
        "eventSource": "acs:oss",
        "oss": {"bucket": {"name": "inbox"}, "object": {"key": "audit/clip.au", "size": 1}},
    }
    report_ref = handle(json.dumps({"events": [record]}).encode(), runtime)["done"][0]
    report = json.loads(runtime.results.get(f"audit/{report_ref['trace']}.json", limit=10**6).data)
    assert (report["error"] or {"code": None})["code"] == code
    assert report["marked"] is (None if code else False)
