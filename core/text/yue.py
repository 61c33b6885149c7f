"""Cantonese: two phones for each syllable, one for punctuation; jyutping by ToJyutping."""

from __future__ import annotations

import re

import ToJyutping  # type: ignore[import-untyped]

from core.text.pronunciation import Pronunciation
from core.text.symbols import MARKS
from core.text.zh_numbers import expand

_MARK_OF = {
    "：": ",", "；": ",", "，": ",", "。": ".", "！": "!", "？": "?", "\n": ".", "·": ",",
    "、": ",", "...": "…", "—": "-", "～": "-", "~": "-",
}  # fmt: skip
_ANY_MARK = re.compile("|".join(map(re.escape, _MARK_OF)))
_UNSPOKEN = re.compile(rf"[^\u4e00-\u9fa5{re.escape(MARKS)}]+")
# The first match is taken even if a longer one follows, because the model was trained that way.
_INITIALS = (  # noqa: SIM905
    "aa aai aak aap aat aau ai au ap at ak a p b e ts t dz d kw k gw g f h l m ng n s y w c z j "
    "ong on ou oi ok o uk ung"
).split()


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
                half for syllable in (sounds or "").split() for half in _split_syllable(syllable)
            ]
            halves = halves or [char if char in MARKS else "UNK"]
            phones += halves
            word2ph.append(len(halves))
    return Pronunciation(spoken, tuple(phones), tuple(word2ph))


def _split_syllable(syllable: str) -> tuple[str, str]:
    """Split `hou2` into `Yh` and `You2`; a syllable without a final repeats its last letter."""
    plain, tone = syllable[:-1], syllable[-1]
    initial = next((start for start in _INITIALS if plain.startswith(start)), plain)
    if plain.startswith("nga"):
        initial = "ng"
    final = plain[len(initial) :] or initial[-1]
    return f"Y{initial}", f"Y{final}{tone}"
