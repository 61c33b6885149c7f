"""More notifications at once than the container takes in hand."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
def test_sixty_simultaneous_notifications_succeed_or_are_told_to_retry() -> None:
    """Six jobs, each announced ten times; `tests.acceptance.load` announces a thousand jobs."""
    size = ["--jobs", "6", "--copies", "10", "--tokens", "30"]
    ran = subprocess.run(
        [sys.executable, "-m", "tests.acceptance.load", *size],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    found = json.loads(ran.stdout)
    assert (found["results"], found["events"]) == ({"succeeded": 6}, 6)
    assert (found["sealed_objects_opened"], found["left_over"]) == (6, [])
    assert found["answers"]["done"] == 60
    assert found["answers"]["OVERLOADED"] >= 60 - 30
    assert found["other_answers"] == {}
