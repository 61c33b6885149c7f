"""The parameters of a voice, and speech rendered with them: style, pitch, formants and tone colour,
all without a vocoder."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import msgspec
import numpy as np
from numpy.typing import NDArray

from core.audio.waveform import Audio, Samples, resample
from core.voice.kokoro import styles
from core.voice.kokoro.model import RATE, Model

_FFT = 1024
_CEPSTRUM = 14
PAUSE_BEFORE_S, PAUSE_AFTER_S = 0.05, 0.2
_MAX_DB = 12.0
"""Limit of the equaliser in dB; a stronger one would add the recording's noise to the voice."""


class VoiceParams(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """The parameters of one voice; a voiceprint stores them as an array in this order."""

    timbre: list[float]
    """Weights of the 54 voices (styles.Weights, row 0)."""
    prosody: list[float]
    pitch: float = 1.0
    """Factor of the predicted pitch."""
    formants: float = 1.0
    """Factor of the formant frequencies; above 1 means a shorter vocal tract."""
    tone: list[float] = []
    """Cepstrum of the equaliser in dB; empty for none."""

    @property
    def weights(self) -> styles.Weights:
        return np.array([self.timbre, self.prosody], np.float32)


@dataclass(frozen=True, slots=True)
class Renderer:
    """Renders token ids with voice parameters."""

    model: Model

    def render(self, tokens: list[int], params: VoiceParams) -> Audio:
        """Return speech at model.RATE with short pauses at both ends (see `trim`)."""
        audio, _ = self.render_with_pitch(tokens, params)
        return audio

    def render_with_pitch(self, tokens: list[int], params: VoiceParams) -> tuple[Audio, float]:
        """Return the speech and the geometric mean of its pitch in Hz over voiced frames."""
        style = styles.load().style(params.weights, len(tokens))
        # Synthesis at another pitch and speed, then resampling to the requested pitch and speed 1,
        # moves the formants.
        samples, pitch = self.model.run(
            tokens, style, speed=1 / params.formants, f0=params.pitch / params.formants
        )
        voiced = pitch[pitch > 50]
        hertz = float(np.exp(np.log(voiced).mean())) if len(voiced) else 100.0
        samples = _stretch_spectrum(samples, params.formants)
        return Audio(equalise(trim(samples), params.tone), RATE), hertz * params.formants


def trim(samples: Samples, *, floor: float = 0.01) -> Samples:
    """Set the silence (below `floor` of the peak) at both ends to the pause between sentences:
    PAUSE_BEFORE_S at the start, PAUSE_AFTER_S at the end."""
    peak = float(np.abs(samples).max(initial=0.0))
    loud = np.flatnonzero(np.abs(samples) > floor * peak)
    if not len(loud):
        return samples[:0]
    start, end = loud[0] - int(PAUSE_BEFORE_S * RATE), loud[-1] + int(PAUSE_AFTER_S * RATE)
    missing = (max(0, -start), max(0, end - len(samples)))
    return np.pad(samples[max(0, start) : end], missing)


def fit_equaliser(spectrum: NDArray[np.float64], target: NDArray[np.float64]) -> list[float]:
    """Return the equaliser that changes one long-term spectrum (dB, shape (513,), at RATE) into
    another. It fits the shape between 120 Hz and 7 kHz; above, the correction fades out."""
    hertz = np.fft.rfftfreq(_FFT, 1 / RATE)
    difference = target - spectrum
    band = (hertz > 120) & (hertz < 7000)
    difference -= difference[band].mean()
    low, high = np.flatnonzero(band)[[0, -1]]
    difference[:low] = difference[low]
    difference[high:] = difference[high] * np.exp(-(hertz[high:] - hertz[high]) / 1500)
    return [float(c) for c in np.fft.irfft(difference)[:_CEPSTRUM]]


def equalise(samples: Samples, tone: list[float]) -> Samples:
    """Filter with a linear-phase FIR that has the cepstrum `tone`; the RMS level stays the same."""
    if not tone or not len(samples):
        return samples
    cepstrum = np.zeros(_FFT)
    cepstrum[: len(tone)] = tone
    cepstrum[-len(tone) + 1 :] = tone[:0:-1]
    decibels = np.clip(np.fft.rfft(cepstrum).real, -_MAX_DB, _MAX_DB)
    taps = np.roll(np.fft.irfft(10 ** (decibels / 20)), _FFT // 2) * np.hanning(_FFT)
    size = 1 << (len(samples) + _FFT).bit_length()
    spectrum = np.fft.rfft(samples, size) * np.fft.rfft(taps, size)
    filtered = np.fft.irfft(spectrum, size)[_FFT // 2 :][: len(samples)]
    filtered *= np.sqrt(np.mean(samples**2) / (np.mean(filtered**2) + 1e-12))
    filtered *= min(1.0, 0.98 / (np.abs(filtered).max() + 1e-12))
    return np.asarray(filtered, np.float32)


def measure_spectrum(audio: Audio) -> NDArray[np.float64]:
    """Return the long-term average spectrum of the speech in dB, shape (513,), at RATE."""
    size = 2 * round(_FFT / 2 * audio.rate / RATE)
    wave = np.pad(audio.samples.astype(np.float64), (0, max(0, size - len(audio.samples))))
    frames = np.lib.stride_tricks.sliding_window_view(wave, size)[:: size // 4]
    power = np.abs(np.fft.rfft(frames * np.hanning(size), axis=1)) ** 2
    energy = power.sum(axis=1)
    speech = power[energy >= np.percentile(energy, 95) * 1e-3].mean(axis=0)
    own = np.fft.rfftfreq(size, 1 / audio.rate)
    hertz = np.fft.rfftfreq(_FFT, 1 / RATE)
    return np.asarray(np.interp(hertz, own, 10 * np.log10(speech + 1e-10)))


def _stretch_spectrum(samples: Samples, ratio: float) -> Samples:
    step = Fraction(ratio).limit_denominator(100)
    if step == 1:
        return samples
    return resample(Audio(samples, step.numerator), step.denominator).samples
