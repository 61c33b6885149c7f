"""The spread-spectrum receiver: correlate, despread and decode soft values at one alignment.

Every alignment and payload tested is a hypothesis with a cost: minus the logarithm of its prior
probability. The priors of all hypotheses that could be tested sum to at most one, so by the union
bound the false-positive probability, that any of them reaches `bound(z, cost) >= s` on unmarked
audio, is at most 10^-s (docs/watermark.md has the proof). The number of hypotheses tested does not
matter; a hypothesis that takes longer to describe costs more.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from watermark import cells, coding
from watermark.layout import BANDS, PERIOD, TILE, derive_layout

Floats = NDArray[np.float32]
Folded = tuple[Floats, NDArray[np.intp] | slice]
"""Soft values by their position in the chip sequence: (BANDS, n), and the n slots, in order."""

DETECTION_THRESHOLD = 6.0
"""Scores from here on count as a detection; the false-positive rate is one clip in a million."""
MIN_EVIDENCE = 7.0
"""Alignments with less evidence, in nats, are not decoded, to save time."""
MAX_LAG = 20.0
"""Alignments whose log-likelihood ratio by the template is this much lower, in nats, than that of
the best one are not despread, to save time."""
PHASES = cells.HOPS_PER_SLOT
"""Time offsets within a slot at which clips are correlated."""
TAIL_CONSTANT = 3.18
"""P(sum a_i e_i >= z |a|) <= 3.18 Q(z) for random signs e_i (Bentkus and Dzindzalieta, 2015)."""
START_COST = math.log(PHASES * PERIOD)
SYNC_COST = math.log(2)
"""Cost, in nats, of a hypothesis about the sync cells alone ..."""
PAYLOAD_COST = math.log(2) + coding.PAYLOAD_BITS * math.log(2)
"""... and of one about all cells under one of 2^32 payloads."""


def bound(z: float, cost: float) -> float:
    """Return -log10 of the bound on the false-positive probability of a hypothesis, at least 0."""
    if z > 30:
        log_tail = -z * z / 2 - math.log(z * math.sqrt(2 * math.pi))
    else:
        log_tail = math.log(math.erfc(z / math.sqrt(2)) / 2)
    return max(0.0, -(math.log(TAIL_CONSTANT) + log_tail + cost) / math.log(10))


@dataclass(frozen=True, slots=True, eq=False)
class Receiver:
    """The correlation receiver of one key. Its template is what a search correlates with: the sync
    cells, or all cells if the payload is known."""

    chips: Floats
    """(BANDS, PERIOD)"""
    bit_index: NDArray[np.intp]
    """Index of the coded bit of each cell, CODED_BITS for sync: (BANDS, PERIOD)."""
    template: Floats
    """Expected sign of each cell, 0 where unknown: (BANDS, PERIOD)."""
    template_power: Floats
    """Square of the template, which repeats every tile: (BANDS, TILE)."""
    payload: int | None = None
    """The payload, if it is known."""

    def correlate(self, soft: Floats) -> tuple[Floats, Floats]:
        """Return the inner product with the template and its variance for every start in the chip
        sequence: (grids, PERIOD) each. soft: (grids, BANDS, slots), slots <= PERIOD."""
        grids, _, slots = soft.shape
        # Overlap-save: starts in blocks, so that the transforms are not much longer than the clip.
        block = min(max(32, 1 << (slots - 1).bit_length()), PERIOD)
        size = min(2 * block, PERIOD)
        spectra = np.conj(cells.rfft(soft.transpose(2, 0, 1), size, axis=0))
        products = spectra @ _block_spectra(self, block, size)
        inner = cells.irfft(products, size, axis=0)[:block].transpose(1, 2, 0).reshape(grids, -1)
        squares = np.zeros((*soft.shape[:2], -(-soft.shape[2] // TILE) * TILE), np.float32)
        np.square(soft, out=squares[..., : soft.shape[2]])
        tile = cells.rfft(squares.reshape(*soft.shape[:2], -1, TILE).sum(axis=2), TILE)
        energy = cells.irfft(
            (np.conj(tile) * cells.rfft(self.template_power, TILE)).sum(axis=1), TILE
        )
        return inner, np.tile(np.maximum(energy, 1e-12), PERIOD // TILE)

    def correlate_slices(self, soft: Floats, width: int) -> Floats:
        """Correlate each slice of `width` slots by itself: (slices, grids, PERIOD).

        Slots beyond the last whole slice are ignored. For slices this short, one matrix product is
        much faster than Fourier transforms.
        """
        rows, shape = _cut_slices(soft, width)
        templates, _ = _slice_templates(self, width)
        return (rows @ templates).reshape(shape)

    def slice_energies(self, soft: Floats, width: int) -> Floats:
        """Return the variances of these inner products: (slices, grids, PERIOD)."""
        rows, shape = _cut_slices(soft, width)
        _, powers = _slice_templates(self, width)
        return np.tile(np.square(rows) @ powers, PERIOD // TILE).reshape(shape)

    def despread(self, folded: Folded) -> tuple[Floats, Floats]:
        """Return sum and variance of each coded bit, and of sync last: (CODED_BITS + 1,) each."""
        soft, slots = folded
        bit_index = self.bit_index[:, slots].reshape(-1)
        size = coding.CODED_BITS + 1
        total = np.bincount(bit_index, (soft * self.chips[:, slots]).reshape(-1), size)
        variance = np.bincount(bit_index, (soft * soft).reshape(-1), size)
        return total.astype(np.float32), variance.astype(np.float32)

    def template_z(self, folded: Folded) -> float:
        """Return the normalised correlation z of folded soft values with the template."""
        total, variance = self.despread(folded)
        if self.payload is not None:
            return payload_z(self.payload, total, variance)
        return float(total[-1]) / math.sqrt(max(float(variance[-1]), 1e-12))

    def with_payload(self, payload: int) -> Receiver:
        """Return a receiver for one known payload."""
        codeword = np.append(coding.encode(payload), np.float32(1))
        return replace(self._with_codeword(codeword), payload=payload)

    def with_soft_bits(self, total: Floats, variance: Floats) -> Receiver:
        """Return a receiver for the bits that `despread` found likely, each by its confidence."""
        codeword = np.tanh(total * _mark_amplitude(total, variance)).astype(np.float32)
        codeword[-1] = 1
        return self._with_codeword(codeword)

    def _with_codeword(self, codeword: Floats) -> Receiver:
        """Return a receiver whose template is all cells. codeword: (CODED_BITS + 1,), -1 to 1."""
        template = self.chips * codeword[self.bit_index]
        return replace(
            self,
            template=template,
            template_power=np.square(codeword[self.bit_index[:, :TILE]]),
        )


def _cut_slices(soft: Floats, width: int) -> tuple[Floats, tuple[int, int, int]]:
    """Return the slices as rows, (slices * grids, width * BANDS), and (slices, grids, -1)."""
    grids, _, slots = soft.shape
    count = slots // width
    cut = soft[..., : count * width].reshape(grids, BANDS, count, width)
    return cut.transpose(2, 0, 3, 1).reshape(count * grids, width * BANDS), (count, grids, -1)


@lru_cache(maxsize=8)
def _block_spectra(receiver: Receiver, block: int, size: int) -> NDArray[np.complex64]:
    """Return the Fourier transforms of `size` slots of the template from the start of each block
    on: (size / 2 + 1, BANDS, PERIOD / block)."""
    whole = np.concatenate([receiver.template, receiver.template[:, :block]], axis=1)
    blocks = np.lib.stride_tricks.sliding_window_view(whole, size, axis=1)[:, :PERIOD:block]
    return cells.rfft(blocks.transpose(2, 0, 1), size, axis=0)


@lru_cache(maxsize=4)
def _slice_templates(receiver: Receiver, width: int) -> tuple[Floats, Floats]:
    """Return the template of a slice for each start in the chip sequence, and its square for each
    start in a tile: (width * BANDS, PERIOD), (width * BANDS, TILE)."""
    return _roll_back(receiver.template, width), _roll_back(receiver.template_power, width)


def _roll_back(pattern: Floats, width: int) -> Floats:
    """Return a pattern, (BANDS, n), begun 0, 1 and so on slots later: (width * BANDS, n)."""
    return np.concatenate([np.roll(pattern, -at, axis=1) for at in range(width)])


@lru_cache(maxsize=64)
def make_receiver(key: bytes) -> Receiver:
    """Return the receiver of a key. Raises ValueError for a key that is not 32 bytes long."""
    layout = derive_layout(key)
    bit_index = np.where(layout.bit_index < 0, coding.CODED_BITS, layout.bit_index)
    return Receiver(
        chips=layout.chips,
        bit_index=np.tile(bit_index, (1, PERIOD // TILE)),
        template=layout.sync,
        template_power=layout.sync_mask,
    )


@dataclass(frozen=True, slots=True)
class Warp:
    """A change of tempo and pitch since the clip was marked."""

    tempo: float = 1.0
    """Factor by which the clip is too fast."""
    pitch: float = 1.0
    """Factor by which its frequencies are too high."""
    vocoded: bool = False
    """True if a phase vocoder made the change."""


NO_WARP = Warp()


@dataclass(frozen=True, slots=True, eq=False)
class Alignment:
    """A synchronisation hypothesis: stretches of soft values at slots of the chip sequence."""

    stretches: tuple[tuple[Floats, int], ...]
    """Pairs of soft values, (BANDS, slots), and the slot of the chip sequence of the first."""
    z: float
    """Normalised correlation with the template."""
    cost: float
    """In nats."""
    warp: Warp = NO_WARP

    def fold(self) -> Folded:
        """Add all stretches up by their position in the chip sequence.

        The proof needs this: audio that repeats, or clips that overlap, count once per chip.
        """
        if len(self.stretches) == 1:
            soft, start = self.stretches[0]
            if start + soft.shape[1] <= PERIOD:
                return soft, slice(start, start + soft.shape[1])
        out = np.zeros((BANDS, PERIOD), np.float32)
        for soft, start in self.stretches:
            fits = min(soft.shape[1], PERIOD - start)
            out[:, start : start + fits] += soft[:, :fits]
            out[:, : soft.shape[1] - fits] += soft[:, fits:]
        slots = np.flatnonzero(out.any(axis=0))
        return out[:, slots], slots


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A tested hypothesis."""

    score: float = 0.0
    payload: int | None = None
    """None if the hypothesis is about the sync cells alone."""
    alignment: Alignment | None = None


