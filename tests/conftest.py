"""Tests of one file, and all of `e2e` and of `kokoro`, run in one process, because their fixtures
are slow."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import pytest
from coverage import Coverage

from core.speech.encoders import CamPlus, Ge2e
from core.speech.recognise import Recogniser
from tests.support.faults import cached_audio

FOLDERS = ("e2e", "kokoro")
SLOWEST = (*FOLDERS, "faults/test_histories.py", "faults/test_chaos.py", "job/test_killed.py")
"""Groups that start first, so that none of them runs alone at the end."""


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        item.add_marker(pytest.mark.xdist_group(group(item)))
    rank = {name: place for place, name in enumerate(SLOWEST)}
    items.sort(key=lambda item: rank.get(group(item), len(SLOWEST)))


def group(item: pytest.Item) -> str:
    folder = item.path.parent.name
    return folder if folder in FOLDERS else f"{folder}/{item.path.name}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None]:
    """Do not measure the coverage of a test that is marked so."""
    measurement = Coverage.current() if item.get_closest_marker("repeats") else None
    if measurement:
        measurement.stop()
    try:
        yield
    finally:
        if measurement:
            measurement.start()


@pytest.fixture(scope="module")
def memoised_audio() -> Iterator[None]:
    """Compute what is done to audio once for each distinct input, in tests of something else."""
    with cached_audio.memoised():
        yield


@pytest.fixture(scope="session")
def encoders() -> tuple[Ge2e, CamPlus]:
    return Ge2e.load(), CamPlus.load()


@pytest.fixture(scope="session")
def recogniser() -> Recogniser:
    return Recogniser.load()
