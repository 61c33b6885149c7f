"""Speech at another tempo and the same pitch, by waveform similarity overlap-add (WSOLA: Verhelst
and Roelands, ICASSP 1993).

The correlations are of whole numbers below 2^53, which float64 adds without rounding in any order,
so equal samples give equal samples on every processor.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from core.audio.waveform import Audio, Samples

_FRAME_S = 0.025
_SEARCH_S = 0.010
"""How far a frame may be from where it should begin, to continue the frame before it."""
_BLOCK_S = 0.01
_SILENT = 0.01
"""Blocks below this share of the peak are silent, as in the pauses of `Renderer`."""
_MIN_PAUSE_BLOCKS = 6


def change_tempo(audio: Audio, factor: float) -> Audio:
    """Return speech in 1 / `factor` of its time, rounded to a sample. The pitch stays.

    Where it gets faster, pauses are shortened by the square of the factor, so that words keep more
    of their time. The work is linear in the length; beside the result it needs twice the length of
    the audio in float64.
    """
    count = round(len(audio.samples) / factor)
    if factor == 1 or not count:
        return Audio(audio.samples if factor == 1 else audio.samples[:0], audio.rate)
    size = 2 * round(_FRAME_S / 2 * audio.rate)
    centres = np.arange(-(-count // (size // 2)) + 1) * (size // 2)
    wanted = np.interp(centres, *_timeline(audio, factor, count)).round().astype(np.int64)
    return Audio(_overlap_add(audio.samples, wanted, size, audio.rate)[:count], audio.rate)


def _timeline(
    audio: Audio, factor: float, count: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the samples of the output and of the input that belong together: the edges of blocks,
    of which pauses get the share 1 / factor^2 of their time, and words what is left."""
    block = round(_BLOCK_S * audio.rate)
    edges = np.append(np.arange(0, len(audio.samples), block), len(audio.samples)).astype(float)
    lengths = np.diff(edges)
    shares = np.full(len(lengths), count / len(audio.samples))
    pause = _find_pauses(audio.samples, block)
    if factor > 1 and not pause.all():
        shares[pause] /= factor
        words = lengths[~pause].sum()
        shares[~pause] = min(1.0, (count - (lengths * shares)[pause].sum()) / words)
    ends = np.cumsum(lengths * shares)
    return np.append(0, ends * count / ends[-1]), edges


def _find_pauses(samples: Samples, block: int) -> NDArray[np.bool_]:
    """Return which blocks belong to a pause of at least _MIN_PAUSE_BLOCKS."""
    padded = np.pad(np.abs(samples), (0, -len(samples) % block))
    quiet = np.asarray(padded.reshape(-1, block).max(axis=1) <= _SILENT * padded.max(initial=0.0))
    changes = np.flatnonzero(np.diff(quiet, prepend=False, append=False))
    for first, end in changes.reshape(-1, 2):
        quiet[first:end] = end - first >= _MIN_PAUSE_BLOCKS
    return quiet


def _overlap_add(samples: Samples, wanted: NDArray[np.int64], size: int, rate: int) -> Samples:
    """Join frames whose centres are near `wanted`, each where it continues the one before best."""
    hop, reach = size // 2, round(_SEARCH_S * rate)
    padded = np.pad(samples, size + reach)
    whole = np.rint(padded * (32767 / max(1.0, float(np.abs(samples).max())))).astype(np.float64)
    energy = np.append(0, np.cumsum(whole**2))
    window = np.asarray(0.5 - 0.5 * np.cos(2 * math.pi * np.arange(size) / size), np.float32)
    out = np.zeros((len(wanted) + 1) * hop, np.float32)
    start = 0
    for i, first in enumerate(wanted + size - hop):
        if i:
            follows = whole[start + hop : start + hop + size]
            likeness = np.correlate(whole[first : first + 2 * reach + size], follows, "valid")
            ends = energy[first + size : first + size + 2 * reach + 1]
            power = ends - energy[first : first + 2 * reach + 1]
            start = int(first + np.argmax(likeness / np.sqrt(power + 1)))
        else:
            start = int(first) + reach
        out[i * hop : i * hop + size] += window * padded[start : start + size]
    return out[hop:]
