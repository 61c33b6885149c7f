"""Look for the mark: as it was embedded, then cut and joined, then sped up, stretched or pitched.

Costs (reader.py) of the three searches: one half of all belief goes to sound as it was, a quarter
to cut sound, an eighth each to warped sound and to sound both warped and cut.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from watermark import cells
from watermark import payload as code
from watermark.layout import PERIOD
from watermark.reader import (
    LEAST_EVIDENCE,
    PHASES,
    PLAIN,
    START_COST,
    Hypothesis,
    Place,
    Reader,
    Warp,
    bound,
    evidence,
    read,
    worth,
)
from watermark.warps import likely_warps, warp_cost

Floats = NDArray[np.float32]
Branch = tuple[tuple[Place, ...], Floats, Floats]
"""Places chosen in several clips, with the sum and variance of their coded bits."""

SHORTLIST = 48
DECODES = 3
BEAM = 48
LEAST_SLOTS = 8

SHARPENED = 2
"""Times that a path is looked for again by what was heard along the one before."""
SLICE = 6
"""Slots of a slice of the track: 0.19 s."""
STATES = PHASES * PERIOD
SHORT_JUMP, NEAR_JUMP = 64, 256
"""A cut of up to this many hops (0.5 s) is called short, one of up to that many (2 s) near."""
STAY, DRIFT, SHORT, NEAR, FAR = (
    -math.log(0.85),
    -math.log(0.02),
    -math.log(0.06 / SHORT_JUMP),
    -math.log(0.03 / NEAR_JUMP),
    -math.log(0.02 / STATES),
)
"""Costs of what may happen to the place between two slices; their shares sum to one."""


def grids(view: cells.Spectrum, warp: Warp, phases: int = PHASES) -> Floats:
    """Soft cells of a clip after undoing a warp, at evenly spaced fractions of a slot.

    (phases, BANDS, slots), or no slots where the clip is too short to say anything.
    """
    bands = cells.band_energies(view, warp.pitch)
    slot = cells.HOPS_A_SLOT / warp.tempo
    energies = cells.cell_energies(bands, slot, slot / phases * np.arange(phases))[..., :PERIOD]
    if energies.shape[2] < LEAST_SLOTS:
        return energies[..., :0]
    return cells.soft_values(energies, smeared=warp.smeared)


def places(plan: Reader, softs: Floats, warp: Warp, cost: float) -> list[Place]:
    """The likeliest starts by the anchor alone, best first."""
    inner, energy = plan.correlate(softs)
    z = inner / np.sqrt(energy)
    best = np.argpartition(z, -SHORTLIST, axis=None)[-SHORTLIST:]
    found = []
    for phase, start in zip(*np.unravel_index(best, z.shape), strict=True):
        found.append(Place(((softs[phase], int(start)),), float(z[phase, start]), cost, warp))
    return sorted(found, key=lambda place: -place.z)


def find(plan: Reader, view: cells.Spectrum, *, thorough: bool, cost: float = 0.0) -> Hypothesis:
    """The best hypothesis of all searches; later ones only run where the earlier did not settle it.

    A path of several stretches does not: along sound that was sped up it hears a little of what the
    warps hear whole.

    cost: nats that all hypotheses share, as where one of several keys was tried.
    """
    best = Hypothesis()
    for candidates, decodes in _searches(plan, view, thorough, cost):
        best = max(best, read(plan, candidates, decodes), key=worth)
        if worth(best)[0] and best.place is not None and len(best.place.stretches) == 1:
            break
    return best


def _searches(
    plan: Reader, view: cells.Spectrum, thorough: bool, cost: float
) -> Iterator[tuple[list[Place], int]]:
    softs = grids(view, PLAIN)
    if not softs.shape[2]:
        return
    yield places(plan, softs, PLAIN, cost + START_COST + math.log(2)), DECODES
    if not thorough:
        return
    for path in track(plan, softs, PLAIN, cost + START_COST + math.log(4)):
        yield [path], 1
    for smeared in (False, True):
        warped = _warped_places(plan, view, cost + START_COST + math.log(8), smeared=smeared)
        yield warped, DECODES
        if warped and not smeared:
            warp = warped[0].warp
            for path in track(plan, grids(view, warp), warp, warped[0].cost):
                yield [path], 1


def find_joint(plan: Reader, views: list[cells.Spectrum], *, thorough: bool) -> Hypothesis:
    """One payload in several clips: a beam over the likely places of each, most telling clip first.

    The bound pays for every clip's place, and a bit a clip for saying whether it is in.
    """
    groups = [group for view in views if (group := _guess(plan, view, thorough=thorough))]
    told = [[plan.bits(place.stream()) for place in group] for group in groups]
    order = sorted(range(len(groups)), key=lambda at: -max(evidence(*bits) for bits in told[at]))
    nothing = np.zeros(code.CODED_BITS + 1, np.float32)
    beam: list[Branch] = [((), nothing, nothing)]
    best = Hypothesis()
    for at in order:
        beam = _extend(beam, list(zip(groups[at], told[at], strict=True)))
        joined = [_join(plan, chosen, math.log(2) * len(views)) for chosen, _, _ in beam[:DECODES]]
        best = max(best, read(plan, joined, DECODES), key=worth)
    return best


def _extend(beam: list[Branch], choices: list[tuple[Place, tuple[Floats, Floats]]]) -> list[Branch]:
    """The likeliest ways to add one more clip."""
    grown = [
        ((*chosen, place), total + more, variance + spread)
        for chosen, total, variance in beam
        for place, (more, spread) in choices
    ]
    weight = evidence(np.stack([g[1] for g in grown]), np.stack([g[2] for g in grown]))
    return [grown[at] for at in np.argsort(-weight)[:BEAM]]


def _join(plan: Reader, chosen: tuple[Place, ...], cost: float) -> Place:
    stretches = tuple(stretch for place in chosen for stretch in place.stretches)
    place = Place(stretches, 0.0, cost + sum(place.cost for place in chosen))
    return replace(place, z=plan.z(place.stream()))


def _guess(plan: Reader, view: cells.Spectrum, *, thorough: bool) -> list[Place]:
    """The likely places of a clip by the search that speaks loudest."""
    found = [group for group, _ in _searches(plan, view, thorough, 0.0) if group]
    return max(found, key=lambda group: bound(group[0].z, group[0].cost), default=[])


def _warped_places(
    plan: Reader, view: cells.Spectrum, cost: float, *, smeared: bool
) -> list[Place]:
    """The likeliest places over all warps, or over what a phase vocoder does."""
    found: list[Place] = []
    for warp in likely_warps(plan, view, smeared=smeared):
        softs = grids(view, warp)
        found += places(plan, softs, warp, cost + warp_cost(warp)) if softs.shape[2] else []
    return sorted(found, key=lambda place: -place.z)[:SHORTLIST]


def track(plan: Reader, softs: Floats, warp: Warp, cost: float) -> Iterator[Place]:
    """The likeliest paths through the stream of sound that was cut, joined or stretched in places,
    each better informed than the one before; none where the clip is one slice.

    Viterbi over slices of 0.19 s. A state is a place in the stream at time 0, in hops: it stays
    the same in sound left whole, moves by one where a clock drifts, and jumps at a cut. The first
    path goes by the anchor. What it hears of the payload then tells what all other cells say.
    """
    if softs.shape[2] < 2 * SLICE:
        return
    gains = _score_slices(plan, softs)
    for turn in range(1 + SHARPENED):
        path, path_cost = _best_path(gains)
        place = Place(_stretches(softs, path), 0.0, cost + path_cost, warp)
        stream = place.stream()
        yield replace(place, z=plan.z(stream))
        hopeful = plan.payload is None and evidence(*plan.bits(stream)) >= LEAST_EVIDENCE
        if turn == SHARPENED or not hopeful:
            return
        gains = _sharpened(plan, softs, path)


def _best_path(gains: Floats) -> tuple[list[int], float]:
    """The state of each slice, and the cost of its moves."""
    best = [gains[0]]
    for gain in gains[1:]:
        best.append(gain + np.max(_arrivals(best[-1]), axis=0))
    return _trace(best)


def _sharpened(plan: Reader, softs: Floats, path: list[int]) -> Floats:
    """`_score_slices` by all cells. Every other slice says what the rest should say, lest a slice
    in the wrong place confirms itself."""
    odd = np.arange(softs.shape[2]) // SLICE % 2
    gains = np.empty((-(-softs.shape[2] // SLICE), STATES), np.float32)
    for half in (0, 1):
        others = Place(_stretches(softs * (odd != half), path), 0.0, 0.0)
        leaning = plan.leaning(*plan.bits(others.stream()))
        gains[half::2] = _score_slices(leaning, softs)[half::2]
    return gains


def _score_slices(plan: Reader, softs: Floats) -> Floats:
    """Log-likelihood ratio of each slice in each state: (count, STATES)."""
    whole = np.pad(softs, ((0, 0), (0, 0), (0, -softs.shape[2] % SLICE)))
    inner, energy = plan.correlate_slices(whole, SLICE)
    z = inner / np.sqrt(np.maximum(energy, 1e-12))
    likely = np.clip(z, 1.5, 3.5)
    gain = likely * (z - likely / 2)
    out = np.empty((len(z), PERIOD, PHASES), np.float32)
    for number, phase in np.ndindex(*gain.shape[:2]):
        # Grid `phase` begins phase / PHASES of a slot late: state = PHASES * start - phase.
        shift = -number * SLICE - (phase > 0)
        out[number, :, -phase % PHASES] = np.roll(gain[number, phase], shift)
    return out.reshape(-1, STATES)


def _arrivals(last: Floats) -> Floats:
    """Best score on arrival in each state by staying, drifting, and short, near and far jumps:
    (5, STATES)."""
    behind = np.concatenate([last[-NEAR_JUMP:], last[:-1]])
    ahead = np.append(last[1:], last[0])
    short = _highest(behind, 1, SHORT_JUMP)
    near = _highest(short, SHORT_JUMP, NEAR_JUMP)
    drift = np.maximum(behind[NEAR_JUMP - 1 :], ahead)
    far = np.full_like(last, last.max())
    short = short[NEAR_JUMP - SHORT_JUMP :]
    return np.stack([last - STAY, drift - DRIFT, short - SHORT, near - NEAR, far - FAR])


def _highest(window: Floats, width: int, wanted: int) -> Floats:
    """The highest of `wanted` neighbours, from the highest of `width` of them."""
    while width < wanted:
        window = np.maximum(window[:-width], window[width:])
        width *= 2
    return window


def _trace(best: list[Floats]) -> tuple[list[int], float]:
    """States of the best path and the cost of its moves."""
    state = int(np.argmax(best[-1]))
    path, cost = [state], 0.0
    for last in reversed(best[:-1]):
        around = [(state - 1) % STATES, (state + 1) % STATES]
        behind = (state - 1 - np.arange(NEAR_JUMP)) % STATES
        short = behind[:SHORT_JUMP]
        moves = [
            (STAY, state),
            (DRIFT, max(around, key=lambda index: last[index])),
            (SHORT, int(short[np.argmax(last[short])])),
            (NEAR, int(behind[np.argmax(last[behind])])),
            (FAR, int(np.argmax(last))),
        ]
        price, state = max(moves, key=lambda move: last[move[1]] - move[0])
        path.append(state)
        cost += price
    return path[::-1], cost


def _stretches(softs: Floats, path: list[int]) -> tuple[tuple[Floats, int], ...]:
    """Runs of slices in one state, as soft cells with their start in the stream."""
    out = []
    first = 0
    for number in range(1, len(path) + 1):
        if number < len(path) and path[number] == path[first]:
            continue
        phase = -path[first] % PHASES
        start = (path[first] + phase) // PHASES + first * SLICE
        stop = number * SLICE if number < len(path) else None
        out.append((softs[phase][:, first * SLICE : stop], start % PERIOD))
        first = number
    return tuple(out)
