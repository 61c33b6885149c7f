from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from core.audit import Sources
from core.crypto import keys
from core.job.runtime import Runtime
from core.storage.local import LocalStore
from tests.support.audited_bucket import fill_bucket, fill_bucket_with_joined_files
from tests.support.runtime import local_runtime

JOB_NUMBERS = (0, 1, 2, 3, 4, 9, 19)
JOB_COUNT = len(JOB_NUMBERS)


@pytest.fixture(scope="session")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bucket of seven logged jobs, the last two partial and rejected."""
    root = tmp_path_factory.mktemp("clean")
    fill_bucket(root, JOB_NUMBERS)
    return root


@pytest.fixture(scope="session")
def sixty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bucket of sixty logged jobs."""
    root = tmp_path_factory.mktemp("sixty")
    fill_bucket(root, range(60))
    return root


@pytest.fixture(scope="session")
def joined(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bucket of three logged jobs with subtitles: two chapters with a failed item, a retry of it
    that keeps the other items, and a job that was divided into shards."""
    root = tmp_path_factory.mktemp("joined")
    fill_bucket_with_joined_files(root)
    return root


@pytest.fixture
def copy(clean: Path, tmp_path: Path) -> Path:
    """A copy of `clean` to damage."""
    return shutil.copytree(clean, tmp_path / "copy")


def open_runtime(root: Path) -> Runtime:
    return local_runtime(root)


def open_sources(root: Path, **changes: Any) -> Sources:
    fields: dict[str, Any] = {
        "results": LocalStore(root / "results"),
        "control": LocalStore(root / "control"),
        "inbox": LocalStore(root / "inbox"),
        "keys": keys.load_reading_keys(root / "keys"),
    }
    return Sources(**(fields | changes))
