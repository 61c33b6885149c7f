"""Split a text into pieces that are spoken one at a time.

`cut0` to `cut5` are the methods of GPT-SoVITS and give the same pieces, with its rules for short
first and last pieces. `sentence` splits after sentences, and long sentences at their commas.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from core.errors import Refused
from core.text.annotated import PLACE
from core.text.en_abbreviations import ends_no_sentence
from core.text.en_numbers import ADDRESS

_SPLITS = "，。？！,.?!~:：—…"
_MARKS = frozenset("!?…,.- ") | frozenset("，。？！~:：—、；;\n")
_CUT5 = frozenset(",.;?!、，。？！：…")
_MAX_CHARACTERS = 510
"""BERT has 512 positions, two of which are the start and end tokens."""
_RUN = re.compile(r"([!?…,.\-])[!?…,.\-]+")
_END = re.compile(
    r"(?:[。！？?…]|!(?!=))+[”’」』）】\"')\]]*\s*|(?<=[^\d\s.])\.+[\"')\]]*(?=\s|$)\s*|(?<=\d)\.(?=\s|$)\s*|\n+"
)
_WORD = re.compile(rf"[\w{PLACE}]")
_ADDRESS = re.compile(ADDRESS)
_CLAUSE = re.compile(r"(?<=[，、；：])|(?<=[,;:])(?=\s)|(?<=[—])")


def split_text(text: str, language: str, method: str = "sentence") -> list[str]:
    """Return the pieces of a text, each ending with punctuation; none for a text without words.

    Raises Refused VALUE_RANGE for an unknown method.
    """
    if method not in _METHODS:
        known = ", ".join(_METHODS)
        raise Refused("VALUE_RANGE", f"Unknown cutting method {method!r}: choose one of {known}.")
    text = text.strip("\n")
    stop = "." if language == "en" else "。"
    if method != "sentence":
        text = _RUN.sub(r"\1", text)
        head = re.split(f"[{_SPLITS}]", text, maxsplit=1)[0]
        if text and text[0] not in _SPLITS and len(head) < 4:
            text = stop + text
    lines = [line for line in _METHODS[method](text).split("\n") if line.strip()]
    ended = (_end_with_mark(line, stop) for line in _merge_short(lines) if _WORD.search(line))
    return [part for line in ended for part in _split_too_long(line) if _WORD.search(part)]


def _end_with_mark(line: str, stop: str) -> str:
    return line if line[-1] in _SPLITS else line + stop


def _merge_short(lines: list[str], least: int = 5) -> list[str]:
    """Join lines of fewer than `least` characters to the next, a short last one to the previous."""
    merged: list[str] = []
    held = ""
    for line in lines:
        apart = held[-1:].isascii() and line[:1].isascii() and not line[:1].isspace()
        held += (" " if held and apart else "") + line
        if len(held) >= least:
            merged.append(held)
            held = ""
    if held and merged:
        apart = merged[-1][-1].isascii() and held[0].isascii() and not held[0].isspace()
        merged[-1] += (" " if apart else "") + held
    elif held:
        merged.append(held)
    return merged


def _split_too_long(line: str) -> list[str]:
    """Split at punctuation into at most 510 characters, or anywhere if there is no punctuation."""
    if len(line) <= _MAX_CHARACTERS:
        return [line]
    parts, held = [], ""
    for clause in re.split(f"(?<=[{_SPLITS}])", line):
        if len(held) + len(clause) > _MAX_CHARACTERS and held:
            parts.append(held)
            held = ""
        held += clause
        while len(held) > _MAX_CHARACTERS:
            parts.append(held[:_MAX_CHARACTERS])
            held = held[_MAX_CHARACTERS:]
    return [part for part in [*parts, held] if part]


def _split_clauses(text: str) -> list[str]:
    text = text.replace("……", "。").replace("——", "，")
    if text and text[-1] not in _SPLITS:
        text += "。"
    return [clause for clause in re.split(f"(?<=[{_SPLITS}])", text) if clause]


def _join_speakable(lines: list[str]) -> str:
    return "\n".join(line for line in lines if not _MARKS.issuperset(line))


def _by_four(text: str) -> str:
    clauses = _split_clauses(text)
    if len(clauses) <= 4:
        return _join_speakable([text])
    starts = list(range(0, len(clauses), 4))[:-1]
    ends: list[int | None] = [*starts[1:], None]
    return _join_speakable(["".join(clauses[a:b]) for a, b in zip(starts, ends, strict=True)])


def _by_fifty(text: str) -> str:
    clauses = _split_clauses(text)
    if len(clauses) < 2:
        return text
    lines, held = [], ""
    for clause in clauses:
        held += clause
        if len(held) > 50:
            lines.append(held)
            held = ""
    if held:
        lines.append(held)
    if len(lines) > 1 and len(lines[-1]) < 50:
        lines[-2:] = [lines[-2] + lines[-1]]
    return _join_speakable(lines)


def _at_full_stops(text: str) -> str:
    return _join_speakable(text.strip("。").split("。"))


def _at_periods(text: str) -> str:
    return _join_speakable(re.split(r"(?<!\d)\.(?!\d)", text.strip(".")))


def _at_marks(text: str) -> str:
    lines, held = [], ""
    for i, char in enumerate(text):
        held += char
        decimal = char == "." and text[i - 1 : i].isdigit() and text[i + 1 : i + 2].isdigit()
        if char in _CUT5 and not decimal:
            lines.append(held)
            held = ""
    return _join_speakable([*lines, held])


def _by_sentence(text: str) -> str:
    text = re.sub(r"\s*[—–―]{2,}\s*|\s[—–―]\s", _comma_for_dash, text)
    return "\n".join(
        part for sentence in split_sentences(text) for part in _split_long_sentence(sentence)
    )


def _comma_for_dash(match: re.Match[str]) -> str:
    """Return the comma that replaces a dash, in the script of the text before it."""
    return ", " if match.string[: match.start()].isascii() else "，"


def split_sentences(text: str) -> Iterator[str]:
    """Split after sentence punctuation and at line ends, but not after an abbreviation (`Dr.`), an
    initial, or within an address."""
    start = 0
    inside = {at for match in _ADDRESS.finditer(text) for at in range(match.start(), match.end())}
    for end in _END.finditer(text):
        sentence = text[start : end.end()]
        if end.end() - 1 in inside or (
            "\n" not in end.group() and ends_no_sentence(sentence, text[end.end() : end.end() + 9])
        ):
            continue
        if sentence.strip():
            yield sentence.strip()
        start = end.end()
    if text[start:].strip():
        yield text[start:].strip()


def _split_long_sentence(sentence: str) -> Iterator[str]:
    """Split a sentence of more than about twelve seconds at its commas."""
    width = sum(1 if char.isascii() else 3 for char in sentence)
    if width <= 180:
        yield sentence
        return
    held = 0
    part = ""
    for clause in _CLAUSE.split(sentence):
        wide = sum(1 if char.isascii() else 3 for char in clause)
        if part and held + wide > 120:
            yield part.strip()
            part, held = "", 0
        part += clause
        held += wide
    yield part.strip()


_METHODS: dict[str, Callable[[str], str]] = {
    "sentence": _by_sentence,
    "cut0": str,
    "cut1": _by_four,
    "cut2": _by_fifty,
    "cut3": _at_full_stops,
    "cut4": _at_periods,
    "cut5": _at_marks,
}
METHODS = tuple(_METHODS)
