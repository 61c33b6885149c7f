"""The marks of items where they lie in a joined file, read in one pass over its sound."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import watermark
from core.audio import encoding

READABLE = 0.9
"""Share of the joined sound whose marks must read."""


@dataclass(frozen=True, slots=True)
class Marked:
    """An item in a joined file; the times are seconds."""

    start: float
    end: float
    payload: int
    key: bytes


@dataclass(frozen=True, slots=True)
class Read:
    scores: list[float]
    """Of the marks that were read."""
    share: float
    """Of the joined sound that lies in their items, 0-1."""

    @property
    def enough(self) -> bool:
        return self.share >= READABLE

    @property
    def weakest(self) -> float:
        return round(min(self.scores, default=0.0), 2)


def read(file: BinaryIO, items: Sequence[Marked]) -> Read:
    """Detect each mark as an auditor would who asks whether it is there. `items`: in the order in
    which they are heard. Raises what decoding raises."""
    scores: list[float] = []
    sound_s = read_s = 0.0
    with encoding.open_reader(file) as sound:
        rate, at = int(sound.samplerate), 0
        for one in items:
            start, end = round(one.start * rate), round(one.end * rate)
            _skip(sound, start - at)
            samples, at = sound.read(end - start, dtype="float32"), end
            found = watermark.verify(samples, rate, one.payload, one.key, thorough=False)
            sound_s += one.end - one.start
            if found.payload == one.payload:
                read_s += one.end - one.start
                scores.append(found.score)
    return Read(scores, read_s / sound_s if sound_s else 0.0)


def _skip(sound: Any, count: int) -> None:
    while count > 0 and len(part := sound.read(min(count, 1 << 16))):
        count -= len(part)
