"""Phonemes equal those of GPT-SoVITS except in the rows that docs/text.md lists."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from core.text import cut, phonemise
from core.text.symbols import symbol_ids
from core.voice.gpt_sovits.frontend import read_phrase
from handlers.cli.text import join_spans

ROOT = Path(__file__).parents[2]
ROWS = [
    json.loads(line) for line in (ROOT / "tests/data/text/golden.jsonl").read_text().splitlines()
]
CUTS = [
    json.loads(line)
    for line in (ROOT / "tests/data/text/golden_cut.jsonl").read_text().splitlines()
]
LISTED = {
    (language, text): spoken_text
    for language, text, spoken_text in re.findall(
        r"^\| (\w+) \| `(.*?)` \| .*? \| (.*?) \| .*? \|$",
        (ROOT / "docs/text.md").read_text(),
        re.M,
    )
}
CORE = {
    "plain",
    "punct",
    "ellipsis",
    "erhua",
    "yi",
    "bu",
    "tone3",
    "neutral",
    "polyphone",
    "sandhi",
}


def spoken(row: dict[str, Any]) -> tuple[str, tuple[int, ...], str]:
    """Return the words, phoneme ids and alignment that voicedrop gives for a row."""
    if row["level"] == "unit":
        reading = phonemise(row["text"], row["lang"])
        return reading.text, symbol_ids(reading.phones), "".join(map(str, reading.word2ph))
    spans = read_phrase(row["text"], row["lang"])
    return join_spans(spans), tuple(phone for span in spans for phone in span.phones), ""


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['lang']}-{row['category']}")
def test_each_row_equals_upstream_or_is_a_listed_difference(row: dict[str, Any]) -> None:
    text, phones, word2ph = spoken(row)
    if (row["lang"], row["text"]) in LISTED:
        assert phones != symbol_ids(row["phones"].split())
        assert text == LISTED[row["lang"], row["text"]]
    else:
        assert phones == symbol_ids(row["phones"].split())
        assert word2ph == row.get("word2ph", "") or row["level"] == "segment"


def test_every_listed_difference_is_a_row() -> None:
    assert LISTED.keys() <= {(row["lang"], row["text"]) for row in ROWS}


def test_at_most_two_percent_of_ordinary_rows_differ() -> None:
    core = [row for row in ROWS if row["level"] == "unit" and row["category"] in CORE]
    assert len(core) > 80
    assert sum((row["lang"], row["text"]) in LISTED for row in core) <= 0.02 * len(core)


@pytest.mark.parametrize("row", CUTS, ids=lambda row: f"{row['method']}-{row['text'][:6]}")
def test_pieces_equal_upstream(row: dict[str, Any]) -> None:
    assert cut.split_text(row["text"], row["lang"], row["method"]) == row["pieces"]


def test_the_document_states_how_many_rows_are_identical() -> None:
    def same(level: str) -> int:
        rows = [row for row in ROWS if row["level"] == level]
        return sum((row["lang"], row["text"]) not in LISTED for row in rows)

    document = " ".join((ROOT / "docs/text.md").read_text().split())
    assert f"{same('unit')} are identical" in document
    assert f"mixed-language rows {same('segment')}." in document
