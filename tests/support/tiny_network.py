"""A small GPT-SoVITS network in the official formats, with what upstream computes with it."""

from __future__ import annotations

import tarfile
from pathlib import Path

from core.voice.gpt_sovits.convert.bundle import Sources

ARCHIVE = Path(__file__).parents[1] / "data" / "gpt_sovits" / "v2ProPlus_tiny.tar.xz"


def unpack(folder: Path) -> Path:
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return folder


def checkpoints(folder: Path) -> Sources:
    """Name the checkpoints in an unpacked archive."""
    return Sources(
        folder / "s1_v2ProPlus_tiny.ckpt",
        folder / "s2_v2ProPlus_tiny.pth",
        folder / "chinese-hubert-base",
        folder / "pretrained_eres2netv2_tiny.ckpt",
        folder / "roberta-tiny",
    )
