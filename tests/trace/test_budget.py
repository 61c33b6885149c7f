"""A trace takes the time that it may take, says what it left out, and counts against a quota."""

from __future__ import annotations

import io
import json
import math
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from core.audio.waveform import Samples
from core.errors import Refused
from core.job.quota import Quota
from core.trace.scan import Budget, search_recording
from core.trace.trace import Trace, trace_recording
from handlers.jobs import trace_clip as trace_clip_of
from handlers.oss import handle
from tests.support.events import notification, published_events
from tests.support.runtime import local_runtime

pytestmark = pytest.mark.slow


def clicks(seconds: int, *, rate: int = 48_000, channels: int = 1) -> bytes:
    """A small file of channels that differ."""
    second = np.zeros((rate, channels), np.float32)
    for channel in range(channels):
        second[channel * 7 :: rate // 2, channel] = 0.5
    file = io.BytesIO()
    soundfile.write(file, np.tile(second, (seconds, 1)), rate, format="FLAC", subtype="PCM_16")
    return file.getvalue()


def trace_clip(tmp_path: Path, data: bytes, seconds: float) -> Trace:
    (tmp_path / "clip.flac").write_bytes(data)
    with (tmp_path / "clip.flac").open("rb") as file:
        return trace_recording(file, "c", {"k": bytes(32)}, lambda _: None, "", seconds=seconds)


@pytest.mark.parametrize(
    ("length", "rate", "channels"), [(60, 192_000, 8), (600, 48_000, 1), (40, 44_100, 2)]
)
def test_a_trace_ends_soon_after_its_time(
    tmp_path: Path, length: int, rate: int, channels: int
) -> None:
    data = clicks(length, rate=rate, channels=channels)
    start = time.monotonic()
    report = trace_clip(tmp_path, data, 0.4)
    assert time.monotonic() - start < 8  # alone on a machine 0.6 s; the whole search takes minutes
    assert not report.complete
    assert report.marked is False
    assert report.clip.channels == channels
    assert 0 < report.clip.seconds <= length
    assert "The search is not complete: the 0.4 s that" in report.meaning


def test_a_trace_with_time_enough_is_complete(tmp_path: Path) -> None:
    report = trace_clip(tmp_path, clicks(4), math.inf)
    assert (report.complete, report.clip.seconds) == (True, 4.0)
    assert "complete" not in report.meaning


def test_a_trace_without_time_for_the_thorough_search_says_so(tmp_path: Path) -> None:
    """The recording is read to its end, but not searched for changes of speed."""
    report = trace_clip(tmp_path, clicks(3), 1e-9)
    assert not report.complete


def test_report_answer_and_event_say_that_the_search_is_not_complete(tmp_path: Path) -> None:
    runtime = local_runtime(tmp_path, trace_seconds=0.2)
    runtime.inbox.put("audit/long.flac", clicks(120))
    answer = handle(notification("audit/long.flac"), runtime)["done"][0]
    report = json.loads(runtime.results.get(f"audit/{answer['trace']}.json", limit=10**6).data)
    (event,) = published_events(runtime)
    assert [one["complete"] for one in (answer, report, event["data"])] == [False] * 3


def test_a_copy_of_a_clip_is_not_searched_again(tmp_path: Path) -> None:
    runtime = local_runtime(tmp_path)
    data = clicks(4)
    runtime.inbox.put("audit/one.flac", data)
    runtime.inbox.put("audit/two.flac", data)
    first = handle(notification("audit/one.flac"), runtime)["done"][0]
    start = time.process_time()
    assert handle(notification("audit/two.flac"), runtime)["done"][0] == first
    assert time.process_time() - start < 0.5
    report = json.loads(runtime.results.get(f"audit/{first['trace']}.json", limit=10**6).data)
    assert report["clip"]["name"] == "audit/one.flac"


def test_the_quota_counts_clips_of_a_producer(tmp_path: Path) -> None:
    runtime = local_runtime(tmp_path, quota=Quota(traces=1, jobs=1))
    keys = ["audit/acme/1.flac", "audit/acme/2.flac", "audit/other/1.flac", "audit/acme/1.flac"]
    for key in keys:
        runtime.inbox.put(key, f"<html>{key}</html>".encode())
    answers = [handle(notification(key), runtime)["done"][0] for key in keys]
    assert [answer.get("error", "") for answer in answers] == ["", "QUOTA_EXCEEDED", "", ""]
    assert "1 of 1 traces" in answers[1]["message"]


def test_a_clip_that_was_deleted_is_missing(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="OBJECT_MISSING"):
        trace_clip_of("audit/gone.flac", local_runtime(tmp_path))


def test_the_search_of_a_long_recording_ends_without_a_mark(tmp_path: Path) -> None:
    """It is longer than a minute, so excerpts are searched for changes of speed."""
    (tmp_path / "clip.flac").write_bytes(clicks(61, rate=16_000))
    for budget in (Budget(), Spent()):
        with (tmp_path / "clip.flac").open("rb") as file:
            facts, found = search_recording(file, "c", {}, budget)
        assert (facts.seconds, found) == (61.0, [])


class Spent(Budget):
    """Its time is used up once the recording was read to its end."""

    def limit(self, blocks: Iterable[Samples]) -> Iterator[Samples]:
        yield from super().limit(blocks)
        self.was_used_up = True
