"""How loud speech is to an ear, and bringing it to a given loudness (ITU-R BS.1770-4, mono)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from core.audio.waveform import Audio, peak


def loudness(audio: Audio) -> float:
    """Integrated loudness in LUFS (ITU-R BS.1770-4, mono); -inf for silence."""
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


def normalise_loudness(audio: Audio, lufs: float = -18.0, ceiling: float = 0.9) -> Audio:
    """Scale to a loudness, or less where the largest sample would pass the ceiling."""
    top = peak(audio.samples)
    gain = min(10 ** ((lufs - loudness(audio)) / 20), ceiling / top) if top > 0 else 1.0
    return Audio(audio.samples * np.float32(gain), audio.rate)


def _k_weighted(audio: Audio) -> NDArray[np.float64]:
    """The samples through both filters, by overlap-save: importing scipy.signal for its recursive
    filter takes longer than a minute of sound takes here. The response has died away by -100 dB
    within the half second that blocks overlap."""
    taps, size = audio.rate // 2, 1 << 18
    z = np.exp(-2j * np.pi * np.arange(size // 2 + 1) / size)
    response = np.ones_like(z)
    for b, a in _k_weighting(audio.rate):
        response *= np.polyval(b[::-1], z) / np.polyval(a[::-1], z)
    padded = np.concatenate([np.zeros(taps), audio.samples])
    blocks = [
        np.fft.irfft(np.fft.rfft(padded[start : start + size], size) * response)[taps:]
        for start in range(0, len(audio.samples), size - taps)
    ]
    return np.concatenate(blocks)[: len(audio.samples)] if blocks else np.zeros(0)


def _k_weighting(rate: int) -> list[tuple[list[float], list[float]]]:
    """The two filters of BS.1770-4 annex 1, for any rate (analogue prototypes of De Man, 2014)."""
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
