"""`voicedrop trace`: what is said of each clip."""

from __future__ import annotations

from pathlib import Path

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
