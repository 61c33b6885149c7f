"""Tracing a recording to its jobs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import msgspec
import numpy as np
import pytest
import soundfile
import soxr

import watermark
from core import audit
from core.audio.sandbox import Limits
from core.audio.stream import Recording
from core.audit import Sources
from core.crypto import sealing
from core.crypto.keys import ReadingKeys
from core.errors import Failed, Refused
from core.result.document import parse_result
from core.storage.object_keys import result_key
from core.storage.port import Store
from core.trace import registry, trace
from core.trace.registry import Mark
from core.trace.trace import Trace
from handlers.oss import handle
from tests.support.events import notification
from tests.support.leak import leak_clip
from tests.support.oss_server import OssServer
from tests.support.runtime import local_runtime, put_job, synthetic_speech
from tests.support.stores import KEYS as OSS_KEYS
from tests.support.stores import oss_store

pytestmark = pytest.mark.slow

KEY = b"k" * 32
READING = ReadingKeys(verifying={})
RATE = 16_000
MARKS = {0xA: Mark(job="job-a", item="one"), 0xB: Mark(job="job-b", item="two")}


@cache
def synthetic(seconds: float, payload: int | None = None, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal(round(seconds * RATE))
    sound = synthetic_speech(seconds, RATE, seed) + 0.003 * noise.astype(np.float32)
    return sound if payload is None else watermark.embed(sound, RATE, payload, KEY)


def write_clip(
    tmp_path: Path, samples: np.ndarray, *, rate: int = RATE, name: str = "clip.flac"
) -> Path:
    """samples: (n,) or (n, channels)."""
    soundfile.write(tmp_path / name, samples, rate)
    return tmp_path / name


def trace_clip(path: Path, key: bytes = KEY) -> Trace:
    with path.open("rb") as opened:
        return trace.trace_recording(
            opened, path.name, {"k1": key}, MARKS.get, "2026-11-22T00:00:00Z"
        )


def stretches(report: Trace) -> list[tuple[str, float, float]]:
    return [(found.job, found.start, found.end) for found in report.findings]


def are_close(
    found: list[tuple[str, float, float]], expected: list[tuple[str, float, float]]
) -> bool:
    """Return whether the jobs are equal and the times differ by less than two seconds."""
    return [f[0] for f in found] == [w[0] for w in expected] and all(
        abs(f[1] - w[1]) < 2 and abs(f[2] - w[2]) < 2 for f, w in zip(found, expected, strict=True)
    )


def test_two_jobs_in_a_spliced_clip_are_found_with_their_positions(tmp_path: Path) -> None:
    parts = [synthetic(9, 0xA), synthetic(8, None, 1), synthetic(10, 0xB, 2)]
    report = trace_clip(write_clip(tmp_path, np.concatenate(parts)))
    assert are_close(stretches(report), [("job-a", 0, 9), ("job-b", 17, 27)])
    assert "item one of job job-a from 0." in report.meaning
    assert "item two of job job-b" in report.meaning
    assert report.clip.seconds == 27


def test_a_job_that_occurs_twice_is_reported_twice(tmp_path: Path) -> None:
    parts = [synthetic(6, 0xA), np.zeros(9 * RATE, np.float32), synthetic(6, 0xA)]
    report = trace_clip(write_clip(tmp_path, np.concatenate(parts)))
    assert are_close(stretches(report), [("job-a", 0, 6), ("job-a", 15, 21)])


def test_a_part_that_was_sped_up_is_found_beside_one_that_was_not(tmp_path: Path) -> None:
    fast = soxr.resample(synthetic(8, 0xB, 2), RATE, round(RATE / 1.03))
    report = trace_clip(write_clip(tmp_path, np.concatenate([synthetic(8, 0xA), fast])))
    assert [found.job for found in report.findings] == ["job-a", "job-b"]
    assert report.findings[1].tempo == pytest.approx(1.03, abs=0.002)
    assert re.search(r"played [23]\.\d% too fast", report.meaning)


@pytest.mark.parametrize(
    ("tempo", "pitch", "words"),
    [
        pytest.param(1.0, 1.0, "", id="as made"),
        pytest.param(1.03, 1.0, ", played 3.0% too fast", id="faster at the same pitch"),
        pytest.param(0.97, 0.97, ", played 3.0% too slow", id="resampled"),
        pytest.param(1.0, 0.97, ", pitched 3.0% too low", id="shifted"),
        pytest.param(
            0.97, 1.03, ", played 3.0% too slow, pitched 3.0% too high", id="slower and shifted"
        ),
    ],
)
def test_only_what_changed_is_said_of_a_stretch(tempo: float, pitch: float, words: str) -> None:
    stretch = trace.MarkedStretch(
        score=9, payload="0000000a", key_id="k", job="j", item="a", end=2, tempo=tempo, pitch=pitch
    )
    assert trace._describe_stretch(stretch) == f"item a of job j from 0.0 to 2.0 s{words}"


def test_a_sped_up_clip_is_not_taken_for_one_that_was_cut() -> None:
    """With this payload, three stretches at the original speed also reach the threshold, with a
    score of 9.5; the true speed has 389."""
    fast = soxr.resample(synthetic(5, 0xE), RATE, round(RATE / 1.03))
    found = watermark.detect(fast, RATE, KEY)
    assert (found.payload, found.pieces) == (0xE, 1)
    assert found.tempo == pytest.approx(1.03, abs=0.003)
    assert found.score > 100


def test_a_longer_recording_that_was_slowed_down_is_read_as_a_whole(tmp_path: Path) -> None:
    parts = [synthetic(20, 0xA), np.zeros(20 * RATE, np.float32), synthetic(24, 0xB, 2)]
    slow = soxr.resample(np.concatenate(parts), RATE, round(RATE * 1.05))
    report = trace_clip(write_clip(tmp_path, slow))
    assert are_close(stretches(report), [("job-a", 0, 21), ("job-b", 42, 67.2)])
    assert "too slow" in report.meaning


def test_an_unmarked_recording_is_reported_as_such(tmp_path: Path) -> None:
    report = trace_clip(write_clip(tmp_path, synthetic(5)))
    assert (report.marked, report.findings, report.score) == (False, [], 0.0)
    assert "does not show that the clip is genuine" in report.meaning


def test_with_another_key_nothing_is_found(tmp_path: Path) -> None:
    assert trace_clip(write_clip(tmp_path, synthetic(4, 0xA)), b"x" * 32).marked is False


@pytest.mark.parametrize("side", [0, 1], ids=["left", "right"])
def test_a_mark_in_one_channel_is_found(tmp_path: Path, side: int) -> None:
    both = np.stack([synthetic(8, None, 5), synthetic(8, None, 6)], axis=1)
    both[:, side] = synthetic(8, 0xA)
    assert {found.job for found in trace_clip(write_clip(tmp_path, both)).findings} == {"job-a"}


def test_channels_that_cancel_each_other_hide_nothing(tmp_path: Path) -> None:
    left = synthetic(6, 0xA)
    report = trace_clip(write_clip(tmp_path, np.stack([left, -left], axis=1)))
    assert {found.job for found in report.findings} == {"job-a"}


def test_equal_channels_are_read_once(tmp_path: Path) -> None:
    left = synthetic(6, 0xA)
    path = write_clip(tmp_path, np.stack([left, left], axis=1))
    report = trace_clip(path)
    assert report.clip.channels == 2
    assert report.score == trace_clip(write_clip(tmp_path, left, name="mono.flac")).score


def test_a_clip_that_was_cut_in_the_middle_of_a_byte_stream_is_read_as_far_as_it_goes(
    tmp_path: Path,
) -> None:
    path = write_clip(tmp_path, synthetic(12, 0xA), name="clip.wav")
    path.write_bytes(path.read_bytes()[: 7 * RATE * 2])
    report = trace_clip(path)
    assert are_close(stretches(report), [("job-a", 0, 7)])
    assert report.error is None


def test_a_damaged_clip_without_a_mark_is_not_called_unmarked(tmp_path: Path) -> None:
    path = write_clip(tmp_path, synthetic(9, None, 1))
    data = bytearray(path.read_bytes())
    middle = len(data) * 3 // 4
    data[middle : middle + 4000] = bytes(4000)
    path.write_bytes(data)
    report = trace_clip(path)
    assert report.marked is None
    assert report.error is not None
    assert report.error.code == "AUDIO_CORRUPT"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(b"", "AUDIO_EMPTY", id="empty"),
        pytest.param(b"<html></html>", "AUDIO_NOT_AUDIO", id="page"),
        pytest.param(b"\0" * 999, "AUDIO_UNRECOGNIZED", id="zeros"),
        pytest.param(b"#!AMR\n" + bytes(99), "AUDIO_CODEC_UNSUPPORTED", id="amr"),
        pytest.param(b"RIFF\x24\0\0\0WAVE", "AUDIO_HEADER_INVALID", id="cut-header"),
    ],
)
def test_an_unreadable_clip_gets_a_code(tmp_path: Path, data: bytes, code: str) -> None:
    (tmp_path / "clip.wav").write_bytes(data)
    report = trace_clip(tmp_path / "clip.wav")
    assert report.error is not None
    assert (report.marked, report.error.code) == (None, code)


def test_a_file_without_samples_gets_a_code(tmp_path: Path) -> None:
    report = trace_clip(write_clip(tmp_path, np.zeros(0, np.float32), name="clip.wav"))
    assert report.error is not None
    assert report.error.code == "AUDIO_NO_SAMPLES"


def test_a_recording_over_the_maximum_length_is_refused(tmp_path: Path) -> None:
    path = write_clip(tmp_path, synthetic(6))
    with path.open("rb") as opened, pytest.raises(Refused, match="AUDIO_TOO_LONG"):
        list(Recording(opened, name="x", max_seconds=5))


def test_samples_that_are_not_numbers_are_read_as_silence(tmp_path: Path) -> None:
    sound = synthetic(6, 0xA).copy()
    sound[100:200] = np.nan
    soundfile.write(tmp_path / "clip.wav", sound, RATE, subtype="FLOAT")
    assert stretches(trace_clip(tmp_path / "clip.wav"))[0][0] == "job-a"


def test_a_crashed_decoder_gets_a_code(tmp_path: Path) -> None:
    starved = Limits(memory=1 << 20, stream=True)
    path = write_clip(tmp_path, synthetic(6))
    with path.open("rb") as opened, pytest.raises(Failed, match="AUDIO_DECODER_CRASHED"):
        list(Recording(opened, name="x", limits=starved))


def test_an_index_resolves_without_a_bucket() -> None:
    index = registry.Index(bucket="results", marks={"0000000a": MARKS[0xA]})
    index_read_back = registry.read_index(msgspec.json.encode(index))
    assert index_read_back.resolve(0xA) == MARKS[0xA]
    assert index_read_back.resolve(0xB) is None
    with pytest.raises(Refused, match="SCHEMA_TYPE"):
        registry.read_index(b"[]")


@pytest.fixture
def oss() -> Iterator[dict[str, Store]]:
    with OssServer() as server:
        server.add_key(OSS_KEYS.access_key_id, OSS_KEYS.access_key_secret)
        names = ("inbox", "results", "control")
        for name in names:
            server.create_bucket(name)
        yield {name: oss_store(server, name) for name in names}


@pytest.mark.parametrize("where", ["local", "oss"])
def test_a_dropped_leak_is_traced_to_its_job_by_the_storage_trigger(
    tmp_path: Path, where: str, request: pytest.FixtureRequest
) -> None:
    stores = request.getfixturevalue("oss") if where == "oss" else {}
    runtime = local_runtime(tmp_path, **stores)
    text = "Words that somebody will pass on to a stranger. " * 3
    handle(notification(put_job(runtime, items=[{"id": "hello", "text": text}])), runtime)
    (key,) = (i.key for i in runtime.results.list("out/") if i.key.endswith("result.json"))
    done = parse_result(runtime.results.get(key, limit=10**6).data)
    assert key == result_key(done.job_id)
    (item,) = done.items
    assert item.output
    assert item.envelope
    sealed = runtime.results.get(item.output.key, limit=10**8).data
    plain = sealing.open_sealed(sealed, item.envelope, runtime.keys.wrapping)
    runtime.inbox.put("audit/found/leak.wav", leak_clip(plain))
    answer = handle(notification("audit/found/leak.wav"), runtime)["done"][0]
    report = json.loads(runtime.results.get(f"audit/{answer['trace']}.json", limit=10**6).data)
    assert report["marked"] is True
    assert [(f["job"], f["item"]) for f in report["findings"]] == [(done.job_id, "hello")]
    assert report["findings"][0]["tempo"] == pytest.approx(1.03, abs=0.003)
    events = [runtime.results.get(i.key, limit=10**6).data for i in runtime.results.list("events/")]
    (event,) = (e for e in map(json.loads, events) if e["type"] == "com.voicedrop.trace.completed")
    assert event["data"]["jobs"] == [done.job_id]
    assert event["subject"] == "audit/found/leak.wav"
    bucket = audit.audit_bucket(
        Sources(results=runtime.results, control=runtime.control, keys=READING)
    )
    assert "OBJECT_UNCLAIMED" not in {outcome.code for outcome in bucket.outcomes}
