"""Outcomes in these tests do not depend on whether ffmpeg is installed."""

from __future__ import annotations

import shutil

import pytest


@pytest.fixture(autouse=True)
def _without_ffmpeg(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    if shutil.which("ffmpeg"):
        monkeypatch.setenv("PATH", "")
