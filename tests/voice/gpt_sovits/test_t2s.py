"""Decoding, sampling, synthesis and the guard."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from core.audio.waveform import Audio
from core.voice.gpt_sovits.batch import T2SInput
from core.voice.gpt_sovits.bundle import Bundle
from core.voice.gpt_sovits.guard import Guard
from core.voice.gpt_sovits.sampling import (
    GREEDY,
    Sampler,
    Sampling,
    draw_tokens,
    sample_all,
    sampling_probabilities,
)
from core.voice.gpt_sovits.streaming import FIRST_PIECE, LOOKAHEAD, SentenceStream
from core.voice.gpt_sovits.synthesis import CONTEXT, encode, flow, make_noise, vocode, vocode_part
from core.voice.gpt_sovits.t2s import Decoder


def t2s_input(bundle: Bundle, seed: int, *, limit: int = 40, prompt: int = 30) -> T2SInput:
    random = np.random.default_rng(seed)
    tokens, phones = random.integers(0, 1024, prompt), random.integers(0, 700, 20 + seed)
    bert = np.zeros((len(phones), bundle.spec.t2s.bert), np.float32)
    sampler = Sampler.create(Sampling(limit=limit), tokens, bundle.spec.t2s.vocabulary, [seed])
    return T2SInput(phones, bert, tokens, sampler)


def decode(decoder: Decoder, inputs: Sequence[T2SInput]) -> list[list[int]]:
    return [sampler.tokens for sampler in decoder.decode(inputs)]


def decode_alone(bundle: Bundle, seed: int, **options: int) -> list[int]:
    (tokens,) = decode(Decoder(bundle, rows=1), [t2s_input(bundle, seed, **options)])
    return tokens


@pytest.mark.slow
def test_rows_are_refilled_and_independent(bundle: Bundle) -> None:
    decoder = Decoder(bundle, rows=3)
    assert decode(decoder, [t2s_input(bundle, seed) for seed in range(7)]) == [
        decode_alone(bundle, seed) for seed in range(7)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("vnni", [False, True])
def test_rows_with_8_bit_caches_are_independent(int8_bundle: Bundle, *, vnni: bool) -> None:
    """The operator does not support heads of 12 channels, so they are padded to 16."""
    assert int8_bundle.spec.t2s.head_width == 16
    shared = Bundle(int8_bundle.folder, threads=2, cpu_only=True, vnni=vnni)
    single = Bundle(int8_bundle.folder, threads=1, cpu_only=True, vnni=vnni)
    assert single.step_graph == ("step_vnni" if vnni else "step")
    inputs = [t2s_input(shared, seed, prompt=30 + 40 * seed) for seed in range(5)]
    assert decode(Decoder(shared, rows=3), inputs) == [
        decode_alone(single, seed, prompt=30 + 40 * seed) for seed in range(5)
    ]


def test_the_cache_grows_and_shrinks(bundle: Bundle) -> None:
    """A longer row makes the cache larger until it ends."""
    options = (dict(limit=90, prompt=200), dict(limit=90))
    inputs = [t2s_input(bundle, seed, **how) for seed, how in enumerate(options)]
    assert decode(Decoder(bundle, rows=2), inputs) == [
        decode_alone(bundle, seed, **how) for seed, how in enumerate(options)
    ]


def test_the_end_token_is_masked_at_first_and_then_ends_the_row() -> None:
    logits = np.zeros(5, np.float32)
    logits[4] = 9
    sampler = Sampler.create(GREEDY, np.zeros(0, np.int64), 5, [0])
    for _ in range(12):
        sampler.sample(logits)
    assert len(sampler.tokens) == 11
    assert sampler.ended


def test_a_sampled_end_token_ends_the_row() -> None:
    logits = np.zeros(5, np.float32)
    sampler = Sampler.create(Sampling(top_k=5, repetition_penalty=1), np.zeros(0, np.int64), 5, [0])
    sampler.noise = lambda step: np.array([1, 1, 1, 1, 1e-9 if step > 10 else 1], np.float32)
    for _ in range(12):
        sampler.sample(logits)
    assert (len(sampler.tokens), sampler.ended) == (11, True)


def test_a_row_ends_at_its_limit() -> None:
    sampler = Sampler.create(Sampling(top_k=1, limit=3), np.zeros(0, np.int64), 5, [0])
    for _ in range(3):
        assert not sampler.finished
        sampler.sample(np.zeros(5, np.float32))
    assert sampler.finished
    assert not sampler.ended


def test_tokens_are_drawn_with_their_probabilities() -> None:
    random = np.random.default_rng(0)
    probs = sampling_probabilities(np.log(np.array([0.5, 0.3, 0.2], np.float32)), Sampling(top_k=3))
    noise = random.standard_exponential((4000, 3), np.float32)
    drawn = draw_tokens(np.broadcast_to(probs, noise.shape), noise)
    np.testing.assert_allclose(np.bincount(drawn) / 4000, [0.5, 0.3, 0.2], atol=0.03)


@pytest.mark.parametrize("top_p", [1.0, 0.7])
def test_rows_are_sampled_at_once_as_they_are_alone(top_p: float) -> None:
    random, settings = np.random.default_rng(0), (Sampling(top_p=top_p), Sampling(top_k=5), GREEDY)
    together, alone = (
        [Sampler.create(settings[i % 3], np.arange(i), 1025, [i]) for i in range(12)]
        for _ in range(2)
    )
    for step in range(30):
        logits = random.standard_normal((12, 1025), np.float32) * np.float32(3)
        logits[:, -1] += step % 4
        running = [i for i, sampler in enumerate(alone) if not sampler.finished]
        assert sample_all([together[i] for i in running], logits[running]) == [None] * len(running)
        for i in running:
            alone[i].sample(logits[i])
    assert [sampler.tokens for sampler in together] == [sampler.tokens for sampler in alone]
    assert {sampler.ended for sampler in alone} == {True, False}


def test_zero_noise_never_draws_a_token_of_probability_zero() -> None:
    assert draw_tokens(np.array([0, 0.9, 0.1], np.float32), np.array([0, 1, 1], np.float32)) == 1


@pytest.fixture(scope="module")
def timbre(bundle: Bundle) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((1, 72, 1), np.float32) * np.float32(0.3)


def test_decoding_in_pieces_gives_the_same_waveform(bundle: Bundle, timbre: np.ndarray) -> None:
    """The context covers the receptive field of the vocoder: pieces are bit-identical."""
    z = np.random.default_rng(1).standard_normal((1, bundle.spec.inter, 120), np.float32)
    whole = vocode(bundle, z, timbre)
    for first, last in ((0, 40), (40, 41), (60, 120), (CONTEXT, 120 - CONTEXT)):
        piece = vocode_part(bundle, z, timbre, first, last)
        assert np.array_equal(piece, whole[first * 640 : last * 640])


@pytest.mark.slow
def test_a_long_waveform_is_decoded_in_pieces(bundle: Bundle, timbre: np.ndarray) -> None:
    z = np.random.default_rng(1).standard_normal((1, bundle.spec.inter, 1003), np.float32)
    wave = vocode(bundle, z, timbre)
    assert len(wave) == 1003 * 640
    assert np.array_equal(wave, vocode_part(bundle, z, timbre, 0, 1003))


@pytest.mark.slow
@pytest.mark.parametrize("speed", [1.0, 1.2])
def test_a_stream_has_no_seams(bundle: Bundle, timbre: np.ndarray, speed: float) -> None:
    """The waveform is as smooth at the seams as elsewhere, and close to the unstreamed one."""
    random = np.random.default_rng(2)
    phones, tokens = random.integers(0, 700, 50), random.integers(0, 1024, 110).tolist()
    stream = SentenceStream(bundle, phones, timbre, speed=speed, seed=(5,))
    pieces = []
    while stream.needed < len(tokens):
        pieces.append(stream.next_piece(tokens[: stream.needed]))
    pieces.append(stream.next_piece(tokens, final=True))
    wave = np.concatenate(pieces)
    assert [len(piece) > 0 for piece in pieces] == [True] * 3
    edges = np.cumsum([len(piece) for piece in pieces])[:-1]
    jumps = np.abs(np.diff(wave, 2))
    assert max(jumps[edge - 700 : edge + 700].max() for edge in edges) <= jumps.max() * 1.001
    if speed == 1:
        latent = encode(bundle, np.array(tokens), phones, timbre)
        z = flow(bundle, latent, make_noise(bundle, latent.shape[1], (5,)), timbre)
        whole = vocode(bundle, z, timbre)
        assert len(wave) == len(whole)
        assert np.std(wave - whole) < 0.1 * np.std(whole)
    assert FIRST_PIECE + LOOKAHEAD < 110


@pytest.mark.parametrize(
    ("tokens", "phones", "ended", "fault"),
    [
        (range(100), 40, True, ""),
        (range(10), 40, True, "drops words"),
        (range(900), 40, True, "does not end"),
        (range(100), 40, False, "does not end"),
        ([7] * 60, 40, True, "repeats itself"),
        ([1, 2, 3, 4] * 20, 40, True, "repeats itself"),
        ([*range(20), *[486] * 30, *range(20)], 40, True, ""),
    ],
    ids=["good", "dropped", "endless", "cut", "stuck", "loop", "pause"],
)
def test_bad_tokens_are_detected(tokens: list[int], phones: int, ended: bool, fault: str) -> None:
    assert Guard().check_tokens(list(tokens), phones, ended=ended).startswith(fault)
    assert bool(Guard().check_tokens(list(tokens), phones, ended=ended)) == bool(fault)


@pytest.mark.parametrize(
    ("before", "loud", "after", "expected"),
    [
        (0.3, 2, 0.3, ""),
        (3, 2, 0, "long silence"),
        (0, 2, 3, "long silence"),
        (0, 0, 2, "silent"),
    ],
    ids=["good", "late", "early", "silent"],
)
def test_bad_audio_is_detected(before: float, loud: float, after: float, expected: str) -> None:
    tone = 0.3 * np.sin(np.arange(int(loud * 32000)) / 20)
    parts = [np.zeros(int(before * 32000)), tone, np.zeros(int(after * 32000))]
    fault = Guard().check_audio(Audio(np.concatenate(parts).astype(np.float32), 32000))
    assert expected in fault
    assert bool(fault) == bool(expected)
