"""SoVITS: semantic tokens and phonemes to a wave, in the timbre of a reference."""

from __future__ import annotations

from concurrent.futures import Executor
from functools import partial

import numpy as np
from numpy.typing import NDArray

from core.audio.waveform import Samples
from core.voice.gpt_sovits.bundle import Bundle

Float = NDArray[np.float32]
Ids = NDArray[np.int64]

NOISE_SCALE = 0.5
FRAMES_PER_TOKEN = 2
CONTEXT = 16
"""Frames on either side that a frame's sound depends on: the vocoder's receptive field is 12 with
the official kernels, so pieces cut with this margin fit together exactly."""
_PIECE = 100
"""Frames (2 s) below which cutting costs more in margins than it gains."""
_LONGEST = 500
"""Frames (10 s) the vocoder makes in one piece: more would take more memory than all weights."""


def encode(bundle: Bundle, tokens: Ids, phones: Ids, timbre: Float) -> Float:
    """The latent before any noise, (1, 2 tokens, hidden). `phones` are the sentence's own."""
    inputs = {"tokens": tokens, "phones": phones, "timbre": timbre}
    return np.asarray(bundle.run("encode", ["latent"], inputs)[0])


def paced(latent: Float, speed: float) -> Float:
    """Stretched to 1/speed of its frames (and one, as upstream counts), linearly."""
    frames = latent.shape[1]
    count = int(frames / speed) + 1
    return latent if speed == 1 else between(latent, np.arange(count), frames / count)


def between(latent: Float, frames: Ids, step: float) -> Float:
    """Frames of a latent read at `step` times their number, corners not aligned."""
    last = latent.shape[1] - 1
    place = np.clip((frames + 0.5) * step - 0.5, 0, last).astype(np.float32)
    low = place.astype(np.int64)
    weight = (place - low)[None, :, None]
    mixed = latent[:, low] * (1 - weight) + latent[:, np.minimum(low + 1, last)] * weight
    return np.asarray(mixed, np.float32)


def flow(bundle: Bundle, latent: Float, noise: Float, timbre: Float) -> Float:
    """z (1, inter, frames) of a latent; noise (1, inter, frames) of variance 1."""
    inputs = {"latent": latent, "noise": noise * np.float32(NOISE_SCALE), "timbre": timbre}
    return np.asarray(bundle.run("flow", ["z"], inputs)[0])


def vocode(bundle: Bundle, z: Float, timbre: Float, pool: Executor | None = None) -> Samples:
    """The wave of z, one hop a frame, made in pieces: as many as a pool's threads where that pays,
    and more where one would be long."""
    frames = z.shape[2]
    workers = max(1, min(bundle.threads, frames // _PIECE)) if pool else 1
    count = max(workers, -(-frames // _LONGEST))
    edges = [frames * i // count for i in range(count + 1)]
    work = partial(vocode_part, bundle, z, timbre)
    run = pool.map if pool and workers > 1 else map
    return np.concatenate(list(run(work, edges[:-1], edges[1:])))


def vocode_part(bundle: Bundle, z: Float, timbre: Float, first: int, last: int) -> Samples:
    """The wave of frames first..last alone, exactly as it is within the whole."""
    start, end = max(0, first - CONTEXT), min(z.shape[2], last + CONTEXT)
    inputs = {"z": np.ascontiguousarray(z[:, :, start:end]), "timbre": timbre}
    wave = bundle.run("vocoder", ["wave"], inputs)[0]
    hop = bundle.spec.hop
    return np.asarray(wave[(first - start) * hop : (last - start) * hop])


def noise(bundle: Bundle, frames: int, seed: tuple[int, ...]) -> Float:
    """Frame by frame, so that the noise of a beginning does not depend on what follows."""
    random = np.random.Generator(np.random.PCG64(list(seed)))
    drawn = random.standard_normal((frames, bundle.spec.inter), np.float32)
    return np.ascontiguousarray(drawn.T[None])
