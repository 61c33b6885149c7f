"""English words in capitals: which are emphasised and which are spelled."""

from __future__ import annotations

import re
from collections.abc import Callable

EMPHASISED = frozenset(
    "NO NOT YES ALL AND BUT THE YOU ARE WAS CAN HAS HAD HIS HER OUR OUT WHO WHY HOW NEW NOW ONE "  # noqa: SIM905
    "TWO TOO TO OF ON IN IS IF SO WE HE SHE MY BY AS AT BE DO GO UP ANY GET GOT BIG BAD OFF OLD "
    "OWN SEE SAY SET RUN DAY WAY MAN BOY GOD FOR DID SIX TEN END ITS LET PUT TRY WIN WON YET TOP "
    "HOT THIS THAT VERY MUST NEVER".split()
)
"""Short words that capitals emphasise; other words of up to three capitals are spelled."""


def lower_capitals(text: str, is_known: Callable[[str], bool]) -> str:
    """Lower-case a text all in capitals, unless most of its words are unknown abbreviations.
    `is_known`: whether a lower-case word is in the dictionary."""
    words = re.findall(r"[A-Za-z]{2,}", text)
    all_capitals = len(words) > 2 and not any(char.islower() for char in text)
    known = sum(is_known(word.lower()) for word in words) if all_capitals else 0
    return text.lower() if 2 * known > len(words) else text
