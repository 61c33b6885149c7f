from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.untraced import environ_without_coverage

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_killed_workers_over_a_failing_store_lose_and_duplicate_nothing() -> None:
    """Two workers and five jobs, one of them in shards; `tests.acceptance.chaos` runs eight
    workers and 525 jobs."""
    size = ["--workers", "2", "--jobs", "4", "--large", "1", "--limit", "150"]
    ran = subprocess.run(
        [sys.executable, "-m", "tests.acceptance.chaos", *size],
        cwd=ROOT,
        env=environ_without_coverage(),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    report = json.loads(ran.stdout)
    assert (report["results"], report["events"]) == ({"succeeded": 5}, 5)
    assert (report["cut"], report["shards"] >= 2) == (1, True)
    assert report["sealed_objects_opened"] >= 4 + 4
    assert report["killed"] > 1
    assert report["left_over"] == []
