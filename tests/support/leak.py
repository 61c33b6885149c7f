"""How sealed speech gets out."""

from __future__ import annotations

import io

import numpy as np
import soundfile
import soxr

from core.audio import decoding, encoding
from core.audio.waveform import Audio


def leaked(plain: bytes) -> bytes:
    """What is found of an opened output: through MP3 at 64 kbit/s, four seconds of it, played 3 %
    too fast."""
    heard = decoding.decode_trusted(plain)
    at_64k = io.BytesIO()
    soundfile.write(
        at_64k, heard.samples, heard.rate, format="MP3", bitrate_mode="CONSTANT",
        compression_level=0.6,
    )  # fmt: skip
    again, rate = soundfile.read(io.BytesIO(at_64k.getvalue()), dtype="float32")
    part = again[rate : 5 * rate]
    fast = soxr.resample(part, rate, round(rate / 1.03)).astype(np.float32)
    return encoding.encode(Audio(fast, rate), "wav").data
