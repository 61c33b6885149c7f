"""Clean texts for the voice: composed (NFC), visible, speakable.

Pure functions. Invisible marks and emoji, whose loss a listener does not hear, are removed with a
notice. A text that could only be corrected by changing its words is refused.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from core.errors import Notice, Refused

MAX_COMBINING = 8
"""Combining marks on one letter; Hebrew, Thai and phonetic notation need up to four."""

INVISIBLE = frozenset(
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b\u200c\u200d\u200e\u200f"
    "\u202a\u202b\u202c\u202d\u202e\u2060\u2061\u2062\u2063\u2064\u2065\u2066\u2067\u2068\u2069"
    "\u206a\u206b\u206c\u206d\u206e\u206f\u3164\ufeff\uffa0\ufff9\ufffa\ufffb"
)
"""Direction marks, zero-width characters and fillers: they can hide or reorder what is read."""

_NEWLINE = re.compile(r"\r\n?|[\u2028\u2029]")
# Emoji and dingbats; other symbols (degree signs, currency, circled numbers) have names to speak.
_PICTURES = ((0x2600, 0x27BF), (0x2B00, 0x2BFF), (0x1F000, 0x1FAFF), (0xE0000, 0xE0FFF))
# Extensions I and H, which are missing from the Unicode data of Python 3.12 and 3.11.
_HAN_NEWER_THAN_PYTHON = ((0x2EBF0, 0x2EE5D), (0x31350, 0x323AF))
_VARIATION_SELECTORS = range(0xFE00, 0xFE10)
_KEYCAP = "\u20e3"


class Character(NamedTuple):
    kind: str
    """word, mark, plain, invisible, picture, control or surrogate."""
    script: str
    """latin, han, kana, hangul or other for letters; empty for other characters."""


def clean(text: str, *, language: str, limit: int, pointer: str) -> tuple[str, list[Notice]]:
    """Return the text to be spoken, and a notice for each change.

    `limit` counts code points. Raises Refused TEXT_EMPTY, TEXT_TOO_LONG, TEXT_SURROGATE,
    TEXT_CONTROL, TEXT_COMBINING_LIMIT, TEXT_UNSPEAKABLE with `pointer`.
    """
    if len(text) > limit:
        message = f"The text has {len(text)} characters; at most {limit}: split it."
        raise Refused("TEXT_TOO_LONG", message, pointer=pointer)
    if _is_printable_ascii_line(text) and (language == "en" or language not in _EXPECTED_SCRIPTS):
        return text.strip(), []
    text = _NEWLINE.sub("\n", text)
    if not text.strip():
        raise Refused("TEXT_EMPTY", pointer=pointer)
    count = Counter(text)
    kinds = {classify(c).kind for c in count}
    _refuse_unsafe(text, kinds, pointer)
    notices = [Notice("TEXT_BIDI", pointer=pointer)] if "invisible" in kinds else []
    if dropped := [c for c in count if classify(c).kind == "picture"]:
        notices.append(Notice("TEXT_DROPPED_CHARS", name_dropped(dropped), pointer))
    if notices:
        text = "".join(c for c in text if classify(c).kind not in ("invisible", "picture"))
    if "word" not in kinds:
        raise Refused("TEXT_UNSPEAKABLE", pointer=pointer)
    if _is_in_other_script(count, language):
        notices.append(Notice("LANGUAGE_MISMATCH", pointer=pointer))
    return unicodedata.normalize("NFC", text).strip(), notices


def name_dropped(characters: Sequence[str]) -> str:
    """Name the first five characters by themselves, if that shows anything, and by their code."""
    names = [
        f"{c} (U+{ord(c):04X})" if unicodedata.category(c)[0] in "LNS" else f"U+{ord(c):04X}"
        for c in characters[:5]
    ]
    more = f" and {len(characters) - 5} more" if len(characters) > 5 else ""
    return f"Characters that cannot be spoken were dropped: {', '.join(names)}{more}."


def _is_printable_ascii_line(text: str) -> bool:
    """Return whether the text is one line of ASCII words, as most texts of large batches are."""
    return text.isascii() and text.isprintable() and bool(_WORD_CHARACTER.search(text))


_WORD_CHARACTER = re.compile("[0-9A-Za-z]")


@lru_cache(maxsize=16384)
def classify(c: str) -> Character:
    """Return what one code point means for speech."""
    category = unicodedata.category(c)
    if category == "Cn" and any(a <= ord(c) <= b for a, b in _HAN_NEWER_THAN_PYTHON):
        category = "Lo"
    if c in INVISIBLE:
        kind = "invisible"
    elif category in ("Co", "Cn", "Cf") or _is_picture(c):
        kind = "picture"
    elif c in "\t\n":
        kind = "plain"
    else:
        kind = _KIND_BY_CATEGORY.get(category, _KIND_BY_CATEGORY.get(category[0], "plain"))
    return Character(kind, _script(ord(c)) if kind == "word" and category[0] == "L" else "")


_KIND_BY_CATEGORY = {"L": "word", "N": "word", "M": "mark", "Cs": "surrogate", "Cc": "control"}


def _is_picture(c: str) -> bool:
    code = ord(c)
    return c == _KEYCAP or code in _VARIATION_SELECTORS or any(a <= code <= b for a, b in _PICTURES)


_SCRIPTS = (
    (0x0041, 0x024F, "latin"),
    (0x1E00, 0x1EFF, "latin"),
    (0x3041, 0x30FF, "kana"),
    (0x31F0, 0x31FF, "kana"),
    (0xFF66, 0xFF9D, "kana"),
    (0x3005, 0x3007, "han"),
    (0x3400, 0x4DBF, "han"),
    (0x4E00, 0x9FFF, "han"),
    (0xF900, 0xFAFF, "han"),
    (0x20000, 0x323AF, "han"),
    (0x1100, 0x11FF, "hangul"),
    (0x3130, 0x318F, "hangul"),
    (0xAC00, 0xD7A3, "hangul"),
    (0xFF21, 0xFF5A, "latin"),
)


def _script(code: int) -> str:
    return next((name for first, last, name in _SCRIPTS if first <= code <= last), "other")


def _refuse_unsafe(text: str, kinds: set[str], pointer: str) -> None:
    if "surrogate" in kinds:
        raise Refused("TEXT_SURROGATE", pointer=pointer)
    if "control" in kinds:
        first = next(ord(c) for c in text if classify(c).kind == "control")
        message = f"Remove the control character U+{first:04X}."
        raise Refused("TEXT_CONTROL", message, pointer=pointer)
    if "mark" in kinds and _longest_mark_run(text) > MAX_COMBINING:
        raise Refused("TEXT_COMBINING_LIMIT", pointer=pointer)


def _longest_mark_run(text: str) -> int:
    """Return the length of the longest run of combining marks."""
    longest = run = 0
    for c in text:
        kind = classify(c).kind
        if kind in ("invisible", "picture"):
            continue  # dropped later, which brings the marks around it together
        run = run + 1 if kind == "mark" else 0
        longest = max(longest, run)
    return longest


# Chinese, Japanese and Korean texts quote Latin words freely, so only the absence of their own
# script, or a majority of another non-Latin one, is a sign. English quotes little of the others.
_EXPECTED_SCRIPTS = {
    "zh": {"han"},
    "yue": {"han"},
    "ja": {"han", "kana"},
    "ko": {"hangul"},
    "en": {"latin"},
}


def _is_in_other_script(count: Counter[str], language: str) -> bool:
    """Return whether the text is mostly in another script. `count`: occurrences by character."""
    if language not in _EXPECTED_SCRIPTS:
        return False
    if language == "en" and all(map(str.isascii, count)):
        return False  # the same result, sooner: most texts of large batches are ASCII
    scripts: dict[str, int] = {}
    for c, times in count.items():
        script = classify(c).script
        scripts[script] = scripts.get(script, 0) + times
    own = sum(scripts.get(name, 0) for name in _EXPECTED_SCRIPTS[language])
    latin = 0 if language == "en" else scripts.get("latin", 0)
    foreign = count.total() - scripts.get("", 0) - own - latin
    return foreign > own or (own == 0 and latin > 0)
