"""Mel filter banks of audio at 16 kHz.

There are two mel scales because a network needs the one that it was trained with.
"""

from __future__ import annotations

from functools import cache
from typing import TypeVar

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

RATE = 16_000
"""Sample rate of all input in Hz."""

_FRAME, _SHIFT, _FFT = 400, 160, 512
_BANDS = 80
_LOWEST = 20.0

F = TypeVar("F", np.float32, np.float64)


def kaldi_bands(samples: NDArray[F]) -> NDArray[F]:
    """Return Kaldi's log-mel filter bank, shape (frames, 80), a frame of 25 ms every 10 ms.

    As `compute-fbank-feats`: 80 bands from 20 Hz to 8 kHz, Povey window, pre-emphasis 0.97, no
    dither, natural logarithms, computed in the precision of `samples`. Audio shorter than a frame
    is padded.
    """
    samples = np.pad(samples, (0, max(0, _FRAME - len(samples))))
    frames = sliding_window_view(samples, _FRAME)[::_SHIFT]
    frames = frames - frames.mean(axis=1, keepdims=True)
    previous = np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
    povey = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(_FRAME) / (_FRAME - 1))) ** 0.85
    emphasised = (frames - 0.97 * previous) * povey.astype(samples.dtype)
    power = np.abs(np.fft.rfft(emphasised, _FFT, axis=1)) ** 2
    energies = power[:, :-1] @ _kaldi_bank().astype(samples.dtype).T
    return np.asarray(np.log(np.maximum(energies, np.finfo(np.float32).eps)))


@cache
def _kaldi_bank() -> NDArray[np.float64]:
    """Return triangular filters evenly spaced on HTK's mel scale, shape (80, 256): Kaldi has no
    Nyquist bin."""
    low, high = _mel(np.array([_LOWEST, RATE / 2]))
    width = (high - low) / (_BANDS + 1)
    left = (low + np.arange(_BANDS) * width)[:, None]
    bins = _mel(np.arange(_FFT // 2) * RATE / _FFT)
    bank = np.maximum(0, np.minimum((bins - left) / width, (left + 2 * width - bins) / width))
    return np.asarray(bank)


def _mel(hertz: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(1127 * np.log1p(hertz / 700))


def slaney_bands(samples: NDArray[np.float32], bands: int) -> NDArray[np.float64]:
    """Return the power (not logarithmic) in bands of Slaney's mel scale, shape (frames, bands), a
    frame of 25 ms (Hann window) every 10 ms. The first frame begins with the first sample."""
    frames = sliding_window_view(samples, _FRAME)[::_SHIFT]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(_FRAME) / _FRAME)
    power = np.abs(np.fft.rfft(frames * hann, axis=1)) ** 2
    return np.asarray(power @ slaney_bank(bands, _FRAME))


@cache
def slaney_bank(bands: int, n_fft: int) -> NDArray[np.float64]:
    """Return triangular filters of equal area on Slaney's mel scale (Auditory Toolbox, 1998), which
    is linear below 1 kHz and logarithmic above; shape (n_fft/2+1, bands), 0 to 8 kHz."""
    step = np.log(6.4) / 27
    top = 15 + np.log(8000 / 1000) / step
    mels = np.linspace(0, top, bands + 2)
    edges = np.where(mels < 15, mels * 200 / 3, 1000 * np.exp(step * (mels - 15)))
    bins = np.arange(n_fft // 2 + 1)[:, None] * RATE / n_fft
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    shape = np.maximum(
        0, np.minimum((bins - low) / (centre - low), (high - bins) / (high - centre))
    )
    return np.asarray(shape * 2 / (high - low))
