"""What librosa prepares equals what was computed without it, and what is computed without it.

Voiceprints that earlier versions stored stay in use, because they were learned from equal samples.
"""

from __future__ import annotations

import librosa
import numpy as np
import pytest
import soxr

from core.audio.waveform import Audio
from core.speech import filter_bank, preparation
from core.speech.encoders import GE2E_BANDS, raise_level
from core.voice.gpt_sovits import features
from tests.support.speech import load_recording


@pytest.mark.slow
@pytest.mark.parametrize(("bands", "n_fft"), [(40, 400), (80, 400)])
def test_the_mel_scale_is_slaneys(bands: int, n_fft: int) -> None:
    expected = librosa.filters.mel(sr=16_000, n_fft=n_fft, n_mels=bands).T
    np.testing.assert_allclose(filter_bank.slaney_bank(bands, n_fft), expected, atol=1e-6)


@pytest.mark.slow
def test_rendered_and_recorded_speech_have_the_same_features() -> None:
    """An engine computes those of what it renders without librosa."""
    samples = load_recording("ref_1688.flac").samples[:32_000]
    recorded = preparation.mel_features(samples)
    rendered = filter_bank.slaney_bands(np.pad(raise_level(samples), 200), GE2E_BANDS)
    np.testing.assert_allclose(rendered, recorded, atol=1e-5 * recorded.max())


@pytest.mark.slow
@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000, 96_000])
def test_resampling_is_that_of_soxr(rate: int) -> None:
    audio = Audio(load_recording("ref_1688.flac").samples[:70_001], rate)
    resampled = preparation.resample(audio, 16_000).samples
    expected = soxr.resample(audio.samples, rate, 16_000)
    shorter = min(len(resampled), len(expected))
    assert max(len(resampled), len(expected)) <= shorter + 1
    np.testing.assert_array_equal(resampled[:shorter], expected[:shorter])


def test_the_peak_is_that_of_a_plain_division() -> None:
    audio = load_recording("ref_1688.flac")
    level = np.float32(0.9 / np.abs(audio.samples).max())
    levelled = preparation.normalise_peak(audio, 0.9).samples
    np.testing.assert_allclose(levelled, audio.samples * level, rtol=3e-7)
    assert not preparation.normalise_peak(Audio(np.zeros(9, np.float32), 8_000)).samples.any()


@pytest.mark.slow
@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 48_000])
def test_the_input_of_hubert_is_resampled_as_by_librosa(rate: int) -> None:
    samples = load_recording("ref_1688.flac").samples[:70_001]
    expected = librosa.resample(samples, orig_sr=rate, target_sr=16_000, res_type="soxr_hq")
    computed = features.hubert_input(samples, rate)[0]
    np.testing.assert_array_equal(computed[: len(expected)], expected)
    assert not computed[len(expected) :].any()
