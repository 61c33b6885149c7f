"""A producer's lexicon, `voicedrop/lexicon/1`: how words are to be read.

    {"schema": "voicedrop/lexicon/1", "entries": [
      {"term": "Nguyen", "language": "en", "phonemes": "W IH1 N"},
      {"term": "重庆", "language": "zh", "phonemes": "chong2 qing4"},
      {"term": "SQL", "language": "en", "as": "sequel", "voice": "alice"}]}

An entry applies in texts of its language, and wherever its term is read in its language by its
script: an English term in a Chinese text. The longest term that begins at a place counts; of
entries with equal terms that of the voice, then that of the text's language. What an entry gives is
not looked up again.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Annotated, Any, Literal

import msgspec

from core.documents import canonical, violation
from core.errors import ExplainedError, Refused
from core.manifest.clean_text import classify
from core.manifest.fields import Id
from core.manifest.validate import join_pointer
from core.text import alphabets
from core.text.annotated import Annotation
from core.text.en_numbers import ADDRESS
from core.text.segment import split_by_language

SCHEMA: Literal["voicedrop/lexicon/1"] = "voicedrop/lexicon/1"
MAX_BYTES = 4 * 1024 * 1024
MAX_ENTRIES = 20_000
MAX_TERM = 100
MAX_WORDS = 200

Alphabet = Literal["ipa", "x-sampa", "arpabet", "pinyin", "jyutping", "kana", "hangul"]


class Entry(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """How one term is read: by `as` or by `phonemes`."""

    term: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_TERM)]
    """As written in texts."""
    language: Literal["en", "ja", "ko", "yue", "zh"]
    """In which it is read."""
    as_: Annotated[str, msgspec.Meta(max_length=MAX_WORDS)] = msgspec.field(default="", name="as")
    """Words to say in its place."""
    phonemes: Annotated[str, msgspec.Meta(max_length=10 * alphabets.MAX_PHONEMES)] = ""
    alphabet: Alphabet | None = None
    """Of the phonemes; null: arpabet in English, pinyin in Chinese, jyutping in Cantonese, kana in
    Japanese, hangul in Korean."""
    voice: Id | None = None
    """Name of the voice in the manifest for which it holds; null: for all."""
    case: Literal["auto", "exact", "ignore"] = "auto"
    """Whether capitals count; auto: only if the term has no small letter, such as IT."""

    def __post_init__(self) -> None:
        if bool(self.as_.strip()) == bool(self.phonemes.strip()):
            raise ExplainedError("an entry needs either `as` or `phonemes`")
        if self.alphabet and not self.phonemes:
            raise ExplainedError("`alphabet` belongs to `phonemes`")

    @property
    def is_exact(self) -> bool:
        is_capital = self.term == self.term.upper() and self.term != self.term.lower()
        return self.case == "exact" or (self.case == "auto" and is_capital)


class Document(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    schema: Literal["voicedrop/lexicon/1"]
    entries: Annotated[list[Entry], msgspec.Meta(min_length=1, max_length=MAX_ENTRIES)]


@dataclass(frozen=True, slots=True)
class _Reading:
    entry: Entry
    annotation: Annotation


@dataclass(frozen=True, slots=True)
class Lexicon:
    """A lexicon that was read and checked."""

    sha256: str = ""
    readings: Sequence[_Reading] = ()
    _matchers: dict[tuple[str, str, frozenset[str]], _Matcher] = field(default_factory=dict)

    def annotate(self, text: str, language: str, voice: str, spoken: frozenset[str]) -> str:
        """Return a text with annotations for the terms in it.

        `language`: of the text; `spoken`: languages that the engine speaks. Entries for others do
        not apply.
        """
        key = (language, voice, spoken)
        if key not in self._matchers:
            self._matchers[key] = _Matcher.of(self.readings, *key)
        return self._matchers[key].annotate(text)


def parse(data: bytes, name: str) -> Lexicon:
    """Read a lexicon. Raises Refused LEXICON_INVALID for its first error, with a pointer that
    begins with `name`, its key or file."""
    entries, errors = check(data, name)
    if errors:
        first, others = errors[0], len(errors) - 1
        more = f" {others} more entries have errors." if others else ""
        raise Refused(first.code, first.message + more, pointer=first.pointer)
    return Lexicon(hashlib.sha256(data).hexdigest(), entries)


def check(data: bytes, name: str) -> tuple[list[_Reading], list[Refused]]:
    """Return the entries of a lexicon, and the error of each that has one. Raises Refused
    LEXICON_INVALID for what is wrong with the document as a whole."""
    if len(data) > MAX_BYTES:
        message = f"A lexicon has at most {MAX_BYTES} bytes, not {len(data)}."
        raise Refused("LEXICON_INVALID", message, pointer=name)
    try:
        document = canonical.load(data)
    except ExplainedError as exc:
        raise Refused("LEXICON_INVALID", f"Not a lexicon: {exc}.", pointer=name) from exc
    rows = _rows(document, name)
    readings: list[_Reading] = []
    errors: list[Refused] = []
    seen: dict[tuple[str, ...], int] = {}
    for index, row in enumerate(rows):
        pointer = f"{name}#/entries/{index}"
        try:
            reading = read_entry(row, pointer)
        except Refused as exc:
            errors.append(exc)
            continue
        earlier = seen.setdefault(_identity(reading.entry), index)
        if earlier == index:
            readings.append(reading)
        else:
            message = f"The term {reading.entry.term!r} is in entry {earlier} already."
            errors.append(Refused("LEXICON_INVALID", message, pointer=f"{pointer}/term"))
    return readings, errors


def _identity(entry: Entry) -> tuple[str, ...]:
    term = entry.term if entry.is_exact else fold(entry.term)
    return (term, str(entry.is_exact), entry.language, entry.voice or "")


def _rows(document: Any, name: str) -> list[Any]:
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        message = f'Not a lexicon: it needs "schema": "{SCHEMA}".'
        raise Refused("LEXICON_INVALID", message, pointer=name)
    entries = document.get("entries")
    head = {**document, "entries": [{"term": "a", "language": "en", "as": "a"}]}
    if isinstance(entries, list) and 1 <= len(entries) <= MAX_ENTRIES:
        document = head
    found = violation.find_violation(document, Document)
    if found:
        pointer = join_pointer(f"{name}#", *found.path)
        raise Refused("LEXICON_INVALID", f"{found.message}.", pointer=pointer)
    return list(entries or ())


def read_entry(row: Any, pointer: str) -> _Reading:
    """Return an entry as it is read from JSON. Raises Refused LEXICON_INVALID."""
    try:
        entry = msgspec.convert(row, Entry)
    except (ValueError, UnicodeEncodeError) as exc:
        found = violation.find_violation(row, Entry)
        cause = exc if isinstance(exc, ExplainedError) else exc.__cause__
        why = found.message if found else str(cause) if cause else "its fields have the wrong types"
        where = join_pointer(pointer, *found.path) if found else pointer
        raise _invalid(why, where) from exc
    where = "phonemes" if entry.phonemes else "as"
    try:
        _check_words(entry.term, "term")
        if not entry.phonemes:
            _check_words(entry.as_, where)
            return _Reading(entry, Annotation(entry.term, entry.language, words=entry.as_.strip()))
        alphabet = entry.alphabet or alphabets.NATIVE[entry.language]
        return _Reading(
            entry, alphabets.read_phonemes(entry.term, entry.phonemes, alphabet, entry.language)
        )
    except ExplainedError as exc:
        is_term = str(exc).startswith("`term`")
        raise _invalid(str(exc), f"{pointer}/{'term' if is_term else where}") from exc


def _invalid(why: str, pointer: str) -> Refused:
    message = why[:1].upper() + why[1:].removesuffix(".") + "."
    return Refused("LEXICON_INVALID", message, pointer=pointer)


def _check_words(text: str, name: str) -> None:
    """Raises ExplainedError for words that no text contains, or that cannot be spoken."""
    kinds = {classify(char).kind for char in text}
    if not kinds <= {"word", "mark", "plain"} or "\n" in text or "\t" in text:
        raise ExplainedError(f"`{name}` contains characters that no text has when it is spoken")
    if "word" not in kinds and not any(unicodedata.category(char)[0] == "S" for char in text):
        raise ExplainedError(f"`{name}` has no letter, digit or sign")
    if name == "term" and text != unicodedata.normalize("NFC", text).strip():
        raise ExplainedError(f"`{name}` must be in Unicode form NFC, without spaces at its ends")


_SPACED, _HANGUL, _NEITHER = "spaced", "hangul", ""
_WITHOUT_SPACES = re.compile("[\u2e80-\ua4cf\uf900-\ufaff\uff66-\uffdc\U00020000-\U0003ffff]")
_IS_HANGUL = re.compile("[\u1100-\u11ff\u3130-\u318f\uac00-\ud7a3]")
_IS_WORD = re.compile(r"\w")
_POSSESSIVE = re.compile(r"['’]s(?!\w)")
_ADDRESS = re.compile(ADDRESS)


@lru_cache(maxsize=4096)
def _script(char: str) -> str:
    """Return whether words in the script of a character have spaces between them. Korean words
    have, but particles follow them without one."""
    if _IS_HANGUL.match(char):
        return _HANGUL
    if _WITHOUT_SPACES.match(char):
        return _NEITHER
    return _SPACED if _IS_WORD.match(char) or unicodedata.combining(char) else _NEITHER


@lru_cache(maxsize=8192)
def _fold(char: str) -> str:
    plain = unicodedata.normalize("NFKC", char).lower()
    return plain if len(plain) == 1 else char


def fold(text: str) -> str:
    """Return a text of the same length in small letters and usual width."""
    return text.lower() if text.isascii() else "".join(map(_fold, text))


@dataclass(frozen=True, slots=True)
class _Matcher:
    """Finds the terms that apply in texts of one language and voice."""

    readings: dict[str, list[_Reading]]
    """Folded term -> readings, that which counts most first."""
    lengths: dict[str, list[int]]
    """First character of folded terms -> their lengths, the longest first."""

    @staticmethod
    def of(
        readings: Sequence[_Reading], language: str, voice: str, spoken: frozenset[str]
    ) -> _Matcher:
        found: dict[str, list[tuple[bool, bool, bool, _Reading]]] = {}
        for reading in readings:
            entry = reading.entry
            if entry.voice not in (None, voice) or entry.language not in spoken:
                continue
            if entry.language == language or _is_read_in(entry.language, entry.term, language):
                order = (entry.voice is None, entry.language != language, not entry.is_exact)
                found.setdefault(fold(entry.term), []).append((*order, reading))
        lengths: dict[str, set[int]] = {}
        for term in found:
            lengths.setdefault(term[0], set()).add(len(term))
        return _Matcher(
            {
                term: [row[-1] for row in sorted(rows, key=lambda row: row[:3])]
                for term, rows in found.items()
            },
            {first: sorted(sizes, reverse=True) for first, sizes in lengths.items()},
        )

    def annotate(self, text: str) -> str:
        if not self.readings:
            return text
        parts: list[str] = []
        start = at = 0
        folded = fold(text)
        addresses = [match.span() for match in _ADDRESS.finditer(text)]
        while at < len(text):
            match = self._find(text, folded, at)
            if match is None or _is_inside(at, match[1], addresses):
                at += 1
                continue
            annotation, end = match
            parts += [text[start:at], str(annotation)]
            start = at = end
        return "".join([*parts, text[start:]]) if parts else text

    def _find(self, text: str, folded: str, at: int) -> tuple[Annotation, int] | None:
        """Return the longest term at a place as an annotation, and where it ends."""
        for length in self.lengths.get(folded[at], ()):
            end = at + length
            for reading in self.readings.get(folded[at:end], ()) if end <= len(text) else ():
                entry, written = reading.entry, text[at:end]
                if entry.is_exact and written != entry.term:
                    continue
                if (size := _whole_word(text, at, end)) is not None:
                    annotation = replace(reading.annotation, written=text[at : end + size])
                    return (_add_possessive(annotation), end + size) if size else (annotation, end)
        return None


def _is_read_in(language: str, term: str, mode: str) -> bool:
    return {name for name, _ in split_by_language(term, mode)} == {language}


def _is_inside(start: int, end: int, spans: Sequence[tuple[int, int]]) -> bool:
    """Return whether a term is a part of an address, which is read as a whole."""
    return any(a <= start and end <= b and (start, end) != (a, b) for a, b in spans)


def _whole_word(text: str, start: int, end: int) -> int | None:
    """Return the length of a possessive ending after a whole word; None if it is none."""
    first, last = _script(text[start]), _script(text[end - 1])
    if first and start and _script(text[start - 1]) == first:
        return None
    if last != _SPACED or end == len(text):
        return 0
    if _POSSESSIVE.match(text, end):
        return 2
    joins = text[end] in "'’" and end + 1 < len(text) and _script(text[end + 1]) == _SPACED
    return None if joins or _script(text[end]) == _SPACED else 0


def _add_possessive(annotation: Annotation) -> Annotation:
    if annotation.language != "en":
        return annotation
    if annotation.words:
        return replace(annotation, words=annotation.words + "'s")
    from core.text.en import add_possessive

    phones = add_possessive(tuple(annotation.phonemes.split()))
    return replace(annotation, phonemes=" ".join(phones))


def drop_equal(entries: Sequence[Entry], problems: Sequence[str]) -> tuple[list[Entry], list[str]]:
    """Return the entries without those whose term an earlier one has, and the problems with a line
    for each of these that reads it otherwise."""
    kept: dict[tuple[str, ...], Entry] = {}
    others = list(problems)
    for entry in entries:
        first = kept.setdefault(_identity(entry), entry)
        if (first.as_, first.phonemes) != (entry.as_, entry.phonemes):
            others.append(f"{entry.term}: it has an entry already, which is kept")
    return list(kept.values()), others


def dump(entries: Iterator[Entry] | Sequence[Entry]) -> bytes:
    """Return a lexicon as JSON with an entry on each line."""
    rows = ",\n    ".join(msgspec.json.encode(entry).decode() for entry in entries)
    return f'{{\n  "schema": "{SCHEMA}",\n  "entries": [\n    {rows}\n  ]\n}}\n'.encode()
