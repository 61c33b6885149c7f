"""Speech of a text with pauses in it: its parts are spoken one after the other."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing, nullcontext
from dataclasses import replace

import numpy as np

from core.audio import waveform
from core.audio.waveform import Samples
from core.errors import Refused
from core.text import annotated
from core.voice import SpeechChunk

_FLOOR = 0.01
"""Share of the peak below which the ends of a chunk are silent, as engines trim them."""
Speak = Callable[[str, int], Iterator[SpeechChunk]]
"""Speaks a part of a text; the number is that of the part, from 0."""


def speak_with_pauses(text: str, speak: Speak) -> Generator[SpeechChunk]:
    """Yield the speech of an annotated text.

    The silence of a stated pause, with that at the ends of the chunks around it, has the stated
    length, if the voice itself does not pause longer. Raises what `speak` raises.
    """
    parts = annotated.split_at_pauses(text)
    owed: float | None = None  # seconds of silence before the next sound
    last: SpeechChunk | None = None
    for number, (part, seconds) in enumerate(parts):
        if part:
            for chunk in _speakable(speak(part, number), is_alone=len(parts) == 1):
                yield _after_silence(chunk, last, owed)
                last, owed = chunk, None
        if seconds is not None:
            owed = (owed or 0.0) + seconds
    if owed and last:
        rest = owed - _quiet_seconds(last.samples[::-1], last.rate)
        silence = waveform.silence(max(0.0, rest), last.rate)
        yield SpeechChunk(silence.samples, last.rate, is_joined=True)


def _speakable(chunks: Iterator[SpeechChunk], *, is_alone: bool) -> Iterator[SpeechChunk]:
    """Yield chunks; a part without any is left out, if it is not the whole text."""
    with closing(chunks) if isinstance(chunks, Generator) else nullcontext():
        try:
            yield from chunks
        except Refused as exc:
            if is_alone or exc.code != "TEXT_UNSPEAKABLE":
                raise


def _after_silence(chunk: SpeechChunk, last: SpeechChunk | None, owed: float | None) -> SpeechChunk:
    if owed is None:
        return chunk
    before = _quiet_seconds(last.samples[::-1], last.rate) if last else 0.0
    rest = owed - before - _quiet_seconds(chunk.samples, chunk.rate)
    silence = waveform.silence(max(0.0, rest), chunk.rate).samples
    return replace(chunk, samples=np.concatenate([silence, chunk.samples]), is_joined=True)


def _quiet_seconds(samples: Samples, rate: int) -> float:
    """Return the length of the silence at the beginning."""
    loud = np.flatnonzero(np.abs(samples) > _FLOOR * waveform.peak(samples))
    return (int(loud[0]) if len(loud) else len(samples)) / rate
