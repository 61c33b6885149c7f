"""The words in an unknown English compound, by the frequencies of words and pairs of words.

wordsegment (Grant Jenks, Apache-2.0; after Peter Norvig, "Natural Language Corpus Data", in
Beautiful Data, 2009) has the frequencies and the same score. It scores 576 pairs of words for each
letter, which takes four seconds for 5,000 letters; this scores only pairs that can matter.
"""

from __future__ import annotations

import math
from typing import Any

from core.inference import LoadedOnce

_LONGEST = 24
"""Letters in the longest word of the tables."""


def split_compound(text: str) -> list[str]:
    """Split `smartwatchband` into `smart`, `watch` and `band`. Text: lower-case letters and `'`,
    which is dropped."""
    words, _, _ = _tables()
    text = "".join(char for char in text if "a" <= char <= "z")
    size = len(text)
    known = [
        [text[at : at + length] in words for length in range(_LONGEST + 1)] for at in range(size)
    ]
    # best[at][length]: score and length of the next word, if the word before `at` has that length.
    best: list[list[tuple[float, int]]] = [[(0.0, 0)] * (_LONGEST + 1)]
    for at in range(size - 1, -1, -1):
        lengths = range(1, min(_LONGEST, size - at) + 1)
        rest = [0.0, *(best[-length][length][0] for length in lengths)]
        alone = [(_score(text[at : at + n], known[at][n]) + rest[n], n) for n in lengths]
        without_pair = max(alone)
        found = [without_pair] * (_LONGEST + 1)
        for before in range(1, min(_LONGEST, at) + 1):
            if known[at - before][before]:
                pairs = _scores_after(text[at - before : at], text, at, lengths, known[at])
                if pairs:
                    scores = alone.copy()
                    for length, score in pairs:
                        scores[length - 1] = score + rest[length], length
                    found[before] = max(scores)
        best.append(found)
    return _read_words(text, best[::-1])


def _read_words(text: str, best: list[list[tuple[float, int]]]) -> list[str]:
    found, at, length = [], 0, 0
    while at < len(text):
        length = best[at][length][1]
        found.append(text[at : at + length])
        at += length
    return found


def _score(word: str, is_known: bool) -> float:
    words, _, total = _tables()
    # An unknown word is ten times as unlikely with each letter.
    return math.log10(words[word] / total if is_known else 10.0 / (total * 10 ** len(word)))


def _scores_after(
    previous: str, text: str, at: int, lengths: range, known: list[bool]
) -> list[tuple[int, float]]:
    """Return the length and score of each word at `at` that is in a known pair with `previous`."""
    words, pairs, total = _tables()
    scores = []
    for length in lengths:
        if known[length]:
            count = pairs.get(f"{previous} {text[at : at + length]}")
            if count is not None:
                scores.append((length, math.log10(count / total / (words[previous] / total))))
    return scores


@LoadedOnce
def _tables() -> tuple[dict[str, float], dict[str, float], float]:
    """Return the counts of words and of pairs, and the number of words counted."""
    import wordsegment  # type: ignore[import-untyped]

    wordsegment.load()
    tables: Any = wordsegment
    return tables.UNIGRAMS, tables.BIGRAMS, tables.Segmenter.TOTAL
