"""Measure and normalise the loudness of mono audio (ITU-R BS.1770-4)."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from core.audio.waveform import Audio, peak

_LONGEST_BLOCK: Final = 1 << 18
"""Samples of a block of the filter."""


def loudness(audio: Audio) -> float:
    """Return the integrated loudness in LUFS; -inf for silence."""
    weighted = _k_weighted(audio)
    hop = audio.rate // 10
    count = max(1, len(weighted) // hop - 3)  # 400 ms blocks, 75 % overlap
    energy = np.concatenate([[0.0], np.cumsum(weighted**2)])
    starts = np.arange(count) * hop
    ends = np.minimum(starts + 4 * hop, len(weighted))
    power = (energy[ends] - energy[starts]) / np.maximum(ends - starts, 1)
    gated = power[power > 10 ** ((-70 + 0.691) / 10)]
    if gated.size:
        gated = gated[gated > gated.mean() / 10]  # the relative gate, 10 LU below
    return float(-0.691 + 10 * np.log10(gated.mean())) if gated.size else -np.inf


def find_gain(audio: Audio, lufs: float = -18.0, ceiling: float = 0.9) -> float:
    """Return the factor that gives a loudness in LUFS, or less if the peak would exceed the
    ceiling."""
    top = peak(audio.samples)
    return float(min(10 ** ((lufs - loudness(audio)) / 20), ceiling / top)) if top > 0 else 1.0


def scale(audio: Audio, gain: float) -> Audio:
    return Audio(audio.samples * np.float32(gain), audio.rate)


def normalise_loudness(audio: Audio, lufs: float = -18.0, ceiling: float = 0.9) -> Audio:
    """Scale by what `find_gain` returns."""
    return scale(audio, find_gain(audio, lufs, ceiling))


def _k_weighted(audio: Audio) -> NDArray[np.float64]:
    """Apply both filters by overlap-save: importing scipy.signal for its recursive filter would
    take longer than a minute of audio takes here. Blocks overlap by half a second, in which the
    impulse response decays by 100 dB."""
    taps = audio.rate // 2
    size = min(1 << (taps + len(audio.samples) - 1).bit_length(), _LONGEST_BLOCK)
    response = _response(audio.rate, size)
    padded = np.concatenate([np.zeros(taps), audio.samples])
    blocks = [
        np.fft.irfft(np.fft.rfft(padded[start : start + size], size) * response)[taps:]
        for start in range(0, len(audio.samples), size - taps)
    ]
    return np.concatenate(blocks)[: len(audio.samples)] if blocks else np.zeros(0)


@lru_cache(maxsize=8)
def _response(rate: int, size: int) -> NDArray[np.complex128]:
    """Return the frequency response of both filters in the bins of a real FFT."""
    z = np.exp(-2j * np.pi * np.arange(size // 2 + 1) / size)
    response: NDArray[np.complex128] = np.ones_like(z)
    for b, a in _k_weighting(rate):
        response *= np.polyval(b[::-1], z) / np.polyval(a[::-1], z)
    return response


def _k_weighting(rate: int) -> list[tuple[list[float], list[float]]]:
    """Return the two filters of BS.1770-4 annex 1 for any sample rate, as (numerator, denominator);
    analogue prototypes by De Man (2014)."""
    k = math.tan(math.pi * 1681.974450955533 / rate)
    q, high = 0.7071752369554196, 10 ** (3.999843853973347 / 20)
    band, norm = high**0.4996667741545416, 1 + k / q + k * k
    shelf = (
        [
            (high + band * k / q + k * k) / norm,
            2 * (k * k - high) / norm,
            (high - band * k / q + k * k) / norm,
        ],
        [1.0, 2 * (k * k - 1) / norm, (1 - k / q + k * k) / norm],
    )
    k, q = math.tan(math.pi * 38.13547087602444 / rate), 0.5003270373238773
    norm = 1 + k / q + k * k
    return [
        shelf,
        ([1.0, -2.0, 1.0], [1.0, 2 * (k * k - 1) / norm, (1 - k / q + k * k) / norm]),
    ]
