"""`voicedrop trace`: what is said of each clip."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import soundfile

import watermark
from core.settings import Settings
from core.trace import registry
from handlers.cli.trace import trace_clips
from tests.support.runtime import local_runtime, local_settings, synthetic_speech

RATE = 16_000


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bucket, and a clip that carries the mark of item `hello` of job `j`."""
    root = tmp_path_factory.mktemp("trace")
    runtime = local_runtime(root)
    payload = registry.register(runtime.results, runtime.keys, "j", "hello")
    key = next(iter(runtime.keys.watermark.values()))
    sound = watermark.embed(synthetic_speech(4, RATE), RATE, payload, key)
    soundfile.write(root / "hello.wav", sound, RATE)
    return root


@pytest.fixture(scope="module")
def settings(root: Path) -> Settings:
    return local_settings(root)


def test_a_name_that_cannot_be_read_does_not_stop_the_others(
    root: Path, settings: Settings, tmp_path: Path
) -> None:
    clip = root / "hello.wav"
    output = trace_clips(settings, [tmp_path / "nosuch.wav", tmp_path, clip, clip], None)
    assert output.exit_code == 1
    missing, folder, found = output.lines
    assert missing.startswith(f"{tmp_path / 'nosuch.wav'}: The clip could not be read")
    assert "No such file" in missing
    assert f"{tmp_path}: " in folder
    assert "This is a folder: name the files in it." in folder
    assert "item hello of job j" in found
    assert [one["marked"] for one in output.data["traces"]] == [True]
    failed = [(one["pointer"], one["code"]) for one in output.data["failed"]]
    assert failed == [(str(tmp_path / n), "OBJECT_MISSING") for n in ("nosuch.wav", "")]


@pytest.mark.parametrize(
    ("name", "data", "code"),
    [
        ("empty.wav", b"", "AUDIO_EMPTY"),
        ("broken.flac", b"fLaC" + bytes(100), "AUDIO_HEADER_INVALID"),
        ("phone.m4a", b"\0\0\0\x20ftypM4A \0\0\0\0", "AUDIO_CODEC_UNSUPPORTED"),
        ("pack.wv", b"wvpk" + bytes(100), "AUDIO_CODEC_UNSUPPORTED"),
    ],
)
def test_the_advice_is_for_a_clip_and_not_for_a_reference(
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    data: bytes,
    code: str,
) -> None:
    monkeypatch.setenv("PATH", "")  # where no ffmpeg is
    clip = tmp_path / name
    clip.write_bytes(data)
    output = trace_clips(settings, [clip], None)
    error = output.data["traces"][0]["error"]
    assert (output.exit_code, error["code"]) == (1, code)
    for text in (*output.lines, error["message"], error["advice"]):
        assert not re.search("consent|record it|record or export|upload|export", text)
    assert re.search("convert", output.lines[0])


@pytest.mark.parametrize(("level", "is_silent"), [(0.0, True), (3e-5, True), (1e-3, False)])
def test_a_silent_clip_is_said_to_be_silent(
    settings: Settings, tmp_path: Path, level: float, is_silent: bool
) -> None:
    clip = tmp_path / "clip.wav"
    noise = np.random.default_rng(0).uniform(-level, level, 2 * RATE)
    soundfile.write(clip, noise, RATE, subtype="PCM_24")
    (line,) = trace_clips(settings, [clip], None).lines
    assert line.startswith(f"{clip}: Our mark was not found")
    assert line.endswith("the clip is silent.") == is_silent
    assert ("too short or too damaged" in line) != is_silent
