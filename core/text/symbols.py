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


@cache
def symbol_table() -> dict[str, int]:
    """Return the ids of pinyin and jyutping halves, Japanese phones, ARPAbet, jamo, punctuation."""
    symbols = json.loads((DATA / "symbols.json").read_text("utf-8"))
    return {symbol: i for i, symbol in enumerate(symbols)}


def symbol_ids(phones: Iterable[str]) -> tuple[int, ...]:
    """Return the ids of phones; an unknown phone gets the id of `UNK`, as in training."""
    known = symbol_table()
    return tuple(known.get(phone, known[UNKNOWN]) for phone in phones)
