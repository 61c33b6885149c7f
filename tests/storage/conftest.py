from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from core.storage.local import LocalStore
from core.storage.port import Store
from tests.support.oss_server import OssServer
from tests.support.stores import oss_store


@pytest.fixture
def server() -> Iterator[OssServer]:
    with OssServer() as running:
        running.add_key("contract-id", "contract-secret")
        running.create_bucket("results")
        yield running


@pytest.fixture(params=["folder", "oss"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """Each implementation of `Store`, for the contract tests."""
    if request.param == "oss":
        return oss_store(request.getfixturevalue("server"))
    root = tmp_path / "results"
    root.mkdir()
    return LocalStore(root)
