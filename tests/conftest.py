"""Tests of one file run in one process, because their fixtures are dear; those in `e2e` all do."""

from __future__ import annotations

import pytest

from core.speech.encoders import CamPlus, Ge2e
from core.speech.recognise import Recogniser

DEAREST = ("e2e", "kokoro/test_kokoro.py", "faults/test_histories.py", "job/test_killed.py")
"""Begun first, so that no process works on one of them alone when all else is done."""


@pytest.hookimpl(tryfirst=True)  # before the distributor reads the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        item.add_marker(pytest.mark.xdist_group(group(item)))
    rank = {name: place for place, name in enumerate(DEAREST)}
    items.sort(key=lambda item: rank.get(group(item), len(DEAREST)))


def group(item: pytest.Item) -> str:
    folder = item.path.parent.name
    return folder if folder == "e2e" else f"{folder}/{item.path.name}"


@pytest.fixture(scope="session")
def encoders() -> tuple[Ge2e, CamPlus]:
    return Ge2e.load(), CamPlus.load()


@pytest.fixture(scope="session")
def recogniser() -> Recogniser:
    return Recogniser.load()
