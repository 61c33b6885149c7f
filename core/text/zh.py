"""Mandarin: two phones (initial and final) for each syllable, one for each punctuation mark."""

from __future__ import annotations

import re

from core.text import zh_words
from core.text.pronunciation import Pronunciation
from core.text.symbols import MARKS
from core.text.zh_numbers import expand
from core.text.zh_readings import read_words
from core.text.zh_sandhi import Word, apply_erhua, apply_sandhi, merge_words

_MARK_OF = {
    "：": ",", "；": ",", "，": ",", "。": ".", "！": "!", "？": "?", "\n": ".", "·": ",",
    "、": ",", "...": "…", "/": ",", "—": "-", "~": "…", "～": "…",
    "嗯": "恩", "呣": "母",  # their syllables have no symbol
}  # fmt: skip
_ANY_MARK = re.compile("|".join(map(re.escape, _MARK_OF)))
_UNSPOKEN = re.compile(rf"[^\u4e00-\u9fa5{re.escape(MARKS)}]+")
_RUN = re.compile(rf"([{re.escape(MARKS)}])[{re.escape(MARKS)}]+")
_CLAUSE = re.compile(rf"[^{re.escape(MARKS)}]*[{re.escape(MARKS)}]|[^{re.escape(MARKS)}]+")
_PAUSES = {"￥": "SP2", "^": "SP3"}
"""Characters that request a pause; with one of them all commas become the first such pause."""
_ENDS = {"uei": "ui", "iou": "iu", "uen": "un"}
_BARE = {
    "i": "y i", "in": "y in", "ing": "y ing", "ian": "y En", "ie": "y E",
    "u": "w u", "uei": "w ei", "uen": "w en", "ê": "EE ei",
    "m": "m u", "n": "EE en", "ng": "EE en", "hm": "h en", "hng": "h eng",
}  # fmt: skip
_BARE_ONSETS = {"i": "y", "u": "w", "a": "AA", "e": "EE", "o": "OO"}


def phonemise(text: str) -> Pronunciation:
    """Return the phones of Chinese text; Latin letters are dropped (see `core.text.segment`)."""
    text = expand(text)
    pause = next((pause for mark, pause in _PAUSES.items() if mark in text), "")
    for mark in _PAUSES:
        text = text.replace(mark, ",")
    spoken = _RUN.sub(r"\1", normalise_marks(text))
    phones: list[str] = []
    word2ph: list[int] = []
    for clause in _CLAUSE.findall(spoken):
        for sounds in _phones_of_clause(clause):
            phones += [pause if pause and sound == "," else sound for sound in sounds]
            word2ph.append(len(sounds))
    return Pronunciation(spoken, tuple(phones), tuple(word2ph))


def normalise_marks(text: str) -> str:
    """Write punctuation in ASCII and drop everything that is neither Chinese nor punctuation."""
    return _UNSPOKEN.sub("", _ANY_MARK.sub(lambda match: _MARK_OF[match[0]], text))


def _phones_of_clause(clause: str) -> list[list[str]]:
    """Return the phones of each character of a clause. Polyphones are read in its context."""
    words = merge_words(zh_words.tag_words(clause), zh_words.to_finals)
    return [
        sounds
        for word, readings in read_words(clause, words)
        for sounds in _phones_of_word(word, readings)
    ]


def _phones_of_word(word: Word, readings: list[str]) -> list[list[str]]:
    from pypinyin.contrib.tone_convert import to_finals_tone3, to_initials

    initials = [to_initials(reading) for reading in readings]
    finals = [to_finals_tone3(reading, neutral_tone_with_five=True) for reading in readings]
    finals = apply_erhua(word, apply_sandhi(word, finals, zh_words.split_word))
    halves = zip(word.text, initials, finals, strict=True)
    return [
        [char] if char in MARKS else phones_of_syllable(initial, final)
        for char, initial, final in halves
    ]


def phones_of_syllable(initial: str, final: str) -> list[str]:
    """Return the two phones of a syllable; one without an initial gets a placeholder for it."""
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
