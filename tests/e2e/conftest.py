"""One real voice is learned once, from the command line; other tests build on it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
INBOX = ROOT / "examples" / "inbox"


@dataclass(frozen=True)
class Place:
    """A folder in which somebody works with voicedrop."""

    root: Path

    def run(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """`voicedrop ARGUMENTS` as its own process."""
        options = self._options(environ)
        return subprocess.run(_command(arguments), timeout=400, check=False, **options)

    def start(self, *arguments: str, **environ: str) -> subprocess.Popen[str]:
        """The same, without waiting for its end."""
        return subprocess.Popen(_command(arguments), **self._options(environ))

    def _options(self, environ: dict[str, str]) -> dict[str, Any]:
        clean = {k: v for k, v in os.environ.items() if not k.startswith("VOICEDROP_")}
        env = clean | {"PYTHONPATH": str(ROOT)} | environ
        pipe = subprocess.PIPE
        return {"cwd": self.root, "env": env, "stdout": pipe, "stderr": pipe, "text": True}

    def json(self, *arguments: str) -> Any:
        ran = self.run(*arguments, "--json")
        assert ran.returncode == 0, ran.stderr
        return json.loads(ran.stdout)


def _command(arguments: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "handlers.cli", *arguments]


@pytest.fixture(scope="session")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """The example, carried out with the embedded voice by `voicedrop watch --once`."""
    place = Place(tmp_path_factory.mktemp("spoken"))
    assert place.run("init").returncode == 0
    shutil.copytree(INBOX, place.root / "bucket" / "inbox", dirs_exist_ok=True)
    ran = place.run("watch", "--once", "--json")
    assert ran.returncode == 0, ran.stderr
    (place.root / "watched.json").write_text(ran.stdout)
    return place


@pytest.fixture(scope="session")
def initialised(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = Place(tmp_path_factory.mktemp("initialised"))
    assert made.run("init").returncode == 0
    return made.root


@pytest.fixture
def place(initialised: Path, tmp_path: Path) -> Place:
    return Place(shutil.copytree(initialised, tmp_path, dirs_exist_ok=True))
