"""Read the mark back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from watermark import cells, search
from watermark.embed import check_samples
from watermark.reader import CLAIM, Finding, reader

Floats = NDArray[np.float32]


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
    view = cells.spectrum(check_samples(samples), rate)
    return _report(search.find(reader(key), view, thorough=thorough))


def verify(
    samples: Floats, rate: int, payload: int, key: bytes, *, thorough: bool = True
) -> Detection:
    """Does the sound carry this very payload? Its own bound, and about 6 dB more sensitive than
    `detect`, since nothing has to be decoded. Reports the payload where score >= CLAIM."""
    view = cells.spectrum(check_samples(samples), rate)
    return _report(search.find(reader(key).knowing(payload), view, thorough=thorough))


def _report(found: Finding) -> Detection:
    payload = found.payload if found.score >= CLAIM else None
    return Detection(found.score, payload, found.tempo, found.pitch, found.pieces)
