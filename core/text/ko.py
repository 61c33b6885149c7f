"""Korean: jamo as pronounced, by the rules of standard pronunciation.

Rules and tables follow g2pK (Kyubyong Park, Apache-2.0), which GPT-SoVITS was trained with; parts
of speech come from mecab-ko. Rule numbers are those of the Standard Pronunciation (표준 발음법).
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable
from functools import cache
from typing import Any

import mecab_ko

from core.text.ko_numbers import expand
from core.text.pronunciation import Pronunciation
from core.text.symbols import DATA, symbol_table

_LATIN = dict(
    zip(
        "abcdefghijklmnopqrstuvwxyz",
        "에이 비 시 디 이 에프 지 에이치 아이 제이 케이 엘 엠 엔 오 피 큐 아르 에스 티 유 브이 "  # noqa: SIM905
        "더블유 엑스 와이 제트".split(),
        strict=True,
    )
)
_SPLIT_VOWELS = {
    "ㅘ": "ㅗㅏ", "ㅙ": "ㅗㅐ", "ㅚ": "ㅗㅣ", "ㅝ": "ㅜㅓ", "ㅞ": "ㅜㅔ", "ㅟ": "ㅜㅣ",
    "ㅢ": "ㅡㅣ", "ㅑ": "ㅣㅏ", "ㅒ": "ㅣㅐ", "ㅕ": "ㅣㅓ", "ㅖ": "ㅣㅔ", "ㅛ": "ㅣㅗ",
    "ㅠ": "ㅣㅜ",
}  # fmt: skip
_MARK_OF = {
    "：": ",", "；": ",", "，": ",", "。": ".", "！": "!", "？": "?", "\n": ".", "·": ",",
    "、": ",", " ": "空",
}  # fmt: skip
_LEADS = "ㄱㄲㄴㄷㄸㄹㅁㅂㅃㅅㅆㅇㅈㅉㅊㅋㅌㅍㅎ"
_TAILS = "ㄱㄲㄳㄴㄵㄶㄷㄹㄺㄻㄼㄽㄾㄿㅀㅁㅂㅄㅅㅆㅇㅈㅊㅋㅌㅍㅎ"
_SOUNDS = (
    {chr(0x1100 + i): jamo for i, jamo in enumerate(_LEADS)}
    | {chr(0x1161 + i): chr(0x314F + i) for i in range(21)}
    | {chr(0x11A8 + i): jamo for i, jamo in enumerate(_TAILS)}
)
_TENSE = dict(zip("ᄀᄃᄇᄉᄌ", "ᄁᄄᄈᄊᄍ", strict=True))
_STEM_RULES = (
    # verb stems after which a consonant is tensed: rules 11.1, 24, 25
    ("ᆰ/P([ᄀᄁ])", lambda m: "ᆯᄁ"),
    ("([ᆲᆴᆫᆷ])/P([ᄀᄃᄉᄌ])", lambda m: m[1] + _TENSE[m[2]]),
    ("ᆬ/P([ᄀᄃᄉᄌ])", lambda m: "ᆫ" + _TENSE[m[1]]),
    ("ᆱ/P([ᄀᄃᄉᄌ])", lambda m: "ᆷ" + _TENSE[m[1]]),
    # 밟다, 넓죽하다: rule 10.1
    ("(바)ᆲ(/P)?($|[^ᄋᄒ])", lambda m: f"{m[1]}ᆸ{m[3]}"),
    ("(너)ᆲ([ᄌᄍᄃᄄ]ᅮ)", lambda m: f"{m[1]}ᆸ{m[2]}"),
    # palatalisation: rule 17
    ("ᆮᄋ([ᅵᅧ])", lambda m: "ᄌ" + m[1]),
    ("ᇀᄋ([ᅵᅧ])", lambda m: "ᄎ" + m[1]),
    ("ᆴ(?:/P)?ᄋ([ᅵᅧ])", lambda m: "ᆯᄎ" + m[1]),
    ("ᆮ히", lambda m: "치"),
    # the future ending ㄹ tenses the next word: rule 27
    ("ᆯ/E ([ᄀᄃᄇᄉᄌ])", lambda m: "ᆯ " + _TENSE[m[1]]),
)
_LINKED_TAILS = {  # a final consonant moves to an empty initial: rules 12.4, 13, 14
    "ᆨ": "ᄀ", "ᆩ": "ᄁ", "ᆫ": "ᄂ", "ᆮ": "ᄃ", "ᆯ": "ᄅ", "ᆷ": "ᄆ", "ᆸ": "ᄇ", "ᆺ": "ᄉ", "ᆻ": "ᄊ",
    "ᆽ": "ᄌ", "ᆾ": "ᄎ", "ᆿ": "ᄏ", "ᇀ": "ᄐ", "ᇁ": "ᄑ", "ᆪ": "ᆨᄊ", "ᆬ": "ᆫᄌ", "ᆰ": "ᆯᄀ",
    "ᆱ": "ᆯᄆ", "ᆲ": "ᆯᄇ", "ᆳ": "ᆯᄊ", "ᆴ": "ᆯᄐ", "ᆵ": "ᆯᄑ", "ᆹ": "ᆸᄊ", "ᇂ": "ᄋ", "ᆭ": "ᄂ",
    "ᆶ": "ᄅ",
}  # fmt: skip

Rule = tuple[str, re.Pattern[str], str | Callable[[re.Match[str]], str]]


def phonemise(text: str) -> Pronunciation:
    """Return the jamo of Korean text; Latin letters are spelled, Chinese characters dropped."""
    spoken = re.sub("[A-Za-z]", lambda m: _LATIN[m[0].lower()], expand(text))
    jamo = "".join(_SPLIT_VOWELS.get(sound, sound) for sound in pronounce(spoken))
    # ㄹ after 을 at the end of a word is pronounced ㄴ
    jamo = re.sub("([ㅇㄹ]ㅡㄹ) ㄹ", r"\1 ㄴ", jamo)
    if "ㄱ" <= jamo[-1:] <= "ㅣ":
        jamo += "."
    known = symbol_table()
    marked = (_MARK_OF.get(char, char) for char in jamo)
    return Pronunciation(spoken, tuple(char if char in known else "停" for char in marked))


def pronounce(text: str) -> str:
    """Return the pronunciation of hangul in single jamo."""
    idioms, rules = _load_rules()
    for written, spoken in idioms:
        text = text.replace(written, spoken)
    out = unicodedata.normalize("NFD", _mark_stems(text))
    for lead, pattern, sound in rules:
        if lead in out:
            out = pattern.sub(sound, out)
    return "".join(_SOUNDS.get(char, char) for char in out)


def _mark_stems(text: str) -> str:
    """Insert `/P` after verb stems and `/E` after endings in ㄹ, which change the next sound."""
    tokens = _tag_morphemes(text)
    if text.replace(" ", "") != "".join(token for token, _ in tokens):
        return text
    marks: dict[int, str] = {}
    at = 0
    for token, tags in tokens:
        at = text.index(token[-1], text.index(token[0], at) + len(token) - 1) + 1
        tail = unicodedata.normalize("NFD", token[-1])[-1]
        tag = tags.split("+")[-1]
        if tag[0] == "E" and tail == "ᆯ":
            marks[at] = "/E"
        elif tag[0] == "V" and tail in "ᆫᆬᆷᆱᆰᆲᆴ":
            marks[at] = "/P"
    return "".join(char + marks.get(i + 1, "") for i, char in enumerate(text))


@cache
def _load_rules() -> tuple[list[tuple[str, str]], list[Rule]]:
    """Return the idioms as (written, spoken), and the rules for jamo in order: each with the jamo
    that it begins with, if any, because most of them do not apply to a short text.

    Compiled once: there are more patterns than the cache of `re` holds.
    """
    stored: dict[str, list[tuple[str, str]]] = json.loads((DATA / "ko.json").read_text("utf-8"))
    rules: list[tuple[str, str | Callable[[re.Match[str]], str]]] = [
        ("([ᄌᄍᄎ])ᅧ", r"\1ᅥ"),  # 5.1
        ("([ᄀᄁᄂᄃᄄᄅᄆᄇᄈᄉᄊᄌᄍᄎᄏᄐᄑᄒ])ᅴ", r"\1ᅵ"),  # 5.3
        *_STEM_RULES,
        ("/[PE]", ""),
        *stored["table"],
        (f"([{''.join(_LINKED_TAILS)}])ᄋ", lambda m: _LINKED_TAILS[m[1]]),
    ]
    leads = (pattern[0] if pattern[0] in _SOUNDS else "" for pattern, _ in rules)
    compiled = ((re.compile(pattern), sound) for pattern, sound in rules)
    return stored["idioms"], [(lead, *rule) for lead, rule in zip(leads, compiled, strict=True)]


def _tag_morphemes(text: str) -> list[tuple[str, str]]:
    """Return morphemes with their part-of-speech tags; several tags are joined by `+`."""
    # One call for the whole text, because threads share the tagger and its single buffer.
    lines = [line.split("\t", 1) for line in _tagger().parse(text).splitlines()]
    return [(line[0], line[1].split(",", 1)[0]) for line in lines if len(line) == 2]


@cache
def _tagger() -> Any:
    return mecab_ko.Tagger()
