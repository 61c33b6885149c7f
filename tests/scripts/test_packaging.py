"""Which packages are installed, and which of them importing the server loads."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]


def installed_packages() -> set[str]:
    return {canonicalize_name(d.metadata["Name"]) for d in distributions()}


def test_this_environment_holds_exactly_one_onnx_runtime() -> None:
    """Two builds share a folder, so the last one replaces the other, and CUDA silently fails."""
    found = {
        n
        for n in installed_packages()
        if re.fullmatch(r"onnxruntime(-gpu|-directml|-openvino)?", n)
    }
    assert len(found) == 1


def test_torch_is_not_here() -> None:
    assert "torch" not in installed_packages()


def test_the_import_of_the_server_loads_nothing_heavy() -> None:
    code = (
        "import sys, handlers.server.app;"
        "heavy = {'onnxruntime', 'librosa', 'scipy.signal', 'oss2', 'soundfile', 'numba', 'torch'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert out.stdout.strip() == "[]"
