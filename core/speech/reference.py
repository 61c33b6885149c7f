"""Prepare a reference recording: check it and extract a few seconds of speech for an engine.

Everything is done in a confined process, by `core.speech.preparation`. Every reason to reject a
recording has its own error code (docs/errors.md). The default steps were chosen by measurement
(docs/reference.md).
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from core.audio.decoding import run_sandboxed
from core.audio.sandbox import Limits, Sandbox
from core.audio.waveform import Audio
from core.errors import Failed, Notice, raising
from core.manifest.fields import Channel, Window
from core.speech.encoders import GE2E_BANDS

MIN_DURATION_S: Final = 3.0
MAX_WINDOW_S: Final = 10.0
"""Longest reference for an engine in seconds; GPT-SoVITS accepts 3 to 10 s only."""
_LIMITS: Final = Limits(cpu_s=30, wall_s=60.0, memory=1 << 30, output=8 << 20)
"""Ten minutes of stereo at 48 kHz are 230 MB of samples."""
_sandbox = Sandbox("core.speech.numba_cache:warm_up")
start = _sandbox.start
"""Start the process that prepares references. It is ready after about three seconds."""


@dataclass(frozen=True, slots=True)
class Steps:
    """The processing steps of a recording, in the order in which they are applied."""

    window: bool = True
    """Choose the best 3 to 10 s of a longer recording; if off, refuse it as AUDIO_TOO_LONG."""
    trim: bool = True
    """Remove non-speech at both ends."""
    resample: bool = False
    """Resample to 16 kHz, the rate of the analysis; if off, keep the rate up to 48 kHz."""
    compress: bool = False
    """Apply dynamic range compression, which raises quiet passages."""
    level: float | None = None
    """Peak to scale to, for example 0.9, or None."""
    loudness: float | None = -26.0
    """Loudness to scale to in LUFS, as far as the peak stays below 0.9, or None."""
    pad: bool = False
    """Half a second of silence at both ends, or less to stay within ten seconds."""


PREPARATIONS: Final = {
    "best": Steps(),
    "article": Steps(trim=False, resample=True, compress=True, level=0.9, loudness=None, pad=True),
}
"""Name -> steps that may be chosen; docs/reference.md compares them."""


@dataclass(frozen=True, slots=True)
class Quality:
    """The quality of the whole recording before processing."""

    speech_s: float
    """Seconds of speech."""
    snr_db: float
    clipped: float
    """Share of clipped samples, 0..1."""
    bandwidth_hz: float
    peak: float


@dataclass(frozen=True, slots=True)
class Reference:
    """A prepared reference recording."""

    audio: Audio
    """The speech for an engine, mono."""
    sha256: str
    """SHA-256 of the object's bytes, lower-case hex."""
    seconds: float
    """Duration of the whole recording."""
    window: tuple[float, float]
    """Start and end, in seconds, of the part of the recording that `audio` was taken from. A
    transcript of the whole recording matches `audio` only if there is no TRIMMED notice."""
    quality: Quality
    mel: NDArray[np.float32] = field(repr=False)
    """The input of GE2E, (frames, 40): the speech in `audio` without its pauses."""
    notices: tuple[Notice, ...]


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What the confined process says about the samples that it wrote."""

    rate: int
    count: int
    """Number of samples; the rest of the output is `mel`."""
    seconds: float
    window: tuple[float, float]
    quality: Quality
    notices: list[str]


def prepare(
    data: bytes,
    key: str,
    steps: Steps = Steps(),
    *,
    channel: Channel = "mix",
    window: Window = "best",
) -> Reference:
    """Decode, check and process the recording stored under `key`.

    channel, window: see `core.manifest.fields.Voice`.

    Raises Refused with one of the AUDIO_ codes, or Failed AUDIO_DECODER_CRASHED.
    """
    task = "core.speech.preparation:prepare_task"
    arguments = {"steps": asdict(steps), "channel": channel, "window": window}
    output, fields = run_sandboxed(_sandbox.run, task, data, name=key, limits=_LIMITS, **arguments)
    malformed = Failed("AUDIO_DECODER_CRASHED", pointer=key)
    with raising(malformed, on=(ValueError, KeyError)):  # msgspec's errors are ValueErrors
        answer = msgspec.convert(fields, Answer)
        samples, mel = np.split(np.frombuffer(output, np.float32), [answer.count])
        return Reference(
            audio=Audio(samples, answer.rate),
            sha256=hashlib.sha256(data).hexdigest(),
            seconds=answer.seconds,
            window=answer.window,
            quality=answer.quality,
            mel=mel.reshape(-1, GE2E_BANDS),
            notices=tuple(Notice(code, pointer=key) for code in answer.notices),
        )
