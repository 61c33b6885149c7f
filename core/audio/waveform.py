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


def peak(samples: Samples) -> float:
    return float(np.abs(samples).max(initial=0.0))


def normalise_peak(audio: Audio, to: float = 0.9) -> Audio:
    """Scale the peak to `to`; silence is returned unchanged."""
    top = peak(audio.samples)
    return Audio(audio.samples * np.float32(to / top), audio.rate) if top > 0 else audio


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


def trim(audio: Audio, *, below_db: float = -45.0, keep: float = 0.05) -> Audio:
    """Remove quiet edges, relative to the loudest 10 ms, except for `keep` seconds; fade the new
    edges over 5 ms to avoid clicks. The result for silence is empty."""
    hop = max(1, audio.rate // 100)
    count = -(-len(audio.samples) // hop)
    power = np.add.reduceat(audio.samples.astype(np.float64) ** 2, np.arange(count) * hop)
    loud_at = np.flatnonzero(power > power.max(initial=0.0) * 10 ** (below_db / 10))
    if not loud_at.size:
        return Audio(audio.samples[:0], audio.rate)
    margin = round(keep * audio.rate)
    start = max(0, int(loud_at[0]) * hop - margin)
    stop = min(len(audio.samples), (int(loud_at[-1]) + 1) * hop + margin)
    return fade(Audio(audio.samples[start:stop], audio.rate))


def fade(audio: Audio, seconds: float = 0.005) -> Audio:
    """Fade in and out linearly."""
    n = min(round(seconds * audio.rate), len(audio.samples) // 2)
    ramp = (np.arange(n, dtype=np.float32) + 1) / (n + 1)
    samples = audio.samples.copy()
    samples[:n] *= ramp
    samples[len(samples) - n :] *= ramp[::-1]
    return Audio(samples, audio.rate)
