"""Weigh one guess at where a clip stands in the sign stream, and read the payload there.

Everything tried is a hypothesis with a cost: minus the logarithm of its share of one unit of
belief. The shares of all hypotheses that could be tried sum to at most one, so by the union bound
the chance that any of them reaches `bound(z, cost) >= s` on unmarked sound is at most 10^-s
(docs/watermark.md has the proof). Trying more is free; what takes longer to describe costs more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from watermark import cells
from watermark import payload as code
from watermark.layout import BANDS, PERIOD, TILE, layout

Floats = NDArray[np.float32]

CLAIM = 6.0
"""A mark is claimed from this score on: wrongly on at most one clip in a million."""
LEAST_EVIDENCE = 7.0
"""Places that say less than this, in nats, never decode: their time is saved."""
PHASES = cells.HOPS_A_SLOT
TAIL_CONSTANT = 3.18
"""P(sum a_i e_i >= z |a|) <= 3.18 Q(z) for random signs e_i (Bentkus and Dzindzalieta, 2015)."""
START_COST = math.log(PHASES * PERIOD)
SYNC_COST = math.log(2)
"""A hypothesis speaks of the sync cells alone ..."""
MESSAGE_COST = math.log(2) + code.PAYLOAD_BITS * math.log(2)
"""... or of all cells under one of 2^32 payloads."""


def bound(z: float, cost: float) -> float:
    """-log10 of the bound on the false-positive probability of a hypothesis, never below 0."""
    if z > 30:
        log_tail = -z * z / 2 - math.log(z * math.sqrt(2 * math.pi))
    else:
        log_tail = math.log(math.erfc(z / math.sqrt(2)) / 2)
    return max(0.0, -(math.log(TAIL_CONSTANT) + log_tail + cost) / math.log(10))


@dataclass(frozen=True, slots=True, eq=False)
class Reader:
    """One key's plan, unrolled. The anchor is what a search correlates with: the sync cells, or all
    cells where the payload is known."""

    signs: Floats
    """(BANDS, PERIOD)"""
    parts: NDArray[np.intp]
    """Coded bit of each cell, CODED_BITS for sync: (BANDS, PERIOD)."""
    anchor: Floats
    """The anchor's signs, 0 elsewhere: (BANDS, PERIOD)."""
    mask: Floats
    """1 where a cell of a tile is the anchor's: (BANDS, TILE)."""
    spectrum: NDArray[np.complex64]
    """Of the anchor, over slots: (BANDS, PERIOD / 2 + 1)."""
    payload: int | None = None
    """The payload whose pattern is the anchor."""

    def correlate(self, softs: Floats) -> tuple[Floats, Floats]:
        """Inner product with the anchor and its variance for every start: (grids, PERIOD) each.

        softs: (grids, BANDS, slots), slots <= PERIOD.
        """
        spectra = np.conj(cells.rfft(softs, PERIOD))
        inner = cells.irfft((spectra * self.spectrum).sum(axis=1), PERIOD)
        squares = np.zeros((*softs.shape[:2], -(-softs.shape[2] // TILE) * TILE), np.float32)
        np.square(softs, out=squares[..., : softs.shape[2]])
        tile = cells.rfft(squares.reshape(*softs.shape[:2], -1, TILE).sum(axis=2), TILE)
        energy = cells.irfft((np.conj(tile) * cells.rfft(self.mask, TILE)).sum(axis=1), TILE)
        return inner, np.tile(np.maximum(energy, 1e-12), PERIOD // TILE)

    def correlate_slices(self, softs: Floats, width: int) -> tuple[Floats, Floats]:
        """The same for each slice of `width` slots by itself: (slices, grids, PERIOD) each.

        What is left over at the end is not looked at. One product of matrices, which for slices as
        short as these is far quicker than a transform.
        """
        grids, _, slots = softs.shape
        count = slots // width
        cut = softs[..., : count * width].reshape(grids, BANDS, count, width)
        rows = cut.transpose(2, 0, 3, 1).reshape(count * grids, width * BANDS)
        signs, mask = _windows(self, width)
        inner, energy = rows @ signs, np.square(rows) @ mask
        shape = count, grids, -1
        return inner.reshape(shape), np.tile(energy, PERIOD // TILE).reshape(shape)

    def bits(self, stream: Floats) -> tuple[Floats, Floats]:
        """Sum and variance of each coded bit; the last entry is sync: (CODED_BITS + 1,) each.

        stream: soft cells folded on the sign stream, (BANDS, PERIOD).
        """
        used = np.flatnonzero(stream.any(axis=0))
        soft, part = stream[:, used], self.parts[:, used].reshape(-1)
        size = code.CODED_BITS + 1
        total = np.bincount(part, (soft * self.signs[:, used]).reshape(-1), size)
        variance = np.bincount(part, (soft * soft).reshape(-1), size)
        return total.astype(np.float32), variance.astype(np.float32)

    def z(self, stream: Floats) -> float:
        """z of the anchor, the stream taken as it lies."""
        total, variance = self.bits(stream)
        if self.payload is not None:
            return message_z(self.payload, total, variance)
        return float(total[-1]) / math.sqrt(max(float(variance[-1]), 1e-12))

    def knowing(self, payload: int) -> Reader:
        """A reader that looks for one payload."""
        word = np.append(code.encode(payload), np.float32(1))
        return replace(self._listening(word), payload=payload)

    def leaning(self, total: Floats, variance: Floats) -> Reader:
        """A reader that looks for what `bits` of some sound make likely, the surest bits most."""
        word = np.tanh(total * _scale(total, variance)).astype(np.float32)
        word[-1] = 1
        return self._listening(word)

    def _listening(self, word: Floats) -> Reader:
        """A reader whose anchor is all cells. word: (CODED_BITS + 1,), -1 to 1."""
        anchor = self.signs * word[self.parts]
        return replace(
            self,
            anchor=anchor,
            mask=np.square(word[self.parts[:, :TILE]]),
            spectrum=cells.rfft(anchor, PERIOD),
        )


@lru_cache(maxsize=4)
def _windows(plan: Reader, width: int) -> tuple[Floats, Floats]:
    """What a slice meets of the anchor and its mask at each slot of the stream and of a tile:
    (width * BANDS, PERIOD), (width * BANDS, TILE)."""
    signs = [np.roll(plan.anchor, -at, axis=1) for at in range(width)]
    mask = [np.roll(plan.mask, -at, axis=1) for at in range(width)]
    return np.concatenate(signs), np.concatenate(mask)


@lru_cache(maxsize=64)
def reader(key: bytes) -> Reader:
    """The reader of a key. Raises ValueError for a key that is not 32 bytes long."""
    plan = layout(key)
    parts = np.where(plan.parts < 0, code.CODED_BITS, plan.parts)
    return Reader(
        signs=plan.signs,
        parts=np.tile(parts, (1, PERIOD // TILE)),
        anchor=plan.sync,
        mask=plan.sync_mask,
        spectrum=cells.rfft(plan.sync, PERIOD),
    )


@dataclass(frozen=True, slots=True)
class Warp:
    """How a clip is played."""

    tempo: float = 1.0
    """How many times too fast."""
    pitch: float = 1.0
    """How many times too high."""
    smeared: bool = False
    """By a phase vocoder."""


PLAIN = Warp()


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """A guess: stretches of soft cells, each with its start in the sign stream."""

    stretches: tuple[tuple[Floats, int], ...]
    """Pairs of (BANDS, slots) and a slot of the stream."""
    z: float
    """Of the anchor."""
    cost: float
    warp: Warp = PLAIN

    def stream(self) -> Floats:
        """All stretches added up where they meet the stream: (BANDS, PERIOD).

        Sound that repeats, or clips that overlap, thus meet each sign once, as the proof needs.
        """
        out = np.zeros((BANDS, PERIOD), np.float32)
        for soft, start in self.stretches:
            fits = min(soft.shape[1], PERIOD - start)
            out[:, start : start + fits] += soft[:, :fits]
            out[:, : soft.shape[1] - fits] += soft[:, fits:]
        return out


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A place, the payload decoded there, and the score of both."""

    score: float = 0.0
    payload: int | None = None
    """None where nothing could be decoded."""
    place: Place | None = None


def worth(hypothesis: Hypothesis) -> tuple[bool, float]:
    """Return the sort key: a payload that may be claimed ranks above any score without one."""
    return hypothesis.payload is not None and hypothesis.score >= CLAIM, hypothesis.score


def read(plan: Reader, candidates: list[Place], decodes: int) -> Hypothesis:
    """The best of what the anchor says at these places and of what can be decoded there."""
    anchored = SYNC_COST if plan.payload is None else 0.0
    found = [_hypothesis(place, place.z, anchored, plan.payload) for place in candidates]
    if plan.payload is None:
        weighed = [(place, *plan.bits(place.stream())) for place in candidates]
        weighed.sort(key=lambda entry: -evidence(entry[1], entry[2]))
        for place, total, variance in weighed[:decodes]:
            hopeful = evidence(total, variance) >= LEAST_EVIDENCE
            payload = code.decode(total[:-1]) if hopeful else None
            if payload is not None:
                z = message_z(payload, total, variance)
                found.append(_hypothesis(place, z, MESSAGE_COST, payload))
    return max(found, key=worth, default=Hypothesis())


def _hypothesis(place: Place, z: float, cost: float, payload: int | None) -> Hypothesis:
    score = bound(z, place.cost + cost)
    return Hypothesis(score, payload, place)


def message_z(payload: int, total: Floats, variance: Floats) -> float:
    """z of all cells under one payload."""
    word = np.append(code.encode(payload), np.float32(1))
    return float(word @ total / math.sqrt(max(float(variance.sum()), 1e-12)))


def evidence(total: Floats, variance: Floats) -> Floats:
    """Log-likelihood ratio "marked here" against "not", whatever the payload says: (...).

    total, variance: (..., CODED_BITS + 1) as from `Reader.bits`. Soft values are matched to their
    noise: a mark of scale m gives each sum mean m * variance.
    """
    scale = _scale(total, variance)
    lean = np.abs(total[..., :-1]) * scale
    log_cosh = lean + np.log1p(np.exp(-2 * lean)) - math.log(2)
    anchor, power = (scale * total[..., -1:])[..., 0], (scale * scale)[..., 0] / 2
    weight = log_cosh.sum(axis=-1) + anchor - power * variance.sum(axis=-1)
    return np.asarray(weight, np.float32)


def _scale(total: Floats, variance: Floats) -> Floats:
    """How strong the mark is by the sync cells, in units of soft values: (..., 1)."""
    spread = np.maximum(variance[..., -1:], 1e-12)
    scale: Floats = np.maximum(total[..., -1:] / spread, 0.3 / np.sqrt(spread))
    return scale
