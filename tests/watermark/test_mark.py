"""The public functions of the watermark."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import watermark
from tests.support.speech import KEY, NAMES, OTHER_KEY, RATE, Floats, load_clip

PAYLOAD = 0xC0FFEE42


@pytest.fixture(scope="module")
def marked() -> Floats:
    return watermark.embed(load_clip(), RATE, PAYLOAD, KEY)


def quick(samples: Floats, rate: int = RATE, key: bytes = KEY) -> watermark.Detection:
    return watermark.detect(samples, rate, key, thorough=False)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_an_embedded_payload_is_read_back(name: str) -> None:
    found = quick(watermark.embed(load_clip(name), RATE, PAYLOAD, KEY))
    assert found.payload == PAYLOAD
    assert found.score > 50
    assert (found.tempo, found.pitch, found.pieces) == (1, 1, 1)


@pytest.mark.slow
@pytest.mark.parametrize("rate", [8_000, 22_050, 24_000, 44_100, 48_000])
def test_any_rate_carries_the_mark(rate: int) -> None:
    samples = np.interp(np.arange(0, 5, 1 / rate), np.arange(len(load_clip())) / RATE, load_clip())
    out = watermark.embed(samples.astype(np.float32), rate, PAYLOAD, KEY)
    assert len(out) == len(samples)
    assert quick(out, rate).payload == PAYLOAD


def test_two_seconds_of_speech_are_enough() -> None:
    out = watermark.embed(load_clip()[RATE : 3 * RATE], RATE, PAYLOAD, KEY)
    assert quick(out).payload == PAYLOAD


def test_one_second_still_verifies() -> None:
    out = watermark.embed(load_clip()[RATE : 2 * RATE], RATE, PAYLOAD, KEY)
    assert watermark.verify(out, RATE, PAYLOAD, KEY, thorough=False).payload == PAYLOAD


def test_the_mark_is_quiet(marked: Floats) -> None:
    error = 10 * np.log10(np.sum(load_clip() ** 2) / np.sum((load_clip() - marked) ** 2))
    assert error > 13


def test_more_strength_changes_more(marked: Floats) -> None:
    loud = watermark.embed(load_clip(), RATE, PAYLOAD, KEY, strength=watermark.ROBUST)
    assert np.std(loud - load_clip()) > 1.2 * np.std(marked - load_clip())
    assert quick(loud).score > quick(marked).score


@pytest.mark.slow
def test_unmarked_speech_carries_nothing() -> None:
    found = watermark.detect(load_clip()[: 3 * RATE], RATE, KEY)
    assert (found.payload, found.marked, found.start, found.end) == (None, False, 0, 0)


def test_another_key_reads_nothing(marked: Floats) -> None:
    found = quick(marked, key=OTHER_KEY)
    assert (found.payload, found.marked) == (None, False)


def test_a_second_mark_does_not_erase_the_first(marked: Floats) -> None:
    twice = watermark.embed(marked, RATE, 7, OTHER_KEY)
    assert quick(twice).payload == PAYLOAD
    assert quick(twice, key=OTHER_KEY).payload == 7


def test_embedding_twice_gives_the_same_bytes(marked: Floats) -> None:
    assert np.array_equal(watermark.embed(load_clip(), RATE, PAYLOAD, KEY), marked)


def test_the_input_is_not_modified() -> None:
    host = load_clip().copy()
    watermark.embed(host, RATE, PAYLOAD, KEY)
    assert np.array_equal(host, load_clip())


@pytest.mark.slow
@pytest.mark.parametrize("step", [160, 7_919, 70_000])
def test_a_stream_comes_out_as_one_piece(step: int) -> None:
    host = np.tile(load_clip(), 7)
    embedder = watermark.Embedder(RATE, PAYLOAD, KEY)
    pieces = [embedder.push(host[at : at + step]) for at in range(0, len(host), step)]
    joined = np.concatenate([*pieces, embedder.finish()])
    assert np.array_equal(joined, watermark.embed(host, RATE, PAYLOAD, KEY))


def test_the_mark_never_leaves_full_scale() -> None:
    loud = np.clip(load_clip() / np.abs(load_clip()).max() * 1.5, -1, 1).astype(np.float32)
    out = watermark.embed(loud, RATE, PAYLOAD, KEY)
    assert np.abs(out).max() <= 1
    assert quick(out).payload == PAYLOAD


@pytest.mark.slow
def test_silence_stays_silent() -> None:
    silence = np.zeros(RATE, np.float32)
    assert not watermark.embed(silence, RATE, PAYLOAD, KEY).any()
    assert watermark.detect(silence, RATE, KEY).score == 0


@pytest.mark.slow
@pytest.mark.parametrize("count", [0, 1, 100, 3_000, 8_000])
def test_sound_too_short_to_read_keeps_its_length(count: int) -> None:
    out = watermark.embed(load_clip()[:count], RATE, PAYLOAD, KEY)
    assert len(out) == count
    assert not watermark.verify(load_clip()[:count], RATE, PAYLOAD, KEY).marked


@pytest.mark.slow
def test_verify_confirms_the_true_payload_only(marked: Floats) -> None:
    short = marked[: 3 * RATE]
    assert watermark.verify(short, RATE, PAYLOAD, KEY).payload == PAYLOAD
    assert not watermark.verify(short, RATE, PAYLOAD, OTHER_KEY, thorough=False).marked
    assert not watermark.verify(load_clip()[: 3 * RATE], RATE, PAYLOAD, KEY).marked


def test_verify_finds_marks_too_weak_for_detect(marked: Floats) -> None:
    noise = np.random.default_rng(4).standard_normal(len(marked)).astype(np.float32)
    drowned = marked + noise * np.float32(np.std(marked)) * np.float32(10 ** (-6 / 20))
    assert quick(drowned).payload is None
    assert watermark.verify(drowned, RATE, PAYLOAD, KEY, thorough=False).payload == PAYLOAD


def test_a_neighbouring_payload_scores_lower(marked: Floats) -> None:
    true = watermark.verify(marked, RATE, PAYLOAD, KEY, thorough=False)
    near = watermark.verify(marked, RATE, PAYLOAD ^ 1, KEY, thorough=False)
    assert near.score < true.score / 2


def test_the_key_that_matches_is_named(marked: Floats) -> None:
    keys = {"2025": OTHER_KEY, "2026": KEY}
    found = watermark.detect_any(marked, RATE, keys, thorough=False)
    assert (found.key_id, found.payload) == ("2026", PAYLOAD)


def test_without_keys_nothing_is_detected(marked: Floats) -> None:
    assert watermark.detect_any(marked, RATE, {}).score == 0


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        pytest.param(np.zeros((2, 9), np.float32), "shape", id="two channels"),
        pytest.param(np.zeros(9, np.int16), "floats", id="integers"),
        pytest.param(np.full(9, np.nan, np.float32), "finite", id="not a number"),
    ],
)
def test_other_arrays_are_refused(samples: NDArray[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        watermark.embed(samples, RATE, PAYLOAD, KEY)
    with pytest.raises(ValueError, match=message):
        watermark.detect(samples, RATE, KEY)


@pytest.mark.parametrize("rate", [0, 4_000, 200_000])
def test_other_rates_are_refused(rate: int) -> None:
    with pytest.raises(ValueError, match="rate"):
        watermark.embed(load_clip(), rate, PAYLOAD, KEY)
    with pytest.raises(ValueError, match="rate"):
        watermark.detect(load_clip(), rate, KEY)


def test_other_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="strength"):
        watermark.embed(load_clip(), RATE, PAYLOAD, KEY, strength=7)
    with pytest.raises(ValueError, match="32-bit"):
        watermark.embed(load_clip(), RATE, 2**32, KEY)
    with pytest.raises(ValueError, match="32 bytes"):
        watermark.embed(load_clip(), RATE, PAYLOAD, b"short")
    with pytest.raises(ValueError, match="32 bytes"):
        watermark.detect(load_clip(), RATE, b"short")
