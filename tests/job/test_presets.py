"""The setting VOICEDROP_MARK: the strength of the watermark."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest

import watermark
from core.errors import Misconfigured
from core.result.document import parse_result
from core.settings import MarkPreset, Settings
from handlers.oss import handle
from tests.support.events import notification
from tests.support.runtime import local_runtime, put_job


def score(tmp_path: Path, mark: MarkPreset) -> float:
    runtime = replace(local_runtime(tmp_path / mark), mark=mark)
    text = "Words enough for a mark of any strength to be read. " * 2
    handle(notification(put_job(runtime, items=[{"id": "hello", "text": text}])), runtime)
    (key,) = (i.key for i in runtime.results.list("out/") if i.key.endswith("result.json"))
    (item,) = parse_result(runtime.results.get(key, limit=10**6).data).items
    assert item.watermark is not None
    return item.watermark.score


@pytest.mark.slow
def test_a_stronger_preset_reads_with_a_higher_score(tmp_path: Path) -> None:
    assert score(tmp_path, "robust") > score(tmp_path, "quiet")


def test_the_setting_names_a_strength() -> None:
    assert set(get_args(MarkPreset)) == set(watermark.STRENGTHS)
    assert Settings.from_environ({}).mark == "balanced"
    assert Settings.from_environ({"VOICEDROP_MARK": "quiet"}).mark == "quiet"
    with pytest.raises(Misconfigured, match="VOICEDROP_MARK"):
        Settings.from_environ({"VOICEDROP_MARK": "loud"})
