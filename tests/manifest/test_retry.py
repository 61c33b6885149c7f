"""The manifest of a retry differs from the original in `retry_of` alone."""

from __future__ import annotations

import json

import pytest

from core.errors import Refused
from core.manifest import resolve
from core.manifest.retry import retry_manifest
from tests.support.manifests import encode, manifest

JOB, LATER = "0123456789abcdef" * 2, "fedcba9876543210" * 2
KEY = "jobs/a/书.manifest.json"


def test_a_retry_names_its_job_and_changes_no_line() -> None:
    data = b"\xef\xbb\xbf\n {\n" + encode(manifest()).removeprefix(b"{")
    key, retried = retry_manifest(KEY, data, JOB)
    assert key == "jobs/a/书.retry-01234567.manifest.json"
    assert json.loads(retried) == json.loads(data.decode("utf-8-sig")) | {"retry_of": JOB}
    assert retried.count(b"\n") == data.count(b"\n")
    assert resolve.parse_job(retried).retry_of == JOB
    assert retry_manifest(KEY, data, JOB) == (key, retried)


def test_a_retry_of_a_retry_names_the_last_job_and_keeps_the_name_short() -> None:
    text = json.dumps(manifest(items=[{"id": "a", "text": f'"retry_of": "{JOB}"'}]))
    key, retried = retry_manifest(KEY, text.encode(), JOB)
    key, again = retry_manifest(key, retried, LATER)
    assert key == "jobs/a/书.retry-fedcba98.manifest.json"
    assert json.loads(again) == json.loads(text) | {"retry_of": LATER}


def test_in_json_lines_only_the_header_changes() -> None:
    header = {name: value for name, value in manifest().items() if name != "items"}
    items = b'\r\n{"id": "a", "text": "x"}\r\n{"id": not JSON}\n'
    key, retried = retry_manifest(KEY + "l", encode(header) + items, JOB)
    assert key.endswith(".retry-01234567.manifest.jsonl")
    assert retried.endswith(items)
    assert resolve.parse_job(retried, lines=True).retry_of == JOB


def test_a_manifest_that_cannot_be_read_has_no_retry() -> None:
    with pytest.raises(Refused, match="JSON_SYNTAX"):
        retry_manifest(KEY, b'{"schema": ', JOB)
