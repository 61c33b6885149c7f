"""More simultaneous notifications than the container has tokens."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.untraced import environ_without_coverage

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
def test_sixty_simultaneous_notifications_succeed_or_are_told_to_retry() -> None:
    """Six jobs, each announced ten times; `tests.acceptance.load` announces a thousand jobs."""
    size = ["--jobs", "6", "--copies", "10", "--tokens", "30"]
    ran = subprocess.run(
        [sys.executable, "-m", "tests.acceptance.load", *size],
        cwd=ROOT,
        env=environ_without_coverage(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    report = json.loads(ran.stdout)
    assert (report["results"], report["events"]) == ({"succeeded": 6}, 6)
    assert (report["sealed_objects_opened"], report["left_over"]) == (6, [])
    assert report["answers"]["done"] == 60
    assert report["answers"]["OVERLOADED"] >= 60 - 30
    assert report["other_answers"] == {}
