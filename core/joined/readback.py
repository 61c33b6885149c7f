"""The watermarks of items in a joined file, read in one pass over its sound."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import watermark
from core.audio import encoding

REQUIRED_SHARE = 0.9
"""Share of the joined sound in which watermarks must be read."""


@dataclass(frozen=True, slots=True)
class MarkedSpan:
    """The part of a joined file that one item fills."""

    start: float
    """Seconds from the beginning of the file, like `end`."""
    end: float
    payload: int
    key: bytes


@dataclass(frozen=True, slots=True)
class MarksFound:
    scores: list[float]
    """Of the watermarks that were read."""
    share: float
    """Share of the joined sound in whose spans a watermark was read, 0-1."""

    @property
    def is_enough(self) -> bool:
        return self.share >= REQUIRED_SHARE

    @property
    def weakest(self) -> float:
        return round(min(self.scores, default=0.0), 2)


def read_marks(file: BinaryIO, spans: Sequence[MarkedSpan]) -> MarksFound:
    """Verify each watermark, as an auditor would who asks whether it is there.

    `spans`: in the order in which they are played. Raises what decoding raises.
    """
    scores: list[float] = []
    total_s = read_s = 0.0
    with encoding.open_reader(file) as sound:
        rate, position = int(sound.samplerate), 0
        for span in spans:
            start, end = round(span.start * rate), round(span.end * rate)
            _skip(sound, start - position)
            samples, position = sound.read(end - start, dtype="float32"), end
            found = watermark.verify(samples, rate, span.payload, span.key, thorough=False)
            total_s += span.end - span.start
            if found.payload == span.payload:
                read_s += span.end - span.start
                scores.append(found.score)
    return MarksFound(scores, read_s / total_s if total_s else 0.0)


def _skip(sound: Any, count: int) -> None:
    while count > 0 and len(part := sound.read(min(count, 1 << 16))):
        count -= len(part)
