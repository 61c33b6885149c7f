"""`voicedrop trace`: what is said of each clip."""

from __future__ import annotations

import dataclasses
import io
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

import msgspec
import numpy as np
import pytest
import soundfile
from rich.console import Console

import watermark
from core.crypto.keys import create_keys, load_keyring
from core.documents import signed
from core.errors import Misconfigured
from core.result.item_result import Watermark
from core.settings import Settings
from core.storage.object_keys import part_key, result_key
from core.trace import registry
from handlers.cli.init import create_folders_and_keys
from handlers.cli.screen import CommandOutput, Progress, further_advice
from handlers.cli.trace import trace_clips
from tests.support.results import FULL, GOOD
from tests.support.runtime import local_runtime, local_settings, synthetic_speech

RATE = 16_000


def mark_of(keys: Mapping[str, bytes]) -> Watermark:
    return Watermark(scheme="s", key_id=next(iter(keys)), payload="0000000a", score=9.0)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bucket, and a clip that carries the mark of item `hello` of job `j`."""
    root = tmp_path_factory.mktemp("trace")
    runtime = local_runtime(root)
    payload = registry.register(runtime.results, runtime.keys, "j", "hello")
    key = next(iter(runtime.keys.watermark.values()))
    item = msgspec.structs.replace(GOOD, watermark=mark_of(runtime.keys.watermark))
    result = msgspec.structs.replace(FULL, job_id="j", items=[item])
    runtime.results.put(result_key("j"), signed.sign(result, runtime.keys.signing))
    sound = watermark.embed(synthetic_speech(4, RATE), RATE, payload, key)
    soundfile.write(root / "hello.wav", sound, RATE)
    return root


def run_trace(settings: Settings, *clips: Path, index: Path | None = None) -> CommandOutput:
    """Return the output, with the lines that were reported meanwhile."""
    reported = io.StringIO()
    progress = Progress(output=Console(file=reported), quiet=True)
    output = trace_clips(settings, list(clips), index, progress)
    lines = [*reported.getvalue().splitlines(), *output.lines]
    return dataclasses.replace(output, lines=lines)


@pytest.fixture(scope="module")
def settings(root: Path) -> Settings:
    return local_settings(root)


def test_a_name_that_cannot_be_read_does_not_stop_the_others(
    root: Path, settings: Settings, tmp_path: Path
) -> None:
    clip = root / "hello.wav"
    output = run_trace(settings, tmp_path / "nosuch.wav", tmp_path, clip, clip)
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
    output = run_trace(settings, clip)
    error = output.data["traces"][0]["error"]
    assert (output.exit_code, error["code"]) == (1, code)
    for text in (*output.lines, error["message"], error["advice"]):
        assert not re.search("consent|record it|record or export|upload|export", text)
    assert re.search("convert", output.lines[0])


def test_each_answer_is_reported_before_the_next_clip_is_read(
    root: Path, settings: Settings, tmp_path: Path
) -> None:
    later = tmp_path / "later.wav"

    class MakesTheNext(io.StringIO):
        def write(self, text: str) -> int:
            if "item hello" in text:
                later.write_bytes((root / "hello.wav").read_bytes())
            return super().write(text)

    progress = Progress(output=Console(file=MakesTheNext()), quiet=True)
    output = trace_clips(settings, [root / "hello.wav", later], None, progress)
    assert [one["marked"] for one in output.data["traces"]] == [True, True]
    assert output.lines == [], "nothing is said twice"


def test_a_clip_whose_header_lacks_the_size_of_its_samples_is_read_to_its_end(
    root: Path, settings: Settings, tmp_path: Path
) -> None:
    wave = (root / "hello.wav").read_bytes()
    at = wave.index(b"data") + 4
    for riff in (b"\0\0\0\0", b"\x24\0\0\0", wave[4:8]):
        clip = tmp_path / "clip.wav"
        clip.write_bytes(wave[:4] + riff + wave[8:at] + bytes(4) + wave[at + 4 :])
        (line,) = run_trace(settings, clip).lines
        assert "item hello of job j from 0.0 to 4.0 s" in line


def test_without_keys_it_is_said_which_folder_has_none_and_what_to_do(
    settings: Settings, tmp_path: Path
) -> None:
    with pytest.raises(Misconfigured, match="KEY_NOT_FOUND") as missing:
        run_trace(dataclasses.replace(settings, keys=tmp_path))
    assert f"(such as watermark-001.key) in {tmp_path}" in missing.value.message
    assert "set VOICEDROP_KEYS" in missing.value.message
    assert "init" not in missing.value.message, "new keys find no old marks"
    assert further_advice(missing.value) == ""


@pytest.mark.parametrize(("level", "is_silent"), [(0.0, True), (3e-5, True), (1e-3, False)])
def test_a_silent_clip_is_said_to_be_silent(
    settings: Settings, tmp_path: Path, level: float, is_silent: bool
) -> None:
    clip = tmp_path / "clip.wav"
    noise = np.random.default_rng(0).uniform(-level, level, 2 * RATE)
    soundfile.write(clip, noise, RATE, subtype="PCM_24")
    (line,) = run_trace(settings, clip).lines
    assert line.startswith(f"{clip}: Our mark was not found")
    assert line.endswith("the clip is silent.") == is_silent
    assert ("too short or too damaged" in line) != is_silent


def other_keys(settings: Settings, folder: Path, *, keep: bool) -> Settings:
    """Return settings with new keys, and with those of the bucket as well if `keep`."""
    create_keys(folder)
    if keep:
        old = settings.keys / "watermark-001.key"
        shutil.copy(old, folder / "watermark-000.key")
    return dataclasses.replace(settings, keys=folder)


@pytest.mark.parametrize("source", ["result", "part", "index"])
@pytest.mark.parametrize("keep", [False, True], ids=["another key", "both keys"])
def test_it_is_said_if_what_there_is_has_marks_of_a_key_that_is_missing(
    root: Path, settings: Settings, tmp_path: Path, source: str, keep: bool
) -> None:
    index = None
    (key_id,) = load_keyring(settings.keys).watermark
    if source == "index":
        payload = registry.register(
            local_runtime(root).results, load_keyring(settings.keys), "j", "hello"
        )
        marks = {f"{payload:08x}": registry.Mark(item="hello", job="j")}
        index = tmp_path / "index.json"
        index.write_bytes(msgspec.json.encode(registry.Index(bucket="b", marks=marks)))
    if source == "part":
        settings = local_settings(tmp_path)
        results = local_runtime(tmp_path).results
        shutil.copytree(root / "keys", tmp_path / "keys", dirs_exist_ok=True)
        item = {"watermark": {"key_id": key_id}}
        results.put(part_key("j", 0), msgspec.json.encode({"items": [item, {}]}))
        ref = {"key": part_key("j", 0)}
        results.put(result_key("j"), msgspec.json.encode({"parts": [ref]}))
        results.put(result_key("k"), b"no JSON")
        forged = {"watermark": {"key_id": "no digits"}}
        results.put(result_key("l"), msgspec.json.encode({"items": [forged]}))
    clip = tmp_path / "clip.wav"
    soundfile.write(clip, synthetic_speech(2, RATE), RATE)
    output = run_trace(other_keys(settings, tmp_path / "new", keep=keep), clip, index=index)
    assert output.exit_code == 0
    assert "Our mark was not found" in output.lines[0]
    assert ("remark" in output.data, len(output.lines)) == ((False, 1) if keep else (True, 2))
    if not keep:
        assert (
            f"not in {tmp_path / 'new'}. From a clip in which our mark was not found, nothing"
            in (output.lines[1])
        )
        assert source == "index" or key_id in output.lines[1]


def test_new_keys_beside_results_are_warned_of(settings: Settings, tmp_path: Path) -> None:
    keys = shutil.copytree(settings.keys, tmp_path / "keys")
    (keys / "watermark-001.key").unlink()
    (keys / "sign-001.pem").unlink()
    again = dataclasses.replace(settings, keys=keys)
    (warning,) = create_folders_and_keys(again).data["warnings"]
    assert f"{keys / 'watermark-001.key'} is new" in warning
    assert "cannot be traced" in warning
    assert create_folders_and_keys(again).data["warnings"] == []
    elsewhere = dataclasses.replace(settings, keys=tmp_path / "all")
    lines = create_folders_and_keys(elsewhere).lines
    assert "--bucket" not in lines[-1]
    assert "`--bucket 'a b'`" in create_folders_and_keys(elsewhere, Path("a b")).lines[-1]
    assert [line.split(": ")[0] for line in lines].count("Warning") == 3
    first = create_folders_and_keys(local_settings(tmp_path / "first"))
    assert first.data["warnings"] == []
