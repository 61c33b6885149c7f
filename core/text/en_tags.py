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

_PAST = frozenset({"yesterday", "ago", "once", "already", "earlier", "previously", "before"})
_DETERMINERS = frozenset(
    "the a an this that these those my your his her its our their it them all".split()  # noqa: SIM905
)
_POSSESSIVES = frozenset("the a an my your his its our their".split())  # noqa: SIM905
_BEFORE_VERBS = frozenset(
    "to will would can could may might must shall should don't doesn't didn't won't can't cannot "  # noqa: SIM905
    "couldn't wouldn't shouldn't let's".split()
)
_PERFECT = frozenset("have has had having 've been".split())  # noqa: SIM905
_ONE = frozenset("he she it everyone everybody nobody someone somebody".split())  # noqa: SIM905
_TINY = frozenset(
    "detail details amount amounts quantity quantities particle particles difference differences "  # noqa: SIM905
    "change changes fraction fractions trace traces crack cracks piece pieces variation variations "
    "dose doses organism organisms hole holes part parts speck specks insect insects".split()
)
"""Nouns before which minute is small, and no time."""
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


def tag_sentence(words: Sequence[str]) -> list[str]:
    """Return the Penn Treebank tags of the words of a sentence, with those corrected that the
    tagger gets wrong where they decide how a word is read."""
    tags = tag_words(words)
    lower = [word.lower() for word in words]
    for i, word in enumerate(lower):
        before, following = lower[i - 1] if i else "", lower[i + 1] if i + 1 < len(lower) else ""
        starts = not before[:1].isalpha() or before == "please"
        if word == "read":
            tags[i] = _tag_of_read(lower, i, tags[i])
        elif word == "minute" and following in _TINY:
            tags[i] = "JJ"
        elif before in _BEFORE_VERBS and word in homographs() and tags[i][0] == "N":
            tags[i] = "VB"
        elif word not in homographs():
            continue
        elif before in _POSSESSIVES and tags[i] in ("VB", "VBP", "VBD"):
            tags[i] = "NN"
        elif starts and (following in _DETERMINERS or (word, following) == ("wind", "down")):
            tags[i] = "VB"  # a request: wind the clock
    return tags


def _tag_of_read(words: Sequence[str], i: int, tag: str) -> str:
    """Return whether `read` is the present or the past, which are written alike."""
    before = words[max(0, i - 3) : i]
    if _PERFECT.intersection(before) or any(word.endswith(("'ve", "'d")) for word in before):
        return "VBN"
    if tag not in ("VBP", "VBD", "VB") or (tag == "VB" and before):
        return tag
    after = words[i + 1 :]
    is_past = not _PAST.isdisjoint(after) or "last" in after
    subject = before[-1] if before else ""
    return "VBD" if is_past or subject in _ONE else tag


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