def rank(tested: Hypothesis) -> tuple[bool, float]:
    """Return the sort key of a hypothesis: a detected payload ranks above any score without one."""
    return tested.payload is not None and tested.score >= DETECTION_THRESHOLD, tested.score


def evaluate_alignments(
    receiver: Receiver, alignments: list[Alignment], max_decodes: int
) -> Hypothesis:
    """Return the best hypothesis at these alignments: about the template, or a decoded payload."""
    sync_cost = SYNC_COST if receiver.payload is None else 0.0
    alignments = _drop_unlikely(alignments)
    tested = [Hypothesis(bound(a.z, a.cost + sync_cost), receiver.payload, a) for a in alignments]
    if receiver.payload is None and alignments:
        tested += _decode_best(receiver, alignments, max_decodes)
    return max(tested, key=rank, default=Hypothesis())


def _drop_unlikely(alignments: list[Alignment]) -> list[Alignment]:
    """Return the alignments that the template alone does not make hopeless beside the best one."""
    ratios = [alignment.z**2 / 2 - alignment.cost for alignment in alignments]
    least = max(ratios, default=0.0) - MAX_LAG
    return [one for one, ratio in zip(alignments, ratios, strict=True) if ratio >= least]


def _decode_best(
    receiver: Receiver, alignments: list[Alignment], max_decodes: int
) -> Iterator[Hypothesis]:
    """Decode at the alignments with the most evidence. Once a payload is detected, the others are
    only tested for it, which takes a hundredth of the time."""
    despread = [receiver.despread(alignment.fold()) for alignment in alignments]
    totals, variances = map(np.stack, zip(*despread, strict=True))
    weights = evidence(totals, variances)
    detected: int | None = None
    for at in np.argsort(-weights, kind="stable")[:max_decodes]:
        if weights[at] < MIN_EVIDENCE:
            break
        payload = coding.decode(totals[at, :-1]) if detected is None else detected
        if payload is not None:
            z = payload_z(payload, totals[at], variances[at])
            score = bound(z, alignments[at].cost + PAYLOAD_COST)
            yield Hypothesis(score, payload, alignments[at])
            detected = payload if score >= DETECTION_THRESHOLD else None


