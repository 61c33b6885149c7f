"""A leaked clip: speech that was opened, transcoded, cut and sped up."""

from __future__ import annotations

import io

import numpy as np
import soundfile
import soxr

from core.audio import decoding, encoding
from core.audio.waveform import Audio


def leak_clip(plain: bytes) -> bytes:
    """Return four seconds of an opened output after MP3 at 64 kbit/s, played 3 % too fast."""
    audio = decoding.decode_trusted(plain)
    at_64k = io.BytesIO()
    soundfile.write(
        at_64k, audio.samples, audio.rate, format="MP3", bitrate_mode="CONSTANT",
        compression_level=0.6,
    )  # fmt: skip
    decoded, rate = soundfile.read(io.BytesIO(at_64k.getvalue()), dtype="float32")
    part = decoded[rate : 5 * rate]
    fast = soxr.resample(part, rate, round(rate / 1.03)).astype(np.float32)
    return encoding.encode(Audio(fast, rate), "wav").data
