"""Read the mark back: from a clip, under several keys, from several clips, from hours of sound."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from watermark import cells, search
from watermark import payload as code
from watermark.embed import check_rate, check_samples
from watermark.layout import PERIOD, SLOT
from watermark.reader import CLAIM, Hypothesis, Place, Reader, reader

Floats = NDArray[np.float32]

LONG = 24.0
"""Sound longer than this, in seconds, is read in windows: its mark goes on at other places."""
WINDOW, HOP = 16.0, 12.0
SCAN_WINDOW, SCAN_HOP = 6.0, 3.0


@dataclass(frozen=True, slots=True)
class Detection:
    """What the sound says about a key."""

    score: float
    """-log10 of a proven bound on the probability that unmarked sound scores as high."""
    payload: int | None
    """The 32 bits, where they could be read and score >= CLAIM."""
    start: float = 0.0
    """Seconds from the beginning of the sound to where the mark first shows ..."""
    end: float = 0.0
    """... and to where it last does. Both 0 where nothing is claimed."""
    tempo: float = 1.0
    """How many times too fast the sound is played."""
    pitch: float = 1.0
    """How many times too high it is pitched."""
    pieces: int = 1
    """Stretches of the original that were found cut and joined."""
    key_id: str = ""

    @property
    def marked(self) -> bool:
        """Whether the sound carries our mark, wrongly so on at most one clip in a million."""
        return self.score >= CLAIM


def detect(samples: Floats, rate: int, key: bytes, *, thorough: bool = True) -> Detection:
    """Is the mark of this key in the sound, and what does it say?

    samples: mono, (n,), float; rate in Hz. `thorough` also looks through cuts and for changed
    speed, tempo or pitch (11 % up or down), at ten times the cost where no mark is found. Sound too
    short to tell scores 0. Raises ValueError for other input or a malformed key.
    """
    return detect_any(samples, rate, {"": key}, thorough=thorough)


def detect_any(
    samples: Floats, rate: int, keys: Mapping[str, bytes], *, thorough: bool = True
) -> Detection:
    """`detect` under several keys, as after a rotation; key_id says which one matched."""
    readers = {key_id: reader(key) for key_id, key in keys.items()}
    return _detect(check_samples(samples), rate, readers, thorough=thorough)


def verify(
    samples: Floats, rate: int, payload: int, key: bytes, *, thorough: bool = True
) -> Detection:
    """Does the sound carry this very payload? Answers with its own bound, and from weaker marks
    than `detect`, since nothing has to be decoded."""
    plan = reader(key).knowing(payload)
    return _detect(check_samples(samples), rate, {"": plan}, thorough=thorough)


def _detect(
    samples: Floats, rate: int, readers: Mapping[str, Reader], *, thorough: bool
) -> Detection:
    """The worthiest finding over windows and keys: everywhere quickly, then thoroughly."""
    starts = [0]
    size = len(samples)
    if size > LONG * check_rate(rate):
        size = int(WINDOW * rate)
        starts = list(range(0, len(samples) - size // 2, int(HOP * rate)))
    cost = math.log(max(len(readers) * len(starts), 1))
    best = Detection(0.0, None)
    for depth in (False, True)[: 1 + thorough]:
        for start in starts:
            view = cells.spectrum(samples[start : start + size], rate)
            for key_id, plan in readers.items():
                found = search.find(plan, view, thorough=depth, cost=cost)
                best = max(best, _report(plan, found, key_id, start / rate), key=_rank)
        if best.payload is not None:
            break
    return best


def _rank(detection: Detection) -> tuple[bool, float]:
    return detection.payload is not None, detection.score


def _report(plan: Reader, found: Hypothesis, key_id: str, offset: float) -> Detection:
    if found.place is None or found.score < CLAIM:
        return Detection(found.score, None, key_id=key_id)
    place = found.place
    start, end = _extent(plan, place, found.payload)
    return Detection(
        score=found.score,
        payload=found.payload,
        start=offset + start * SLOT / place.warp.tempo,
        end=offset + end * SLOT / place.warp.tempo,
        tempo=place.warp.tempo,
        pitch=place.warp.pitch,
        pieces=len(place.stretches),
        key_id=key_id,
    )


def _extent(plan: Reader, place: Place, payload: int | None) -> tuple[int, int]:
    """First and last slot of the clip around which a second of sound speaks for the mark."""
    word = np.zeros(code.CODED_BITS + 1, np.float32)
    word[-1] = 1
    if payload is not None:
        word[:-1] = code.encode(payload)
    inner, energy = [], []
    for soft, start in place.stretches:
        at = (start + np.arange(soft.shape[1])) % PERIOD
        weight = word[plan.parts[:, at]]
        inner.append((soft * weight * plan.signs[:, at]).sum(axis=0))
        energy.append((soft * soft * weight * weight).sum(axis=0))
    second = np.ones(round(1 / SLOT))
    spread = np.sqrt(np.convolve(np.concatenate(energy), second, "same") + 1e-12)
    z = np.convolve(np.concatenate(inner), second, "same") / spread
    strong = np.flatnonzero(z > max(2.5, 0.3 * float(z.max())))
    return int(strong[0]), int(strong[-1]) + 1


def detect_joint(
    clips: Sequence[tuple[Floats, int]], key: bytes, *, thorough: bool = True
) -> Detection:
    """Read one payload from several clips of one item, each perhaps too weak alone.

    clips: pairs of samples and rate. Which clips carry the mark need not be known. `start` and
    `end` stay 0: they would mean nothing across clips.
    """
    plan = reader(key)
    views = [cells.spectrum(check_samples(samples), check_rate(rate)) for samples, rate in clips]
    found = search.find_joint(plan, views, thorough=thorough)
    return replace(_report(plan, found, "", 0.0), start=0.0, end=0.0)


def scan(
    blocks: Iterable[Floats], rate: int, keys: Mapping[str, bytes], *, thorough: bool = False
) -> Iterator[tuple[float, float, Detection]]:
    """Every marked stretch of a stream, in order: (start, end, the strongest detection in it).

    blocks: successive samples, (n,) each, of any lengths; memory holds one window of 6 s. Windows
    in a row that say the same become one stretch. The bound of a score holds for one window: of
    ten hours of unmarked sound, at most one in eighty claims a mark somewhere.
    """
    readers = {key_id: reader(key) for key_id, key in keys.items()}
    open_runs: dict[tuple[str, int | None], Detection] = {}
    for at, window in _windows(blocks, rate):
        found = _detect(window, rate, readers, thorough=thorough)
        begin = at / rate
        for label in [label for label, run in open_runs.items() if run.end < begin]:
            run = open_runs.pop(label)
            yield run.start, run.end, run
        if found.marked:
            found = replace(found, start=found.start + begin, end=found.end + begin)
            label = found.key_id, found.payload
            run = open_runs.get(label, found)
            louder = max(found, run, key=lambda detection: detection.score)
            open_runs[label] = replace(louder, start=run.start, end=max(run.end, found.end))
    for run in open_runs.values():
        yield run.start, run.end, run


def _windows(blocks: Iterable[Floats], rate: int) -> Iterator[tuple[int, Floats]]:
    """Overlapping windows and the sample each begins at; the last one may be short."""
    size, hop = int(SCAN_WINDOW * rate), int(SCAN_HOP * rate)
    held = np.zeros(0, np.float32)
    at = 0
    for block in blocks:
        held = np.concatenate([held, check_samples(block)])
        while len(held) >= size:
            yield at, held[:size]
            held = held[hop:]
            at += hop
    if at == 0 or len(held) > size - hop:
        yield at, held
