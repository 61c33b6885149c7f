"""The text front end of the GPT-SoVITS engine: turns text into phonemes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial

from core.errors import Refused
from core.text import add_leading_pause, alphabets, cut, load_phonemiser
from core.text.annotated import AnnotatedText, Annotation, parse
from core.text.markup import without_markup
from core.text.reading import write_as_spoken
from core.text.segment import LANGUAGES, MODES, is_of_one_language, split_by_language
from core.text.spoken import Run, keep_spoken
from core.text.symbols import has_sound, symbol_ids
from core.voice.gpt_sovits.text_features import Phrase, Span

_MIN_PHONEMES = 6
"""T2S is unstable on phrases of fewer phonemes, so they get a pause in front."""
_MAX_CHARACTERS = 510
"""BERT has 512 positions, two of which are the start and end tokens."""
NOT_ANNOTATED = AnnotatedText("")


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
        annotated = _parse(text)  # `&#20170;` is a Chinese character
        if not annotated.annotations and is_of_one_language(annotated.text, language):
            yield language, annotated.text
        else:
            yield from self.read_runs(text, language)

    def read_runs(self, text: str, language: str) -> Iterator[Run]:
        """Yield the runs in which a text is read, with numbers, signs and units as words."""
        annotated = _parse(text)
        for piece in cut.split_text(annotated.text, language, self.method):
            spoken = annotated.to_spoken(piece, language, write_as_spoken)
            for run in annotated.split(spoken, language, write_as_spoken, split_by_language):
                yield (run.language, run.countable) if isinstance(run, Annotation) else run

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
        annotated = _parse(text)
        pieces = cut.split_text(annotated.text, language, self.method)
        return [read_phrase(piece, language, annotated) for piece in pieces]


def _parse(text: str) -> AnnotatedText:
    annotated = parse(text)
    return replace(annotated, text=without_markup(annotated.text))


@lru_cache(maxsize=1 << 15)
def _is_spoken(language: str, char: str) -> bool:
    return has_sound(load_phonemiser(language)(char).phones)


def read_phrase(piece: str, mode: str, text: AnnotatedText = NOT_ANNOTATED) -> Phrase:
    """Read a sentence of a text, with a pause in front if it is very short."""
    spoken = text.to_spoken(piece, mode, write_as_spoken)
    spans = _read_spans(spoken, mode, text)
    if sum(len(span.phones) for span in spans) < _MIN_PHONEMES:
        spans = _read_spans("。" + spoken, mode, text)
    return (replace(spans[0], sentence=text.to_written(piece)), *spans[1:]) if spans else ()


def _read_spans(piece: str, mode: str, text: AnnotatedText) -> Phrase:
    runs = list(text.split(piece, mode, write_as_spoken, split_by_language))
    spans = []
    for run in runs:
        if isinstance(run, Annotation):
            spans.append(_span_of_phonemes(run))
            continue
        language, words = run
        reading = load_phonemiser(language)(words)
        if language == "en" and len(runs) == 1:
            reading = add_leading_pause(reading)
        if reading.phones:
            # BERT was trained on Mandarin; Cantonese was trained without it
            word2ph = reading.word2ph if language == "zh" else ()
            spans.append(Span(language, reading.text, symbol_ids(reading.phones), word2ph, words))
    return tuple(_join_chinese(spans) if text.annotations else spans)


def _span_of_phonemes(annotation: Annotation) -> Span:
    """Return the span of an annotation. BERT sees Chinese characters that have a syllable each."""
    syllables = alphabets.to_symbols(annotation.phonemes, annotation.language)
    phones = symbol_ids(phone for syllable in syllables for phone in syllable)
    characters = "".join(re.findall(r"[\u4e00-\u9fa5]", annotation.written))
    aligned = annotation.language == "zh" and len(characters) == len(syllables)
    word2ph = tuple(map(len, syllables)) if aligned else ()
    text = characters if aligned else annotation.written
    return Span(annotation.language, text, phones, word2ph, annotation.written, is_fixed=True)


def _join_chinese(spans: Iterable[Span]) -> Iterator[Span]:
    """Yield spans with neighbours that are Chinese as one, so that BERT reads them together."""
    before: Span | None = None
    for span in spans:
        if (
            before
            and before.word2ph
            and span.word2ph
            and len(before.text + span.text) <= _MAX_CHARACTERS
        ):
            before = Span(
                "zh",
                before.text + span.text,
                before.phones + span.phones,
                before.word2ph + span.word2ph,
                before.written + span.written,
                is_fixed=before.is_fixed or span.is_fixed,
            )
            continue
        if before:
            yield before
        before = span
    if before:
        yield before
