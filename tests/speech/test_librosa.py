"""Features equal those of librosa, which is not used because its import is slow."""

from __future__ import annotations

import librosa
import numpy as np
import pytest

from core.speech import filter_bank
from core.voice.gpt_sovits import features
from tests.support.speech import load_recording


@pytest.mark.slow
@pytest.mark.parametrize(("bands", "n_fft"), [(40, 400), (80, 400)])
def test_the_mel_scale_is_slaneys(bands: int, n_fft: int) -> None:
    expected = librosa.filters.mel(sr=16_000, n_fft=n_fft, n_mels=bands).T
    np.testing.assert_allclose(filter_bank.slaney_bank(bands, n_fft), expected, atol=1e-6)


@pytest.mark.slow
def test_the_mel_spectrogram_equals_librosas() -> None:
    samples = load_recording("ref_1688.flac").samples[:32_000]
    power = np.abs(librosa.stft(samples, n_fft=400, hop_length=160)) ** 2
    expected = (librosa.filters.mel(sr=16_000, n_fft=400, n_mels=40) @ power).T
    np.testing.assert_allclose(
        filter_bank.slaney_bands(np.pad(samples, 200), 40), expected, atol=1e-5 * expected.max()
    )


@pytest.mark.slow
@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 48_000])
def test_the_input_of_hubert_is_resampled_as_by_librosa(rate: int) -> None:
    samples = load_recording("ref_1688.flac").samples[:70_001]
    expected = librosa.resample(samples, orig_sr=rate, target_sr=16_000, res_type="soxr_hq")
    computed = features.hubert_input(samples, rate)[0]
    np.testing.assert_array_equal(computed[: len(expected)], expected)
    assert not computed[len(expected) :].any()
