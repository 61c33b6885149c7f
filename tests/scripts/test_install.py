"""`scripts/setup`: its help, its choice of extras and its sizes."""

from __future__ import annotations

import subprocess
import tomllib
from pathlib import Path

import pytest

from scripts import install, lock

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def run_setup(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([ROOT / "scripts/setup", *words], capture_output=True, text=True)


def test_the_help_lists_every_extra() -> None:
    extras = {e for e in PYPROJECT["project"]["optional-dependencies"] if "image" not in e}
    assert set(install.EXTRAS) == extras
    shown = run_setup("--help")
    assert shown.returncode == 0
    assert all(f"  {name} " in shown.stdout for name in extras)


def test_an_unknown_extra_is_refused_before_anything_happens() -> None:
    refused = run_setup("cpu,japanese")
    assert refused.returncode == 2
    assert "unknown extra 'japanese'" in refused.stderr
    assert "yue" in refused.stderr


def test_an_extra_comes_after_the_files_it_includes() -> None:
    assert install.with_included(["ko"]) == ["run", "ko"]
    everything = install.with_included(["cpu", "dev"])
    assert everything[:2] == ["run", "cpu"]
    assert everything[-1] == "dev"
    assert len(everything) == len({*everything})
    installed = {pin.name for name in everything for pin in own_pins(name)}
    assert installed == {*lock.read_pins("cpu"), *lock.read_pins("dev")}


def own_pins(name: str) -> list[lock.Pin]:
    return lock.parse((lock.FOLDER / f"{name}.txt").read_text(encoding="utf-8")).pins


def test_the_size_of_everything_is_known() -> None:
    for name in lock.list_files(PYPROJECT):
        download, disk = install.estimate_size([name])
        assert (download > 0) == (disk > 0) == bool(own_pins(name)), name
    assert 100 < install.estimate_size(install.with_included(["cpu"]))[0] < 1000


@pytest.mark.parametrize("readme", ["README.md", "README.zh-CN.md"])
def test_readme_says_what_setup_downloads(readme: str) -> None:
    said = (ROOT / readme).read_text(encoding="utf-8")
    for extras in (["cpu"], ["cpu", "dev"]):
        download, disk = install.estimate_size(install.with_included(extras))
        assert f"{round(download, -1)} MB" in said
        assert f"{round(disk, -1)} MB" in said or f"{disk / 1000:.1f} GB" in said


def test_the_python_range_is_that_of_the_project() -> None:
    assert install.requires_python() == PYPROJECT["project"]["requires-python"]


def test_only_one_build_of_onnx_runtime_is_chosen() -> None:
    assert install.choose_extras([], []) == ["cpu"]
    assert install.choose_extras(["dev"], []) == ["cpu", "dev"]
    assert install.choose_extras(["ko"], ["gpu", "asr"]) == ["gpu", "ko", "asr"]
    assert install.choose_extras(["gpu"], ["cpu", "dev"]) == ["gpu", "dev"]
    refused = run_setup("gpu", "cpu")
    assert refused.returncode == 2
    assert "cpu and gpu cannot be installed together" in refused.stderr


def test_installed_extras_are_kept() -> None:
    assert install.choose_extras(["ko"], ["cpu", "ko", "yue"]) == ["cpu", "ko", "yue"]
