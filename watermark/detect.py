"""Read the mark back."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from watermark import cells, search
from watermark.embed import check_samples
from watermark.layout import layout

Floats = NDArray[np.float32]

CLAIM = 6.0
"""A payload is reported from this score on: false on at most one clip in a million."""


@dataclass(frozen=True, slots=True)
class Detection:
    """What one clip says about one key."""

    score: float
    """-log10 of a proven bound on the probability that unmarked sound scores as high."""
    payload: int | None
    """The 32 bits, where score >= CLAIM and the mark could be read."""
    tempo: float = 1.0
    pitch: float = 1.0
    pieces: int = 1
    key_id: str = ""

    @property
    def marked(self) -> bool:
        return self.score >= CLAIM


def detect(samples: Floats, rate: int, key: bytes, *, thorough: bool = True) -> Detection:
    """Is the mark of this key in the sound, and what does it say?

    samples: mono, (n,), float; rate in Hz. Raises ValueError for other input or a malformed key;
    sound too short to tell scores 0.
    """
    plan = search.reader(key)
    view = cells.spectrum(check_samples(samples), rate)
    softs = search.grids(view, 1.0, 1.0)
    cost = search.START_COST + math.log(2)
    return _report(search.read(plan, search.places(plan, softs, cost, (1.0, 1.0))))


def verify(samples: Floats, rate: int, payload: int, key: bytes) -> Detection:
    """Does the sound carry this very payload? Its own bound, and about 6 dB more sensitive than
    `detect`, since nothing has to be decoded. Reports the payload where score >= CLAIM."""
    plan = search.reader(key)
    pattern = np.fft.rfft(layout(key).pattern(payload), axis=1).astype(np.complex64)
    view = cells.spectrum(check_samples(samples), rate)
    best = max(
        (float(plan.pattern_z(soft, pattern).max()) for soft in search.grids(view, 1.0, 1.0)),
        default=0.0,
    )
    return _report(search.Finding(search.bound(best, search.START_COST), payload))


def _report(found: search.Finding) -> Detection:
    payload = found.payload if found.score >= CLAIM else None
    return Detection(found.score, payload, found.tempo, found.pitch, found.pieces)
