"""Write numbers, dates, times, money and units in Chinese text as words for Kokoro."""

from __future__ import annotations

import re

from core.text.zh_numbers import ReadingStyle, cardinal, numbers_to_words, spell_digits


def expand(text: str) -> str:
    """Rewrite `2024年3月5日` as `二零二四年三月五日`, `8:30` as `八点三十分`.

    The rules are those of core/text/zh_numbers.py. Brackets, quotes and spaces are kept, because
    they are part of Kokoro's alphabet.
    """
    return numbers_to_words(text, _STYLE)


def _bare_number(match: re.Match[str]) -> str:
    """Read a number without context as an amount, unless it has the length of a telephone number,
    begins with a zero or is too long."""
    digits = match[0]
    if re.fullmatch(r"1\d{10}|\d{7,8}", digits):
        return spell_digits(digits, "幺")
    return (
        spell_digits(digits)
        if len(digits) > 16 or digits[:-1].startswith("0")
        else cardinal(digits)
    )


_STYLE = ReadingStyle(
    half_past="三十分", range_word="至", celsius="摄氏度", bare_number=_bare_number
)
