"""The 732 symbols that GPT-SoVITS v2 was trained with, and their ids."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path

DATA = Path(__file__).parent / "data"
UNKNOWN = "UNK"
MARKS = "!?…,.-"
"""Punctuation that has a symbol."""

_SILENT = frozenset({*MARKS, UNKNOWN, "SP", "SP2", "SP3", "_", "[", "]", "停", "空"})
"""Symbols of pauses, of marks of pitch, and of what could not be read."""


@cache
def symbol_table() -> dict[str, int]:
    """Return the ids of pinyin and jyutping halves, Japanese phones, ARPAbet, jamo, punctuation."""
    symbols = json.loads((DATA / "symbols.json").read_text("utf-8"))
    return {symbol: i for i, symbol in enumerate(symbols)}


def has_sound(phones: Iterable[str]) -> bool:
    """Return whether one of the phones is more than a pause."""
    return any(phone in symbol_table() and phone not in _SILENT for phone in phones)


def symbol_ids(phones: Iterable[str]) -> tuple[int, ...]:
    """Return the ids of phones; an unknown phone gets the id of `UNK`, as in training."""
    known = symbol_table()
    return tuple(known.get(phone, known[UNKNOWN]) for phone in phones)
