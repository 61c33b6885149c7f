"""A job connects only to the addresses of its configuration.

Only the process of the worker is observed. Decoders run in child processes that cannot open a
socket (tests/audio/test_sandbox.py).
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
from tests.support.untraced import environ_without_coverage


def run_watched_job(folder: Path, *endpoint: str) -> dict[str, Any]:
    """Run the job in a process of its own, as an audit hook cannot be removed."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.watched_job", str(folder), *endpoint],
        cwd=ROOT,
        env=environ_without_coverage(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


@pytest.mark.slow
def test_a_job_over_folders_connects_to_no_address(tmp_path: Path) -> None:
    assert run_watched_job(tmp_path) == {"ended": "succeeded", "called": []}


@pytest.mark.slow
def test_a_job_over_buckets_connects_to_their_endpoint_only(tmp_path: Path) -> None:
    with bucket_server() as server:
        address = urlsplit(server.endpoint).netloc
        assert run_watched_job(tmp_path, server.endpoint) == {
            "ended": "succeeded",
            "called": [address],
        }
