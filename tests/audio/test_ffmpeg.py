"""Recordings of phones and browsers are read by ffmpeg, in a sandbox, where it is installed."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

import watermark
from core.audio import ffmpeg
from core.audio.sandbox import Crashed, Limits, NotDecoded, Sandbox
from core.errors import Failed, JobError, Refused
from core.speech.reference import prepare
from core.trace.trace import trace_recording
from tests.support.ffmpeg import find_ffmpeg, make_recording
from tests.support.recordings.cases import ASF, M4A
from tests.support.recordings.files import pack, speech, speech_as

KEY = b"k" * 32
FFMPEG = find_ffmpeg()
needs_ffmpeg = pytest.mark.skipif(FFMPEG is None, reason="ffmpeg is not installed")
KINDS = {
    "voice memo.m4a": ("-c:a", "aac", "-b:a", "64k"),
    "fast start.m4a": ("-c:a", "aac", "-movflags", "+faststart"),
    "lossless.m4a": ("-c:a", "alac"),
    "video.mp4": ("-c:a", "aac", "-ar", "44100", "-ac", "2"),
    "phone.3gp": ("-c:a", "aac", "-ar", "16000"),
    "stream.aac": ("-c:a", "aac", "-f", "adts"),
    "browser.webm": ("-c:a", "libopus"),
    "old.mka": ("-c:a", "vorbis", "-strict", "-2", "-ac", "2"),
    "windows.wma": ("-c:a", "wmav2"),
    "chat.oga": ("-c:a", "flac"),
}
HEADS = {"a.m4a": M4A, "a.aac": b"\xff\xf1\x50\x80\x02\x1f\xfc", "a.amr": b"#!AMR\n"}
HEADS |= {"a.webm": b"\x1a\x45\xdf\xa3", "a.wma": ASF, "a.oga": b"OggS" + bytes(24) + b"\x7fFLAC"}


@pytest.fixture(scope="module")
def closed_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds only ffmpeg and is closed to other users, as a home folder often is."""
    assert FFMPEG
    folder = tmp_path_factory.mktemp("bin")
    folder.chmod(0o700)
    shutil.copy(FFMPEG, folder / "ffmpeg")
    return folder


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch, closed_folder: Path) -> str:
    monkeypatch.setenv("PATH", str(closed_folder))
    return str(closed_folder / "ffmpeg")


@pytest.mark.slow
@needs_ffmpeg
@pytest.mark.parametrize("name", KINDS)
def test_recordings_of_phones_and_browsers_enrol_and_trace(
    installed: str, tmp_path: Path, name: str
) -> None:
    recording = speech()
    marked = watermark.embed(recording.samples, recording.rate, 0xA, KEY)
    data = make_recording(installed, pack(marked, recording.rate), tmp_path / name, *KINDS[name])
    reference = prepare(data, name)
    codes = {notice.code for notice in reference.notices}
    assert codes <= {"LOW_BANDWIDTH", "DOWNMIXED"}
    assert reference.seconds == pytest.approx(recording.seconds, abs=0.3)
    with (tmp_path / name).open("rb") as file:
        report = trace_recording(
            file, name, {"k1": KEY}, lambda payload: None, "2026-11-22T00:00:00Z"
        )
    assert report.marked
    assert report.findings[0].payload == "0000000a"


@pytest.mark.parametrize("name", HEADS)
def test_without_ffmpeg_a_recording_is_refused_with_the_line_that_installs_it(name: str) -> None:
    with pytest.raises(Refused, match="apt install ffmpeg") as refusal:
        prepare(HEADS[name] + bytes(100), name)
    assert (refusal.value.code, refusal.value.pointer) == ("AUDIO_CODEC_UNSUPPORTED", name)


@pytest.mark.slow
@needs_ffmpeg
def test_an_extension_of_another_format_is_remarked(installed: str, tmp_path: Path) -> None:
    data = make_recording(installed, speech_as("WAV"), tmp_path / "a.m4a", "-c:a", "aac")
    codes = {notice.code for notice in prepare(data, "refs/a.mp3").notices}
    assert "EXTENSION_MISMATCH" in codes


@pytest.mark.slow
@needs_ffmpeg
def test_a_recording_that_is_too_long_is_refused(installed: str, tmp_path: Path) -> None:
    hour = pack(np.zeros(8_000 * 3_600, np.int16), 8_000)
    data = make_recording(installed, hour, tmp_path / "a.m4a", "-c:a", "aac", "-b:a", "8k")
    with pytest.raises(Refused) as refusal:
        prepare(data, "a.m4a")
    assert refusal.value.code == "AUDIO_TOO_LONG"


@needs_ffmpeg
@pytest.mark.parametrize(
    ("limits", "code"),
    [
        (Limits(memory=1 << 30, output=1 << 16), "AUDIO_TOO_LONG"),
        (Limits(memory=1 << 30, wall_s=0.001), "AUDIO_DECODER_CRASHED"),
    ],
    ids=["output", "time"],
)
def test_a_recording_for_which_ffmpeg_reaches_a_limit_is_refused_by_name(
    installed: str, tmp_path: Path, limits: Limits, code: str
) -> None:
    data = make_recording(installed, speech_as("WAV"), tmp_path / "a.m4a", "-c:a", "aac")
    with (
        ffmpeg._open_copy(data) as source,
        ffmpeg._open_copy(b"") as sink,
        pytest.raises(JobError) as error,
    ):
        ffmpeg._run(source, sink, "m4a", "pcm_f32be", 10, limits, "a.m4a")
    assert (error.value.code, error.value.pointer) == (code, "a.m4a")


