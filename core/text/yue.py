"""Cantonese: two phones for each syllable, one for punctuation; jyutping by ToJyutping."""

from __future__ import annotations

import re

import ToJyutping  # type: ignore[import-untyped]

from core.text.alphabets import halves_of_jyutping
from core.text.pronunciation import Pronunciation
from core.text.symbols import MARKS
from core.text.zh_numbers import expand

_MARK_OF = {
    "：": ",", "；": ",", "，": ",", "。": ".", "！": "!", "？": "?", "\n": ".", "·": ",",
    "、": ",", "...": "…", "—": "-", "～": "-", "~": "-",
}  # fmt: skip
_ANY_MARK = re.compile("|".join(map(re.escape, _MARK_OF)))
_UNSPOKEN = re.compile(rf"[^\u4e00-\u9fa5{re.escape(MARKS)}]+")


def phonemise(text: str) -> Pronunciation:
    """Return the phones of Cantonese in either script; Latin letters are dropped."""
    marked = _ANY_MARK.sub(lambda match: _MARK_OF[match[0]], expand(text))
    spoken = _UNSPOKEN.sub("", marked)
    phones: list[str] = []
    word2ph: list[int] = []
    for word, jyutping in ToJyutping.get_jyutping_list(spoken):
        syllables = jyutping.split(" ") if jyutping else [""] * len(word)
        parts = zip(word, syllables, strict=True) if len(word) > 1 else [(word, jyutping)]
        for char, sounds in parts:
            halves = [
                half for syllable in (sounds or "").split() for half in halves_of_jyutping(syllable)
            ]
            halves = halves or [char if char in MARKS else "UNK"]
            phones += halves
            word2ph.append(len(halves))
    return Pronunciation(spoken, tuple(phones), tuple(word2ph))
