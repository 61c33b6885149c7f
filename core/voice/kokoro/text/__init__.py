"""The text front end of Kokoro: sentences as phonemes in the alphabet of hexgrad/misaki.

Every sentence has a main language. Runs in another script (a Latin word in Chinese, a kanji in
English) are read in their own language, so that nothing that can be spoken is dropped.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache, partial
from typing import Protocol

from core.text.annotated import AnnotatedText, Annotation, Piece, parse
from core.text.cut import split_sentences
from core.text.markup import without_markup
from core.text.reading import write_as_spoken
from core.text.segment import LATIN_WORD, is_of_one_language
from core.text.spoken import Run, keep_spoken
from core.voice.kokoro import model
from core.voice.kokoro.text.chinese import STYLE

LANGUAGES = frozenset({"en", "ja", "zh"})
NOT_ANNOTATED = AnnotatedText("")

_LATIN = rf"(?:{LATIN_WORD})"
_KANA = r"[ぁ-ゖァ-ヺー゛-ゟ々〆]+"
_HAN = r"[㐀-鿿豈-﫿々〇]+"
_FOREIGN = {
    "en": re.compile(rf"(?P<ja>(?:{_HAN})?{_KANA}(?:{_HAN}|{_KANA})*)|(?P<zh>{_HAN})"),
    "zh": re.compile(rf"(?P<en>{_LATIN}(?:\s+{_LATIN})*)|(?P<ja>{_KANA})"),
    "ja": re.compile(rf"(?P<en>{_LATIN}(?:\s+{_LATIN})*)"),
}
_VOWEL_OR_TONE = re.compile(r"[A-Za-zɑ-ʒᵊᵻæøœβθχ]")


def split_utterances(text: str, language: str) -> Iterator[tuple[str, list[int]]]:
    """Yield the words and token ids of utterances, usually one for each sentence.

    A sentence too long for the model becomes several utterances, the first of which has all its
    words. Sentences without speakable text (only punctuation or unknown scripts) are skipped.
    """
    ids = model.vocabulary()
    annotated = _parse(text)
    for sentence in split_sentences(annotated.text):
        words = annotated.to_written(sentence)
        for piece in _split_too_long(phonemise(sentence, language, annotated)):
            if _VOWEL_OR_TONE.search(piece):
                yield words, [ids[symbol] for symbol in piece]
                words = ""


@dataclass(frozen=True, slots=True)
class ReadSentence:
    """What becomes of a sentence."""

    written: str
    spoken: str
    """The words as spoken."""
    runs: list[tuple[str, str]]
    """The language and the phonemes of each run."""


def read_sentences(text: str, language: str) -> Iterator[ReadSentence]:
    """Yield the sentences of a text with their words and phonemes, to show them to a person."""
    annotated = _parse(text)
    for sentence in split_sentences(annotated.text):
        words = []
        runs = []
        pieces = list(_pieces_of_sentence(sentence, language, annotated))
        for piece, sound in zip(pieces, _phonemes_of_pieces(pieces), strict=True):
            spoken, run = (
                (piece.language, piece.written) if isinstance(piece, Annotation) else piece
            )
            if run.strip():
                words.append(
                    run if isinstance(piece, Annotation) else _load_language(spoken).to_words(run)
                )
                runs.append((spoken, _join([sound])))
        written = annotated.to_written(sentence)
        yield ReadSentence(written, re.sub(r"\s+", " ", " ".join(words)).strip(), runs)


def phonemise(sentence: str, language: str, text: AnnotatedText = NOT_ANNOTATED) -> str:
    """Return the phonemes of a sentence of a text, whose main language is `language`."""
    return _join(_phonemes_of_pieces(list(_pieces_of_sentence(sentence, language, text))))


def _sound_of(annotation: Annotation) -> str:
    """Return the phonemes of an annotation, which are English or Chinese, in Kokoro's alphabet."""
    phonemes = annotation.phonemes.split()
    if annotation.language == "zh":
        from core.voice.kokoro.text.chinese import ipa_of_syllable

        return "".join(map(ipa_of_syllable, phonemes))
    from core.voice.kokoro.text.english_g2p import ipa_of_arpabet

    return ipa_of_arpabet(phonemes)


