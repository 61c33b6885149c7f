"""Estimate the change of tempo and pitch of a clip since it was marked.

Editors and phase vocoders change tempo and pitch independently, so every pair of the two is
evaluated. This is cheap: the soft values of a pitch are computed once and short slices of them are
correlated with the whole chip sequence; a tempo only sets the distance between slices in it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from watermark import cells
from watermark.cells import Levels, Spectrogram
from watermark.layout import PERIOD
from watermark.receiver import NO_WARP, Alignment, Receiver, Warp, evidence

Floats = NDArray[np.float32]

MAX_LOG_RATIO = math.log(1.115)
"""Tempo and pitch are searched up to 11.5 % above and the reciprocal below."""
MIN_TEMPO_STEP, MAX_TEMPO_STEP = 0.0035, 0.012
PITCH_STEP = 0.015
SUBSLOTS = 2
"""Time offsets within a slot at which slices are correlated."""
SLICE_SLOTS = 8
"""Slots of a slice: short enough for its cells to stay aligned with their chips at any tempo."""
MAX_CANDIDATES, MAX_REFINED = 48, 4
"""Number of warps ranked by all cells, and of those searched, each at three tempos."""
TEMPO_OFFSETS = (-1 / 3, 0.0, 1 / 3)
"""In steps between tempos."""

_TEMPOS = 2 * math.floor(MAX_LOG_RATIO / MIN_TEMPO_STEP) + 1
_PITCHES = 2 * math.floor(MAX_LOG_RATIO / PITCH_STEP) + 1
SINGLE_WARPS = 2 * len(TEMPO_OFFSETS) * _TEMPOS + _PITCHES
WARP_PAIRS = len(TEMPO_OFFSETS) * _TEMPOS * _PITCHES
VOCODED_WARPS = len(TEMPO_OFFSETS) * (_TEMPOS + _PITCHES)


def warp_cost(warp: Warp) -> float:
    """Return the cost of a warp in nats. Prior probabilities: one half for speed, tempo or pitch
    alone, a quarter for two of them at once, a quarter for phase vocoders."""
    if warp.vocoded:
        return math.log(4 * VOCODED_WARPS)
    is_single = warp.tempo == 1 or warp.pitch in (1, warp.tempo)
    return math.log(2 * SINGLE_WARPS if is_single else 4 * WARP_PAIRS)


def tempo_step(seconds: float) -> float:
    """Return the step between log tempos at which a clip drifts by at most a third of a slot."""
    return min(max(0.04 / max(seconds, 0.1), MIN_TEMPO_STEP), MAX_TEMPO_STEP)


def log_spaced_ratios(step: float) -> list[float]:
    """Return the ratios to try in ascending order, 1 among them."""
    count = math.floor(MAX_LOG_RATIO / step)
    return [math.exp(step * index) for index in range(-count, count + 1)]


def iterate_warps(step: float, *, vocoded: bool) -> Iterator[tuple[float, list[float]]]:
    """Yield each pitch with the tempos to try; a phase vocoder changes only one of the two."""
    for pitch in log_spaced_ratios(PITCH_STEP):
        yield pitch, log_spaced_ratios(step) if pitch == 1 or not vocoded else [1.0]


def find_likely_warps(
    receiver: Receiver, seconds: float, levels: Mapping[float, Levels], *, vocoded: bool
) -> list[Warp]:
    """Return the warps to search, the most likely first; none if the clip is too short.

    seconds: of the clip. levels: as from `levels_of_pitches`.
    """
    step = tempo_step(seconds)
    warps = _drop_neighbours(_rank_warps(receiver, levels, step, vocoded=vocoded), step)
    warps = warps[: MAX_REFINED // 2 if vocoded else MAX_REFINED]
    return list(dict.fromkeys(close for warp in warps for close in neighbouring_warps(warp, step)))


def neighbouring_warps(warp: Warp, step: float) -> Iterator[Warp]:
    """Yield a warp with its tempo as it is, and a third of a step lower and higher."""
    for offset in TEMPO_OFFSETS:
        close = _snap_to_speed(replace(warp, tempo=warp.tempo * math.exp(offset * step)))
        if close != NO_WARP:
            yield close


def _snap_to_speed(warp: Warp) -> Warp:
    """Return a change of speed in place of a warp close to one: pitch has coarser steps than tempo,
    and the soft values tolerate the difference."""
    is_near = abs(math.log(warp.pitch / warp.tempo)) <= PITCH_STEP / 2
    return replace(warp, pitch=warp.tempo) if is_near and not warp.vocoded else warp


def _drop_neighbours(warps: list[Warp], step: float) -> list[Warp]:
    """Return the warps that are not neighbours of an earlier one."""
    distinct: list[Warp] = []
    for warp in warps:
        if not any(
            abs(math.log(warp.tempo / other.tempo)) < 1.5 * step
            and abs(math.log(warp.pitch / other.pitch)) < 1.5 * PITCH_STEP
            for other in distinct
        ):
            distinct.append(warp)
    return distinct


@dataclass(frozen=True, slots=True, eq=False)
class _Candidate:
    z: float
    """Normalised correlation with the template, approximately."""
    start: int
    """Position of the clip in the chip sequence, in slots / SUBSLOTS."""
    warp: Warp
    soft: Floats
    """(SUBSLOTS, BANDS, slots)"""

    @property
    def log_likelihood_ratio(self) -> float:
        """An approximation from the template alone, less the cost of the warp."""
        return self.z**2 / 2 - warp_cost(self.warp)


def _rank_warps(
    receiver: Receiver, levels: Mapping[float, Levels], step: float, *, vocoded: bool
) -> list[Warp]:
    """Return the most likely warps, the best first: shortlisted by the template, ranked by the
    evidence of all cells."""
    if not levels:
        return []
    tried = list(iterate_warps(step, vocoded=vocoded))
    grids = [_soft_value_grids(levels[pitch], vocoded=vocoded) for pitch, _ in tried]
    # All pitches in one matrix product, which takes a third of the time of one for each.
    sums = receiver.correlate_slices(np.concatenate(grids), SLICE_SLOTS)
    candidates: list[_Candidate] = []
    for index, (soft, (pitch, tempos)) in enumerate(zip(grids, tried, strict=True)):
        own = sums[:, index * SUBSLOTS : (index + 1) * SUBSLOTS]
        best_starts = _best_starts(receiver, soft, own, tempos)
        for tempo, z, start in zip(tempos, *best_starts, strict=True):
            warp = _snap_to_speed(Warp(tempo, pitch, vocoded))
            candidates.append(_Candidate(z, start, warp, soft))
    best = sorted(candidates, key=lambda candidate: -candidate.log_likelihood_ratio)
    best = best[:MAX_CANDIDATES]
    if receiver.payload is None:
        totals, variances = zip(*(_despread(receiver, one) for one in best), strict=True)
        weights = evidence(np.stack(totals), np.stack(variances)).tolist()
        ranked = sorted(zip(weights, best, strict=True), key=lambda w: warp_cost(w[1].warp) - w[0])
        best = [candidate for _, candidate in ranked]
    return [candidate.warp for candidate in best]


def levels_of_pitches(clip: Spectrogram) -> dict[float, Levels]:
    """Return the levels of a clip at each pitch, one grid per time offset: (SUBSLOTS, BANDS,
    slots); nothing if the clip is shorter than a slice."""
    slot = cells.HOPS_PER_SLOT
    levels = {}
    for pitch in log_spaced_ratios(PITCH_STEP):
        bands = cells.band_energies(clip, pitch)
        energies = cells.cell_energies(bands, slot, slot / SUBSLOTS * np.arange(SUBSLOTS))
        if energies.shape[2] >= SLICE_SLOTS:
            levels[pitch] = cells.measure_levels(energies[..., :PERIOD])
    return levels


def _soft_value_grids(levels: Levels, *, vocoded: bool) -> Floats:
    """Return the soft values, padded with zeros to whole slices: (SUBSLOTS, BANDS, slots)."""
    lack = -levels.decibels.shape[2] % SLICE_SLOTS
    return np.pad(cells.soft_values(levels, vocoded=vocoded), ((0, 0), (0, 0), (0, lack)))


def _best_starts(
    receiver: Receiver, soft: Floats, sums: Floats, tempos: list[float]
) -> tuple[list[float], list[int]]:
    """Return, for each tempo, the highest correlation over all starts in the chip sequence,
    normalised to about z, and that start in slots / SUBSLOTS.

    soft: (SUBSLOTS, BANDS, slots); sums: its slices correlated, (slices, SUBSLOTS, PERIOD).
    """
    twice = np.empty((len(sums), 2, PERIOD, SUBSLOTS), np.float32)
    for offset in range(SUBSLOTS):
        # A slice of a grid that starts late by `offset` started by as much before its slot.
        shifted = np.roll(sums[:, offset], -(offset > 0), axis=1)
        twice[:, :, :, -offset % SUBSLOTS] = shifted[:, None]
    slice_sums = twice.reshape(len(sums), -1)
    middles = SUBSLOTS * SLICE_SLOTS * (np.arange(len(sums)) + 0.5)
    highest, starts = [], []
    total = np.empty(SUBSLOTS * PERIOD, np.float32)
    for tempo in tempos:
        total[:] = 0
        distances = np.rint(middles * tempo - middles[0]).astype(np.intp) % len(total)
        for row, shift in zip(slice_sums, distances.tolist(), strict=True):
            total += row[shift : shift + len(total)]
        starts.append(int(np.argmax(total)))
        highest.append(float(total[starts[-1]]))
    scale = math.sqrt(
        float(receiver.template_power.mean() * np.vdot(soft, soft)) / SUBSLOTS + 1e-12
    )
    return [value / scale for value in highest], starts


def _despread(receiver: Receiver, candidate: _Candidate) -> tuple[Floats, Floats]:
    """Return sum and variance of each coded bit at the start of a candidate."""
    soft, tempo = candidate.soft, candidate.warp.tempo
    slots = soft.shape[2]
    first = -(-candidate.start // SUBSLOTS)
    count = min(int((slots - 1) * tempo), PERIOD)
    at = np.rint((SUBSLOTS * (first + np.arange(count)) - candidate.start) / tempo).astype(np.intp)
    at = at[at < SUBSLOTS * slots]
    stretch = soft[at % SUBSLOTS, :, at // SUBSLOTS].T, first % PERIOD
    alignment = Alignment((stretch,), 0.0, 0.0)
    return receiver.despread(alignment.fold())
