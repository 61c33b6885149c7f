"""The text front-end of the GPT-SoVITS engine: sentences, each a sequence of spans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from core.errors import Refused
from core.text import add_leading_pause, cut, load_phonemiser
from core.text.segment import LANGUAGES, MODES, split_by_language
from core.text.symbols import symbol_ids
from core.voice.gpt_sovits.text_features import Phrase, Span

_FEWEST = 6
"""A phrase of fewer phonemes is unstable to speak and gets a pause before it."""


@dataclass(frozen=True, slots=True)
class Frontend:
    """Cuts a text, tells its languages apart and reads each.

    `method` is one of `core.text.cut.METHODS`.
    """

    method: str = "sentence"

    @property
    def languages(self) -> frozenset[str]:
        return frozenset(LANGUAGES)

    def __call__(self, text: str, language: str) -> Sequence[Phrase]:
        """Phrases in speaking order; none where no word can be spoken.

        `language` is a language or another mode of `core.text.segment.MODES`.
        Raises Refused LANGUAGE_UNSUPPORTED, Misconfigured MODEL_MISSING.
        """
        if language not in MODES:
            raise Refused("LANGUAGE_UNSUPPORTED", f"{language!r} is none of {', '.join(MODES)}")
        return [phrase(piece, language) for piece in cut.split_text(text, language, self.method)]


def phrase(piece: str, mode: str) -> Phrase:
    """One piece, read; a very short one after a pause."""
    spans = _spans(piece, mode)
    if sum(len(span.phones) for span in spans) < _FEWEST:
        return _spans("。" + piece, mode)
    return spans


def _spans(piece: str, mode: str) -> Phrase:
    runs = split_by_language(piece, mode)
    spans = []
    for language, text in runs:
        reading = load_phonemiser(language)(text)
        if language == "en" and len(runs) == 1:
            reading = add_leading_pause(reading)
        if reading.phones:
            # BERT was trained on Mandarin; Cantonese was trained without it
            word2ph = reading.word2ph if language == "zh" else ()
            spans.append(Span(language, reading.text, symbol_ids(reading.phones), word2ph, text))
    return tuple(spans)
