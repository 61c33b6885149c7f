"""The pronunciation of English homographs, chosen by part of speech.

The tagger is NLTK's averaged perceptron (Apache-2.0; after Matthew Honnibal's in textblob, MIT)
with rounded weights; the homographs are those of Kyubyong/g2p (Apache-2.0).
"""

from __future__ import annotations

import json
import lzma
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

from core.inference import LoadedOnce
from core.text.symbols import DATA

_START, _END = ("-START-", "-START2-"), ("-END-", "-END2-")


@LoadedOnce
def _model() -> dict[str, Any]:
    stored: dict[str, Any] = json.loads(lzma.decompress((DATA / "en_tags.json.xz").read_bytes()))
    return stored


@cache
def homographs() -> dict[str, tuple[str, str, str]]:
    """Return for each word its ARPAbet as the tag named last, its ARPAbet otherwise, the tag."""
    stored = json.loads((DATA / "en_homographs.json").read_text("utf-8"))
    return {word: (first, second, pos) for word, (first, second, pos) in stored.items()}


def choose_arpabet(word: str, tag: str) -> str:
    """Return the ARPAbet of a homograph with a Penn Treebank tag."""
    first, second, pos = homographs()[word]
    return first if tag.startswith(pos) or pos.startswith(tag) else second


def tag_words(words: Sequence[str]) -> list[str]:
    """Return the Penn Treebank tags of the words of a sentence."""
    model = _model()
    classes, known, weights = model["classes"], model["tagdict"], model["weights"]
    context = [*_START, *map(_normalise, words), *_END]
    assigned: list[str] = []
    previous, before = _START
    for i, word in enumerate(words):
        if word in known:
            best = known[word]
        else:
            scores = [0] * len(classes)
            for feature in _features(i + 2, word, context, previous, before):
                row = weights.get(feature, ())
                for at in range(0, len(row), 2):
                    scores[row[at]] += row[at + 1]
            best = max(range(len(classes)), key=lambda k: (scores[k], classes[k]))
        before, previous = previous, classes[best]
        assigned.append(previous)
    return assigned


def _normalise(word: str) -> str:
    return "!HYPHEN" if "-" in word[1:] else word.lower()


def _features(
    i: int, word: str, context: Sequence[str], previous: str, before: str
) -> Iterator[str]:
    yield "bias"
    yield f"i suffix {word[-3:]}"
    yield f"i pref1 {word[0]}"
    yield f"i-1 tag {previous}"
    yield f"i-2 tag {before}"
    yield f"i tag+i-2 tag {previous} {before}"
    yield f"i word {context[i]}"
    yield f"i-1 tag+i word {previous} {context[i]}"
    yield f"i-1 word {context[i - 1]}"
    yield f"i-1 suffix {context[i - 1][-3:]}"
    yield f"i-2 word {context[i - 2]}"
    yield f"i+1 word {context[i + 1]}"
    yield f"i+1 suffix {context[i + 1][-3:]}"
    yield f"i+2 word {context[i + 2]}"
