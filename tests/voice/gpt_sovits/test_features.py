"""Input features. `test_convert.py` compares them with upstream's."""

from __future__ import annotations

import numpy as np
import pytest

from core.voice.gpt_sovits import features

REFERENCE_PLACES = [5337, 23348, 34103, 58837]
REFERENCE_VALUES = [0.0285493862, -0.100596994, 0.0494156927, 0.0305234697]


def tone(hertz: float, rate: int, seconds: float = 1.0) -> np.ndarray:
    return np.sin(2 * np.pi * hertz * np.arange(int(rate * seconds)) / rate).astype(np.float32)


@pytest.mark.parametrize("source", [8000, 16000, 22050, 44100, 48000])
def test_resampling_keeps_a_tone_in_place(source: int) -> None:
    got, want = features.resample_sinc(tone(440, source), source, 32000), tone(440, 32000)
    assert len(got) == len(want)
    inner = slice(1000, -1000)
    np.testing.assert_allclose(got[inner], want[inner], atol=4e-3)


def test_resampling_removes_frequencies_above_the_new_nyquist() -> None:
    assert np.abs(features.resample_sinc(tone(15000, 48000), 48000, 16000)[200:-200]).max() < 0.02


def test_the_same_rate_is_left_alone() -> None:
    wave = tone(100, 32000)
    assert features.resample_sinc(wave, 32000, 32000) is wave


@pytest.mark.parametrize(("peak", "kept"), [(0.5, 0.5), (1.0, 1.0), (1.5, 1.0), (5.0, 2.5)])
def test_peaks_are_limited_but_at_most_halved(peak: float, kept: float) -> None:
    wave = np.array([0, peak, -peak / 2], np.float32)
    assert features.limit_peak(wave).max() == pytest.approx(kept)


def test_a_tone_has_its_peak_in_the_right_bin() -> None:
    magnitudes = features.spectrogram(tone(1000, 32000), 2048, 640)
    assert magnitudes.shape == (1, 1025, 50)
    assert magnitudes[0, :, 25].argmax() == 64


def test_phases_are_rounded_as_torchaudio_rounds_them() -> None:
    """Values of torchaudio 2.11, transforms.Resample(44100, 32000); exact phases differ by 4e-6."""
    wave = (np.random.default_rng(0).standard_normal(44100 * 4) * 0.1).astype(np.float32)
    got = features.resample_sinc(wave, 44100, 32000)[REFERENCE_PLACES]
    np.testing.assert_allclose(got, REFERENCE_VALUES, atol=2e-7)
