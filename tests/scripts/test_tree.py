"""What must not stand in any file of the project."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
REGISTRY = re.compile(
    # where packages are asked for, and the mirrors that people set up in their place
    r"\b(pypi\.org/simple|pypi\.python\.org|(files\.)?pythonhosted\.org|registry\.(npmjs|yarnpkg)|"
    r"registry\.npmmirror\.com|deb\.debian\.org|archive\.ubuntu\.com|"
    r"(tuna|ustc|aliyun|huaweicloud|tencent|douban)[\w.-]*/(pypi|simple|npm)\b)"
    # an option or a setting that gives an address
    r"|(extra-)?index-url[ =]+\S*://|INDEX_URL[ =]+\S*://",
    re.IGNORECASE,
)


def tracked() -> list[Path]:
    """The files that git has, or would take with the next commit."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return [ROOT / name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


def text(path: Path) -> str:
    """What the file says; of archives, models and sounds nothing."""
    data = path.read_bytes()
    return "" if b"\0" in data else data.decode(errors="ignore")


def registries(text: str) -> list[str]:
    return [found[0] for found in REGISTRY.finditer(text)]


@pytest.mark.slow
def test_no_address_of_a_package_registry_is_in_the_tree() -> None:
    found = {
        str(path.relative_to(ROOT)): addresses
        for path in tracked()
        if path != Path(__file__) and (addresses := registries(text(path)))
    }
    assert found == {}


@pytest.mark.parametrize(
    "line",
    [
        "ARG PIP_INDEX_URL=https://pypi.org/simple",
        "--index-url https://mirror.example/simple",
        "--extra-index-url=https://mirror.example/simple",
        "numpy @ https://files.pythonhosted.org/packages/00/numpy.whl",
        'resolved "https://registry.npmjs.org/left-pad/-/left-pad-1.3.0.tgz"',
        "pip install -i https://pypi.tuna.tsinghua.edu.cn/simple numpy",
        "https://mirrors.aliyun.com/pypi/simple/",
    ],
)
def test_an_address_would_be_seen(line: str) -> None:
    assert registries(line)


@pytest.mark.parametrize(
    "line",
    ["ARG PIP_INDEX_URL", "--build-arg PIP_INDEX_URL=...", "https://oss-cn-hangzhou.aliyuncs.com"],
)
def test_other_lines_are_left_alone(line: str) -> None:
    assert not registries(line)
