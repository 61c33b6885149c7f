"""One real voice is learned once, from the command line; other tests build on it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support.command_line import EXAMPLE_INBOX, Workspace


@pytest.fixture(scope="session")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The example, carried out with the embedded voice by `voicedrop watch --once`."""
    place = Workspace(tmp_path_factory.mktemp("spoken"))
    assert place.run("init").returncode == 0
    shutil.copytree(EXAMPLE_INBOX, place.root / "bucket" / "inbox", dirs_exist_ok=True)
    ran = place.run("watch", "--once", "--json")
    assert ran.returncode == 0, ran.stderr
    (place.root / "watched.json").write_text(ran.stdout)
    return place


@pytest.fixture(scope="session")
def initialised(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = Workspace(tmp_path_factory.mktemp("initialised"))
    assert made.run("init").returncode == 0
    return made.root


@pytest.fixture
def place(initialised: Path, tmp_path: Path) -> Workspace:
    return Workspace(shutil.copytree(initialised, tmp_path, dirs_exist_ok=True))
