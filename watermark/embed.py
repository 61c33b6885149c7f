"""Embed the mark.

Each frame of a short-time Fourier transform is multiplied by a gain that follows the spread payload
(layout.py), about `strength` decibels up or down. Embedding is informed by the host (Cox, Miller
and McKellips, 1999): a cell whose host already agrees with its sign is changed little, one whose
host opposes it is changed more, at the same mean strength.

Audio is processed in blocks of about 4 s that depend only on the audio around them, so a stream is
marked in bounded memory and equals the same audio marked at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from watermark import cells
from watermark.layout import (
    BANDS,
    CENTRES,
    HIGH_EDGES,
    LOW_BANDS,
    LOW_EDGES,
    PERIOD,
    SEGMENT,
    SLOT_S,
    derive_layout,
)

Floats = NDArray[np.float32]

QUIET, DEFAULT, ROBUST = 1.6, 2.2, 2.8
"""Strengths: root mean square level change of a cell in dB. docs/watermark.md compares them."""
STRENGTHS = {"balanced": DEFAULT, "quiet": QUIET, "robust": ROBUST}
"""The strengths by the name of their preset."""
BLOCK_SLOTS = 128
HALO_SLOTS = 16
BLOCKS_PER_SEGMENT = SEGMENT // BLOCK_SLOTS
_BARK = 13 * np.arctan(0.00076 * CENTRES) + 3.5 * np.arctan((CENTRES / 7500) ** 2)
SAMPLE_RATES = range(8_000, 192_001)


def embed(
    samples: Floats, rate: int, payload: int, key: bytes, *, strength: float = DEFAULT
) -> Floats:
    """Return the marked audio; embedding is deterministic.

    samples: mono, (n,), float; rate: 8000 to 192000 Hz (the whole mark needs 16000); payload:
    unsigned 32-bit; key: 32 bytes; strength: 0 to 6 dB. The result is float32, (n,), and within
    -1..1 wherever the input was. Raises ValueError for other arguments.
    """
    marker = Embedder(rate, payload, key, strength=strength)
    return np.concatenate([marker.push(samples), marker.finish()])


def check_rate(rate: int) -> int:
    """Return the sample rate. Raises ValueError for one that is not supported."""
    if rate not in SAMPLE_RATES:
        low, high = SAMPLE_RATES.start, SAMPLE_RATES.stop - 1
        raise ValueError(f"rate must be {low} to {high} Hz, not {rate}")
    return rate


def check_strength(strength: float) -> float:
    """Return the strength in dB. Raises ValueError for one that is not supported."""
    if not 0 <= strength <= 6:
        raise ValueError(f"strength must be 0 to 6 dB, not {strength}")
    return strength


def check_samples(samples: Floats) -> Floats:
    """Return the samples as float32, (n,). Raises ValueError for other arrays."""
    array = np.asarray(samples)
    if array.ndim != 1 or array.dtype.kind != "f":
        raise ValueError(f"samples must be floats of shape (n,), not {array.dtype} {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError("samples must be finite")
    return array.astype(np.float32, copy=False)


@dataclass(frozen=True, slots=True)
class FrameGrid:
    """The frames of the embedder: each is 4 hops wide, frame i centred at sample i * hop."""

    rate: int
    hop: int

    @classmethod
    def of(cls, rate: int) -> FrameGrid:
        """The frames for a sample rate in Hz. Raises ValueError for one that is not supported."""
        # A multiple of 8 keeps the Fourier transform fast at 22.05 and 44.1 kHz.
        return cls(check_rate(rate), 8 * round(SLOT_S * rate / 32))

    @property
    def width(self) -> int:
        return 4 * self.hop

    def slots(self, hops: int) -> float:
        """Return a number of hops in slots."""
        return hops * self.hop / self.rate / SLOT_S

    def edge(self, slot: int) -> int:
        """Return the first hop of a slot."""
        return round(slot * SLOT_S * self.rate / self.hop)

    def positions(self, first: int, count: int, first_slot: int) -> NDArray[np.float64]:
        """Return where the frames are centred, in cells: 0 is the centre of `first_slot`."""
        return (np.arange(count) + first) * self.hop / self.rate / SLOT_S - 0.5 - first_slot

    def analyse(self, bins: NDArray[np.complex64]) -> tuple[Floats, Floats]:
        """Return what the gain depends on: the band energies of frames, (frames, BANDS), and their
        tonality, from 0 for noise to 1 for a tone, (frames,). bins: spectra of the frames."""
        power = bins.real**2 + bins.imag**2
        spectrogram = cells.Spectrogram(power, self.rate / self.width, self.hop / self.rate)
        return cells.band_energies(spectrogram), _measure_tonality(power)

    def apply_changes(
        self, bins: NDArray[np.complex64], decibels: Floats, first_slot: int, first: int
    ) -> None:
        """Change the level of the cells of some frames.

        bins: spectra of the frames from number `first` on, (frames, bins), which are changed.
        decibels: level changes of cells from `first_slot` on, (BANDS, slots).
        """
        bin_changes = _spread_over_bins(decibels, bins.shape[1], self.rate / self.width)
        at = self.positions(first, len(bins), first_slot)
        low, share = _interpolation_weights(at, decibels.shape[1])
        share = share[:, None]
        gains, above = bin_changes[low], bin_changes[low + 1]
        gains *= 1 - share
        above *= share
        gains += above
        gains *= np.float32(np.log(10) / 20)
        bins[:, : gains.shape[1]] *= np.exp(gains, out=gains)


class Embedder:
    """Mark a stream: `push` audio and take the marked audio, then call `finish` once."""

    def __init__(self, rate: int, payload: int, key: bytes, *, strength: float = DEFAULT) -> None:
        self._layout = derive_layout(key)
        self._signs = self._layout.spread(payload)
        self._payload = payload
        self._strength = check_strength(strength)
        self._grid = FrameGrid.of(rate)
        self._halo = round(HALO_SLOTS * SLOT_S * rate / self._grid.hop)
        self._block = 0
        self._starts: list[int] = []
        # Audio from the halo before the current block on; silence precedes the first block.
        self._buffer = np.zeros(self._halo * self._grid.hop, np.float32)

    def push(self, samples: Floats) -> Floats:
        """Add samples, (n,), and return those that are ready; the delay is up to 5 s."""
        self._buffer = np.concatenate([self._buffer, check_samples(samples)])
        return self._drain(last=False)

    def finish(self) -> Floats:
        """Return the remaining samples. The embedder cannot be used afterwards."""
        length = len(self._buffer) - self._halo * self._grid.hop
        self._buffer = np.pad(self._buffer, (0, (self._halo + 1) * self._grid.hop))
        return self._drain(last=True)[:length]

    def _drain(self, *, last: bool) -> Floats:
        hop, halo = self._grid.hop, self._halo
        done = [np.zeros(0, np.float32)]
        while True:
            hops = self._edge(self._block + 1) - self._edge(self._block)
            ready = len(self._buffer) // hop - 2 * halo
            if ready < hops and not (last and ready > 0):
                return np.concatenate(done)
            hops = min(hops, ready)
            done.append(self._mark_block(self._buffer[: (hops + 2 * halo) * hop], hops))
            self._buffer = self._buffer[hops * hop :]
            self._block += 1

    def _edge(self, block: int) -> int:
        return self._grid.edge(block * BLOCK_SLOTS)

    def _mark_block(self, samples: Floats, hops: int) -> Floats:
        """Mark the `hops` hops between the halos at both ends of the samples."""
        hop, halo, width = self._grid.hop, self._halo, self._grid.width
        host = samples[halo * hop : (halo + hops) * hop]
        self._derive_starts(host)
        # The frames are centred from one halo before the block to one halo after it.
        padded = np.pad(samples, (width // 2, width // 2))
        window = cells.hann(width)
        frames = np.lib.stride_tricks.sliding_window_view(padded, width)[::hop] * window
        bins = cells.rfft(frames, width)
        first = self._edge(self._block) - halo
        changes, first_slot = find_changes(
            self._grid, *self._grid.analyse(bins), first, self._signs_from
        )
        bins = bins[halo - 3 : halo + hops + 4]
        self._grid.apply_changes(bins, self._strength * changes, first_slot, first + halo - 3)
        joined = _overlap_add(cells.irfft(bins, width) * window, hop)
        # Squared Hann windows at four frames per width sum to 3/2; five hops of run-in are removed.
        return _limit_to_full_scale(host, joined[5 * hop : (5 + hops) * hop] / np.float32(1.5), hop)

    def _derive_starts(self, host: Floats) -> None:
        """Derive the secret start of the next segment: the first from block 0, each later one from
        the last block before it, so that no block needs audio beyond its halo."""
        segments = (self._block + 1) // BLOCKS_PER_SEGMENT + 1
        while len(self._starts) < segments:
            segment = len(self._starts)
            self._starts.append(self._layout.derive_start(self._payload, segment, host.tobytes()))

    def _signs_from(self, first_slot: int, count: int) -> Floats:
        """Return the cell signs of `count` slots of the clip from first_slot on: (BANDS, count)."""
        slots = np.maximum(np.arange(first_slot, first_slot + count), 0)
        segments = np.minimum(slots // SEGMENT, len(self._starts) - 1)
        starts = np.array(self._starts)[segments]
        return self._signs[:, (starts + slots) % PERIOD]


def find_changes(
    grid: FrameGrid,
    bands: Floats,
    tonality: Floats,
    first: int,
    signs_from: Callable[[int, int], Floats],
) -> tuple[Floats, int]:
    """Return the level changes of the cells in some frames, root mean square 1: (BANDS, slots), and
    the slot of the first.

    bands, tonality: of the frames (`FrameGrid.analyse`), of which the first has the number `first`.
    signs_from: returns the signs, (BANDS, count), of `count` slots from a slot on.
    """
    first_slot = int(np.ceil(grid.slots(first)))
    slot_hops = SLOT_S * grid.rate / grid.hop
    offset = (first_slot - grid.slots(first)) * slot_hops
    energies = cells.cell_energies(bands, slot_hops, np.array([offset]))[0]
    count = energies.shape[1]
    tolerance = _masking_tolerance(tonality, grid.positions(first, len(bands), first_slot), count)
    return _informed_changes(signs_from(first_slot, count), energies, tolerance), first_slot


def _measure_tonality(power: Floats) -> Floats:
    """Return 0 for a frame of noise to 1 for a tone, by its spectral flatness: (frames,). power:
    (frames, bins)."""
    power = power[:, 1:] + np.float32(1e-12)
    flatness = 10 * (np.log10(power).mean(axis=1) - np.log10(power.mean(axis=1)))
    tonality: Floats = np.clip(flatness / -60, 0, 1)
    return tonality


def _masking_tolerance(tonality: Floats, at: NDArray[np.float64], count: int) -> Floats:
    """Return the relative level change that each cell masks, about 1: (BANDS, slots).

    Noise masks more than tones, and tones mask least at high frequencies (Johnston, 1988); half of
    that difference, in decibels, is applied. tonality: of frames that are centred at slots `at`.
    """
    tonal = np.interp(np.arange(count), at, tonality)
    masking = tonal * (15 + _BARK[:, None]) + (1 - tonal) * 5.5
    tolerance: Floats = np.clip(10 ** ((12 - masking) / 40), 0.5, 1.6).astype(np.float32)
    return tolerance


def _informed_changes(signs: Floats, energies: Floats, tolerance: Floats) -> Floats:
    """Return the level change of each cell, root mean square 1: (BANDS, slots).

    The first term is a gradient step on the detector's correlation, which saturates where the host
    already agrees. The second passes the same step through the detector's filter, to compensate for
    what that filter predicts from neighbouring cells: a tenth more range in dB at a better SNR.
    """
    host = cells.whiten(cells.measure_levels(energies[None]), cells.HOST_FILTERS)[0]
    agreement = signs * host / (np.sqrt(np.mean(host * host)) + np.float32(1e-12))
    step = signs * (1 - np.tanh(agreement / 2))
    wide = np.pad(step, ((0, 0), (1, 1)), mode="edge")
    smoothed = 0.7 * step + 0.15 * (wide[:, :-2] + wide[:, 2:])
    change = (step + cells.prediction_error(smoothed)) * tolerance
    change /= np.sqrt(np.mean(change * change))
    clipped: Floats = np.clip(change, -3, 3).astype(np.float32)
    return clipped


def _interpolation_weights(at: NDArray[np.float64], count: int) -> tuple[NDArray[np.intp], Floats]:
    """Return the cell below each position and the weight of the next one: constant over the middle
    half of a cell, linear between."""
    low = np.floor(at)
    share = np.clip(2 * (at - low) - 0.5, 0, 1)
    return np.clip(low, 0, count - 2).astype(np.intp), share.astype(np.float32)


def _spread_over_bins(change: Floats, bins: int, bin_width: float) -> Floats:
    """Interpolate level changes of bands over bins, tapering to 0 outside: (slots, bins), without
    the bins above the last one that is changed."""
    frequency = np.arange(min(bins, int(HIGH_EDGES[-1] / bin_width) + 8)) * bin_width
    out = np.zeros((change.shape[1], len(frequency)), np.float32)
    for edges, group in ((LOW_EDGES, change[:LOW_BANDS]), (HIGH_EDGES, change[LOW_BANDS:BANDS])):
        padded = np.pad(group, ((2, 2), (0, 0))).T
        at = (frequency - edges[0]) / (edges[1] - edges[0]) - 0.5 + 2
        low, share = _interpolation_weights(at, padded.shape[1])
        out += padded[:, low] * (1 - share) + padded[:, low + 1] * share
    return out


def _overlap_add(frames: Floats, hop: int) -> Floats:
    out = np.zeros((len(frames) + 3) * hop, np.float32)
    for quarter in range(4):
        piece = frames[:, quarter * hop : (quarter + 1) * hop]
        out[quarter * hop : quarter * hop + piece.size] += piece.reshape(-1)
    return out


def _limit_to_full_scale(host: Floats, marked: Floats, hop: int) -> Floats:
    """Fade the mark out smoothly, hop by hop, where it would exceed -1..1."""
    limit = np.maximum(1, np.abs(host))
    excess = np.abs(marked) > limit
    if not excess.any():
        return marked
    share = np.ones(len(host), np.float32)
    share[excess] = (limit - np.abs(host))[excess] / np.abs(marked - host)[excess]
    least = share.reshape(-1, hop).min(axis=1)
    knots = np.minimum(np.append(least, 1), np.append(1, least))
    fade = np.interp(np.arange(len(host)) / hop, np.arange(len(knots)), knots)
    faded: Floats = np.clip(host + fade.astype(np.float32) * (marked - host), -limit, limit)
    return faded
