"""Japanese: OpenJTalk's phones with marks where the pitch rises and falls.

The marks `[` (rise), `]` (fall) and `_` (pause) follow Kurihara et al. 2021
(https://doi.org/10.1587/transinf.2020EDP7104). The boundary of an accent phrase has no symbol in
the table and becomes `UNK`, because the model was trained that way.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import pairwise

from core.text import openjtalk
from core.text.ja_numbers import expand
from core.text.ja_readings import write_in_kana
from core.text.pronunciation import Pronunciation
from core.text.symbols import MARKS, UNKNOWN, symbol_table

_CHUNK = re.compile(
    r"(?:[A-Za-zＡ-Ｚａ-ｚ\d々\u3040-\u30ff\u4e00-\u9fffｦ-ﾝ]|(?<=\d)\.(?=\d))+|.", re.S
)
_MARK_OF = {
    "：": ",", "；": ",", "，": ",", "。": ".", "！": "!", "？": "?", "\n": ".", "·": ",",
    "、": ",",
}  # fmt: skip
_RUN = re.compile(rf"([{re.escape(MARKS)}])[{re.escape(MARKS)}]+")
_SILENT = "・"
"""OpenJTalk warns about it at the beginning."""
_READING = re.compile("[ァ-ヺ]")
_FEATURES = re.compile(
    r"-(?P<phone>.*?)\+.*/A:(?P<accent>-?\w+)\+(?P<mora>\w+)\+(?P<left>\w+)/B:.*/F:(?P<morae>\w+)_"
)


def phonemise(text: str) -> Pronunciation:
    """Return the phones of Japanese text; OpenJTalk reads the kanji, numbers and Latin letters."""
    spoken = _RUN.sub(r"\1", expand(text))
    phones: list[str] = []
    for chunk in _CHUNK.findall(write_in_kana(spoken).lower()):
        if _has_words(chunk):
            phones += _phones_of_chunk(chunk)
        elif chunk != " ":
            phones.append(_MARK_OF.get(chunk, chunk))
    known = symbol_table()
    return Pronunciation(spoken, tuple(phone if phone in known else UNKNOWN for phone in phones))


def without_silent(text: str) -> str:
    """Return Japanese text with spaces in place of marks and of what OpenJTalk cannot read; numbers
    are written as words."""
    return " ".join(
        word["string"] if _READING.search(word["pron"]) else " "
        for chunk in _CHUNK.findall(write_in_kana(expand(text)).lower())
        if _has_words(chunk)
        for words in openjtalk.split_words(chunk.lstrip(_SILENT))
        for word in words
    )


def _has_words(chunk: str) -> bool:
    return len(chunk) > 1 or bool(re.match(r"\w", chunk))


def _phones_of_chunk(chunk: str) -> Iterator[str]:
    """Yield the phones and pitch marks of a run without punctuation."""
    for labels in openjtalk.make_labels(chunk.lstrip(_SILENT)):
        yield from _phones_with_pitch(labels)


def _phones_with_pitch(labels: Iterable[str]) -> Iterator[str]:
    parsed = [match for label in labels if (match := _FEATURES.search(label))]
    for match, following in pairwise(parsed[1:]):
        phone = match["phone"]
        if phone == "pau":
            yield "_"
            continue
        yield phone.lower() if phone in "AEIOU" else phone
        yield from _pitch_marks(match, following)


def _pitch_marks(match: re.Match[str], following: re.Match[str]) -> Iterator[str]:
    """Yield the mark after this phone, if any: phrase boundary, fall or rise of pitch."""
    accent, mora, left, morae = (
        _feature_value(match[name]) for name in ("accent", "mora", "left", "morae")
    )
    next_mora = _feature_value(following["mora"])
    if left == 1 and next_mora == 1 and match["phone"] in "aeiouAEIOUNcl":
        yield "#"
    elif accent == 0 and next_mora == mora + 1 and mora != morae:
        yield "]"
    elif mora == 1 and next_mora == 2:
        yield "["


def _feature_value(feature: str) -> int:
    """Return a numeric feature of a full-context label; -50 for `xx`, which means "none"."""
    return int(feature) if feature.lstrip("-").isdigit() else -50
