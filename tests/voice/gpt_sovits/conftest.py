from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from core.voice.gpt_sovits.bundle import Bundle
from core.voice.gpt_sovits.convert.bundle import Sources, convert
from tests.support import tiny_network


@pytest.fixture(scope="session")
def golden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network in the official formats, and what upstream computes with it."""
    return tiny_network.unpack(tmp_path_factory.mktemp("golden"))


@pytest.fixture(scope="session")
def sources(golden: Path) -> Sources:
    return tiny_network.checkpoints(golden)


@pytest.fixture(scope="session")
def bundle(sources: Sources, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("bundles") / "fp32"
    convert(sources, folder, precision="fp32")
    return Bundle(folder, threads=2, cpu_only=True)


@pytest.fixture(scope="session")
def int8_bundle(sources: Sources, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The same in the default precision."""
    folder = tmp_path_factory.mktemp("bundles") / "int8"
    convert(replace(sources, bert=None), folder, precision="int8")
    return Bundle(folder, threads=2, cpu_only=True)
