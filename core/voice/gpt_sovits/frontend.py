"""The text front end of the GPT-SoVITS engine: turns text into phonemes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial

from core.errors import Refused
from core.text import add_leading_pause, cut, load_phonemiser
from core.text.markup import without_markup
from core.text.reading import write_as_spoken
from core.text.segment import LANGUAGES, MODES, is_of_one_language, split_by_language
from core.text.spoken import Run, keep_spoken
from core.text.symbols import has_sound, symbol_ids
from core.voice.gpt_sovits.text_features import Phrase, Span

_MIN_PHONEMES = 6
"""T2S is unstable on phrases of fewer phonemes, so they get a pause in front."""


@dataclass(frozen=True, slots=True)
class Frontend:
    """Splits a text into sentences and these into spans of one language, and reads each span."""

    method: str = "sentence"
    """How to split, one of `core.text.cut.METHODS`."""

    @property
    def languages(self) -> frozenset[str]:
        return frozenset(LANGUAGES)

    def split_by_language(self, text: str, language: str) -> Iterator[Run]:
        """Yield the runs in which a text is read; all of it as one run if it is in its language."""
        plain = without_markup(text)  # `&#20170;` is a Chinese character
        if is_of_one_language(plain, language):
            yield language, plain
        else:
            yield from self.read_runs(text, language)

    def read_runs(self, text: str, language: str) -> Iterator[Run]:
        """Yield the runs in which a text is read, with numbers, signs and units as words."""
        for piece in cut.split_text(without_markup(text), language, self.method):
            yield from split_by_language(write_as_spoken(piece, language), language)

    def without_silent(self, run: str, language: str) -> str:
        """Return a run of a language with spaces in place of what has no phonemes but pauses.

        Raises Misconfigured MODEL_MISSING.
        """
        if language == "ja":  # OpenJTalk reads words, and leaves out those that it does not know
            from core.text.ja import without_silent

            return without_silent(run)
        return keep_spoken(run, partial(_is_spoken, language))

    def __call__(self, text: str, language: str) -> Sequence[Phrase]:
        """Return the phrases in order; empty if the text has no word that can be spoken.

        `language` is one of `core.text.segment.MODES`. Raises Refused LANGUAGE_UNSUPPORTED,
        Misconfigured MODEL_MISSING.
        """
        if language not in MODES:
            raise Refused("LANGUAGE_UNSUPPORTED", f"{language!r} is not one of {', '.join(MODES)}")
        pieces = cut.split_text(without_markup(text), language, self.method)
        return [read_phrase(piece, language) for piece in pieces]


@lru_cache(maxsize=1 << 15)
def _is_spoken(language: str, char: str) -> bool:
    return has_sound(load_phonemiser(language)(char).phones)


def read_phrase(piece: str, mode: str) -> Phrase:
    """Read a sentence, with a pause in front if it is very short."""
    spoken = write_as_spoken(piece, mode)
    spans = _read_spans(spoken, mode)
    if sum(len(span.phones) for span in spans) < _MIN_PHONEMES:
        spans = _read_spans("。" + spoken, mode)
    return (replace(spans[0], sentence=piece), *spans[1:]) if spans else ()


def _read_spans(piece: str, mode: str) -> Phrase:
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
