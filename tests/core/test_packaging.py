from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

ROOT = Path(__file__).parents[2]


def names() -> set[str]:
    return {re.sub(r"[-_.]+", "-", d.metadata["Name"]).lower() for d in distributions()}


def test_this_environment_holds_exactly_one_onnx_runtime():
    """Two share one folder: the one installed last wins, and CUDA is gone without a word."""
    found = {n for n in names() if re.fullmatch(r"onnxruntime(-gpu|-directml|-openvino)?", n)}
    assert len(found) == 1


def test_nothing_installed_here_requires_the_other_onnx_runtime():
    """So that no later `pip install` of ours can bring the second one in."""
    ours = {"onnxruntime", "onnxruntime-gpu"}
    for dist in distributions():
        if re.sub(r"[-_.]+", "-", dist.metadata["Name"]).lower() == "voicedrop":
            continue
        for line in dist.requires or []:
            name = re.match(r"[A-Za-z0-9._-]+", line)
            wanted = re.sub(r"[-_.]+", "-", name[0]).lower() if name else ""
            assert wanted not in ours or "extra ==" in line, f"{dist.metadata['Name']}: {line}"


def test_torch_is_not_here():
    assert "torch" not in names()


def test_the_import_of_the_server_loads_nothing_heavy():
    code = (
        "import sys, handlers.server;"
        "heavy = {'onnxruntime', 'librosa', 'scipy.signal', 'oss2', 'soundfile', 'numba', 'torch'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert out.stdout.strip() == "[]"
