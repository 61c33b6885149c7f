"""Put the mark into sound.

Each frame of a short-time Fourier transform is multiplied by a gain that follows the plan's signs
(layout.py), about `strength` decibels up or down. The push is informed by the host (dirty-paper
style; Cox, Miller and McKellips, 1999): where the host already leans the way we want it rests, and
where the host leans against us it pushes harder, at the same mean strength.

Sound is worked in blocks of about 4 s that depend on nothing but the sound around them, so a stream
is marked in bounded memory and comes out exactly as in one piece.
"""

from __future__ import annotations

from collections.abc import Iterator
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
    SLOT,
    layout,
)

Floats = NDArray[np.float32]

QUIET, DEFAULT, ROBUST = 1.6, 2.2, 2.8
"""Strengths in decibels, root mean square over cells; docs/watermark.md compares them."""
STRENGTHS = {"balanced": DEFAULT, "quiet": QUIET, "robust": ROBUST}
"""The same by name: presets between inaudible and indestructible."""
BLOCK_SLOTS = 128
HALO_SLOTS = 16
BLOCKS_A_SEGMENT = SEGMENT // BLOCK_SLOTS
_BARK = 13 * np.arctan(0.00076 * CENTRES) + 3.5 * np.arctan((CENTRES / 7500) ** 2)
RATES = range(8_000, 192_001)


def embed(
    samples: Floats, rate: int, payload: int, key: bytes, *, strength: float = DEFAULT
) -> Floats:
    """The same sound with the mark in it; the same input always gives the same output.

    samples: mono, (n,), float; rate: 8000 to 192000 Hz (16000 and more carry the whole mark);
    payload: unsigned 32-bit; key: 32 bytes; strength: dB, 0 to 6. The result is float32 (n,) and
    stays within -1..1 wherever the input did. Raises ValueError for anything else.
    """
    marker = Embedder(rate, payload, key, strength=strength)
    return np.concatenate([marker.push(samples), marker.finish()])


def embed_blocks(
    blocks: Iterator[Floats], rate: int, payload: int, key: bytes, *, strength: float = DEFAULT
) -> Iterator[Floats]:
    """`embed` for a stream: joined, the blocks that come out equal sound marked in one piece."""
    marker = Embedder(rate, payload, key, strength=strength)
    for block in blocks:
        yield marker.push(block)
    yield marker.finish()


def check_rate(rate: int) -> int:
    """The rate, or ValueError."""
    if rate not in RATES:
        raise ValueError(f"rate must be {RATES.start} to {RATES.stop - 1} Hz, not {rate}")
    return rate


