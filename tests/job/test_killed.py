from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.untraced import environ_without_coverage

ROOT = Path(__file__).parents[2]


def run_killing(module: str, folder: Path, rounds: int) -> int:
    """Run the module, which checks every job, and return the number of killed workers."""
    ran = subprocess.run(
        [sys.executable, "-m", f"tests.support.{module}", str(folder), str(rounds), "20261122"],
        cwd=ROOT,
        env=environ_without_coverage(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    return int(json.loads(ran.stdout)["killed"])


@pytest.mark.slow
def test_a_worker_killed_at_random_moments_leaves_no_partial_job(tmp_path: Path) -> None:
    """Real processes get SIGKILL at random times; the next worker completes every job.
    `scripts/acceptance killed` kills three hundred."""
    assert run_killing("killed_worker", tmp_path, 5) >= 2


@pytest.mark.slow
def test_shards_whose_workers_are_killed_at_random_moments_still_make_one_result(
    tmp_path: Path,
) -> None:
    """Up to three workers of each of three shards get SIGKILL before others complete the job."""
    assert run_killing("killed_shards", tmp_path, 1) >= 4
