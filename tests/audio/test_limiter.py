"""Levelling of streams."""

from __future__ import annotations

import numpy as np
import pytest

from core.audio import limiter, loudness
from core.audio.limiter import CEILING, Leveller
from core.audio.waveform import Audio, Samples
from tests.support.speech import RATE, load_clip


def level(samples: Samples, gain: float, cuts: list[int], rate: int = RATE) -> list[Samples]:
    leveller = Leveller(rate, gain)
    return [*map(leveller.push, np.split(samples, cuts)), leveller.finish()]


def oversample(samples: Samples, times: int) -> Samples:
    return np.fft.irfft(np.fft.rfft(samples), times * len(samples)).astype(np.float32) * times


def test_quiet_speech_is_only_scaled() -> None:
    out = np.concatenate(level(load_clip(), 0.5, [100, 7_000]))
    assert np.array_equal(out, load_clip() * np.float32(0.5))


@pytest.mark.parametrize("gain", [8.0, 40.0])
def test_no_true_peak_exceeds_the_ceiling(gain: float) -> None:
    host = oversample(load_clip()[:RATE], 2)
    out = np.concatenate(level(host, gain, [3_333], 2 * RATE))
    assert len(out) == len(host)
    oversampled = oversample(out, 8)
    assert CEILING * 0.9 < np.abs(oversampled).max() < CEILING * 1.03


def test_the_pieces_do_not_matter() -> None:
    host, random = load_clip()[:RATE], np.random.default_rng(1)
    whole = np.concatenate(level(host, 20.0, []))
    cuts = np.cumsum(random.integers(0, 600, 60))
    assert np.array_equal(np.concatenate(level(host, 20.0, cuts[cuts < RATE].tolist())), whole)


def test_a_peak_lowers_what_is_around_it_for_milliseconds() -> None:
    host = 0.1 * np.sin(np.arange(RATE) / 5).astype(np.float32)
    host[RATE // 2] = 2.0
    changed = np.flatnonzero(np.concatenate(level(host, 1.0, [])) != host)
    assert abs(changed - RATE // 2).max() <= 0.0105 * RATE


@pytest.mark.parametrize("rate", [8_000, 22_050, 48_000])
def test_the_delay_is_bounded(rate: int) -> None:
    pieces = level(np.ones(rate, np.float32), 0.5, list(range(7, rate, 7)), rate)
    lags = 7 * np.arange(1, len(pieces)) - np.cumsum([len(piece) for piece in pieces[:-1]])
    assert lags.max() / rate <= limiter.DELAY_S


def test_the_first_words_set_the_gain() -> None:
    speech = Audio(load_clip(), RATE)
    gain = limiter.find_stream_gain(speech)
    assert loudness.loudness(loudness.scale(speech, gain)) == pytest.approx(-18, abs=0.1)


@pytest.mark.parametrize(("level", "gain"), [(0.0, 1.0), (0.01, limiter.HIGHEST_GAIN)])
def test_a_beginning_without_words_gives_a_bounded_gain(level: float, gain: float) -> None:
    assert limiter.find_stream_gain(Audio(load_clip() * np.float32(level), RATE)) == gain
