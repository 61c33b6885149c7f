"""Encode samples as WAV, FLAC, MP3 and Opus files."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from core.audio.waveform import Audio, resample


@dataclass(frozen=True, slots=True)
class Encoded:
    """An encoded audio file."""

    data: bytes
    rate: int
    """Sample rate of the file in Hz; Opus and MP3 support only some."""
    media_type: str


@dataclass(frozen=True, slots=True)
class _Container:
    format: str
    subtype: str
    media_type: str
    rates: tuple[int, ...] = ()
    """Sample rates that the codec supports; empty: any."""
    compression: float | None = None
    """libsndfile's level, 0 (best) to 1 (smallest). Its defaults give speech a signal-to-noise
    ratio of 6 to 22 dB, these levels 18 to 33 dB (MP3 about 70, Opus about 110 kbit/s)."""


_MPEG_RATES = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
_OPUS_RATES = (8_000, 12_000, 16_000, 24_000, 48_000)
_CONTAINERS = {
    "wav": _Container("WAV", "PCM_16", "audio/wav"),
    "flac": _Container("FLAC", "PCM_16", "audio/flac"),
    "mp3": _Container("MP3", "MPEG_LAYER_III", "audio/mpeg", _MPEG_RATES, 0.0),
    "opus": _Container("OGG", "OPUS", "audio/ogg", _OPUS_RATES, 0.6),
}
CONTAINERS = frozenset(_CONTAINERS)


def encode(audio: Audio, container: str) -> Encoded:
    """Encode mono audio in one of CONTAINERS: 16-bit WAV or FLAC, MP3, or Opus in Ogg.

    If the codec does not support the sample rate, the next higher one (or its highest) is used.
    Samples beyond full scale are clipped.
    """
    file = io.BytesIO()
    with open_writer(file, audio.rate, container) as sound:
        rate = int(sound.samplerate)
        samples = np.clip(resample(audio, rate).samples, -1.0, 1.0)
        # A single large write overflows the stack inside libvorbis and libopus.
        for start in range(0, len(samples), rate):
            sound.write(samples[start : start + rate])
    return Encoded(file.getvalue(), rate, media_type(container))


def open_writer(file: BinaryIO, rate: int, container: str) -> Any:
    """Open a SoundFile for writing mono samples. They must be within [-1, 1], because libsndfile
    wraps others around. Its `samplerate` is chosen as in `encode`."""
    import soundfile

    kind = _CONTAINERS[container]
    rate = next((r for r in kind.rates if r >= rate), max(kind.rates, default=rate))
    return soundfile.SoundFile(
        file,
        "w",
        rate,
        1,
        format=kind.format,
        subtype=kind.subtype,
        compression_level=kind.compression,
    )


def open_reader(file: BinaryIO) -> Any:
    """Open a file that `open_writer` wrote for reading from start to end."""
    from core.audio import libsndfile

    file.seek(0)
    return libsndfile.Sound(file)


def media_type(container: str) -> str:
    return _CONTAINERS[container].media_type