def check_samples(samples: Floats) -> Floats:
    """float32 (n,) or ValueError."""
    array = np.asarray(samples)
    if array.ndim != 1 or array.dtype.kind != "f":
        raise ValueError(f"samples must be floats of shape (n,), not {array.dtype} {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError("samples must be finite")
    return array.astype(np.float32, copy=False)


@dataclass(frozen=True, slots=True)
class _Grid:
    """The frames of the embedder: width = 4 hops, frame i centred at sample i * hop."""

    rate: int
    hop: int

    @property
    def width(self) -> int:
        return 4 * self.hop

    def slots(self, hops: int) -> float:
        """Position in slots of a number of hops."""
        return hops * self.hop / self.rate / SLOT

    def block_edge(self, block: int) -> int:
        """First hop of a block."""
        return round(block * BLOCK_SLOTS * SLOT * self.rate / self.hop)


class Embedder:
    """Marks a stream: push sound, take marked sound, finish."""

    def __init__(self, rate: int, payload: int, key: bytes, *, strength: float = DEFAULT) -> None:
        if not 0 <= strength <= 6:
            raise ValueError(f"strength must be 0 to 6 dB, not {strength}")
        self._layout = layout(key)
        self._pattern = self._layout.pattern(payload)
        self._payload = payload
        self._strength = strength
        # A multiple of 8 keeps the transform fast at 22.05 and 44.1 kHz.
        self._grid = _Grid(check_rate(rate), 8 * round(SLOT * rate / 32))
        self._halo = round(HALO_SLOTS * SLOT * rate / self._grid.hop)
        self._block = 0
        self._starts: list[int] = []
        # Sound from the halo before the current block on; silence stands before the first.
        self._held = np.zeros(self._halo * self._grid.hop, np.float32)

    def push(self, samples: Floats) -> Floats:
        """Take sound, (n,); give back what is ready, which lags behind by up to 5 s."""
        self._held = np.concatenate([self._held, check_samples(samples)])
        return self._drain(last=False)

    def finish(self) -> Floats:
        """The rest. The embedder is spent."""
        length = len(self._held) - self._halo * self._grid.hop
        self._held = np.pad(self._held, (0, (self._halo + 1) * self._grid.hop))
        return self._drain(last=True)[:length]

    def _drain(self, *, last: bool) -> Floats:
        hop, halo = self._grid.hop, self._halo
        done = [np.zeros(0, np.float32)]
        while True:
            hops = self._grid.block_edge(self._block + 1) - self._grid.block_edge(self._block)
            ready = len(self._held) // hop - 2 * halo
            if ready < hops and not (last and ready > 0):
                return np.concatenate(done)
            hops = min(hops, ready)
            done.append(self._mark(self._held[: (hops + 2 * halo) * hop], hops))
            self._held = self._held[hops * hop :]
            self._block += 1

    def _mark(self, sound: Floats, hops: int) -> Floats:
        """Mark the middle `hops` hops of a stretch with a halo at both ends."""
        hop, halo, width = self._grid.hop, self._halo, self._grid.width
        host = sound[halo * hop : (halo + hops) * hop]
        self._find_starts(host)
        # Frames whose centres lie from one halo before the block to one halo after it.
        padded = np.pad(sound, (width // 2, width // 2))
        window = cells.hann(width)
        frames = np.lib.stride_tricks.sliding_window_view(padded, width)[::hop] * window
        bins = cells.rfft(frames, width)
        first = self._grid.block_edge(self._block) - halo
        gain = self._gain(bins, first)
        inner = slice(halo - 3, halo + hops + 4)
        marked = cells.irfft(bins[inner] * gain[inner], width) * window
        joined = _overlap_add(marked, hop)
        # Hann squared at four frames a width sums to 3/2; five hops of run-in are cut off.
        return _limit(host, joined[5 * hop : (5 + hops) * hop] / np.float32(1.5), hop)

    def _find_starts(self, host: Floats) -> None:
        """Choose the next segment's secret start: the first from block 0, each later one from the
        last block before it, so that a block's halo never needs sound still to come."""
        due = (self._block + 1) // BLOCKS_A_SEGMENT + 1
        while len(self._starts) < due:
            segment = len(self._starts)
            self._starts.append(self._layout.start(self._payload, segment, host.tobytes()))

    def _gain(self, bins: NDArray[np.complex64], first: int) -> Floats:
        """Gain of each frame and bin; `first` is the number of the first frame."""
        grid = self._grid
        power = bins.real**2 + bins.imag**2
        view = cells.Spectrum(
            power.astype(np.float32), grid.rate / grid.width, grid.hop / grid.rate
        )
        first_slot = int(np.ceil(grid.slots(first)))
        slot_hops = SLOT * grid.rate / grid.hop
        offset = (first_slot - grid.slots(first)) * slot_hops
        energies = cells.cell_energies(cells.band_energies(view), slot_hops, np.array([offset]))[0]
        signs = self._signs(first_slot, energies.shape[1])
        at = (np.arange(len(bins)) + first) * grid.hop / grid.rate / SLOT - 0.5 - first_slot
        tolerance = _tolerance(view.power, at, energies.shape[1])
        push = self._strength * _inform(signs, energies, tolerance)
        over_bands = _spread(push, bins.shape[1], view.bin_width)
        low, part = _ramp(at, energies.shape[1])
        decibels = over_bands[low] * (1 - part[:, None]) + over_bands[low + 1] * part[:, None]
        return np.exp(decibels * np.float32(np.log(10) / 20))

    def _signs(self, first_slot: int, count: int) -> Floats:
        """The signs of slots first_slot.. of the clip: (BANDS, count)."""
        slots = np.maximum(np.arange(first_slot, first_slot + count), 0)
        segments = np.minimum(slots // SEGMENT, len(self._starts) - 1)
        starts = np.array(self._starts)[segments]
        return self._pattern[:, (starts + slots) % PERIOD]


def _tolerance(power: Floats, at: NDArray[np.float64], count: int) -> Floats:
    """How much change each cell hides, about 1: (BANDS, slots). Noise hides more than tones do, and
    tones hide least at high pitch (Johnston, 1988); half of that difference, in decibels, is used.

    power: (frames, bins), frame i standing at slot at[i].
    """
    power = power[:, 1:] + np.float32(1e-12)
    flatness = 10 * (np.log10(power).mean(axis=1) - np.log10(power.mean(axis=1)))
    tonal = np.interp(np.arange(count), at, np.clip(flatness / -60, 0, 1))
    masking = tonal * (15 + _BARK[:, None]) + (1 - tonal) * 5.5
    tolerance: Floats = np.clip(10 ** ((12 - masking) / 40), 0.5, 1.6).astype(np.float32)
    return tolerance


def _inform(signs: Floats, energies: Floats, tolerance: Floats) -> Floats:
    """Push of each cell, root mean square 1: (BANDS, slots).

    The first half is a step uphill in what the detector will sum, saturating where the host already
    agrees. The second half takes the same step through the detector's own filter, so that what a
    neighbour's sign would foretell is made up for: a tenth more range in decibels at a better SNR.
    """
    host = cells.soften(energies[None], cells.HOST)[0]
    agreement = signs * host / (np.sqrt(np.mean(host * host)) + np.float32(1e-12))
    step = signs * (1 - np.tanh(agreement / 2))
    wide = np.pad(step, ((0, 0), (1, 1)), mode="edge")
    smeared = 0.7 * step + 0.15 * (wide[:, :-2] + wide[:, 2:])
    push = (step + cells.surprise(smeared)) * tolerance
    push /= np.sqrt(np.mean(push * push))
    clipped: Floats = np.clip(push, -3, 3).astype(np.float32)
    return clipped


def _ramp(at: NDArray[np.float64], count: int) -> tuple[NDArray[np.intp], Floats]:
    """Cell below each position and the share of the next: level within half a cell, then a ramp."""
    low = np.floor(at)
    part = np.clip(2 * (at - low) - 0.5, 0, 1)
    return np.clip(low, 0, count - 2).astype(np.intp), part.astype(np.float32)


def _spread(push: Floats, bins: int, bin_width: float) -> Floats:
    """The push of each slot over the bins, tapering to nothing outside the bands: (slots, bins)."""
    frequency = np.arange(bins) * bin_width
    out = np.zeros((push.shape[1], bins), np.float32)
    for edges, group in ((LOW_EDGES, push[:LOW_BANDS]), (HIGH_EDGES, push[LOW_BANDS:BANDS])):
        framed = np.pad(group, ((2, 2), (0, 0))).T
        low, part = _ramp((frequency - edges[0]) / (edges[1] - edges[0]) - 0.5 + 2, framed.shape[1])
        out += framed[:, low] * (1 - part) + framed[:, low + 1] * part
    return out


def _overlap_add(frames: Floats, hop: int) -> Floats:
    out = np.zeros((len(frames) + 3) * hop, np.float32)
    for quarter in range(4):
        piece = frames[:, quarter * hop : (quarter + 1) * hop]
        out[quarter * hop : quarter * hop + piece.size] += piece.reshape(-1)
    return out


def _limit(host: Floats, marked: Floats, hop: int) -> Floats:
    """Fade the mark out where it would leave -1..1, hop by hop, without a step."""
    room = np.maximum(1, np.abs(host))
    excess = np.abs(marked) > room
    if not excess.any():
        return marked
    share = np.ones(len(host), np.float32)
    share[excess] = (room - np.abs(host))[excess] / np.abs(marked - host)[excess]
    least = share.reshape(-1, hop).min(axis=1)
    knots = np.minimum(np.append(least, 1), np.append(1, least))
    fade = np.interp(np.arange(len(host)) / hop, np.arange(len(knots)), knots)
    faded: Floats = np.clip(host + fade.astype(np.float32) * (marked - host), -room, room)
    return faded
