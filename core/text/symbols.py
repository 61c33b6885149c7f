"""The 732 symbols GPT-SoVITS v2 was trained on, and their ids."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path

DATA = Path(__file__).parent / "data"
UNKNOWN = "UNK"
MARKS = "!?…,.-"
"""Marks with a symbol of their own."""


@cache
def symbol_table() -> dict[str, int]:
    """Symbol -> id: pinyin halves, kana phones, marks, ARPAbet, jamo, jyutping halves."""
    symbols = json.loads((DATA / "symbols.json").read_text("utf-8"))
    return {symbol: i for i, symbol in enumerate(symbols)}


def symbol_ids(phones: Iterable[str]) -> tuple[int, ...]:
    """Ids of phones; what the table lacks is `UNK`, as in training."""
    known = symbol_table()
    return tuple(known.get(phone, known[UNKNOWN]) for phone in phones)
