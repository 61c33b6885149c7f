"""Tests of one file run in one process, because their fixtures are dear; those in `e2e` all do."""

from __future__ import annotations

import pytest


@pytest.hookimpl(tryfirst=True)  # before the distributor reads the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        folder = item.path.parent.name
        name = folder if folder == "e2e" else f"{folder}/{item.path.name}"
        item.add_marker(pytest.mark.xdist_group(name))
