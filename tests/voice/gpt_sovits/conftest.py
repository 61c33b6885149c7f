from __future__ import annotations

import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from core.voice.gpt_sovits.bundle import Bundle
from core.voice.gpt_sovits.convert.bundle import Sources, convert

DATA = Path(__file__).parents[2] / "data" / "gpt_sovits" / "v2ProPlus_tiny.tar.xz"


@pytest.fixture(scope="session")
def golden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network in the official formats, and what upstream computes with it."""
    folder = tmp_path_factory.mktemp("golden")
    with tarfile.open(DATA) as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture(scope="session")
def sources(golden: Path) -> Sources:
    return Sources(
        golden / "s1_v2ProPlus_tiny.ckpt",
        golden / "s2_v2ProPlus_tiny.pth",
        golden / "chinese-hubert-base",
        golden / "pretrained_eres2netv2_tiny.ckpt",
        golden / "roberta-tiny",
    )


@pytest.fixture(scope="session")
def bundle(sources: Sources, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("bundles") / "fp32"
    convert(sources, folder, precision="fp32")
    return Bundle(folder, threads=2, cpu_only=True)


@pytest.fixture(scope="session")
def in_bytes(sources: Sources, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The same in the default precision."""
    folder = tmp_path_factory.mktemp("bundles") / "int8"
    convert(replace(sources, bert=None), folder, precision="int8")
    return Bundle(folder, threads=2, cpu_only=True)
