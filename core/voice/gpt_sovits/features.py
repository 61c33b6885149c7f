"""What the networks hear of a reference: resampled waves and spectrogram. Pure functions.

Each follows the library that GPT-SoVITS was trained with, because the networks know its habits:
librosa (libsoxr) for HuBERT, torchaudio's sinc resampling and STFT for the timbre. The filter bank
for the speaker vector is Kaldi's, in core/speech/filter_bank.py.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from core.audio.waveform import Audio, Samples, resample

Float = NDArray[np.float32]

HUBERT_RATE = 16000
_TAIL = 9600
"""Zeros after the reference: upstream means 0.3 s but counts it at 32 kHz."""
_ZEROS = 6
_ROLLOFF = 0.99


def hubert_wave(samples: Samples, rate: int) -> Float:
    """(1, n) at 16 kHz with its tail of silence, as HuBERT wants it: not normalised.

    What `librosa.resample` gives, without importing librosa: that takes 3 s of processor time, and
    8 s or more where numba has not compiled it yet, as in every new instance.
    """
    length = math.ceil(len(samples) * HUBERT_RATE / rate)
    heard = resample(Audio(samples, rate), HUBERT_RATE).samples[:length]
    wave = np.zeros((1, length + _TAIL), np.float32)
    wave[0, : len(heard)] = heard
    return wave


def resampled(samples: Samples, source: int, target: int) -> Samples:
    """Band-limited by a Hann-windowed sinc of 6 zeros (torchaudio's default)."""
    if source == target:
        return samples
    common = math.gcd(source, target)
    orig, new = source // common, target // common
    kernel, width = _sinc(orig, new)
    padded = np.pad(samples, (width, width + orig))
    frames = sliding_window_view(padded, kernel.shape[1])[::orig]
    length = math.ceil(new * len(samples) / orig)
    return np.asarray((frames @ kernel.T).reshape(-1)[:length], np.float32)


def levelled(samples: Samples) -> Samples:
    """Too loud a reference is halved at most: upstream's rule, which the timbre depends on."""
    peak = float(np.abs(samples).max(initial=0))
    return np.asarray(samples / min(2.0, peak), np.float32) if peak > 1 else samples


def spectrogram(samples: Samples, window: int, hop: int) -> Float:
    """Linear magnitudes (1, window / 2 + 1, frames), centred on nothing, mirrored at the ends."""
    padded = np.pad(samples, (window - hop) // 2, mode="reflect")
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    frames = sliding_window_view(padded, window)[::hop] * hann.astype(np.float32)
    spectrum = np.fft.rfft(frames, axis=1)
    power = np.square(spectrum.real) + np.square(spectrum.imag)
    return np.sqrt(power + 1e-8).astype(np.float32).T[None]


@cache
def _sinc(orig: int, new: int) -> tuple[Float, int]:
    """Kernels (new, taps), one a phase, and how far they reach back."""
    base = min(orig, new) * _ROLLOFF
    width = math.ceil(_ZEROS * orig / base)
    taps = np.arange(-width, width + orig) / orig
    phases = (-np.arange(new)[:, None] / new).astype(np.float32)  # as torchaudio rounds them
    t = (phases + taps) * base
    t = np.clip(t, -_ZEROS, _ZEROS)
    window = np.cos(t * np.pi / _ZEROS / 2) ** 2
    return (np.sinc(t) * window * base / orig).astype(np.float32), width
