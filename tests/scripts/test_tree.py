"""No file of the project contains the address of a package registry."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
REGISTRY = re.compile(
    # hosts that serve packages, and the paths at which their mirrors do
    r"\b(pypi\.(python\.)?org/(simple|pypi)|upload\.pypi\.org|pythonhosted\.org|pypi\.nvidia\.com|"
    r"download\.pytorch\.org|anaconda\.(com|org)|registry\.(npmjs|yarnpkg|npmmirror)|"
    r"(deb|security|archive)\.(debian\.org|ubuntu\.com))"
    r"|(://|file:)[^\s\"'<>]*/(pypi|simple|\+simple|npm)(/|\b(?![-\w.]))"
    # options and variables that give an address
    r"|(?<![\w-])(--?(extra-|default-)?index(-url)?|--find-links|-i|-f)[\"']?[\s=:]+[\"']?\w+://"
    r"|(INDEX|INDEX_URL|FIND_LINKS|index-url|find-links)[\"']?\s*[=:]\s*[\"']?\w+://"
    r"|\[tool\.uv\.(index|pip)|\[\[tool\.(uv\.index|poetry\.source)",
    re.IGNORECASE,
)


def list_files() -> list[Path]:
    """Return the tracked files and those that git does not ignore."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return [ROOT / name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


def read_text(path: Path) -> str:
    """Return the text of a file, or an empty string if it is binary."""
    data = path.read_bytes()
    return "" if b"\0" in data else data.decode(errors="ignore")


def find_registries(text: str) -> list[str]:
    return [found[0] for found in REGISTRY.finditer(text)]


@pytest.mark.slow
def test_no_address_of_a_package_registry_is_in_the_tree() -> None:
    found = {
        str(path.relative_to(ROOT)): addresses
        for path in list_files()
        if (addresses := find_registries(read_text(path)))
    }
    assert found == {}


HOST = "https://mirror.example/{}"


@pytest.mark.parametrize(
    "line",
    [
        # split, so that this file does not contain them
        "ARG PIP_INDEX_URL=" + HOST.format("packages"),
        "PIP_INDEX_URL: " + HOST.format("packages"),
        '"index-url": "' + HOST.format("packages"),
        "UV_DEFAULT_INDEX=" + HOST.format("packages"),
        "pip install -i " + HOST.format("packages") + " numpy",
        "--index-url " + HOST.format("packages"),
        "--extra-index-url=" + HOST.format("packages"),
        "--find-links " + HOST.format("packages"),
        HOST.format("repository/py" + "pi/numpy"),
        HOST.format("py" + "pi/simp" + "le/"),
        "file:///opt/py" + "pi/simp" + "le numpy",
        "http://localhost:3141/root/py" + "pi",
        "numpy @ https://files.python" + "hosted.org/packages/00/numpy.whl",
        'resolved "https://registry.' + 'npmjs.org/left-pad/-/left-pad-1.3.0.tgz"',
        "https://download." + "pytorch.org/whl/cpu",
        "deb http://security." + "debian.org/debian-security bookworm-security main",
        "[[tool.uv." + "index]]",
    ],
)
def test_an_address_is_found(line: str) -> None:
    assert find_registries(line)


@pytest.mark.parametrize(
    "line",
    [
        "ARG PIP_INDEX_URL",
        "--build-arg PIP_INDEX_URL=...",
        "https://oss-cn-hangzhou.aliyuncs.com",
        "registry.$REGION.aliyuncs.com/acme/voicedrop:0.1.0",
        "https://pypi.org/project/oss2/",
        "https://example.org/simple-clips/a.wav",
    ],
)
def test_other_lines_are_accepted(line: str) -> None:
    assert not find_registries(line)
