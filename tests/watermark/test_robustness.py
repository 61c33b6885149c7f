"""Robustness: one test per kind of attack; bench/watermark.py measures success rates."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from scipy import signal

import watermark
from tests.support.speech import KEY, NAMES, OTHER_KEY, RATE, Floats, load_clip

PAYLOAD = 0x1234ABCD


@cache
def marked(name: str = NAMES[1], payload: int = PAYLOAD) -> Floats:
    return watermark.embed(load_clip(name), RATE, payload, KEY)


def noisy(samples: Floats, decibels: float) -> Floats:
    noise = np.random.default_rng(3).standard_normal(len(samples))
    return (samples + noise * np.std(samples) * 10 ** (-decibels / 20)).astype(np.float32)


def telephone(samples: Floats) -> Floats:
    band = signal.butter(4, (300, 3400), "bandpass", fs=RATE, output="sos")
    narrow = signal.resample_poly(signal.sosfilt(band, samples), 1, 2)
    companded = np.sign(narrow) * np.rint(127 * np.log1p(255 * np.abs(narrow)) / np.log(256)) / 127
    expanded = np.sign(companded) * np.expm1(np.abs(companded) * np.log(256)) / 255
    return np.asarray(signal.resample_poly(expanded, 2, 1), np.float32)


def resample(samples: Floats, up: int, down: int) -> Floats:
    return np.asarray(signal.resample_poly(samples, up, down), np.float32)


QUICK: dict[str, Callable[[Floats], Floats]] = {
    "white noise at 20 dB": lambda x: noisy(x, 20),
    "telephone": telephone,
    "eight bits": lambda x: (np.rint(x * 128) / 128).astype(np.float32),
    "polarity": lambda x: -x,
    "gain": lambda x: x * np.float32(0.1),
    "three seconds from the middle": lambda x: x[RATE : 4 * RATE],
    "beginning cut within a cell": lambda x: x[5_003:],
    "silence before and after": lambda x: np.pad(x, RATE),
    "twice in a row": lambda x: np.tile(x, 2),
}


@pytest.mark.slow
@pytest.mark.parametrize("damage", QUICK.values(), ids=QUICK.keys())
def test_read_by_the_fast_search(damage: Callable[[Floats], Floats]) -> None:
    found = watermark.detect(damage(marked()), RATE, KEY, thorough=False)
    assert found.payload == PAYLOAD


def test_read_at_another_rate() -> None:
    assert watermark.detect(resample(marked(), 441, 160), 44_100, KEY).payload == PAYLOAD


@pytest.mark.slow
@pytest.mark.parametrize(("up", "down"), [(100, 107), (10, 9)], ids=["7 % faster", "11 % slower"])
def test_read_at_another_speed(up: int, down: int) -> None:
    found = watermark.detect(resample(marked()[: 4 * RATE], up, down), RATE, KEY)
    assert found.payload == PAYLOAD
    assert found.tempo == pytest.approx(down / up, rel=0.004)
    assert found.pitch == pytest.approx(down / up, rel=0.01)


def stretch(samples: Floats, factor: float) -> Floats:
    """Slow down by `factor` at the same pitch: windows of 40 ms at the best match (WSOLA)."""
    size, reach = RATE // 25, RATE // 100
    hop, window = size // 2, np.hanning(size)
    padded = np.pad(samples, (reach, 2 * size))
    out = np.zeros(int(len(samples) * factor) + size)
    at = reach
    for place in range(0, len(out) - size, hop):
        out[place : place + size] += window * padded[at : at + size]
        due = min(int((place + hop) / factor), len(samples) - hop)
        around = padded[due : due + 2 * reach + size]
        at = due + int(np.argmax(np.correlate(around, padded[at + hop : at + hop + size])))
    return out.astype(np.float32)


@pytest.mark.slow
def test_read_after_independent_changes_of_tempo_and_pitch() -> None:
    found = watermark.detect(resample(stretch(marked()[: 5 * RATE], 1.12), 20, 21), RATE, KEY)
    assert found.payload == PAYLOAD
    assert found.tempo == pytest.approx(1.05 / 1.12, rel=0.004)
    assert found.pitch == pytest.approx(1.05, rel=0.01)


def vocoded(samples: Floats, rate: float) -> Floats:
    """Speed up at the same pitch with a phase vocoder with frames of 128 ms."""
    bins = signal.stft(samples, RATE, nperseg=2048, noverlap=1536)[2]
    at = np.arange(0, bins.shape[1] - 1, rate)
    low, part = at.astype(int), at % 1
    level = (1 - part) * np.abs(bins[:, low]) + part * np.abs(bins[:, low + 1])
    due = 2 * np.pi * 512 * np.arange(len(bins))[:, None] / 2048
    turn = np.angle(bins[:, low + 1] * np.conj(bins[:, low]) * np.exp(-1j * due)) + due
    phase = np.cumsum(np.pad(turn, ((0, 0), (1, 0)))[:, :-1], axis=1)
    out = signal.istft(level * np.exp(1j * phase), RATE, nperseg=2048, noverlap=1536)[1]
    return np.asarray(out, np.float32)


@pytest.mark.slow
def test_verified_after_a_phase_vocoder() -> None:
    found = watermark.verify(vocoded(marked(), 1.06), RATE, PAYLOAD, KEY)
    assert found.marked
    # An alignment path may account for part of the tempo as drift.
    assert found.tempo == pytest.approx(1.06, rel=0.02)
    assert found.pitch == 1


@pytest.mark.slow
def test_read_after_pieces_were_cut_out_and_moved() -> None:
    pieces = np.split(noisy(marked(), 30), [20_000, 38_000, 58_000, 76_000])
    found = watermark.detect(np.concatenate([pieces[at] for at in (3, 1, 0, 2)]), RATE, KEY)
    assert found.payload == PAYLOAD
    assert found.pieces >= 3


@pytest.mark.slow
def test_read_after_pauses_were_removed() -> None:
    """The sync cells of a piece alone give too little evidence."""
    whole = noisy(watermark.embed(np.tile(load_clip(NAMES[1]), 2), RATE, PAYLOAD, KEY), 30)
    starts = range(0, 8 * RATE, RATE * 4 // 5)
    pieces = [whole[start : start + RATE * 3 // 5] for start in starts]
    found = watermark.detect(np.concatenate(pieces), RATE, KEY)
    assert found.payload == PAYLOAD
    assert found.pieces >= 6


@pytest.mark.slow
def test_read_after_pieces_were_cut_and_sped_up() -> None:
    whole = watermark.embed(np.tile(load_clip(NAMES[2]), 2), RATE, PAYLOAD, KEY)
    cut = np.concatenate([whole[: 2 * RATE], whole[int(3.1 * RATE) : 5 * RATE], whole[9 * RATE :]])
    found = watermark.detect(resample(cut, 20, 21), RATE, KEY)
    assert found.payload == PAYLOAD
    assert found.tempo == pytest.approx(1.05, rel=0.02)


def test_start_and_end_of_a_marked_stretch_are_reported() -> None:
    clean = load_clip(NAMES[3])
    found = watermark.detect(
        np.concatenate([clean[: 3 * RATE], marked()[: 4 * RATE], clean[: 2 * RATE]]), RATE, KEY
    )
    assert found.payload == PAYLOAD
    assert found.start == pytest.approx(3, abs=0.7)
    assert found.end == pytest.approx(7, abs=0.7)


@pytest.mark.slow
def test_a_long_recording_reads_across_changes_of_place() -> None:
    long = watermark.embed(np.tile(load_clip(), 7), RATE, PAYLOAD, KEY)
    found = watermark.detect(long, RATE, KEY)
    assert found.payload == PAYLOAD
    across = long[29 * RATE : 37 * RATE]
    assert watermark.detect(across, RATE, KEY).payload == PAYLOAD


def test_a_mark_in_a_long_unmarked_recording_is_found() -> None:
    clean = [load_clip(name) for name in NAMES]
    hidden = np.concatenate([*clean, marked()[: 5 * RATE], *clean])
    found = watermark.detect(hidden, RATE, KEY, thorough=False)
    assert found.payload == PAYLOAD
    assert found.start == pytest.approx(24, abs=1)


@pytest.mark.slow
def test_clips_too_weak_alone_are_read_together() -> None:
    weak = [(noisy(marked(name)[: 2 * RATE], 13), RATE) for name in NAMES]
    alone = [watermark.detect(*clip, KEY, thorough=False).payload for clip in weak]
    assert watermark.detect_joint(weak, KEY, thorough=False).payload == PAYLOAD
    assert alone.count(None) >= 3


@pytest.mark.slow
def test_repeats_of_a_clip_do_not_raise_the_score() -> None:
    """Repeats have the same chips: counting them as new evidence would violate the bound."""
    clip = noisy(marked()[: 2 * RATE], 12), RATE
    once = watermark.detect_joint([clip], KEY, thorough=False)
    assert watermark.detect_joint([clip] * 6, KEY, thorough=False).score <= once.score + 1


def test_no_clips_or_silent_ones_score_nothing() -> None:
    assert watermark.detect_joint([], KEY).score == 0
    assert watermark.detect_joint([(np.zeros(100, np.float32), RATE)], KEY).payload is None


@pytest.mark.slow
def test_scanning_a_stream_finds_each_marked_stretch() -> None:
    other = watermark.embed(load_clip(NAMES[0]), RATE, 77, OTHER_KEY)
    whole = np.concatenate([marked(), load_clip(NAMES[3]), marked(NAMES[2], 5), other])
    blocks = (whole[at : at + 9_999] for at in range(0, len(whole), 9_999))
    found = list(watermark.scan(blocks, RATE, {"a": KEY, "b": OTHER_KEY}))
    assert [(hit.key_id, hit.payload) for _, _, hit in found] == [
        ("a", PAYLOAD),
        ("a", 5),
        ("b", 77),
    ]
    for (start, end, _), due in zip(found, [(0, 6), (12, 18), (18, 24)], strict=True):
        assert (start, end) == pytest.approx(due, abs=0.9)


def test_scanning_nothing_finds_nothing() -> None:
    assert list(watermark.scan([], RATE, {"a": KEY})) == []
    assert list(watermark.scan([load_clip()[: 2 * RATE]], RATE, {"a": KEY})) == []
