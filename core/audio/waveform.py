"""Mono samples and the pure functions on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Audio:
    """Mono audio."""

    samples: Samples
    """One channel, float32, in [-1, 1]; shape (n,)."""
    rate: int
    """Sample rate in Hz."""

    @property
    def seconds(self) -> float:
        return len(self.samples) / self.rate


def resample(audio: Audio, rate: int) -> Audio:
    """Convert the sample rate (libsoxr, high quality)."""
    if audio.rate == rate:
        return audio
    import soxr

    return Audio(np.asarray(soxr.resample(audio.samples, audio.rate, rate), np.float32), rate)


class StreamResampler:
    """Convert the sample rate of a stream, as `resample` does of a whole."""

    def __init__(self, rate: int, to: int) -> None:
        self._stream = None
        if rate != to:
            import soxr

            self._stream = soxr.ResampleStream(rate, to, 1, dtype="float32")

    def push(self, samples: Samples, *, last: bool = False) -> Samples:
        """Add samples, (n,), and return those that are ready; with `last`, all that are left."""
        if self._stream is None:
            return samples
        return np.asarray(self._stream.resample_chunk(samples, last=last), np.float32)


def peak(samples: Samples) -> float:
    return float(np.abs(samples).max(initial=0.0))


def silence(seconds: float, rate: int) -> Audio:
    return Audio(np.zeros(round(seconds * rate), np.float32), rate)


def join(parts: Sequence[Audio], pause: float | Sequence[float] = 0.0) -> Audio:
    """Concatenate audio of one sample rate with pauses between: seconds of silence, one value for
    all gaps or one for each. Raises ValueError for different rates or a wrong number of pauses."""
    rate = parts[0].rate
    if any(part.rate != rate for part in parts):
        raise ValueError("parts of different rates cannot be joined")
    gaps = [pause] * (len(parts) - 1) if isinstance(pause, (int, float)) else list(pause)
    if len(gaps) != len(parts) - 1:
        raise ValueError(f"{len(parts)} parts have {len(parts) - 1} gaps, not {len(gaps)}")
    pieces = [parts[0].samples]
    for gap, part in zip(gaps, parts[1:], strict=True):
        pieces += [silence(gap, rate).samples, part.samples]
    return Audio(np.concatenate(pieces), rate)


def fade(audio: Audio, seconds: float = 0.005) -> Audio:
    """Fade in and out linearly."""
    n = min(round(seconds * audio.rate), len(audio.samples) // 2)
    ramp = (np.arange(n, dtype=np.float32) + 1) / (n + 1)
    samples = audio.samples.copy()
    samples[:n] *= ramp
    samples[len(samples) - n :] *= ramp[::-1]
    return Audio(samples, audio.rate)
