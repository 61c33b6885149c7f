"""Import pronunciation lexicons of other tools: W3C PLS 1.0 becomes `voicedrop/lexicon/1`.

Source: https://www.w3.org/TR/pronunciation-lexicon/. Phonemes are kept in the alphabet in which
they are written, if our engines can speak them; what they cannot is named.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec

from core.errors import ExplainedError, Refused
from core.text import alphabets, lexicon, xml_tree
from core.text.lexicon import Entry
from core.text.xml_tree import Element

MAX_BYTES = 8 * 1024 * 1024
_IGNORED = frozenset({"meta", "metadata"})
_PARTS = frozenset({"grapheme", "phoneme", "alias", "example"})


@dataclass(frozen=True, slots=True)
class Imported:
    entries: list[Entry] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    """What was not imported, with its line and the reason."""


def read(data: bytes, language: str = "") -> Imported:
    """Return the entries of a PLS file, and what it has that cannot be said.

    `language`: if the file states none. Raises Refused LEXICON_INVALID for a file that is no PLS,
    LANGUAGE_UNSUPPORTED.
    """
    if len(data) > MAX_BYTES:
        raise Refused("OBJECT_TOO_LARGE", f"A PLS file has at most {MAX_BYTES} bytes here.")
    try:
        root = xml_tree.parse(data)
    except ExplainedError as exc:
        raise Refused("LEXICON_INVALID", f"Not a PLS file: {exc}.", advice="") from exc
    if _local(root) != "lexicon":
        message = f"Not a PLS file: its outermost element is <{root.name[:40]}>, not <lexicon>."
        raise Refused("LEXICON_INVALID", message, advice="")
    stated = root.attributes.get("xml:lang") or language
    spoken = alphabets.language_of_tag(stated)
    if spoken is None:
        message = f"It is for the language {stated or 'that it does not state'!r}."
        advice = f"Lexicons are read for {', '.join(alphabets.NATIVE)}."
        raise Refused("LANGUAGE_UNSUPPORTED", message, advice=advice)
    imported = Imported()
    for element in _elements(root, imported):
        _add_lexeme(element, spoken, root.attributes.get("alphabet", "ipa"), imported)
    return imported


def _elements(root: Element, imported: Imported) -> Iterator[Element]:
    for child in root.children:
        if isinstance(child, str) or _local(child) in _IGNORED:
            continue
        if _local(child) == "lexeme":
            yield child
        else:
            imported.problems.append(f"{child.place}: <{child.name[:40]}> is not read")


def _add_lexeme(lexeme: Element, language: str, alphabet: str, imported: Imported) -> None:
    parts = [child for child in lexeme.children if isinstance(child, Element)]
    readings = [part for part in parts if _local(part) in ("phoneme", "alias")]
    terms = [" ".join(part.text.split()) for part in parts if _local(part) == "grapheme"]
    where = f"{lexeme.place}: {', '.join(terms)[:60] or '<lexeme>'}"
    if unknown := [part.name[:40] for part in parts if _local(part) not in _PARTS]:
        imported.problems.append(f"{where}: <{unknown[0]}> is not read")
    if not readings or not terms:
        lacking = "<grapheme>" if readings else "<phoneme> or <alias>"
        imported.problems.append(f"{where}: it has no {lacking}")
        return
    readings.sort(key=lambda part: part.attributes.get("prefer") != "true")
    for term in terms:
        reasons = []
        for reading in readings:
            try:
                entry = _entry(term, reading, language, alphabet)
            except ExplainedError as exc:
                reasons.append(str(exc))
                continue
            imported.entries.append(entry)
            break
        else:
            imported.problems.append(f"{where}: {reasons[0]}")


def _entry(term: str, reading: Element, language: str, alphabet: str) -> Entry:
    """Raises ExplainedError."""
    text = " ".join(reading.text.split())
    if _local(reading) == "alias":
        entry = Entry(term=term, language=language, as_=text)  # type: ignore[arg-type]
    else:
        named = reading.attributes.get("alphabet", alphabet)
        entry = Entry(
            term=term,
            language=language,  # type: ignore[arg-type]
            phonemes=text,
            alphabet=alphabets.OTHER_NAMES.get(named, named),  # type: ignore[arg-type]
        )
    try:
        lexicon.read_entry(msgspec.to_builtins(entry), "")
    except Refused as exc:
        raise ExplainedError(exc.message.removesuffix(".")) from exc
    return entry


def _local(element: Element) -> str:
    """Return the name without the prefix of its namespace."""
    return element.name.rpartition(":")[2]
