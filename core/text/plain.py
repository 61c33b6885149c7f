"""Characters that stand for others are written as these: `ﬁ` as fi, `½` as 1/2, `㎏` as kg.

The decompositions are those of Unicode (NFKC, UAX #15) for letters, numbers and symbols.
Punctuation stays as it is, because its width tells the engines where to pause, and so do small
raised numbers, which are powers: `10⁶` is not 106.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from core.text.digits import to_ascii_digits

_FORMS = frozenset(
    {"<compat>", "<font>", "<sub>", "<super>", "<fraction>", "<circle>", "<square>", "<small>"}
)
"""Kinds of decompositions that change only the form of a character. Others (`<isolated>`) are forms
of Arabic letters, which no engine reads."""
_KEPT = frozenset("ˣʸⁿªº…‥")
_EXPLICIT = {"№": "No.", "ℓ": "L", "𠮷": "吉", "⁄": "/", "∕": "/", "∶": ":", "‐": "-", "‑": "-"}
_WIDE_SIGNS = frozenset("％＋－＝＜＞＄＃＆＠／＊＾｜￠￡￦＿")
_WIDE_LETTERS = frozenset(map(chr, [*range(0xFF21, 0xFF3B), *range(0xFF41, 0xFF5B)]))
_NARROW = re.compile("[\uff61-\uffdc\uffe8-\uffee]+")
_MIXED_FRACTION = re.compile("(?<=[0-9])(?=[¼-¾⅐-⅞])")
_ROMAN_SIGNS = re.compile("[Ⅰ-ⅿ]+")
_ROMAN = re.compile("M{0,3}(?:CM|CD|D?C{0,3})(?:XC|XL|L?X{0,3})(?:IX|IV|V?I{0,3})")
_ROMAN_VALUES = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100, "D": 500, "M": 1000}


def to_plain(text: str, *, keep_wide: bool = False) -> str:
    """Return a text with plain letters, numbers and symbols, and decimal digits as 0-9.

    `keep_wide`: keep letters in full width, which Japanese reads otherwise than Latin words.
    """
    if text.isascii():
        return text
    text = _MIXED_FRACTION.sub(" ", to_ascii_digits(text)).replace("ⁿᵈ", "nd")
    text = _NARROW.sub(lambda run: unicodedata.normalize("NFKC", run[0]), text)
    kept = _WIDE_LETTERS if keep_wide else frozenset()
    return "".join(
        char if char.isascii() or char in kept else _plain_character(char) for char in text
    )


@lru_cache(maxsize=1 << 14)
def _plain_character(char: str) -> str:
    if char in _EXPLICIT or char in _KEPT:
        return _EXPLICIT.get(char, char)
    form, _, _ = unicodedata.decomposition(char).partition(" ")
    category = unicodedata.category(char)
    if form == "<wide>":
        is_read = category[0] in "LN" or char in _WIDE_SIGNS
        return unicodedata.normalize("NFKC", char) if is_read else char
    if form not in _FORMS or "\u3130" <= char <= "\u318f":  # parts of hangul have sounds themselves
        return char
    if form == "<super>" and category[0] != "L":
        return char
    if category[0] in "ZM" or category == "Sk":
        return char
    plain = unicodedata.normalize("NFKC", char).replace("⁄", "/")
    return f" {plain} " if form == "<circle>" and category == "No" else plain


def roman_signs_to_digits(text: str) -> str:
    """Write the Roman numerals that Unicode has as characters with digits: `第Ⅲ章` as `第3章`."""
    return _ROMAN_SIGNS.sub(_digits_of_signs, text)


def _digits_of_signs(match: re.Match[str]) -> str:
    number = roman_number(unicodedata.normalize("NFKC", match[0]).upper())
    return str(number) if number else match[0]


def roman_number(letters: str) -> int:
    """Return the value of a Roman numeral in capitals, 0 if it is none in the usual form."""
    if not letters or not _ROMAN.fullmatch(letters):
        return 0
    values = [_ROMAN_VALUES[letter] for letter in letters]
    pairs = zip(values, [*values[1:], 0], strict=True)
    return sum(-value if value < following else value for value, following in pairs)