def payload_z(payload: int, total: Floats, variance: Floats) -> float:
    """Return the normalised correlation z of all cells under one payload."""
    codeword = np.append(coding.encode(payload), np.float32(1))
    return float(codeword @ total / math.sqrt(max(float(variance.sum()), 1e-12)))


def evidence(total: Floats, variance: Floats) -> Floats:
    """Return the log-likelihood ratio of "marked" to "unmarked", averaged over payloads: (...).

    total, variance: (..., CODED_BITS + 1) as from `Receiver.despread`. Soft values are scaled such
    that a mark of amplitude m gives each sum the mean m * variance.
    """
    amplitude = _mark_amplitude(total, variance)
    llr = np.abs(total[..., :-1]) * amplitude
    log_cosh = llr + np.log1p(np.exp(-2 * llr)) - math.log(2)
    sync, power = (amplitude * total[..., -1:])[..., 0], (amplitude * amplitude)[..., 0] / 2
    ratio = log_cosh.sum(axis=-1) + sync - power * variance.sum(axis=-1)
    return np.asarray(ratio, np.float32)


def _mark_amplitude(total: Floats, variance: Floats) -> Floats:
    """Estimate the amplitude of the mark from the sync cells, in units of soft values: (..., 1)."""
    spread = np.maximum(variance[..., -1:], 1e-12)
    amplitude: Floats = np.maximum(total[..., -1:] / spread, 0.3 / np.sqrt(spread))
    return amplitude
