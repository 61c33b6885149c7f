"""The example job is carried out once with the embedded voice; several tests share the result."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command_line import EXAMPLE_INBOX, Workspace


@pytest.fixture(scope="module")
def without_coverage() -> Iterator[None]:
    """Do not measure the coverage of commands and containers, which other tests measure."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
        yield


@pytest.fixture(scope="session")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace in which `voicedrop watch --once` has carried out the example."""
    workspace = Workspace(tmp_path_factory.mktemp("spoken"))
    assert workspace.run("init").returncode == 0
    shutil.copytree(EXAMPLE_INBOX, workspace.root / "bucket" / "inbox", dirs_exist_ok=True)
    ran = workspace.run("watch", "--once", "--json")
    assert ran.returncode == 0, ran.stderr
    (workspace.root / "watched.json").write_text(ran.stdout)
    return workspace


@pytest.fixture(scope="session")
def initialised(tmp_path_factory: pytest.TempPathFactory) -> Path:
    workspace = Workspace(tmp_path_factory.mktemp("initialised"))
    assert workspace.run("init").returncode == 0
    return workspace.root


@pytest.fixture
def workspace(initialised: Path, tmp_path: Path) -> Workspace:
    return Workspace(shutil.copytree(initialised, tmp_path, dirs_exist_ok=True))
