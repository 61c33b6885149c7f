from __future__ import annotations

import hashlib

import numpy as np
import pytest

from core.audio.tempo import change_tempo
from core.audio.waveform import Audio, Samples

RATE = 24_000
FACTORS = (0.5, 0.77, 0.95, 1.1, 1.25, 1.5, 2.0)


def tone(hertz: float, seconds: float) -> Samples:
    """A voiced sound of five partials."""
    time = np.arange(round(seconds * RATE)) / RATE
    partials = [np.sin(2 * np.pi * hertz * k * time) / k for k in range(1, 6)]
    return np.asarray(0.2 * np.sum(partials, axis=0), np.float32)


def strongest(samples: Samples) -> float:
    """The frequency of the strongest partial, in Hz."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)), 8 * RATE))
    return float(np.argmax(spectrum)) / 8


@pytest.mark.parametrize("factor", FACTORS)
def test_the_time_is_divided_and_pitch_and_level_stay(factor: float) -> None:
    speech = Audio(tone(140, 2), RATE)
    changed = change_tempo(speech, factor)
    assert len(changed.samples) == round(len(speech.samples) / factor)
    assert changed.samples.dtype == np.float32
    inner = changed.samples[1000:-1000]
    assert strongest(inner) == pytest.approx(140, rel=0.01)
    assert inner.std() == pytest.approx(speech.samples.std(), rel=0.05)


@pytest.mark.parametrize("factor", FACTORS)
def test_every_sound_stays_in_its_order(factor: float) -> None:
    pitches = [110, 180, 130, 220, 150, 260]
    length = 0.12
    changed = change_tempo(Audio(np.concatenate([tone(p, length) for p in pitches]), RATE), factor)
    parts = np.array_split(changed.samples, len(pitches))
    assert [strongest(part) for part in parts] == pytest.approx(pitches, rel=0.06)


def test_pauses_are_shortened_more_than_words() -> None:
    pause = np.zeros(RATE // 2, np.float32)
    speech = np.concatenate([tone(140, 1), pause, tone(140, 1)])
    changed = change_tempo(Audio(speech, RATE), 2).samples
    loud = np.flatnonzero(np.abs(changed) > 0.02)
    assert np.diff(loud).max() / RATE == pytest.approx(0.125, abs=0.03)
    slow = change_tempo(Audio(speech, RATE), 0.5).samples
    assert np.diff(np.flatnonzero(np.abs(slow) > 0.02)).max() / RATE == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("factor", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 17, 239, 241, 1000])
def test_any_length_can_be_changed(count: int, factor: float) -> None:
    for samples in (np.zeros(count, np.float32), np.ones(count, np.float32)):
        changed = change_tempo(Audio(samples, RATE), factor)
        assert len(changed.samples) == round(count / factor)
        assert np.abs(changed.samples).max(initial=0) <= 1.001


def test_at_speed_1_nothing_changes() -> None:
    speech = Audio(tone(140, 0.1), RATE)
    assert change_tempo(speech, 1.0).samples is speech.samples


def test_equal_samples_give_equal_bytes_on_every_machine() -> None:
    """Recorded with AVX-512 and again without AVX: no rounding depends on instructions."""
    noise = np.random.default_rng(7).integers(-20_000, 20_000, 12_000)
    smooth = (noise[:-2] + noise[1:-1] + noise[2:]) // 3
    speech = Audio((smooth / 32_768).astype(np.float32), RATE)
    digests = [
        hashlib.sha256(change_tempo(speech, factor).samples.tobytes()).hexdigest()[:16]
        for factor in (0.5, 0.8, 1.25, 2.0)
    ]
    assert digests == [
        "73263d0e9cac3d2b",
        "a23d06f157c9486d",
        "e01fc51017223e77",
        "369aa184a1eed88d",
    ]
