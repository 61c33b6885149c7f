"""Guess how much faster and higher a clip is played than it was marked.

Tempo and pitch may change apart, as editors and phase vocoders change them, so every pair of the
two is weighed. It costs little: a pitch is softened once, short slices of it are laid against the
whole stream, and a tempo only says how far apart in the stream the slices lie.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from watermark import cells
from watermark.layout import BANDS, PERIOD
from watermark.reader import PLAIN, Place, Reader, Warp, evidence

Floats = NDArray[np.float32]

SPAN = math.log(1.115)
"""Tempo and pitch are searched this far up and down."""
FINEST_STEP = 0.0035
COARSEST_STEP = 0.012
PITCH_STEP = 0.015
GRAIN = 2
"""Places looked at in each slot."""
SLICE = 8
"""Slots of a slice: short enough for its cells to meet their signs at any tempo."""
GLIMPSES = 48
"""Guesses by the anchor whose cells are all looked at ..."""
REFINED = 4
"""... and of those, guesses looked at closely, each at three tempos."""
NUDGES = (-1 / 3, 0.0, 1 / 3)

_TEMPOS = 2 * math.floor(SPAN / FINEST_STEP) + 1
_PITCHES = 2 * math.floor(SPAN / PITCH_STEP) + 1
MAX_ALIGNED = 2 * len(NUDGES) * _TEMPOS + _PITCHES
MAX_PAIRS = len(NUDGES) * _TEMPOS * _PITCHES
MAX_SMEARED = len(NUDGES) * (_TEMPOS + _PITCHES)


def warp_cost(warp: Warp) -> float:
    """Nats: half of all belief goes to speed, tempo or pitch alone, a quarter to two of them at
    once, a quarter to phase vocoders."""
    if warp.smeared:
        return math.log(4 * MAX_SMEARED)
    aligned = warp.tempo == 1 or warp.pitch in (1, warp.tempo)
    return math.log(2 * MAX_ALIGNED if aligned else 4 * MAX_PAIRS)


def step_for(seconds: float) -> float:
    """The step between tempos at which a clip drifts by no more than a third of a slot."""
    return min(max(0.04 / max(seconds, 0.1), FINEST_STEP), COARSEST_STEP)


def ladder(step: float) -> list[float]:
    """Rates to try, from lowest to highest, 1 among them."""
    count = math.floor(SPAN / step)
    return [math.exp(step * rung) for rung in range(-count, count + 1)]


def rounds(step: float, *, smeared: bool) -> Iterator[tuple[float, list[float]]]:
    """Pitches, each with the tempos to try: a phase vocoder changes one or the other."""
    for pitch in ladder(PITCH_STEP):
        yield pitch, ladder(step) if pitch == 1 or not smeared else [1.0]


def likely_warps(plan: Reader, view: cells.Spectrum, *, smeared: bool) -> list[Warp]:
    """Warps to look at closely, the most telling first; none where the clip is too short."""
    step = step_for(view.seconds)
    guesses = _distinct(_guesses(plan, view, step, smeared=smeared), step)
    few = guesses[: REFINED // 2 if smeared else REFINED]
    return list(dict.fromkeys(warp for guess in few for warp in close_by(guess, step)))


def close_by(guess: Warp, step: float) -> Iterator[Warp]:
    """A guess and its tempo nudged up and down."""
    for nudge in NUDGES:
        close = _aligned(replace(guess, tempo=guess.tempo * math.exp(nudge * step)))
        if close != PLAIN:
            yield close


def _aligned(warp: Warp) -> Warp:
    """A plain change of speed instead of its neighbour: frequency is tried in coarser steps than
    time is, and bears it."""
    near = abs(math.log(warp.pitch / warp.tempo)) <= PITCH_STEP / 2
    return replace(warp, pitch=warp.tempo) if near and not warp.smeared else warp


def _distinct(guesses: list[Warp], step: float) -> list[Warp]:
    """The first few that are not neighbours of one before."""
    kept: list[Warp] = []
    for guess in guesses:
        if not any(
            abs(math.log(guess.tempo / one.tempo)) < 1.5 * step
            and abs(math.log(guess.pitch / one.pitch)) < 1.5 * PITCH_STEP
            for one in kept
        ):
            kept.append(guess)
    return kept


@dataclass(frozen=True, slots=True, eq=False)
class _Glimpse:
    height: float
    """About z of the anchor."""
    at: int
    """Grains of the stream at which the clip begins."""
    warp: Warp
    softs: Floats
    """(GRAIN, BANDS, slots)"""

    @property
    def promise(self) -> float:
        """What the anchor says, less what it costs to say where: about a log-likelihood ratio."""
        return self.height**2 / 2 - warp_cost(self.warp)


def _guesses(plan: Reader, view: cells.Spectrum, step: float, *, smeared: bool) -> list[Warp]:
    """The likeliest warps: the best place of each by the anchor, then by all cells there."""
    seen: list[_Glimpse] = []
    for pitch, tempos in rounds(step, smeared=smeared):
        softs = softened(view, pitch, smeared=smeared)
        if softs.shape[2]:
            found = _highest(plan, softs, tempos)
            for tempo, height, at in zip(tempos, *found, strict=True):
                seen.append(_Glimpse(height, at, _aligned(Warp(tempo, pitch, smeared)), softs))
    best = sorted(seen, key=lambda glimpse: -glimpse.promise)[:GLIMPSES]
    if plan.payload is None:
        told = {g: _all_cells(plan, g) - warp_cost(g.warp) for g in best}
        best.sort(key=lambda glimpse: -told[glimpse])
    return [glimpse.warp for glimpse in best]


def softened(view: cells.Spectrum, pitch: float, *, smeared: bool) -> Floats:
    """Soft cells, those that begin half a slot late in a grid of their own: (GRAIN, BANDS, slots).

    Silence fills the last slice up."""
    slot = cells.HOPS_A_SLOT
    bands = cells.band_energies(view, pitch)
    energies = cells.cell_energies(bands, slot, slot / GRAIN * np.arange(GRAIN))[..., :PERIOD]
    count = -(-energies.shape[2] // SLICE) * SLICE if energies.shape[2] >= SLICE else 0
    softs = np.zeros((GRAIN, BANDS, count), np.float32)
    if count:
        softs[..., : energies.shape[2]] = cells.soft_values(energies, smeared=smeared)
    return softs


def _highest(plan: Reader, softs: Floats, tempos: list[float]) -> tuple[list[float], list[int]]:
    """For each tempo, the highest sum over all places in the stream, scaled to about z, and the
    grain of the stream where it is. softs: (GRAIN, BANDS, slots)."""
    sums, _ = plan.correlate_slices(softs, SLICE)
    twice = np.empty((len(sums), 2, PERIOD, GRAIN), np.float32)
    for grain in range(GRAIN):
        # A slice that begins a grain late at slot s of the stream began a grain before that slot.
        twice[:, :, :, -grain % GRAIN] = np.roll(sums[:, grain], -(grain > 0), axis=1)[:, None]
    places = twice.reshape(len(sums), -1)
    middles = GRAIN * SLICE * (np.arange(len(sums)) + 0.5)
    heights, starts = [], []
    total = np.empty(GRAIN * PERIOD, np.float32)
    for tempo in tempos:
        total[:] = 0
        apart = np.rint(middles * tempo - middles[0]).astype(np.intp) % len(total)
        for row, shift in zip(places, apart.tolist(), strict=True):
            total += row[shift : shift + len(total)]
        starts.append(int(np.argmax(total)))
        heights.append(float(total[starts[-1]]))
    scale = math.sqrt(float(plan.mask.mean() * np.vdot(softs, softs)) / GRAIN + 1e-12)
    return [height / scale for height in heights], starts


def _all_cells(plan: Reader, glimpse: _Glimpse) -> float:
    """What all cells say at a place, whatever the payload (nats)."""
    softs, tempo = glimpse.softs, glimpse.warp.tempo
    slots = softs.shape[2]
    first = -(-glimpse.at // GRAIN)
    count = min(int((slots - 1) * tempo), PERIOD)
    grains = np.rint((GRAIN * (first + np.arange(count)) - glimpse.at) / tempo).astype(np.intp)
    grains = grains[grains < GRAIN * slots]
    place = Place(((softs[grains % GRAIN, :, grains // GRAIN].T, first % PERIOD),), 0.0, 0.0)
    return float(evidence(*plan.bits(place.stream())))
