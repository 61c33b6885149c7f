"""Words of a text that a producer reads otherwise than the engine would, and pauses.

A text stays a string. What a lexicon or SSML decides about a part of it is written into it with the
interlinear annotation characters of Unicode (section 23.8), which no cleaned text contains:

    U+FFF9 as written U+FFFA reading U+FFFB

The reading is `<language>=<words>`, `<language>:<phonemes>`, or `<milliseconds>ms` for a pause. So
equal texts with other readings are different texts to everything that compares, keeps or counts
them. The front ends of the engines call `parse`, and get one character for each annotation.

Phonemes are ARPAbet in English, pinyin in Chinese and jyutping in Cantonese, separated by spaces.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Union

from core.text.spoken import Run

_BEGIN, _READING, _END = "\ufff9", "\ufffa", "\ufffb"
_ANNOTATION = re.compile(
    f"{_BEGIN}(?P<written>[^{_BEGIN}-{_END}]*){_READING}"
    "(?:(?P<pause>[0-9]{1,6})ms|(?P<language>[a-z]{2,3})"
    f"(?:=(?P<words>[^{_BEGIN}-{_END}]*)|:(?P<phonemes>[^{_BEGIN}-{_END}]*))){_END}"
)
_FIRST_PLACE = 0x100000
PLACE = "\U00100000-\U0010fffd"
"""Range of the characters for private use that stand for annotations, for a class of a pattern."""
_PLACE = re.compile(f"([{PLACE}])")
_LONGEST = 500
"""Characters up to which a sentence takes in words: the BERT of GPT-SoVITS has 512 positions."""
Piece = Union[Run, "Annotation"]
Write = Callable[[str, str], str]
Split = Callable[[str, str], Iterable[Run]]
_SPEAKABLE = re.compile(r"[^\W_]")


@dataclass(frozen=True, slots=True)
class Annotation:
    """What a text says about one part of it. Either `words` or `phonemes` is set, or `pause_ms`."""

    written: str
    language: str = ""
    """Of the reading."""
    words: str = ""
    phonemes: str = ""
    pause_ms: int | None = None

    def __str__(self) -> str:
        if self.pause_ms is not None:
            return f"{_BEGIN}{self.written}{_READING}{self.pause_ms}ms{_END}"
        reading = f":{self.phonemes}" if self.phonemes else f"={self.words}"
        return f"{_BEGIN}{self.written}{_READING}{self.language}{reading}{_END}"

    @property
    def countable(self) -> str:
        """Text of its language with as many letters or characters as are spoken."""
        sounds = self.phonemes.split()
        if not sounds:
            return self.words
        return "a" * len(sounds) if self.language == "en" else "一" * len(sounds)


@dataclass(frozen=True, slots=True)
class AnnotatedText:
    """A text with one character in place of each annotation; a line ends where a pause is."""

    text: str
    annotations: tuple[Annotation, ...] = ()

    def to_written(self, part: str) -> str:
        """Return a part of `text` as written."""
        if not self.annotations:
            return part
        return _PLACE.sub(lambda place: self._at(place[0]).written, part)

    def to_spoken(self, sentence: str, mode: str, write: Write) -> str:
        """Return a sentence of `text` as `write` returns it, with the words of annotations in its
        main language; other annotations stay. `mode`: one of `core.text.segment.MODES`."""
        return write(self._take_in_words(sentence, mode), mode)

    def split(self, spoken: str, mode: str, write: Write, split: Split) -> Iterator[Piece]:
        """Yield the runs of what `to_spoken` returned, and annotations with phonemes, in order."""
        for part in _PLACE.split(spoken) if self.annotations else [spoken]:
            if not _PLACE.match(part):
                yield from split(part, mode) if part or not self.annotations else ()
                continue
            annotation = self._at(part)
            if annotation.phonemes:
                yield annotation
            elif annotation.words:
                yield from split(write(annotation.words, annotation.language), annotation.language)

    def _take_in_words(self, sentence: str, mode: str) -> str:
        if not self.annotations:
            return sentence
        left = _LONGEST - len(sentence)

        def words_of(place: re.Match[str]) -> str:
            nonlocal left
            annotation = self._at(place[0])
            if annotation.language != mode.removeprefix("all_") or len(annotation.words) > left:
                return place[0]
            left -= len(annotation.words)
            return annotation.words or place[0]

        return _PLACE.sub(words_of, sentence)

    def _at(self, place: str) -> Annotation:
        return self.annotations[ord(place) - _FIRST_PLACE]


def parse(text: str) -> AnnotatedText:
    """Read the annotations of a text."""
    if _BEGIN not in text:
        return AnnotatedText(text)
    found: list[Annotation] = []

    def place(match: re.Match[str]) -> str:
        if match["pause"]:
            return "\n"
        found.append(_annotation(match))
        return chr(_FIRST_PLACE + len(found) - 1)

    return AnnotatedText(_ANNOTATION.sub(place, _PLACE.sub("", text)), tuple(found))


def _annotation(match: re.Match[str]) -> Annotation:
    if match["pause"]:
        return Annotation(match["written"], pause_ms=int(match["pause"]))
    words, phonemes = match["words"] or "", match["phonemes"] or ""
    return Annotation(match["written"], match["language"], words, phonemes)


def to_written(text: str) -> str:
    """Return an annotated text as written."""
    return _ANNOTATION.sub(lambda match: match["written"], text) if _BEGIN in text else text


def count_spoken(text: str) -> int:
    """Return how many characters of an annotated text are spoken; each phoneme counts as one."""
    if _BEGIN not in text:
        return len(text)
    return len(_ANNOTATION.sub(lambda match: _annotation(match).countable, text))


def pause_seconds(text: str) -> float:
    """Return how long the pauses of an annotated text are together."""
    return sum(one.pause_ms or 0 for one in find_annotations(text)) / 1000


def find_annotations(text: str) -> list[Annotation]:
    return [_annotation(match) for match in _ANNOTATION.finditer(text)] if _BEGIN in text else []


def outside(change: Callable[[str], str], text: str) -> str:
    """Return a text in which everything but its annotations is changed."""
    parts, start = [], 0
    for match in _ANNOTATION.finditer(text):
        parts += [change(text[start : match.start()]), match[0]]
        start = match.end()
    return "".join([*parts, change(text[start:])])


def split_at_pauses(text: str) -> list[tuple[str, float | None]]:
    """Return the parts of a text that have a word, and the seconds of silence after each.

    None: no pause is stated, as after the last part of most texts. Silence before the first word is
    that of an empty part. Pauses between which nothing can be spoken are added up.
    """
    parts: list[tuple[str, float | None]] = []
    start, end = 0, len(text)
    pauses = [match for match in _ANNOTATION.finditer(text) if match["pause"]]
    for match in [*pauses, None]:
        part = text[start : match.start() if match else end]
        if _SPEAKABLE.search(part):
            parts.append((part, None))
        elif not parts and match:
            parts.append(("", None))
        if match:
            before, seconds = parts[-1]
            parts[-1] = (before, (seconds or 0.0) + int(match["pause"]) / 1000)
            start = match.end()
    return parts or [(text, None)]
