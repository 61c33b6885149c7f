"""Recordings of people who read aloud (tests/data/speech)."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from core.audio import encoding
from core.audio.waveform import Audio

Floats = NDArray[np.float32]

FOLDER = Path(__file__).parents[1] / "data" / "speech"
NAMES = tuple(sorted(path.name for path in FOLDER.glob("*.6s.flac")))
RATE = 16_000
KEY = bytes(range(32))
OTHER_KEY = bytes(range(1, 33))


@cache
def load_clip(name: str = NAMES[0]) -> Floats:
    """Return six seconds of speech at 16 kHz."""
    samples: Floats
    samples, rate = soundfile.read(FOLDER / name, dtype="float32")
    assert rate == RATE
    samples.setflags(write=False)
    return samples


def cut_clip(start: float, end: float, name: str = NAMES[0]) -> bytes:
    """Return a part of a clip, in seconds, as a FLAC file."""
    samples = load_clip(name)[round(start * RATE) : round(end * RATE)]
    return encoding.encode(Audio(samples, RATE), "flac").data


def load_recording(name: str) -> Audio:
    """Return the first ten seconds of a file."""
    samples, rate = soundfile.read(FOLDER / name, dtype="float32")
    return Audio(samples[: 10 * rate], rate)
