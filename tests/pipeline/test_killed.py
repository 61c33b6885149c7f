from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_worker_killed_at_any_of_thirty_moments_leaves_nothing_half_done(tmp_path):
    """SIGKILL at random moments of real processes; the next worker ends every job whole."""
    ran = subprocess.run(
        [sys.executable, "-m", "tests.pipeline.mortal", str(tmp_path), "30", "20261122"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert json.loads(ran.stdout)["killed"] >= 15
