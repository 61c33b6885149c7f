"""Mandarin: text -> two phones a syllable, one a mark."""

from __future__ import annotations

import re

from core.text import zh_words
from core.text.reading import Reading
from core.text.symbols import MARKS
from core.text.zh_numbers import expand
from core.text.zh_sandhi import Word, erhua, merged, sandhi

_MARK_OF = {
    "：": ",", "；": ",", "，": ",", "。": ".", "！": "!", "？": "?", "\n": ".", "·": ",",
    "、": ",", "...": "…", "/": ",", "—": "-", "~": "…", "～": "…",
    "嗯": "恩", "呣": "母",  # which have no syllable in the table
}  # fmt: skip
_ANY_MARK = re.compile("|".join(map(re.escape, _MARK_OF)))
_UNSPOKEN = re.compile(rf"[^\u4e00-\u9fa5{re.escape(MARKS)}]+")
_RUN = re.compile(rf"([{re.escape(MARKS)}])[{re.escape(MARKS)}]+")
_CLAUSE = re.compile(rf"[^{re.escape(MARKS)}]*[{re.escape(MARKS)}]|[^{re.escape(MARKS)}]+")
_PAUSES = {"￥": "SP2", "^": "SP3"}
"""Pauses a writer asks for; the first that occurs turns every comma of the text into itself."""
_ENDS = {"uei": "ui", "iou": "iu", "uen": "un"}
_BARE = {
    "i": "y i", "in": "y in", "ing": "y ing", "ian": "y En", "ie": "y E",
    "u": "w u", "uei": "w ei", "uen": "w en", "ê": "EE ei",
    "m": "m u", "n": "EE en", "ng": "EE en", "hm": "h en", "hng": "h eng",
}  # fmt: skip
_BARE_ONSETS = {"i": "y", "u": "w", "a": "AA", "e": "EE", "o": "OO"}


def read(text: str) -> Reading:
    """Chinese text; Latin letters are dropped (the segmenter gives them to English)."""
    text = expand(text)
    pause = next((pause for mark, pause in _PAUSES.items() if mark in text), "")
    for mark in _PAUSES:
        text = text.replace(mark, ",")
    spoken = _RUN.sub(r"\1", marked(text))
    phones: list[str] = []
    word2ph: list[int] = []
    for clause in _CLAUSE.findall(spoken):
        for sounds in _clause(clause):
            phones += [pause if pause and sound == "," else sound for sound in sounds]
            word2ph.append(len(sounds))
    return Reading(spoken, tuple(phones), tuple(word2ph))


def marked(text: str) -> str:
    """Marks in ASCII; nothing but marks and the characters that have a reading."""
    return _UNSPOKEN.sub("", _ANY_MARK.sub(lambda found: _MARK_OF[found[0]], text))


def _clause(clause: str) -> list[list[str]]:
    """Phones of each character of a clause, which is the context of its words."""
    in_context = zh_words.pinyin(clause)
    sounds: list[list[str]] = []
    for word in merged(zh_words.cut(clause), zh_words.finals):
        start = len(sounds)
        sounds += _word(word, in_context[start : start + len(word.text)])
    return sounds


def _word(word: Word, in_context: list[str]) -> list[list[str]]:
    from pypinyin.contrib.tone_convert import to_finals_tone3, to_initials

    readings = zh_words.phrase(word.text)
    if readings is None:
        alone = (zh_words.phrase(char) for char in word.text)
        readings = [(one or [here])[0] for one, here in zip(alone, in_context, strict=True)]
    initials = [to_initials(reading) for reading in readings]
    finals = [to_finals_tone3(reading, neutral_tone_with_five=True) for reading in readings]
    finals = erhua(word, sandhi(word, finals, zh_words.split))
    halves = zip(word.text, initials, finals, strict=True)
    return [
        [char] if char in MARKS else _syllable(initial, final) for char, initial, final in halves
    ]


def _syllable(initial: str, final: str) -> list[str]:
    """`zh`, `ong1` -> `zh ong1`; a syllable without an initial gets a stand-in for it."""
    final, tone = final[:-1], final[-1:]
    if initial:
        if final == "i" and initial in ("z", "c", "s"):
            final = "i0"
        elif final == "i" and initial in ("zh", "ch", "sh", "r"):
            final = "ir"
        return [initial, _ENDS.get(final, final) + tone]
    if final in _BARE:
        onset, final = _BARE[final].split(" ")
        return [onset, final + tone]
    if final.startswith("v"):
        return ["y", final + tone]
    onset = _BARE_ONSETS.get(final[:1], "UNK")
    return [onset, (final[1:] if onset in ("y", "w") else final) + tone]
