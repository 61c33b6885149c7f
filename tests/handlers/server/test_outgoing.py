"""Nothing phones home: a job calls the addresses it was configured with, and no other.

Seen is the worker's own process, with the small voice of `tests.support.runtime`. Decoders run in
children that cannot open a socket (tests/audio/test_sandbox.py).
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support.container import ROOT, bucket_server


def watched(folder: Path, *endpoint: str) -> dict[str, Any]:
    """The job in a process of its own; the hook of an interpreter cannot be taken off again."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.watched_job", str(folder), *endpoint],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


@pytest.mark.slow
def test_a_job_over_folders_connects_to_no_address(tmp_path: Path) -> None:
    assert watched(tmp_path) == {"ended": "succeeded", "called": []}


@pytest.mark.slow
def test_a_job_over_buckets_connects_to_their_endpoint_only(tmp_path: Path) -> None:
    with bucket_server() as server:
        address = urlsplit(server.endpoint).netloc
        assert watched(tmp_path, server.endpoint) == {"ended": "succeeded", "called": [address]}
