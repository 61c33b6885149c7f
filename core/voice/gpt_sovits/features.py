"""Computes the input features of a reference: resampled waveforms and spectrogram.

Each function reproduces the library that GPT-SoVITS was trained with: librosa (libsoxr) for HuBERT,
torchaudio's sinc resampling and torch's STFT for the timbre. The filter bank for the speaker
embedding is Kaldi's, in core/speech/filter_bank.py.
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
_SILENT_TAIL = 9600
"""Zeros after the reference, in samples at 16 kHz: upstream's 0.3 s, counted at 32 kHz."""
_ZERO_CROSSINGS = 6
_ROLLOFF = 0.99


def hubert_input(samples: Samples, rate: int) -> Float:
    """Resample to 16 kHz, as `librosa.resample` does, and append silence: the input (1, n) of
    HuBERT, not normalised."""
    length = math.ceil(len(samples) * HUBERT_RATE / rate)
    wave = resample(Audio(samples, rate), HUBERT_RATE).samples[:length]
    padded = np.zeros((1, length + _SILENT_TAIL), np.float32)
    padded[0, : len(wave)] = wave
    return padded


def resample_sinc(samples: Samples, source: int, target: int) -> Samples:
    """Resample with a Hann-windowed sinc of 6 zero crossings (torchaudio's default)."""
    if source == target:
        return samples
    common = math.gcd(source, target)
    orig, new = source // common, target // common
    kernel, width = _sinc_kernels(orig, new)
    padded = np.pad(samples, (width, width + orig))
    frames = sliding_window_view(padded, kernel.shape[1])[::orig]
    length = math.ceil(new * len(samples) / orig)
    return np.asarray((frames @ kernel.T).reshape(-1)[:length], np.float32)


def limit_peak(samples: Samples) -> Samples:
    """Divide a reference by its peak if that exceeds 1, but at most by 2, as upstream does."""
    peak = float(np.abs(samples).max(initial=0))
    return np.asarray(samples / min(2.0, peak), np.float32) if peak > 1 else samples


def spectrogram(samples: Samples, window: int, hop: int) -> Float:
    """Return linear magnitudes (1, window / 2 + 1, frames), uncentred, with mirrored edges."""
    padded = np.pad(samples, (window - hop) // 2, mode="reflect")
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    frames = sliding_window_view(padded, window)[::hop] * hann.astype(np.float32)
    spectrum = np.fft.rfft(frames, axis=1)
    power = np.square(spectrum.real) + np.square(spectrum.imag)
    return np.sqrt(power + 1e-8).astype(np.float32).T[None]


@cache
def _sinc_kernels(orig: int, new: int) -> tuple[Float, int]:
    """Return the kernels (new, taps), one per phase, and how many samples they reach back."""
    base = min(orig, new) * _ROLLOFF
    width = math.ceil(_ZERO_CROSSINGS * orig / base)
    taps = np.arange(-width, width + orig) / orig
    phases = (-np.arange(new)[:, None] / new).astype(np.float32)  # as torchaudio rounds them
    t = (phases + taps) * base
    t = np.clip(t, -_ZERO_CROSSINGS, _ZERO_CROSSINGS)
    window = np.cos(t * np.pi / _ZERO_CROSSINGS / 2) ** 2
    return (np.sinc(t) * window * base / orig).astype(np.float32), width
