"""Detects sentences that T2S generated badly.

T2S samples its tokens, and occasionally skips words, repeats them or produces silence. The checks
here are cheap; a sentence that fails one is generated again with another seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from core.audio.waveform import Audio
from core.speech.recognise import MAX_ERROR_RATE, Transcribe, error_rate

_LONGEST_LOOP = 16
"""Longest loop that is searched for, in tokens: two thirds of a second."""


@dataclass(frozen=True, slots=True)
class Guard:
    """Limits for one sentence. A second of speech has 25 tokens and 8 to 18 phonemes.

    Each check describes what is wrong, or returns an empty string.
    """

    min_tokens_per_phoneme: float = 0.7
    """Corresponds to 36 phonemes a second, faster than anybody speaks."""
    max_tokens_per_phoneme: float = 10.0
    extra_tokens: int = 50
    """Allowed for pauses, in addition to `max_tokens_per_phoneme`."""
    max_repeated_tokens: int = 38
    """Longest stretch that may repeat the tokens immediately before it: 1.5 s."""
    max_edge_silence: float = 2.0
    """Longest silence at the beginning or end, in seconds."""
    min_level: float = -55.0
    """Level in dBFS that at least one fifth of a second must reach."""
    transcribe: Transcribe | None = None
    """Speech recogniser for `check_words`."""
    max_error_rate: float = MAX_ERROR_RATE
    max_retries: int = 3

    def check_tokens(self, tokens: Sequence[int], phones: int, *, ended: bool) -> str:
        """Check the tokens of a sentence of `phones` phonemes."""
        if self.is_looping(tokens):
            return "repeats itself"
        if len(tokens) < self.min_tokens_per_phoneme * phones:
            return f"drops words: {len(tokens)} tokens for {phones} phonemes"
        if not ended or len(tokens) > self.max_tokens_per_phoneme * phones + self.extra_tokens:
            return f"does not end: {len(tokens)} tokens for {phones} phonemes"
        return ""

    def is_looping(self, tokens: Sequence[int]) -> bool:
        row = np.asarray(tokens)
        return any(
            _longest_run(row[step:] == row[:-step]) > self.max_repeated_tokens
            for step in range(1, min(_LONGEST_LOOP, len(row)))
        )

    def check_audio(self, audio: Audio) -> str:
        """Check the waveform for silence."""
        size = audio.rate // 5
        padded = np.pad(audio.samples, (0, -len(audio.samples) % size))
        power = np.square(padded.reshape(-1, size), dtype=np.float64).mean(1)
        loud = np.flatnonzero(10 * np.log10(power + 1e-12) >= self.min_level)
        if not len(loud):
            return "is silent"
        if max(loud[0], len(power) - 1 - loud[-1]) / 5 > self.max_edge_silence:
            return "begins or ends with a long silence"
        return ""

    def check_words(self, audio: Audio, text: str, language: str) -> str:
        """Compare the words in the audio with the text, if there is a recogniser."""
        if self.transcribe is None:
            return ""
        rate = error_rate(text, self.transcribe(audio, language), language)
        if rate > self.max_error_rate:
            return f"does not match the text: error rate {rate:.0%}"
        return ""


def _longest_run(flags: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> int:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(np.int8), [0]])))
    return int(np.max(edges[1::2] - edges[::2], initial=0))