def test_a_clip_for_ffmpeg_that_is_too_large_is_refused_unread(tmp_path: Path) -> None:
    clip = tmp_path / "a.m4a"
    clip.write_bytes(HEADS["a.m4a"])
    os.truncate(clip, 1 << 40)
    with (
        clip.open("rb") as file,
        pytest.raises(Refused, match="M4A or MP4 is read up to 256 MiB"),
        ffmpeg.converted(file, max_seconds=1, name="a.m4a"),
    ):
        pass


@pytest.mark.slow
@needs_ffmpeg
def test_damaged_and_hostile_files_are_read_or_refused(installed: str, tmp_path: Path) -> None:
    good = make_recording(installed, speech_as("WAV"), tmp_path / "a.m4a", "-c:a", "aac")
    rng = np.random.default_rng(17)
    files = [head + bytes(rng.bytes(2_000)) for head in HEADS.values()]
    files += [good[: len(good) // 2], good[:40] + bytes(100)]
    for _ in range(8):
        damaged = bytearray(good)
        for at in rng.integers(8, len(good), 40):
            damaged[at] = rng.integers(256)
        files.append(bytes(damaged))
    for data in files:
        with suppress(Refused, Failed):
            prepare(data, "a.m4a")


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    own_sandbox = Sandbox()
    yield own_sandbox
    own_sandbox.close()


def run(sandbox: Sandbox, *arguments: str) -> bytes:
    """Run ffmpeg with arguments that only a program that was taken over would have."""
    assert FFMPEG
    with ffmpeg._open_copy(speech_as("WAV")) as source, ffmpeg._open_copy(b"") as sink:
        limits = Limits(memory=1 << 30, wall_s=10)
        sandbox.run_program([FFMPEG, *arguments], source.fileno(), sink.fileno(), limits)
        sink.seek(0)
        return sink.read()


@pytest.mark.slow
@needs_ffmpeg
def test_ffmpeg_reads_no_other_file_and_writes_and_connects_nowhere(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    raw = ("-f", "s16le", "-ar", "8000", "-ac", "1")
    into = (*raw, "-c:a", "pcm_s16le", "pipe:1")
    assert len(run(sandbox, *raw, "-i", "/proc/self/fd/0", *into)) > 10_000
    tmp_path.chmod(0o777)
    secret, new = tmp_path / "secret", tmp_path / "new"
    secret.write_bytes(b"secret" * 1_000)
    secret.chmod(0o666)
    outside = subprocess.run(
        [str(FFMPEG), *raw, "-i", str(secret), *into], capture_output=True, check=True
    )
    assert b"secret" in outside.stdout
    for place in (secret, Path("/etc/passwd"), Path("/proc/self/environ")):
        with pytest.raises(NotDecoded):
            run(sandbox, *raw, "-i", str(place), *into)
    with pytest.raises(NotDecoded):
        run(sandbox, *raw, "-i", "/proc/self/fd/0", *raw, str(new))
    with pytest.raises(NotDecoded):
        run(sandbox, *raw, "-i", "/proc/self/fd/0", *raw, "-y", str(secret))
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)
        with pytest.raises(NotDecoded):
            run(sandbox, *raw, "-i", f"tcp://127.0.0.1:{server.getsockname()[1]}", *into)
        with pytest.raises(TimeoutError):
            server.accept()
    assert secret.read_bytes() == b"secret" * 1_000
    assert not new.exists()


@pytest.mark.slow
@needs_ffmpeg
def test_ffmpeg_is_ended_at_its_limits(sandbox: Sandbox) -> None:
    assert FFMPEG
    endless = [FFMPEG, "-f", "lavfi", "-i", "sine", "-f", "s16le", "pipe:1"]
    full, late, busy = (
        Limits(memory=1 << 30, **limit)
        for limit in ({"output": 1 << 20}, {"wall_s": 0.5}, {"cpu_s": 1})
    )
    with ffmpeg._open_copy(b"") as file, Path(os.devnull).open("wb") as nowhere:
        source = file.fileno()
        with pytest.raises(Crashed, match="wrote more than 1 MiB"):
            sandbox.run_program(endless, source, source, full)
        with pytest.raises(Crashed, match="within"):
            sandbox.run_program(endless, source, nowhere.fileno(), late)
        with pytest.raises(Crashed, match="processor time"):
            sandbox.run_program(endless, source, nowhere.fileno(), busy)


UNCONFINED = """
import sys
from core.audio.decoding import decode
from core.errors import Refused
try:
    decode(bytes(4) + b"ftypM4A " + bytes(100), name="a.m4a")
except Refused as refused:
    print(refused.code, refused.message)
"""


@pytest.mark.slow
def test_where_ffmpeg_cannot_be_confined_it_is_not_started(tmp_path: Path) -> None:
    """Whatever VOICEDROP_SANDBOX is: this is the default, best_effort."""
    (tmp_path / "ffmpeg").write_text("#!/bin/sh\necho started > started\n")
    (tmp_path / "ffmpeg").chmod(0o755)
    ran = subprocess.run(
        [sys.executable, "-m", "tests.support.old_kernel", "-c", UNCONFINED],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert "AUDIO_CODEC_UNSUPPORTED M4A or MP4 is read by ffmpeg, which is" in ran.stdout
    assert not (tmp_path / "started").exists()
