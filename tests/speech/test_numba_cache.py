from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMPILED = """
from numba import njit

@njit("i8(i8)", cache=True)
def double(number):
    return 2 * number
"""
"""A module that cannot be imported where numba has no folder to write to, like librosa."""
IMPORT = "import compiled; print(compiled.double(4))"
CHOOSE = "import os; from core.speech.numba_cache import choose_folder; choose_folder(); "
SHOW = "print(os.environ['NUMBA_CACHE_DIR'])"


@pytest.mark.slow
@pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("setpriv"), reason="needs another user, who may not write"
)
def test_what_numba_compiles_is_kept_where_no_usual_folder_can_be_written(tmp_path: Path) -> None:
    scratch, library = tmp_path / "scratch", tmp_path / "library"
    for folder, mode in ((tmp_path, 0o755), (scratch, 0o777), (library, 0o755)):
        folder.mkdir(exist_ok=True)
        folder.chmod(mode)
    (library / "compiled.py").write_text(COMPILED)

    failed = run_as_another_user(IMPORT, scratch, library)
    assert "no locator available" in failed.stderr
    done = run_as_another_user(CHOOSE + IMPORT + "; " + SHOW, scratch, library)
    number, name = done.stdout.split()
    assert number == "8"
    folder = Path(name)
    assert folder.parent == scratch
    assert folder.stat().st_mode & 0o777 == 0o700
    assert list(folder.rglob("*.nbc"))


def run_as_another_user(
    program: str, scratch: Path, library: Path
) -> subprocess.CompletedProcess[str]:
    user = ["setpriv", "--clear-groups", "--reuid=10001", "--regid=10001"]
    # The interpreter may lie in a folder of root's.
    user += ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    return subprocess.run(
        [*user, sys.executable, "-c", program],
        cwd=ROOT,
        env={"HOME": "/nonexistent", "TMPDIR": str(scratch), "PYTHONPATH": str(library)},
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
