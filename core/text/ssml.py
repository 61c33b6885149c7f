"""The part of SSML 1.1 that is read: an annotated text is made of it (`core.text.annotated`).

`<speak>` (optional), `<break>`, `<sub>`, `<say-as>`, `<phoneme>` and `<lang>`. Any other element or
attribute is refused by name and place, because text that is left out or spoken otherwise than asked
would go unnoticed. Source: https://www.w3.org/TR/speech-synthesis11/
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from core.errors import ExplainedError, Refused
from core.manifest.clean_text import classify
from core.text import alphabets, annotated, cut, xml_tree
from core.text.annotated import Annotation
from core.text.say_as import say_as
from core.text.xml_tree import Element

MAX_WORDS = 200
MAX_PAUSE_MS = 10_000
MAX_PAUSES_S = 60
"""Of all pauses of a text together."""
STRENGTHS: Mapping[str, int] = {
    "none": 0, "x-weak": 250, "weak": 500, "medium": 750, "strong": 1000, "x-strong": 1250,
}  # fmt: skip
"""Milliseconds of silence; SSML leaves them to the engine."""
ATTRIBUTES: Mapping[str, Collection[str]] = {
    "speak": ("version", "xml:lang", "xsi:schemaLocation"),
    "break": ("time", "strength"),
    "sub": ("alias",),
    "say-as": ("interpret-as", "format"),
    "phoneme": ("alphabet", "ph"),
    "lang": ("xml:lang",),
}
REQUIRED: Mapping[str, Collection[str]] = {
    "sub": ("alias",),
    "say-as": ("interpret-as",),
    "phoneme": ("ph",),
    "lang": ("xml:lang",),
}
_TIME = re.compile(r"\+?(\d+(?:\.\d+)?|\.\d+)(ms|s)")
_ROOT = re.compile(r"\s*(?:<\?xml|<speak[\s>/])")
Annotate = Callable[[str, str], str]
"""Returns words in a language with the annotations of a lexicon."""


def read(
    text: str, language: str, spoken: Collection[str], annotate: Annotate, pointer: str = ""
) -> str:
    """Return the annotated text of SSML.

    `language`: of the text; `spoken`: the languages that the engine speaks. Raises Refused
    MARKUP_INVALID, LANGUAGE_UNSUPPORTED with the place of what is wrong.
    """
    has_root = bool(_ROOT.match(text))
    try:
        root = xml_tree.parse(text if has_root else f"<speak>\n{text}</speak>")
        reader = _Reader(language, spoken, annotate, 0 if has_root else 1)
        read_text = reader.read_element(root, language)
    except ExplainedError as exc:
        place, _, why = str(exc).partition(": ")
        if not has_root and (line := re.match(r"line (\d+)", place)):
            place = place.replace(line[0], f"line {int(line[1]) - 1}")
        message = f"{place}: {why.removesuffix('.')}."
        raise Refused("MARKUP_INVALID", message, pointer=pointer) from exc
    except Refused as exc:
        raise Refused(exc.code, exc.message, pointer=pointer) from exc
    if (pauses := annotated.pause_seconds(read_text)) > MAX_PAUSES_S:
        message = f"The pauses have {pauses:g} s together; at most {MAX_PAUSES_S}."
        raise Refused("MARKUP_INVALID", message, pointer=pointer)
    return read_text.strip()


@dataclass(frozen=True, slots=True)
class _Reader:
    home: str
    spoken: Collection[str]
    annotate: Annotate
    lines_before: int
    """Lines that were put before the text."""

    def read_element(self, element: Element, language: str) -> str:
        """Return an element as annotated text. Raises ExplainedError, Refused."""
        _check_names(element)
        inside = self._language_of(element, language)
        try:
            if element.name in ("speak", "lang"):
                return "".join(self._read_child(child, inside) for child in element.children)
            return self._READERS[element.name](self, element, inside)
        except ExplainedError as exc:
            known = re.match(r"line \d+, column \d+: ", str(exc))
            raise exc if known else ExplainedError(f"{element.place}: {exc}") from exc

    def _read_child(self, child: Element | str, language: str) -> str:
        if isinstance(child, Element):
            if child.name == "speak":
                raise ExplainedError(f"{child.place}: <speak> is the outermost element")
            return self.read_element(child, language)
        words = self.annotate(_clean(child), language)
        if language == self.home:
            return words
        return annotated.outside(lambda part: _in_language(part, language), words)

    def _language_of(self, element: Element, language: str) -> str:
        written = element.attributes.get("xml:lang")
        if written is None:
            return language
        name = alphabets.language_of_tag(written)
        if name is None or name not in self.spoken:
            supported = ", ".join(sorted(self.spoken))
            message = (
                f"line {element.line - self.lines_before}, column {element.column}: "
                f"The engine speaks {supported}, not {written}."
            )
            raise Refused("LANGUAGE_UNSUPPORTED", message)
        return name

    def _read_break(self, element: Element, language: str) -> str:
        if element.children:
            raise ExplainedError("<break> has no content: write <break/>")
        pause = _pause_ms(element.attributes)
        return str(Annotation(" ", pause_ms=pause)) if pause else " "

    def _read_sub(self, element: Element, language: str) -> str:
        alias = _clean(element.attributes["alias"]).strip()
        if not any(classify(char).kind == "word" for char in alias):
            raise ExplainedError("alias has no word")
        if len(alias) > MAX_WORDS:
            raise ExplainedError(f"alias has at most {MAX_WORDS} characters")
        return str(Annotation(_only_text(element), language, words=alias))

    def _read_say_as(self, element: Element, language: str) -> str:
        kind, form = element.attributes["interpret-as"], element.attributes.get("format", "")
        written = _only_text(element)
        return str(Annotation(written, language, words=say_as(written, kind, form, language)))

    def _read_phoneme(self, element: Element, language: str) -> str:
        alphabet = element.attributes.get("alphabet", "ipa").lower()
        alphabet = alphabets.OTHER_NAMES.get(alphabet, alphabet)
        written = _only_text(element)
        return str(alphabets.read_phonemes(written, element.attributes["ph"], alphabet, language))

    _READERS = {  # noqa: RUF012
        "break": _read_break,
        "sub": _read_sub,
        "say-as": _read_say_as,
        "phoneme": _read_phoneme,
    }


def _check_names(element: Element) -> None:
    name, known = element.name, ATTRIBUTES.get(element.name)
    if known is None:
        names = ", ".join(ATTRIBUTES)
        raise ExplainedError(f"{element.place}: <{name[:40]}> is not supported: use {names}")
    for attribute in element.attributes:
        if attribute not in known and attribute.partition(":")[0] != "xmlns":
            names = ", ".join(known)
            what = f"<{name}> has no attribute `{attribute[:40]}` here: use {names}"
            raise ExplainedError(f"{element.place}: {what}")
    for attribute in REQUIRED.get(name, ()):
        if attribute not in element.attributes:
            raise ExplainedError(f"{element.place}: <{name}> needs `{attribute}`")


def _pause_ms(attributes: Mapping[str, str]) -> int:
    if "time" in attributes:
        match = _TIME.fullmatch(attributes["time"].strip())
        pause = round(float(match[1]) * (1 if match[2] == "ms" else 1000)) if match else -1
        if not 0 <= pause <= MAX_PAUSE_MS:
            raise ExplainedError(
                f"time={attributes['time']!r} must be like 500ms or 1.5s, "
                f"of at most {MAX_PAUSE_MS // 1000} s"
            )
        return pause
    strength = attributes.get("strength", "medium")
    if strength not in STRENGTHS:
        raise ExplainedError(f"strength={strength!r} must be one of {', '.join(STRENGTHS)}")
    return STRENGTHS[strength]


def _only_text(element: Element) -> str:
    for child in element.children:
        if isinstance(child, Element):
            raise ExplainedError(f"{child.place}: <{element.name}> contains text only")
    return _clean(element.text)


def _in_language(part: str, language: str) -> str:
    """Return words as read in a language, a long text in lines of a sentence or less; what has no
    word stays, because it has no sound."""
    if not any(classify(char).kind == "word" for char in part):
        return part
    if len(part) <= MAX_WORDS:
        return str(Annotation(part, language, words=part))
    pieces = cut.split_text(part, language)
    return "\n".join(str(Annotation(piece, language, words=piece)) for piece in pieces)


def _clean(text: str) -> str:
    """Return a text without what no text contains when it is spoken; references (`&#x200b;`) may
    have brought it in."""
    kept = (char for char in text if classify(char).kind in ("word", "mark", "plain"))
    return unicodedata.normalize("NFC", "".join(kept))
