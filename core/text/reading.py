"""One reading for every engine: a sentence as written -> as spoken -> runs of one language.

A text is freed of markup, cut into sentences (`core.text.cut`), and each sentence is written as it
is spoken in its main language before it is split by language, so that `重2.5kg` is one Chinese run.
Words, names and addresses in Latin letters keep their digits: `MP3` is English in Japanese.
Only in Chinese are the digits at the end of a word read in the main language: `A4`, `PM2.5`. The
engine then turns each run into phonemes. What a producer's lexicon says about words is written into
the text before (`core.text.annotated`), and the front ends keep it through these steps.
"""

from __future__ import annotations

import re

from core.text import ja_numbers, ko_numbers, zh_numbers
from core.text.plain import to_plain
from core.text.segment import LATIN_WORD
from core.text.zh_numbers import ReadingStyle

PLAIN = ReadingStyle()
_LATIN = re.compile(LATIN_WORD)
_PLAIN_WORD = re.compile(r"[A-Za-z]+(?:['’][A-Za-z]+)?")
_CODE = re.compile(r"([A-Za-z]+)([0-9]+(?:\.[0-9]+)?)")
_LETTER_A = re.compile(
    r"(?<![A-Za-z0-9'’.\-&/+_])(?<![A-Za-z]\s)a(?![A-Za-z0-9'’.\-&/+_]|\s[A-Za-z])"
)
_FIRST_PLACE = 0xF0000
"""Characters for private use, which stand for words that numbers are not looked for in."""
_PLACES = re.compile("[\U000f0000-\U000ffffd]")


def _read_code(letters: str, digits: str) -> str:
    """Return a word that ends with a number as it is read in Chinese: G104, A4, PM2.5, iPhone15."""
    is_long = len(digits) > 2 and digits.isdigit()
    number = zh_numbers.spell_digits(digits, "幺") if is_long else zh_numbers.cardinal(digits)
    is_initialism = letters.isupper() and len(letters) <= 3
    return (" ".join(letters) if is_initialism else letters) + number


def write_as_spoken(sentence: str, mode: str, style: ReadingStyle = PLAIN) -> str:
    """Return a sentence with the numbers, signs and units of its main language as words.

    `mode`: a language, or one of `core.text.segment.MODES`. English is returned as it is, because
    nothing in it depends on how it is split; so are the `auto` modes, which have no main language.
    """
    language = mode.removeprefix("all_")
    if language not in ("zh", "yue", "ja", "ko"):
        return sentence
    kept: list[str] = []

    def keep(match: re.Match[str]) -> str:
        word = match[0]
        before = match.string[max(0, match.start() - 3) : match.start()].rstrip().rstrip("μ")
        follows_number = before[-1:].isdigit() or before[-1:] == "/"
        is_unit = follows_number and "." not in word
        if _PLAIN_WORD.fullmatch(word) or is_unit or word.startswith("No."):
            return word
        if language in ("zh", "yue") and (code := _CODE.fullmatch(word)):
            word = _read_code(code[1], code[2])
        kept.append(word)
        return chr(_FIRST_PLACE + len(kept) - 1)

    text = _LATIN.sub(keep, to_plain(_PLACES.sub("", sentence), keep_wide=language == "ja"))
    if language == "ja":
        text = ja_numbers.expand(text)
    elif language == "ko":
        text = ko_numbers.expand(text)
    else:
        text = zh_numbers.numbers_to_words(zh_numbers.simplify(text), style)
    text = _LETTER_A.sub("A", text)
    return _PLACES.sub(lambda place: kept[ord(place[0]) - _FIRST_PLACE], text)
