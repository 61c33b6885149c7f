"""Bad and good recordings, made on the spot: one small function a kind, all deterministic."""

from __future__ import annotations

import hashlib
import io
import struct
from functools import cache
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from core.audio.waveform import Audio, resample

SPEECH = Path(__file__).parents[2] / "data" / "speech"


@cache
def speech(name: str = "ref_367.flac") -> Audio:
    samples, rate = soundfile.read(SPEECH / name, dtype="float32")
    return Audio(samples, rate)


def noise(seconds: float, rate: int = 16_000, seed: int = 0) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    return (0.1 * rng.standard_normal(int(seconds * rate))).astype(np.float32)


def random_bytes(count: int) -> bytes:
    return b"".join(hashlib.sha256(bytes([i])).digest() for i in range(count // 32))


def pack(
    samples: NDArray[np.float32] | NDArray[np.int16],
    rate: int = 16_000,
    container: str = "WAV",
    subtype: str | None = None,
) -> bytes:
    file = io.BytesIO()
    channels = 1 if samples.ndim == 1 else samples.shape[1]
    with soundfile.SoundFile(file, "w", rate, channels, format=container, subtype=subtype) as sound:
        for start in range(0, len(samples), rate):
            sound.write(samples[start : start + rate])
    return file.getvalue()


def speech_as(container: str, subtype: str | None = None, rate: int = 16_000) -> bytes:
    return pack(resample(speech(), rate).samples, rate, container, subtype)


def patched(data: bytes, at: int, form: str, value: int) -> bytes:
    """`data` with one little-endian field of a header replaced."""
    field = struct.pack("<" + form, value)
    return data[:at] + field + data[at + len(field) :]


def data_size(data: bytes, value: int) -> bytes:
    return patched(data, data.index(b"data") + 4, "I", value)


def flac_announcing(data: bytes, frames: int) -> bytes:
    fields = int.from_bytes(data[18:26], "big")
    fields = fields >> 36 << 36 | frames
    return data[:18] + fields.to_bytes(8, "big") + data[26:]


def id3(size: int) -> bytes:
    digits = bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3\x04\x00\x00" + digits + bytes(size)


@cache
@cache
def minutes_of_silence(minutes: int, container: str, subtype: str | None = None) -> bytes:
    return pack(np.zeros(8_000 * 60 * minutes, np.int16), 8_000, container, subtype)
