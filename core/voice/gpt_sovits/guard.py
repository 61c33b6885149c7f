"""Nothing dropped, nothing repeated: what a badly drawn sentence looks like.

T2S samples, and now and then it skips words, says them twice or falls silent. Each of that leaves a
trace that costs nothing to look for; a sentence that shows one is drawn again with another seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from core.audio.waveform import Audio
from core.speech.recognise import MAX_ERROR_RATE, Transcribe, error_rate

_CYCLES = 16
"""Tokens of the longest loop looked for: two thirds of a second."""


@dataclass(frozen=True, slots=True)
class Guard:
    """Bounds. 25 tokens are a second; speech has 8 to 18 phonemes in one."""

    fewest: float = 0.7
    """Tokens a phoneme: 36 phonemes a second are more than anybody says."""
    most: float = 10.0
    pause: int = 50
    """Tokens allowed on top of `most`."""
    cycle: int = 38
    """Tokens that may repeat the ones just before them, 1.5 s."""
    blank: float = 2.0
    """Seconds of silence at either end."""
    quiet: float = -55.0
    """dBFS that the loudest fifth of a second must reach."""
    hear: Transcribe | None = None
    """A recogniser, to compare what is said with what was written."""
    misheard: float = MAX_ERROR_RATE
    redraws: int = 3
    """Further attempts a sentence."""

    def tokens(self, tokens: Sequence[int], phones: int, *, ended: bool) -> str:
        """What is wrong with a row, or nothing."""
        if self.looping(tokens):
            return "repeats itself"
        if len(tokens) < self.fewest * phones:
            return f"drops words: {len(tokens)} tokens for {phones} phonemes"
        if not ended or len(tokens) > self.most * phones + self.pause:
            return f"does not end: {len(tokens)} tokens for {phones} phonemes"
        return ""

    def looping(self, tokens: Sequence[int]) -> bool:
        row = np.asarray(tokens)
        return any(
            _longest_run(row[step:] == row[:-step]) > self.cycle
            for step in range(1, min(_CYCLES, len(row)))
        )

    def sound(self, audio: Audio) -> str:
        """What is wrong with a wave, or nothing."""
        size = audio.rate // 5
        padded = np.pad(audio.samples, (0, -len(audio.samples) % size))
        power = np.square(padded.reshape(-1, size), dtype=np.float64).mean(1)
        loud = np.flatnonzero(10 * np.log10(power + 1e-12) >= self.quiet)
        if not len(loud):
            return "is silent"
        if max(loud[0], len(power) - 1 - loud[-1]) / 5 > self.blank:
            return "begins or ends with a long silence"
        return ""

    def words(self, audio: Audio, text: str, language: str) -> str:
        """What is wrong with what is heard, or nothing."""
        if self.hear is None:
            return ""
        rate = error_rate(text, self.hear(audio, language), language)
        return f"says something else: {rate:.0%} of it" if rate > self.misheard else ""


def _longest_run(flags: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> int:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(np.int8), [0]])))
    return int(np.max(edges[1::2] - edges[::2], initial=0))
