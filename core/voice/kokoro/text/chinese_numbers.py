"""How Kokoro says numbers, dates, times, money and units in Chinese text."""

from __future__ import annotations

import re

from core.text.zh_numbers import Manner, cardinal, spell, written_out


def expand(text: str) -> str:
    """`2024年3月5日` -> `二零二四年三月五日`, `8:30` -> `八点三十分`, `50%` -> `百分之五十`.

    The rules are those of core/text/zh_numbers.py. Brackets, quotes and spaces stay, because they
    are part of Kokoro's alphabet.
    """
    return written_out(text, _MANNER)


def _alone(found: re.Match[str]) -> str:
    """A number that nothing beside it explains is an amount, unless it has the length of a
    telephone number, begins with a zero or is too long to be counted."""
    digits = found[0]
    if re.fullmatch(r"1\d{10}|\d{7,8}", digits):
        return spell(digits, "幺")
    return spell(digits) if len(digits) > 16 or digits[:-1].startswith("0") else cardinal(digits)


_MANNER = Manner(half="三十分", to="至", celsius="摄氏度", alone=_alone)
