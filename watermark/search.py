"""Search for the mark: in unchanged audio, in audio cut and joined, in audio of changed speed,
tempo or pitch.

Prior probabilities of the searches (receiver.py explains the costs): one half for unchanged audio,
a quarter for cut audio, an eighth each for warped audio and for audio both warped and cut.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from watermark import cells, coding
from watermark.cells import Spectrogram
from watermark.layout import PERIOD
from watermark.receiver import (
    MIN_EVIDENCE,
    NO_WARP,
    PHASES,
    START_COST,
    Alignment,
    Hypothesis,
    Receiver,
    Warp,
    bound,
    evaluate_alignments,
    evidence,
    rank,
)
from watermark.warps import find_likely_warps, levels_of_pitches, warp_cost

Floats = NDArray[np.float32]
BeamEntry = tuple[tuple[Alignment, ...], Floats, Floats]
"""Alignments of several clips, with the sum and variance of their despread bits."""
Searches = Iterator[tuple[list[Alignment], int]]
"""The alignments of each search, and how many of them to decode."""

SHORTLIST, MAX_DECODES = 48, 3
"""Number of alignments that a correlation selects, and of those that are decoded."""
BEAM_WIDTH = 48
MIN_SLOTS = 8

REFINEMENTS = 2
"""Times that a path is refined with the bits despread along the previous one."""
SLICE_SLOTS = 6
"""Slots of a slice of a path: 0.19 s."""
STATES = PHASES * PERIOD
SHORT_JUMP_HOPS, NEAR_JUMP_HOPS = 64, 256
"""A cut of up to 64 hops (0.5 s) is a short jump, one of up to 256 hops (2 s) a near one."""
STAY_COST, DRIFT_COST, SHORT_COST, NEAR_COST, FAR_COST = (
    -math.log(0.85),
    -math.log(0.02),
    -math.log(0.06 / SHORT_JUMP_HOPS),
    -math.log(0.03 / NEAR_JUMP_HOPS),
    -math.log(0.02 / STATES),
)
"""Costs of the transitions between two slices of a path, whose probabilities sum to one."""


def soft_value_grids(clip: Spectrogram, warp: Warp, phases: int = PHASES) -> Floats:
    """Return the soft values of a clip with a warp undone, one grid for each of several evenly
    spaced time offsets within a slot: (phases, BANDS, slots), no slots if the clip is too short."""
    bands = cells.band_energies(clip, warp.pitch)
    slot = cells.HOPS_PER_SLOT / warp.tempo
    energies = cells.cell_energies(bands, slot, slot / phases * np.arange(phases))[..., :PERIOD]
    if energies.shape[2] < MIN_SLOTS:
        return energies[..., :0]
    return cells.soft_values(cells.measure_levels(energies), vocoded=warp.vocoded)


def align(receiver: Receiver, soft: Floats, warp: Warp, cost: float) -> list[Alignment]:
    """Return the alignments with the highest correlation, best first."""
    inner, energy = receiver.correlate(soft)
    z = inner / np.sqrt(energy)
    best = np.argpartition(z, -SHORTLIST, axis=None)[-SHORTLIST:]
    alignments = [
        Alignment(((soft[phase], int(start)),), float(z[phase, start]), cost, warp)
        for phase, start in zip(*np.unravel_index(best, z.shape), strict=True)
    ]
    return sorted(alignments, key=lambda alignment: -alignment.z)


def find_unchanged(receiver: Receiver, clip: Spectrogram, *, cost: float = 0.0) -> Hypothesis:
    """Return the best hypothesis about unchanged audio. cost: nats that all hypotheses share, as
    when one of several keys is tried."""
    return _best_of(_search_unchanged(receiver, clip, cost), receiver, Hypothesis())


def find_changed(
    receiver: Receiver, clip: Spectrogram, best: Hypothesis, *, cost: float = 0.0
) -> Hypothesis:
    """Return the best hypothesis about changed audio, or `best`, what `find_unchanged` returned.

    The searches stop at the first payload read in one piece. A payload read along a path of several
    stretches does not stop them: in audio of changed speed such a path collects only part of the
    evidence, which the search over warps collects in full.
    """
    return _best_of(_search_changed(receiver, clip, cost), receiver, best)


def _best_of(searches: Searches, receiver: Receiver, best: Hypothesis) -> Hypothesis:
    for alignments, max_decodes in searches:
        best = max(best, evaluate_alignments(receiver, alignments, max_decodes), key=rank)
        if rank(best)[0] and best.alignment is not None and len(best.alignment.stretches) == 1:
            break
    return best


def _search_unchanged(receiver: Receiver, clip: Spectrogram, cost: float) -> Searches:
    soft = soft_value_grids(clip, NO_WARP)
    if soft.shape[2]:
        yield align(receiver, soft, NO_WARP, cost + START_COST + math.log(2)), MAX_DECODES


def _search_changed(receiver: Receiver, clip: Spectrogram, cost: float) -> Searches:
    soft = soft_value_grids(clip, NO_WARP)
    if not soft.shape[2]:
        return
    for path in track_alignment(receiver, soft, NO_WARP, cost + START_COST + math.log(4)):
        yield [path], 1
    warp_start_cost = cost + START_COST + math.log(8)
    levels = levels_of_pitches(clip)
    for vocoded in (False, True):
        likely = find_likely_warps(receiver, clip.seconds, levels, vocoded=vocoded)
        warped = _align_warped(receiver, clip, likely, warp_start_cost)
        yield warped, MAX_DECODES
        if warped and not vocoded:
            warp = warped[0].warp
            soft = soft_value_grids(clip, warp)
            for path in track_alignment(receiver, soft, warp, warped[0].cost):
                yield [path], 1


def find_joint(receiver: Receiver, clips: list[Spectrogram], *, thorough: bool) -> Hypothesis:
    """Search for one payload in several clips: a beam search over the likely alignments of each,
    clips with the most evidence first. One bit of cost per clip says whether it is used."""
    groups = [_likely_alignments(receiver, clip, thorough=thorough) for clip in clips]
    choices = [[(a, receiver.despread(a.fold())) for a in group] for group in groups if group]
    choices.sort(key=lambda group: -max(evidence(*bits) for _, bits in group))
    zeros = np.zeros(coding.CODED_BITS + 1, np.float32)
    beam: list[BeamEntry] = [((), zeros, zeros)]
    best = Hypothesis()
    cost = math.log(2) * len(clips)
    for group in choices:
        beam = _extend_beam(beam, group)
        combined = [_combine(receiver, alignments, cost) for alignments, _, _ in beam[:MAX_DECODES]]
        best = max(best, evaluate_alignments(receiver, combined, MAX_DECODES), key=rank)
    return best


def _extend_beam(
    beam: list[BeamEntry], choices: list[tuple[Alignment, tuple[Floats, Floats]]]
) -> list[BeamEntry]:
    """Return the beam with one more clip: the entries with the most evidence."""
    entries = [
        ((*alignments, alignment), total + clip_total, variance + clip_variance)
        for alignments, total, variance in beam
        for alignment, (clip_total, clip_variance) in choices
    ]
    weights = evidence(np.stack([e[1] for e in entries]), np.stack([e[2] for e in entries]))
    return [entries[at] for at in np.argsort(-weights)[:BEAM_WIDTH]]


def _combine(receiver: Receiver, alignments: tuple[Alignment, ...], cost: float) -> Alignment:
    stretches = tuple(stretch for alignment in alignments for stretch in alignment.stretches)
    combined = Alignment(stretches, 0.0, cost + sum(alignment.cost for alignment in alignments))
    return replace(combined, z=receiver.template_z(combined.fold()))


def _likely_alignments(receiver: Receiver, clip: Spectrogram, *, thorough: bool) -> list[Alignment]:
    """Return the alignments of the search whose best alignment has the highest bound."""
    searches = [*_search_unchanged(receiver, clip, 0.0)]
    searches += _search_changed(receiver, clip, 0.0) if thorough else []
    found = (alignments for alignments, _ in searches if alignments)
    return max(found, key=lambda found: bound(found[0].z, found[0].cost), default=[])


def _align_warped(
    receiver: Receiver, clip: Spectrogram, likely: list[Warp], cost: float
) -> list[Alignment]:
    """Return the alignments with the highest correlation over the likely warps, best first."""
    alignments: list[Alignment] = []
    for warp in likely:
        soft = soft_value_grids(clip, warp)
        if soft.shape[2]:
            alignments += align(receiver, soft, warp, cost + warp_cost(warp))
    return sorted(alignments, key=lambda alignment: -alignment.z)[:SHORTLIST]


def track_alignment(
    receiver: Receiver, soft: Floats, warp: Warp, cost: float
) -> Iterator[Alignment]:
    """Yield the most likely path through the chip sequence for audio that was cut, joined or
    stretched in places, then its refinements; nothing for a clip shorter than two slices.

    This is a Viterbi search over slices of 0.19 s. A state is the position in the chip sequence at
    time 0, in hops: constant in untouched audio, shifted by one where a clock drifts, and by a jump
    at a cut. The first path uses the template; refinements also use the bits despread along it.
    """
    if soft.shape[2] < 2 * SLICE_SLOTS:
        return
    gains = _score_slices(receiver, soft)
    for refinement in range(1 + REFINEMENTS):
        path, path_cost = _best_path(gains)
        alignment = Alignment(_split_path(soft, path), 0.0, cost + path_cost, warp)
        folded = alignment.fold()
        yield replace(alignment, z=receiver.template_z(folded))
        if refinement == REFINEMENTS or receiver.payload is not None:
            return
        if evidence(*receiver.despread(folded)) < MIN_EVIDENCE:
            return
        gains = _refine_scores(receiver, soft, path)


def _best_path(gains: Floats) -> tuple[list[int], float]:
    """Return the state of each slice, and the cost of all transitions."""
    best = [gains[0]]
    for gain in gains[1:]:
        best.append(gain + np.max(_arrival_scores(best[-1]), axis=0))
    return _trace_back(best)


def _refine_scores(receiver: Receiver, soft: Floats, path: list[int]) -> Floats:
    """Score slices by all cells: the odd ones by the bits despread from the even ones and vice
    versa, so that a misaligned slice cannot confirm itself."""
    odd = np.arange(soft.shape[2]) // SLICE_SLOTS % 2
    gains = np.empty((-(-soft.shape[2] // SLICE_SLOTS), STATES), np.float32)
    for half in (0, 1):
        others = Alignment(_split_path(soft * (odd != half), path), 0.0, 0.0)
        informed = receiver.with_soft_bits(*receiver.despread(others.fold()))
        gains[half::2] = _score_slices(informed, soft)[half::2]
    return gains


def _score_slices(receiver: Receiver, soft: Floats) -> Floats:
    """Return the log-likelihood ratio of each slice in each state: (slices, STATES)."""
    whole = np.pad(soft, ((0, 0), (0, 0), (0, -soft.shape[2] % SLICE_SLOTS)))
    energy = receiver.slice_energies(whole, SLICE_SLOTS)
    z = receiver.correlate_slices(whole, SLICE_SLOTS) / np.sqrt(np.maximum(energy, 1e-12))
    amplitude = np.clip(z, 1.5, 3.5)
    gain = amplitude * (z - amplitude / 2)
    out = np.empty((len(z), PERIOD, PHASES), np.float32)
    for number, phase in np.ndindex(*gain.shape[:2]):
        # Grid `phase` starts phase / PHASES of a slot late: state = PHASES * start - phase.
        first = (number * SLICE_SLOTS + (phase > 0)) % PERIOD
        row, turned = gain[number, phase], out[number, :, -phase % PHASES]
        turned[: PERIOD - first], turned[PERIOD - first :] = row[first:], row[:first]
    return out.reshape(-1, STATES)


def _arrival_scores(last: Floats) -> Floats:
    """Return the best score on arrival in each state by staying, drifting, and short, near and far
    jumps: (5, STATES)."""
    behind = np.concatenate([last[-NEAR_JUMP_HOPS:], last[:-1]])
    ahead = np.append(last[1:], last[0])
    short = _running_max(behind, 1, SHORT_JUMP_HOPS)
    near = _running_max(short, SHORT_JUMP_HOPS, NEAR_JUMP_HOPS)
    drift = np.maximum(behind[NEAR_JUMP_HOPS - 1 :], ahead)
    far = np.full_like(last, last.max())
    short = short[NEAR_JUMP_HOPS - SHORT_JUMP_HOPS :]
    return np.stack(
        [last - STAY_COST, drift - DRIFT_COST, short - SHORT_COST, near - NEAR_COST, far - FAR_COST]
    )


def _running_max(window: Floats, width: int, target: int) -> Floats:
    """Return the maxima over `target` neighbours, given the maxima over `width` of them."""
    while width < target:
        window = np.maximum(window[:-width], window[width:])
        width *= 2
    return window


def _trace_back(best: list[Floats]) -> tuple[list[int], float]:
    """Return the states of the best path and the cost of its transitions."""
    state = int(np.argmax(best[-1]))
    path, cost = [state], 0.0
    for last in reversed(best[:-1]):
        around = [(state - 1) % STATES, (state + 1) % STATES]
        behind = (state - 1 - np.arange(NEAR_JUMP_HOPS)) % STATES
        short = behind[:SHORT_JUMP_HOPS]
        moves = [
            (STAY_COST, state),
            (DRIFT_COST, max(around, key=lambda index: last[index])),
            (SHORT_COST, int(short[np.argmax(last[short])])),
            (NEAR_COST, int(behind[np.argmax(last[behind])])),
            (FAR_COST, int(np.argmax(last))),
        ]
        move_cost, state = max(moves, key=lambda move: last[move[1]] - move[0])
        path.append(state)
        cost += move_cost
    return path[::-1], cost


def _split_path(soft: Floats, path: list[int]) -> tuple[tuple[Floats, int], ...]:
    """Return the runs of slices in one state: soft values and their start in the chip sequence."""
    stretches = []
    first = 0
    for number in range(1, len(path) + 1):
        if number < len(path) and path[number] == path[first]:
            continue
        phase = -path[first] % PHASES
        start = (path[first] + phase) // PHASES + first * SLICE_SLOTS
        stop = number * SLICE_SLOTS if number < len(path) else None
        stretches.append((soft[phase][:, first * SLICE_SLOTS : stop], start % PERIOD))
        first = number
    return tuple(stretches)
