"""SoVITS: turns semantic tokens and phonemes into a waveform in the timbre of a reference."""

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
"""Frames decoded on either side of a piece and cut off. The vocoder's receptive field is 12 frames
on either side with the official kernels, so pieces join exactly."""
_MIN_PIECE = 100
"""Frames (2 s). Decoding the context of shorter pieces takes more time than threads save."""
_MAX_PIECE = 500
"""Frames (10 s). Longer pieces would take more memory than all weights."""


def encode(bundle: Bundle, tokens: Ids, phones: Ids, timbre: Float) -> Float:
    """Encode tokens (T,) and phoneme ids (P,) into the latent (1, 2 T, hidden)."""
    inputs = {"tokens": tokens, "phones": phones, "timbre": timbre}
    return np.asarray(bundle.run("encode", ["latent"], inputs)[0])


def change_speed(latent: Float, speed: float) -> Float:
    """Resample a latent to int(frames / speed) + 1 frames, upstream's formula."""
    frames = latent.shape[1]
    count = int(frames / speed) + 1
    return latent if speed == 1 else interpolate(latent, np.arange(count), frames / count)


def interpolate(latent: Float, frames: Ids, step: float) -> Float:
    """Interpolate a latent linearly at `frames` times `step` (align_corners=False in torch)."""
    last = latent.shape[1] - 1
    position = np.clip((frames + 0.5) * step - 0.5, 0, last).astype(np.float32)
    low = position.astype(np.int64)
    weight = (position - low)[None, :, None]
    mixed = latent[:, low] * (1 - weight) + latent[:, np.minimum(low + 1, last)] * weight
    return np.asarray(mixed, np.float32)


def flow(bundle: Bundle, latent: Float, noise: Float, timbre: Float) -> Float:
    """Return z (1, inter, frames) of a latent, given noise (1, inter, frames) of variance 1."""
    inputs = {"latent": latent, "noise": noise * np.float32(NOISE_SCALE), "timbre": timbre}
    return np.asarray(bundle.run("flow", ["z"], inputs)[0])


def vocode(bundle: Bundle, z: Float, timbre: Float, pool: Executor | None = None) -> Samples:
    """Return the waveform of z, one hop per frame. Pieces are decoded in parallel on `pool`."""
    frames = z.shape[2]
    workers = max(1, min(bundle.threads, frames // _MIN_PIECE)) if pool else 1
    count = max(workers, -(-frames // _MAX_PIECE))
    edges = [frames * i // count for i in range(count + 1)]
    work = partial(vocode_part, bundle, z, timbre)
    run = pool.map if pool and workers > 1 else map
    return np.concatenate(list(run(work, edges[:-1], edges[1:])))


def vocode_part(bundle: Bundle, z: Float, timbre: Float, first: int, last: int) -> Samples:
    """Return the waveform of frames first..last, identical to that part of the whole."""
    start, end = max(0, first - CONTEXT), min(z.shape[2], last + CONTEXT)
    inputs = {"z": np.ascontiguousarray(z[:, :, start:end]), "timbre": timbre}
    wave = bundle.run("vocoder", ["wave"], inputs)[0]
    hop = bundle.spec.hop
    return np.asarray(wave[(first - start) * hop : (last - start) * hop])


def make_noise(bundle: Bundle, frames: int, seed: tuple[int, ...]) -> Float:
    """Draw noise (1, inter, frames) frame by frame: the beginning does not depend on the length."""
    random = np.random.Generator(np.random.PCG64(list(seed)))
    drawn = random.standard_normal((frames, bundle.spec.inter), np.float32)
    return np.ascontiguousarray(drawn.T[None])
