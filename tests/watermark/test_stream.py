"""The mark of streams: what comes out does not depend on how it is pushed, and is traced."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

import watermark
from tests.support.speech import KEY, OTHER_KEY, RATE, Floats, load_clip

PAYLOAD = 0xC0FFEE42
NONCE = bytes(range(16))


def stream(host: Floats, cuts: list[int], rate: int = RATE, nonce: bytes = NONCE) -> list[Floats]:
    """Mark a host that is pushed in pieces, and return what comes out after each."""
    embedder = watermark.StreamEmbedder(rate, PAYLOAD, KEY, nonce)
    return [*map(embedder.push, np.split(host, cuts)), embedder.finish()]


@cache
def marked() -> Floats:
    return np.concatenate(stream(load_clip(), []))


def read(samples: Floats, rate: int = RATE, key: bytes = KEY) -> int | None:
    return watermark.detect(samples, rate, key, thorough=False).payload


@pytest.mark.parametrize("seed", range(3))
def test_the_pieces_do_not_matter(seed: int) -> None:
    host = load_clip()[: 2 * RATE]
    random = np.random.default_rng(seed)
    largest = (100, 700, 9_000)[seed]
    cuts = np.cumsum(random.integers(0, largest, 2 * len(host) // largest + 2))
    pieces = stream(host, cuts[cuts < len(host)].tolist())
    assert np.array_equal(np.concatenate(pieces), np.concatenate(stream(host, [])))


@pytest.mark.parametrize("rate", [8_000, 22_050, 24_000, 48_000])
def test_the_delay_is_at_most_half_a_second(rate: int) -> None:
    seconds = np.arange(0, 2, 1 / rate)
    host = np.interp(seconds, np.arange(len(load_clip())) / RATE, load_clip()).astype(np.float32)
    step = rate // 90
    pieces = stream(host, list(range(step, len(host), step)), rate)
    lag = (np.arange(1, len(pieces)) * step).clip(max=len(host)) - np.cumsum(
        [len(piece) for piece in pieces[:-1]]
    )
    assert lag.max() / rate <= watermark.DELAY_S <= 0.5
    out = np.concatenate(pieces)
    assert len(out) == len(host)
    assert rate < 16_000 or read(out, rate) == PAYLOAD


@pytest.mark.parametrize("sent", [3.0, 4.5])
def test_a_cancelled_stream_is_traced(sent: float) -> None:
    embedder = watermark.StreamEmbedder(RATE, PAYLOAD, KEY, NONCE)
    heard = embedder.push(load_clip()[: round((sent + watermark.DELAY_S) * RATE)])
    assert len(heard) >= round(sent * RATE)
    assert read(heard[: round(sent * RATE)]) == PAYLOAD


def test_a_cut_of_three_seconds_is_traced() -> None:
    for start in np.random.default_rng(5).integers(0, 3 * RATE, 4):
        assert read(marked()[start : start + 3 * RATE]) == PAYLOAD


def test_another_key_reads_nothing() -> None:
    found = watermark.detect(marked(), RATE, OTHER_KEY, thorough=False)
    assert (found.payload, found.marked) == (None, False)


def test_the_start_comes_from_the_nonce() -> None:
    """Two streams of the same words do not line up, and each is read."""
    other = np.concatenate(stream(load_clip(), [], nonce=bytes(16)))
    difference, error = np.std(other - marked()), np.std(marked() - load_clip())
    assert difference > error
    assert read(other) == PAYLOAD


@pytest.mark.slow
def test_a_stream_of_more_than_a_segment_is_read_to_its_end() -> None:
    out = np.concatenate(stream(np.tile(load_clip(), 6), [9_999]))
    assert read(out[-3 * RATE :]) == PAYLOAD


def test_the_mark_of_a_stream_is_as_quiet_as_that_of_a_file() -> None:
    def noise(out: Floats) -> float:
        return float(20 * np.log10(np.std(load_clip()) / np.std(load_clip() - out)))

    assert noise(marked()) > noise(watermark.embed(load_clip(), RATE, PAYLOAD, KEY)) - 1


def test_a_mark_of_no_strength_changes_nothing() -> None:
    embedder = watermark.StreamEmbedder(RATE, PAYLOAD, KEY, NONCE, strength=0)
    out = np.concatenate([embedder.push(load_clip()), embedder.finish()])
    assert np.abs(out - load_clip()).max() < 1e-6


def test_the_mark_never_leaves_full_scale() -> None:
    loud = np.clip(load_clip() / np.abs(load_clip()).max() * 1.5, -1, 1).astype(np.float32)
    pieces = stream(loud, [1_234, 50_000])
    out = np.concatenate(pieces)
    assert np.abs(out).max() <= 1
    assert np.array_equal(out, np.concatenate(stream(loud, [])))
    assert read(out) == PAYLOAD


@pytest.mark.parametrize("count", [0, 1, 100, 8_000])
def test_short_sound_keeps_its_length(count: int) -> None:
    assert len(np.concatenate(stream(load_clip()[:count], []))) == count


def test_silence_stays_silent() -> None:
    assert not np.concatenate(stream(np.zeros(RATE, np.float32), [77])).any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"nonce": b"short"}, "16 bytes"),
        ({"strength": 7}, "strength"),
        ({"payload": 2**32}, "32-bit"),
        ({"key": b"short"}, "32 bytes"),
        ({"rate": 4_000}, "rate"),
    ],
)
def test_other_arguments_are_refused(changes: dict[str, object], message: str) -> None:
    arguments = {"rate": RATE, "payload": PAYLOAD, "key": KEY, "nonce": NONCE}
    with pytest.raises(ValueError, match=message):
        watermark.StreamEmbedder(**(arguments | changes))  # type: ignore[arg-type]


def test_other_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        stream(np.full(9, np.nan, np.float32), [])
