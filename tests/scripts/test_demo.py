"""`scripts/demo`: what it says before it installs or deletes anything."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--help"], 0, "Usage: scripts/demo"),
        (["-h"], 0, "Usage: scripts/demo"),
        (["--fast"], 2, "takes no arguments"),
        (["demo2"], 2, "takes no arguments"),
        ([], 127, "Replacing the earlier demo"),
    ],
)
def test_an_earlier_demo_is_not_deleted_without_a_word(
    tmp_path: Path, words: list[str], code: int, said: str
) -> None:
    """In a folder without `scripts/setup`, so that the demo ends where it would install."""
    (tmp_path / "scripts").mkdir()
    script = shutil.copy(ROOT / "scripts/demo", tmp_path / "scripts/demo")
    key = tmp_path / "demo/keys/sign.pem"
    key.parent.mkdir(parents=True)
    key.write_text("precious")
    ran = subprocess.run([script, *words], capture_output=True, text=True)
    assert (ran.returncode, said in ran.stdout + ran.stderr) == (code, True), ran
    assert key.read_text() == "precious"
