from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = (
    "import os; from core.speech.numba_cache import warm_up; warm_up(); "
    "print(os.environ['NUMBA_CACHE_DIR'])"
)


@pytest.mark.slow
@pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("setpriv"), reason="needs another user, who may not write"
)
def test_librosa_is_imported_where_no_usual_cache_folder_can_be_written(tmp_path: Path) -> None:
    user = ["setpriv", "--clear-groups", "--reuid=10001", "--regid=10001"]
    # The interpreter may lie in a folder of root's.
    user += ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    tmp_path.chmod(0o777)
    done = subprocess.run(
        [*user, sys.executable, "-c", PROGRAM],
        cwd=ROOT,
        env={"HOME": "/nonexistent", "TMPDIR": str(tmp_path)},
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    folder = Path(done.stdout.strip())
    assert folder.parent == tmp_path
    assert folder.stat().st_mode & 0o777 == 0o700
