"""Find where in the sign stream a clip stands, and read it.

Everything tried is a Hypothesis with a cost: minus the logarithm of its share of one unit of
belief. Shares of all hypotheses that could be tried sum to at most one, so by the union bound the
chance that any of them shows `bound(z, cost) >= s` on unmarked sound is at most 10^-s
(docs/watermark.md has the proof). Trying more is free; only describing more costs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from watermark import cells
from watermark import payload as code
from watermark.layout import BANDS, PERIOD, TILE, Layout, layout

Floats = NDArray[np.float32]

PHASES = cells.HOPS_A_SLOT
TAIL_CONSTANT = 3.18
"""P(sum a_i e_i > z |a|) <= 3.18 Q(z) for random signs e_i (Bentkus and Dzindzalieta, 2015)."""
MESSAGE_COST = code.PAYLOAD_BITS * math.log(2)
START_COST = math.log(PHASES * PERIOD)
SHORTLIST = 64
DECODES = 3
LEAST_SLOTS = 8


def bound(z: float, cost: float) -> float:
    """-log10 of the bound on the false-positive probability of one hypothesis, never below 0."""
    if z > 30:
        log_tail = -z * z / 2 - math.log(z * math.sqrt(2 * math.pi))
    else:
        log_tail = math.log(math.erfc(z / math.sqrt(2)) / 2)
    return max(0.0, -(math.log(TAIL_CONSTANT) + log_tail + cost) / math.log(10))


@dataclass(frozen=True, slots=True, eq=False)
class Reader:
    """One key's plan, unrolled for reading."""

    signs: Floats
    """(BANDS, 2 * PERIOD): any stretch of up to PERIOD slots is a slice."""
    parts: NDArray[np.intp]
    """Coded bit of each cell, CODED_BITS for sync: (BANDS, TILE + PERIOD)."""
    sync_spectrum: NDArray[np.complex64]
    mask_spectrum: NDArray[np.complex64]

    def sync_z(self, soft: Floats) -> Floats:
        """z of the sync cells for each start in the sign stream: (PERIOD,). soft: (BANDS, slots)."""
        across = np.fft.rfft(soft, PERIOD, axis=1)
        inner = np.fft.irfft((np.conj(across) * self.sync_spectrum).sum(axis=0), PERIOD)
        squares = np.pad(soft * soft, ((0, 0), (0, -soft.shape[1] % TILE)))
        tile = np.fft.rfft(squares.reshape(BANDS, -1, TILE).sum(axis=1), axis=1)
        energy = np.fft.irfft((np.conj(tile) * self.mask_spectrum).sum(axis=0), TILE)
        scale = 1 / np.sqrt(np.maximum(energy, 1e-12))
        return (inner.reshape(-1, TILE) * scale).reshape(-1).astype(np.float32)

    def pattern_z(self, soft: Floats, pattern: NDArray[np.complex64]) -> Floats:
        """z of all cells for each start, given the spectrum of a payload's signs: (PERIOD,)."""
        across = np.fft.rfft(soft, PERIOD, axis=1)
        inner = np.fft.irfft((np.conj(across) * pattern).sum(axis=0), PERIOD)
        return (inner / math.sqrt(max(float((soft * soft).sum()), 1e-12))).astype(np.float32)

    def bits(self, soft: Floats, start: int) -> tuple[Floats, Floats]:
        """Sum and variance of each coded bit; the last entry is the sync: (CODED_BITS + 1,) each."""
        slots = soft.shape[1]
        signed = soft * self.signs[:, start : start + slots]
        part = self.parts[:, start % TILE : start % TILE + slots].reshape(-1)
        size = code.CODED_BITS + 1
        total = np.bincount(part, signed.reshape(-1), size)
        variance = np.bincount(part, (soft * soft).reshape(-1), size)
        return total.astype(np.float32), variance.astype(np.float32)


@lru_cache(maxsize=64)
def reader(key: bytes) -> Reader:
    """The reader of a key. Raises ValueError for a key that is not 32 bytes long."""
    plan: Layout = layout(key)
    parts = np.where(plan.parts < 0, code.CODED_BITS, plan.parts)
    return Reader(
        signs=np.tile(plan.signs, (1, 2)),
        parts=np.tile(parts, (1, 1 + PERIOD // TILE)),
        sync_spectrum=np.fft.rfft(plan.sync, axis=1).astype(np.complex64),
        mask_spectrum=np.fft.rfft(plan.sync_mask, axis=1).astype(np.complex64),
    )


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """A guess at where a stretch of sound stands: how it was warped, and its start in the stream."""

    soft: Floats
    """Soft cells under this guess: (BANDS, slots)."""
    start: int
    z: float
    cost: float
    tempo: float = 1.0
    pitch: float = 1.0


@dataclass(frozen=True, slots=True)
class Finding:
    """The best hypothesis of a search. score: `bound` of it; payload: None where only sync spoke."""

    score: float = 0.0
    payload: int | None = None
    tempo: float = 1.0
    pitch: float = 1.0
    pieces: int = 1


def grids(view: cells.Spectrum, tempo: float, pitch: float, phases: int = PHASES) -> list[Floats]:
    """Soft cells of a clip played `tempo` times too fast and `pitch` times too high, at evenly
    spaced fractions of a slot. Empty where the clip is too short to say anything."""
    bands = cells.band_energies(view, pitch)
    slot = cells.HOPS_A_SLOT / tempo
    out = []
    for phase in range(phases):
        energies = cells.cell_energies(bands, slot, phase * slot / phases)
        if energies.shape[1] >= LEAST_SLOTS:
            out.append(cells.soften(energies))
    return out


def places(
    plan: Reader, softs: list[Floats], cost: float, warp: tuple[float, float]
) -> list[Place]:
    """The best starts of each grid by sync alone, best first."""
    found = []
    for soft in softs:
        z = plan.sync_z(soft)
        best = np.argpartition(z, -SHORTLIST)[-SHORTLIST:]
        found += [Place(soft, int(d), float(z[d]), cost, *warp) for d in best]
    return sorted(found, key=lambda place: -place.z)[:SHORTLIST]


def evidence(total: Floats, variance: Floats) -> float:
    """Log-likelihood ratio "marked here" : "not", whatever the payload says."""
    scale = max(total[-1] / max(variance[-1], 1e-12), 0.3 / math.sqrt(max(variance[-1], 1e-12)))
    lean = np.abs(total[:-1]) * scale
    log_cosh = lean + np.log1p(np.exp(-2 * lean)) - math.log(2)
    return float(log_cosh.sum() + scale * total[-1] - scale * scale * variance.sum() / 2)


def read(plan: Reader, candidates: list[Place]) -> Finding:
    """The best of what sync and the decoder say at these places."""
    if not candidates:
        return Finding()
    first = candidates[0]
    best = Finding(bound(first.z, first.cost + math.log(2)), None, first.tempo, first.pitch)
    weighed = [(place, *plan.bits(place.soft, place.start)) for place in candidates]
    weighed.sort(key=lambda entry: -evidence(entry[1], entry[2]))
    for place, total, variance in weighed[:DECODES]:
        payload = code.decode(total[:-1])
        if payload is None:
            continue
        z = message_z(payload, total, variance)
        score = bound(z, place.cost + math.log(2) + MESSAGE_COST)
        if score > best.score:
            best = Finding(score, payload, place.tempo, place.pitch)
    return best


def message_z(payload: int, total: Floats, variance: Floats) -> float:
    """z of all cells under one payload."""
    word = np.append(code.encode(payload), np.float32(1))
    return float(word @ total / math.sqrt(max(float(variance.sum()), 1e-12)))
