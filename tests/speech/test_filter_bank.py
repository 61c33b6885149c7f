"""Kaldi's filter bank; the one on Slaney's scale is compared in test_librosa.py."""

from __future__ import annotations

import numpy as np
import pytest

from core.speech import filter_bank


@pytest.mark.parametrize("precision", [np.float32, np.float64])
def test_bands_are_computed_in_the_precision_of_the_samples(precision: type) -> None:
    tone = np.sin(2 * np.pi * 1000 * np.arange(32_000) / 16_000)
    bands = filter_bank.kaldi_bands(tone.astype(precision))
    assert bands.shape == (198, 80)
    assert bands.dtype == precision
    assert set(bands.argmax(axis=1)) <= {27, 28, 29}


def test_sound_shorter_than_a_frame_has_one_frame() -> None:
    assert filter_bank.kaldi_bands(np.zeros(10, np.float32)).shape == (1, 80)


def test_silence_is_at_the_floor() -> None:
    bands = filter_bank.kaldi_bands(np.zeros(1600, np.float32))
    assert bands.shape == (8, 80)
    assert np.allclose(bands, np.log(1.1920929e-07))
