"""Noise-to-mask ratio per critical band and 32 ms: where a change is above the masking threshold.

The masking threshold follows Johnston, "Transform coding of audio signals using perceptual noise
criteria" (1988): the energy per Bark band, spread over neighbouring bands (Schroeder's function),
is lowered by 5.5 dB for noise and by 14.5 dB plus the band's number for tones, weighted by spectral
flatness.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Sound = NDArray[np.float32] | Floats


def measure(host: Sound, changed: Sound, rate: int) -> tuple[float, float]:
    """Return the share of cells (0..1) in which the change is above the threshold, and the 95th
    percentile of the ratio in dB. Cells 60 dB below the loudest and pauses are ignored."""
    sound, change = _power(host, rate), _power(changed - host, rate)
    frequency = np.arange(sound.shape[1]) * rate / 2 / (sound.shape[1] - 1)
    bark = 13 * np.arctan(0.00076 * frequency) + 3.5 * np.arctan((frequency / 7500) ** 2)
    bands = np.eye(int(bark.max()) + 1)[bark.astype(int)]
    level, noise = sound @ bands, change @ bands
    ratio = 10 * np.log10(noise / (_threshold(sound, level) + 1e-20) + 1e-9)
    loud = level.sum(axis=1, keepdims=True)
    audible = (loud > 1e-4 * loud.max()) & (level > 1e-6 * level.max())
    return float(np.mean(ratio[audible] > 0)), float(np.quantile(ratio[audible], 0.95))


def _power(samples: Sound, rate: int) -> Floats:
    width = int(0.032 * rate) // 2 * 2
    frames = np.lib.stride_tricks.sliding_window_view(samples.astype(float), width)[:: width // 2]
    power: Floats = np.abs(np.fft.rfft(frames * np.hanning(width))) ** 2
    return power


def _threshold(power: Floats, level: Floats) -> Floats:
    bands = np.arange(level.shape[1])
    away = bands[None, :] - bands[:, None] + 0.474
    spread = 10 ** ((15.81 + 7.5 * away - 17.5 * np.sqrt(1 + away**2)) / 10)
    inner = power[:, 1:] + 1e-12
    flatness = 10 * (np.mean(np.log10(inner), axis=1) - np.log10(np.mean(inner, axis=1)))
    tonal = np.clip(flatness / -60, 0, 1)[:, None]
    offset = tonal * (15 + bands) + (1 - tonal) * 5.5
    threshold: Floats = level @ spread / spread.sum(axis=0) * 10 ** (-offset / 10)
    return threshold
