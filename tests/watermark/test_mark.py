"""What a user of the watermark relies on."""

from __future__ import annotations

import numpy as np
import pytest

import watermark
from tests.watermark.speech import KEY, NAMES, OTHER_KEY, RATE, speech

PAYLOAD = 0xC0FFEE42


@pytest.fixture(scope="module")
def marked():
    return watermark.embed(speech(), RATE, PAYLOAD, KEY)


@pytest.mark.parametrize("name", NAMES)
def test_what_was_embedded_is_read_back(name):
    found = watermark.detect(watermark.embed(speech(name), RATE, PAYLOAD, KEY), RATE, KEY)
    assert found.payload == PAYLOAD
    assert found.score > 50


@pytest.mark.parametrize("rate", [8_000, 22_050, 24_000, 44_100, 48_000])
def test_any_rate_carries_the_mark(rate):
    samples = np.interp(np.arange(0, 5, 1 / rate), np.arange(len(speech())) / RATE, speech())
    out = watermark.embed(samples.astype(np.float32), rate, PAYLOAD, KEY)
    assert len(out) == len(samples)
    assert watermark.detect(out, rate, KEY).payload == PAYLOAD


def test_unmarked_speech_carries_nothing():
    for name in NAMES:
        found = watermark.detect(speech(name), RATE, KEY)
        assert (found.payload, found.marked) == (None, False)


def test_another_key_reads_nothing(marked):
    found = watermark.detect(marked, RATE, OTHER_KEY)
    assert (found.payload, found.marked) == (None, False)


def test_embedding_twice_gives_the_same_bytes(marked):
    assert np.array_equal(watermark.embed(speech(), RATE, PAYLOAD, KEY), marked)


def test_the_input_is_left_alone():
    host = speech().copy()
    watermark.embed(host, RATE, PAYLOAD, KEY)
    assert np.array_equal(host, speech())


@pytest.mark.parametrize("step", [160, 7_919, 70_000])
def test_a_stream_comes_out_as_one_piece(step):
    host = np.tile(speech(), 7)
    pieces = (host[at : at + step] for at in range(0, len(host), step))
    joined = np.concatenate(list(watermark.embed_blocks(pieces, RATE, PAYLOAD, KEY)))
    assert np.array_equal(joined, watermark.embed(host, RATE, PAYLOAD, KEY))


def test_the_mark_never_leaves_full_scale():
    loud = np.clip(speech() / np.abs(speech()).max() * 1.5, -1, 1).astype(np.float32)
    out = watermark.embed(loud, RATE, PAYLOAD, KEY)
    assert np.abs(out).max() <= 1
    assert watermark.detect(out, RATE, KEY).payload == PAYLOAD


def test_silence_stays_silent():
    silence = np.zeros(RATE, np.float32)
    assert not watermark.embed(silence, RATE, PAYLOAD, KEY).any()
    assert watermark.detect(silence, RATE, KEY).score == 0


@pytest.mark.parametrize("count", [0, 1, 100, 3_000])
def test_sound_too_short_to_mark_comes_back_whole(count):
    out = watermark.embed(speech()[:count], RATE, PAYLOAD, KEY)
    assert len(out) == count
    assert watermark.detect(out, RATE, KEY).payload is None


def test_verify_confirms_the_true_payload_only(marked):
    assert watermark.verify(marked, RATE, PAYLOAD, KEY).payload == PAYLOAD
    assert not watermark.verify(marked, RATE, PAYLOAD ^ 1, OTHER_KEY).marked
    assert not watermark.verify(speech(), RATE, PAYLOAD, KEY).marked


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        pytest.param(np.zeros((2, 9), np.float32), "shape", id="two channels"),
        pytest.param(np.zeros(9, np.int16), "floats", id="integers"),
        pytest.param(np.full(9, np.nan, np.float32), "finite", id="not a number"),
    ],
)
def test_other_arrays_are_refused(samples, message):
    with pytest.raises(ValueError, match=message):
        watermark.embed(samples, RATE, PAYLOAD, KEY)
    with pytest.raises(ValueError, match=message):
        watermark.detect(samples, RATE, KEY)


def test_other_settings_are_refused():
    with pytest.raises(ValueError, match="rate"):
        watermark.embed(speech(), 4_000, PAYLOAD, KEY)
    with pytest.raises(ValueError, match="strength"):
        watermark.embed(speech(), RATE, PAYLOAD, KEY, strength=7)
    with pytest.raises(ValueError, match="32 bytes"):
        watermark.embed(speech(), RATE, PAYLOAD, b"short")
    with pytest.raises(ValueError, match="32 bytes"):
        watermark.detect(speech(), RATE, b"short")
