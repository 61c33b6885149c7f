"""The manifest of a retry: the manifest of an earlier job that names this job in `retry_of`."""

from __future__ import annotations

import json
import re

from core.documents import strict
from core.storage.object_keys import MANIFEST_SUFFIXES

_RETRY = re.compile(r"\.retry-[0-9a-f]{8}\Z")


def retry_manifest(key: str, data: bytes, job_id: str) -> tuple[str, bytes]:
    """Return key and bytes of the manifest that repeats a job, whose manifest is `data` at `key`.

    Both follow from the job, so a job has one retry however often it is asked for; a retry that
    failed is repeated by a retry of its own. Nothing else changes, not even the numbers of lines.
    Raises Refused with a code for JSON if the manifest cannot be read.
    """
    suffix = next(end for end in MANIFEST_SUFFIXES if key.endswith(end))
    stem = _RETRY.sub("", key.removesuffix(suffix))
    end = data.find(b"\n") if key.endswith(".jsonl") else -1
    head, items = (data, b"") if end < 0 else (data[:end], data[end:])
    text, _ = strict.decode_text(head)
    name, value = "retry_of", json.dumps(job_id)
    members = strict.Reader(text).iterate_members("items")
    if earlier := next((found for member, found in members if member == name), None):
        text = text[: earlier.start] + value + text[earlier.end :]
    else:
        start = text.index("{") + 1
        text = f'{text[:start]}"{name}": {value}, {text[start:]}'
    return f"{stem}.retry-{job_id[:8]}{suffix}", text.encode() + items
