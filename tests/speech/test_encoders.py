from __future__ import annotations

import numpy as np
import pytest

from core.audio.waveform import Audio, resample
from core.speech import encoders as speaker
from core.speech.encoders import CamPlus, Ge2e
from tests.support.speech import load_recording


def halves(audio: Audio) -> tuple[Audio, Audio]:
    middle = len(audio.samples) // 2
    return Audio(audio.samples[:middle], audio.rate), Audio(audio.samples[middle:], audio.rate)


@pytest.mark.slow
@pytest.mark.parametrize("which", [0, 1], ids=["ge2e", "campplus"])
def test_one_person_is_above_the_threshold_and_two_people_below(
    encoders: tuple[Ge2e, CamPlus], which: int
) -> None:
    encoder = encoders[which]
    one, again = halves(load_recording("ref_367.flac"))
    other = load_recording("ref_1688.flac")
    own = encoder.embed(one)
    assert speaker.cosine_similarity(own, encoder.embed(again)) > encoder.threshold
    assert speaker.cosine_similarity(own, encoder.embed(other)) < encoder.threshold
    assert encoder.threshold < encoder.same_person < 1


@pytest.mark.slow
@pytest.mark.parametrize("which", [0, 1], ids=["ge2e", "campplus"])
@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
def test_embeddings_are_unit_vectors_that_hardly_depend_on_the_rate(
    encoders: tuple[Ge2e, CamPlus], which: int, rate: int
) -> None:
    encoder = encoders[which]
    audio = load_recording("ref_1688.flac")
    embedding = encoder.embed(resample(audio, rate))
    assert embedding.dtype == np.float32
    assert np.linalg.norm(embedding) == pytest.approx(1, abs=1e-5)
    likeness = speaker.cosine_similarity(embedding, encoder.embed(audio))
    assert likeness > (0.75 if rate == 8_000 else 0.99)


@pytest.mark.slow
def test_quiet_recordings_are_raised_to_minus_30_decibels(
    encoders: tuple[Ge2e, CamPlus],
) -> None:
    """GE2E ignores the level below -30 dB; CAM++ ignores it altogether."""
    audio = load_recording("ref_1688.flac")
    quiet, quieter = (Audio(audio.samples * np.float32(g), audio.rate) for g in (0.1, 0.02))
    for encoder in encoders:
        assert speaker.cosine_similarity(encoder.embed(quiet), encoder.embed(quieter)) > 0.97


def test_half_a_second_is_enough_to_embed(encoders: tuple[Ge2e, CamPlus]) -> None:
    short = Audio(load_recording("ref_1688.flac").samples[16_000:24_000], 16_000)
    for encoder in encoders:
        assert np.isfinite(encoder.embed(short)).all()


def test_campplus_features_have_no_mean() -> None:
    noise = load_recording("ref_1688.flac").samples[:32_000]
    features = speaker._fbank80(noise)
    assert features.shape == (198, 80)
    np.testing.assert_allclose(features.mean(axis=0), 0, atol=1e-5)
