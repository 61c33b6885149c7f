"""In which languages a text is spoken, how much of it in each, and what is left out.

The text front end of the engine decides: it splits a text into runs of one language and reads each
run in that language. What is counted here is what it reads: the same runs, and in them what has a
sound.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from typing import Protocol

from core.errors import Notice, Refused
from core.manifest.clean_text import name_dropped

Run = tuple[str, str]
"""A language, and the text that is read in it."""

QUOTED_IN_A_ROW = 5
QUOTED_IN_ALL = 2
QUOTED_SHARE = 1 / 3
"""Words, or characters of scripts without spaces, up to which another language counts as quoted:
in a row, in the whole text, and as a share of it."""
LETTERS_OF_A_WORD = 12
"""Letters of another language that count as one word: `thecatsatonthemat` is no short quotation."""

_WITHOUT_SPACES = (
    "\u2e80-\u9fff\uac00-\ud7a3\uf900-\ufaff\uff66-\uffdc\U0001aff0-\U0001b2ff\U00020000-\U0003ffff"
)
"""Chinese characters, kana, bopomofo and hangul, but not the parts of hangul that join (U+1100 to
U+11FF): many of them in a row are one sound."""
_KANA = re.compile("[あ-おか-ぢつ-もやゆよら-ろわをん]")
_LETTER = rf"[^\W\d_{_WITHOUT_SPACES}]"
_UNIT = re.compile(rf"(?P<word>{_LETTER}+(?:['’]{_LETTER}+)*)|\d+|[^\s'’]")


class FrontEnd(Protocol):
    """What the text front end of an engine tells without loading the engine."""

    @property
    def languages(self) -> frozenset[str]:
        """Languages that it reads, as ISO 639-1 codes (and `yue`)."""
        ...

    def split_by_language(self, text: str, language: str) -> Iterable[Run]:
        """Return the runs in which it reads a text, in order: the text without markup if all of it
        is in its language, otherwise as `read_runs` does. `language`: as stated."""
        ...

    def read_runs(self, text: str, language: str) -> Iterable[Run]:
        """Return the runs in which it reads a text, with numbers, signs and units as words."""
        ...

    def without_silent(self, run: str, language: str) -> str:
        """Return a run of a language with a space in place of whatever has no sound.

        Raises Misconfigured MODEL_MISSING.
        """
        ...


def check_speakable(
    text: str, language: str, front_end: FrontEnd, pointer: str = ""
) -> list[Notice]:
    """Return a notice that names the letters, numbers and signs which the engine leaves out.

    Raises Refused TEXT_UNSPEAKABLE if nothing is left to be spoken, Misconfigured MODEL_MISSING.
    """
    if language not in front_end.languages or (language == "en" and _EVERYDAY.fullmatch(text)):
        return []
    runs = list(front_end.split_by_language(text, language))
    missing = list(_left_out(runs, front_end))
    if missing:  # signs may have a reading beside a number, which costs more time to find out
        runs = list(front_end.read_runs(text, language))
        missing = list(_left_out(runs, front_end))
    if not any(_count_units(run, name, front_end, is_foreign=False) for name, run in runs):
        raise Refused("TEXT_UNSPEAKABLE", pointer=pointer)
    if not missing:
        return []
    return [Notice("TEXT_DROPPED_CHARS", name_dropped(missing), pointer)]


def _left_out(runs: Iterable[Run], front_end: FrontEnd) -> Iterable[str]:
    """Return the letters, numbers and signs without a sound, each once, in order."""
    found: dict[str, None] = {}
    for language, run in runs:
        spoken = Counter(_folded(front_end.without_silent(run, language)))
        written = Counter(_folded(run))
        for char, count in written.items():
            is_sign = unicodedata.category(char)[0] in "LNS" and not char.isdecimal()
            if is_sign and count > spoken[char] and char not in _WITHOUT_SOUND:
                found[char] = None
    return found


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


_EVERYDAY = re.compile(r"(?=.*[A-Za-z0-9])[\sA-Za-z0-9.,;:!?'\"()%&$+=@#/*\-‘’“”—–…]*", re.S)
"""English without any character that could have no sound."""
_WITHOUT_SOUND = frozenset("~〜^`´¨¸ー・々ゝゞヽヾ゛゜¥|_")
"""Letters and signs that lengthen a sound, repeat one, ask for a pause, or only separate."""


def spoken_languages(
    text: str, language: str, front_end: FrontEnd, allowed: Collection[str] = ()
) -> frozenset[str]:
    """Return the languages in which an engine speaks a text whose stated language is `language`.

    A name or term in another language is a quotation and does not count: at most QUOTED_IN_A_ROW
    units in a row, and at most QUOTED_IN_ALL or QUOTED_SHARE of what is spoken. `allowed`:
    languages that need not be told from a quotation. Raises Misconfigured MODEL_MISSING.
    """
    if language not in front_end.languages:
        return frozenset({language})
    runs = list(front_end.split_by_language(text, language))
    found = frozenset(name for name, _ in runs)
    if found <= {language} or found <= set(allowed):
        return found or frozenset({language})
    if _has_few_foreign(runs, language, front_end):
        return frozenset({language})
    rows = count_in_rows(runs, language, front_end)
    total: dict[str, int] = {}
    for name, units in rows:
        total[name] = total.get(name, 0) + units
    if language not in total:
        return frozenset(total) or frozenset({language})
    quoted = max(QUOTED_IN_ALL, QUOTED_SHARE * sum(total.values()))
    in_a_row = {name for name, units in rows if units > QUOTED_IN_A_ROW}
    return frozenset({language, *in_a_row, *(n for n, units in total.items() if units > quoted)})


def _has_few_foreign(runs: list[Run], language: str, front_end: FrontEnd) -> bool:
    """Return whether a text in its language quotes QUOTED_IN_ALL units at most. This is what
    `count_in_rows` would say of most texts, sooner."""
    home = (run for name, run in runs if name == language)
    foreign = ((name, run) for name, run in runs if name != language)
    units = sum(_count_units(run, name, front_end, is_foreign=True) for name, run in foreign)
    return units <= QUOTED_IN_ALL and any(
        # Japanese reads every kana; analysing its words would take most of the time.
        (language == "ja" and _KANA.search(run))
        or _count_units(run, language, front_end, is_foreign=False)
        for run in home
    )


def count_in_rows(runs: Iterable[Run], language: str, front_end: FrontEnd) -> list[tuple[str, int]]:
    """Return the languages in which runs are spoken, in order, and how many units of each.

    Units are words, numbers, and characters of scripts without spaces. What the engine leaves out
    is none, so that neighbours differ in language. Raises Misconfigured MODEL_MISSING.
    """
    rows: list[tuple[str, int]] = []
    for spoken, run in runs:
        if units := _count_units(run, spoken, front_end, is_foreign=spoken != language):
            before = rows.pop()[1] if rows and rows[-1][0] == spoken else 0
            rows.append((spoken, before + units))
    return rows


def _count_units(run: str, language: str, front_end: FrontEnd, *, is_foreign: bool) -> int:
    """Count what is spoken of a run. A long word of another language counts as several, one of the
    stated language as one, because engines read only the beginning of an endless word."""
    count = 0
    spoken = front_end.without_silent(run, language)
    if not unicodedata.is_normalized("NFKC", spoken):
        spoken = "".join(map(_plain_letters, spoken))
    for unit in _UNIT.finditer(spoken):
        is_long = is_foreign and unit.lastgroup == "word"
        count += -(-len(unit[0]) // LETTERS_OF_A_WORD) if is_long else 1
    return count


def _plain_letters(char: str) -> str:
    """Return the letters that a sign stands for: English reads ㋌㋌ as the word HgHg."""
    return re.sub("[^0-9A-Za-z]", "", unicodedata.normalize("NFKD", char)) or char


def keep_spoken(run: str, is_spoken: Callable[[str], bool]) -> str:
    """Return a run with a space in place of every character that has no sound when it stands alone.
    Marks inside a word are no gap: an apostrophe stays, and a combining mark is left out."""
    return "".join(
        char if char in "'’" or is_spoken(char) else "" if unicodedata.combining(char) else " "
        for char in run
    )