def _parse(text: str) -> AnnotatedText:
    annotated = parse(text)
    return replace(annotated, text=without_markup(annotated.text))


def _pieces_of_sentence(sentence: str, language: str, text: AnnotatedText) -> Iterator[Piece]:
    """Yield what this engine can speak of a sentence."""
    spoken = text.to_spoken(sentence, language, _write)
    for piece in text.split(spoken, language, _write, _split_by_language):
        if (piece.language if isinstance(piece, Annotation) else piece[0]) in LANGUAGES:
            yield piece


def _write(sentence: str, language: str) -> str:
    return write_as_spoken(sentence, language, STYLE)


def _phonemes_of_pieces(pieces: Sequence[Piece]) -> list[str]:
    """Return the phonemes of each piece; English words depend on the sound after them."""
    following, sounds = "", []
    for piece in reversed(pieces):
        if isinstance(piece, Annotation):
            following = _sound_of(piece)
            sounds.append(following)
        else:
            spoken, run = piece
            following, before = "", following
            sounds.append(_load_language(spoken).phonemise(run, before))
    return sounds[::-1]


def _join(pieces: Iterable[str]) -> str:
    known = _keep_known(" ".join(piece for piece in pieces if piece))
    known = re.sub(r"\s+(?=[,.!?;:…)”])", "", known)
    return re.sub(r"\s+", " ", known).strip()


@dataclass(frozen=True, slots=True)
class KokoroFrontend:
    """What is known of this front end without loading the model (`core.text.spoken.FrontEnd`)."""

    languages: frozenset[str] = LANGUAGES

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
        for sentence in split_sentences(annotated.text):
            for piece in _pieces_of_sentence(sentence, language, annotated):
                if isinstance(piece, Annotation):
                    yield piece.language, piece.countable
                else:
                    yield piece

    def without_silent(self, run: str, language: str) -> str:
        """Return a run of a language with spaces in place of what has no sound.

        Raises Misconfigured MODEL_MISSING.
        """
        if language == "ja":  # OpenJTalk reads words, and leaves out those that it does not know
            from core.voice.kokoro.text.japanese import read_words

            return " ".join(word if _has_sound(sound) else " " for word, sound in read_words(run))
        return keep_spoken(run, partial(_is_spoken, language))


def _split_by_language(text: str, language: str) -> Iterator[Run]:
    """Yield the runs of a text; those of the main language may be empty."""
    start = 0
    for run in _FOREIGN[language].finditer(text):
        yield language, text[start : run.start()]
        yield str(run.lastgroup), run.group()
        start = run.end()
    yield language, text[start:]


@lru_cache(maxsize=1 << 15)
def _is_spoken(language: str, char: str) -> bool:
    return _has_sound(_load_language(language).phonemise(char))


def _has_sound(spoken: str) -> bool:
    return bool(_VOWEL_OR_TONE.search(_keep_known(spoken)))


def _keep_known(spoken: str) -> str:
    return "".join(symbol for symbol in spoken if symbol in model.vocabulary())


class _Language(Protocol):
    def to_words(self, text: str) -> str:
        """Return a text with numbers, signs and units as words."""
        ...

    def phonemise(self, text: str, following: str = "") -> str:
        """Return the phonemes of a text. `following`: phonemes that are spoken after it."""
        ...


@cache
def _load_language(language: str) -> _Language:
    """Import and return the module of a language; its dictionaries are slow to load."""
    if language == "en":
        from core.voice.kokoro.text import english

        return english
    if language == "zh":
        from core.voice.kokoro.text import chinese

        return chinese
    from core.voice.kokoro.text import japanese

    return japanese


def _split_too_long(spoken: str, limit: int = 400) -> Iterator[str]:
    """Split phonemes into at most `limit` tokens at clause punctuation, else at a space.

    The limit is below the model's maximum, near which it speaks too fast and skips words.
    """
    while len(spoken) > limit:
        head = spoken[:limit]
        cut = max(head.rfind(mark) for mark in (", ", "; ", ": ", "— ", "… ")) + 1
        cut = cut or head.rfind(" ") + 1 or limit
        yield spoken[:cut].strip()
        spoken = spoken[cut:].strip()
    if spoken:
        yield spoken
