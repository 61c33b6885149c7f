"""Level a stream with a gain that is fixed beforehand, and limit its peaks.

A file is measured whole before it is scaled (core/audio/loudness.py); the rest of a stream is
unknown. So its first words set the gain, and a limiter, which looks 10 ms ahead, keeps the true
peak (ITU-R BS.1770-4, annex 2) below the ceiling where later words are louder.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from core.audio.loudness import loudness
from core.audio.waveform import Audio, Samples

CEILING: Final = 10 ** (-1 / 20)
"""Highest true peak: -1 dBTP."""
LOWEST_GAIN, HIGHEST_GAIN = 0.1, 10.0
"""Limits of the gain, because the first words may be one click or one whisper."""
_REACH = 6
"""Samples on each side from which a value between two samples is interpolated."""
_BLOCK_S, _WINDOW_S = 0.010, 0.005
DELAY_S = _BLOCK_S + 2 * _WINDOW_S + 0.001
"""Most seconds of sound that a limiter has taken and not yet returned."""


def find_stream_gain(first: Audio, lufs: float = -18.0) -> float:
    """Return the factor that gives the beginning of a stream a loudness in LUFS; 1 for silence."""
    level = loudness(first)
    if not math.isfinite(level):
        return 1.0
    return float(np.clip(10 ** ((lufs - level) / 20), LOWEST_GAIN, HIGHEST_GAIN))


def true_peaks(samples: Samples) -> NDArray[np.float64]:
    """Return the highest of four absolute values from each sample to before the next: (n,). Like
    any meter of that kind, it reads peaks too low whose frequency is near half the sample rate."""
    near = np.arange(-_REACH + 1, _REACH + 1)
    peaks = np.abs(samples.astype(np.float64))
    for phase in (0.25, 0.5, 0.75):
        at = near - phase
        taps = np.sinc(at) * (0.5 + 0.5 * np.cos(np.pi * at / (_REACH + 0.5)))
        between = np.convolve(samples, taps[::-1])[_REACH : _REACH + len(samples)]
        np.maximum(peaks, np.abs(between), out=peaks)
    return peaks


class Leveller:
    """Scale and limit a stream: `push` audio and take the result, then call `finish` once. What
    comes out does not depend on the sizes of the pieces, and where no peak is near, it is the input
    times the gain."""

    def __init__(self, rate: int, gain: float) -> None:
        self._gain = np.float32(gain)
        self._block, self._window = round(_BLOCK_S * rate), round(_WINDOW_S * rate)
        self._halo = 2 * self._window + _REACH
        self._buffer = np.zeros(self._halo, np.float32)

    def push(self, samples: Samples) -> Samples:
        """Add samples, (n,), and return those that are ready."""
        self._buffer = np.concatenate([self._buffer, samples * self._gain])
        size = self._block + 2 * self._halo
        starts = range(0, len(self._buffer) - size + 1, self._block)
        done = [self._limit(self._buffer[start : start + size]) for start in starts]
        self._buffer = self._buffer[len(done) * self._block :]
        return np.concatenate([np.zeros(0, np.float32), *done])

    def finish(self) -> Samples:
        """Return the remaining samples. The leveller cannot be used afterwards."""
        missing = len(self._buffer) - self._halo
        return self.push(np.zeros(self._block + self._halo, np.float32))[:missing]

    def _limit(self, samples: Samples) -> Samples:
        """Return the block between the halos. The gain is the least that any peak in its window
        needs, smoothed over as wide a window, so that it is below what each peak needs."""
        inner = samples[self._halo : -self._halo]
        peaks = true_peaks(samples)
        if peaks.max() <= CEILING:
            return inner
        needed = np.minimum(1, CEILING / np.maximum(peaks, 1e-9))
        width = 2 * self._window + 1
        least = np.lib.stride_tricks.sliding_window_view(needed, width).min(axis=1)
        window = np.hanning(width + 2)[1:-1]
        gain = np.convolve(least, window / window.sum(), "valid")[_REACH:-_REACH]
        return (inner * gain).astype(np.float32)
