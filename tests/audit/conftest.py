from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from core.audit import Sources
from core.crypto import keys
from core.job.runtime import Runtime
from core.storage.local import LocalStore
from tests.support.audited_bucket import fill, fill_joined
from tests.support.runtime import local_runtime

JOBS = (0, 1, 2, 3, 4, 9, 19)
SIZE = len(JOBS)


@pytest.fixture(scope="session")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven jobs, logged; the last two partial and rejected."""
    root = tmp_path_factory.mktemp("clean")
    fill(root, JOBS)
    return root


@pytest.fixture(scope="session")
def sixty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty jobs, logged."""
    root = tmp_path_factory.mktemp("sixty")
    fill(root, range(60))
    return root


@pytest.fixture(scope="session")
def joined(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two chapters, one of them without an item; a repetition of it that keeps what was made; and a
    job that was cut. All with subtitles, all in the log."""
    root = tmp_path_factory.mktemp("joined")
    fill_joined(root)
    return root


@pytest.fixture
def copy(clean: Path, tmp_path: Path) -> Path:
    """The same, to spoil."""
    return shutil.copytree(clean, tmp_path / "copy")


def opened(root: Path) -> Runtime:
    return local_runtime(root)


def sources(root: Path, **changes: Any) -> Sources:
    fields: dict[str, Any] = {
        "results": LocalStore(root / "results"),
        "control": LocalStore(root / "control"),
        "inbox": LocalStore(root / "inbox"),
        "keys": keys.load_reading_keys(root / "keys"),
    }
    return Sources(**(fields | changes))
