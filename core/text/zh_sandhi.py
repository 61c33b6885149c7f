"""Tone sandhi of Mandarin: 不, 一, neutral tones, third tones and 儿.

The rules and word lists are those of PaddleSpeech (Apache-2.0) with which GPT-SoVITS was trained.
The tone is the last character of a final (`ao3`); 5 is the neutral tone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

from core.text.symbols import DATA

_PARTICLES = frozenset("吧呢哈啊呐噻嘛吖嗨呐哦哒额滴哩哟喽啰耶喔诶的地得")
_COUNTERS = frozenset("几有两半多各整每做是")
_MARKS = frozenset("、：，；。？！“”‘’':,;.?!")

Finals = list[str]
Halves = tuple[str, str]


class Word(NamedTuple):
    text: str
    pos: str
    """Part of speech, jieba's tag."""


@cache
def word_lists() -> dict[str, frozenset[str]]:
    stored = json.loads((DATA / "zh.json").read_text("utf-8"))
    return {name: frozenset(stored[name]) for name in ("neutral", "full", "erhua", "no_erhua")}


def merge_words(words: Sequence[Word], finals: Callable[[str], Finals]) -> list[Word]:
    """Join words whose tones depend on each other; `finals` gives finals without context."""
    joined = _join_reduplication(_join_yi(_join_bu(words)))
    joined = _join_third_tones(joined, finals, _are_all_third)
    joined = _join_third_tones(joined, finals, _thirds_meet)
    return _join_er(joined)


def _join_bu(words: Sequence[Word]) -> list[Word]:
    joined: list[Word] = []
    for word in words:
        if joined and joined[-1].text == "不":
            joined[-1] = Word("不" + word.text, word.pos)
        else:
            joined.append(word)
    if joined and joined[-1].text == "不":
        joined[-1] = Word("不", "d")
    return joined


def _join_yi(words: Sequence[Word]) -> list[Word]:
    """Join 听 一 听 to 听一听, and any other 一 to the word after it."""
    joined: list[Word] = []
    skip = False
    for i, word in enumerate(words):
        before = joined[-1] if joined else Word("", "")
        after = words[i + 1].text if i + 1 < len(words) else ""
        if skip:
            skip = False
        elif word.text == "一" and before.pos == "v" and before.text == after:
            joined[-1] = Word(f"{after}一{after}", before.pos)
            skip = True
        elif before.text == "一":
            joined[-1] = Word("一" + word.text, before.pos)
        else:
            joined.append(word)
    return joined


def _join_reduplication(words: Sequence[Word]) -> list[Word]:
    joined: list[Word] = []
    for word in words:
        if joined and joined[-1].text == word.text:
            joined[-1] = Word(joined[-1].text + word.text, joined[-1].pos)
        else:
            joined.append(word)
    return joined


def _join_third_tones(
    words: Sequence[Word], finals: Callable[[str], Finals], meet: Callable[[Finals, Finals], bool]
) -> list[Word]:
    tones = [finals(word.text) for word in words]
    joined: list[Word] = []
    just_joined = False
    for i, word in enumerate(words):
        before = words[i - 1].text if i else ""
        fits = (
            len(before) + len(word.text) <= 3
            # a reduplicated word is not joined: its second syllable becomes neutral
            and not (len(before) == 2 and before[0] == before[1])
        )
        if before and fits and not just_joined and meet(tones[i - 1], tones[i]):
            joined[-1] = Word(joined[-1].text + word.text, joined[-1].pos)
            just_joined = True
        else:
            joined.append(word)
            just_joined = False
    return joined


def _is_third_tone(final: str) -> bool:
    return final.endswith("3")


def _are_all_third(left: Finals, right: Finals) -> bool:
    return all(map(_is_third_tone, left)) and all(map(_is_third_tone, right))


def _thirds_meet(left: Finals, right: Finals) -> bool:
    return bool(left and right) and _is_third_tone(left[-1]) and _is_third_tone(right[0])


def _join_er(words: Sequence[Word]) -> list[Word]:
    joined: list[Word] = []
    for word in words:
        if joined and word.text == "儿":
            joined[-1] = Word(joined[-1].text + "儿", joined[-1].pos)
        else:
            joined.append(word)
    return joined


def apply_sandhi(word: Word, finals: Finals, split: Callable[[str], Halves]) -> Finals:
    """Return the finals of a word as spoken; `split` splits a word at its inner boundary."""
    finals = _change_bu(word.text, finals)
    finals = _change_yi(word.text, finals)
    finals = _change_neutral(word, finals, split)
    return _change_third_tones(word.text, finals, split)


def _set_tone(final: str, tone: str) -> str:
    return final[:-1] + tone


def _change_bu(text: str, finals: Finals) -> Finals:
    if len(text) == 3 and text[1] == "不":  # 看不懂
        return [finals[0], _set_tone(finals[1], "5"), finals[2]]
    spoken = list(finals)
    for i, char in enumerate(text[:-1]):
        if char == "不" and spoken[i + 1].endswith("4"):
            spoken[i] = _set_tone(spoken[i], "2")
    return spoken


def _change_yi(text: str, finals: Finals) -> Finals:
    spoken = list(finals)
    if "一" not in text or all(char.isnumeric() for char in text):
        return spoken
    if len(text) == 3 and text[1] == "一" and text[0] == text[2]:  # 看一看
        spoken[1] = _set_tone(spoken[1], "5")
    elif text.startswith("第一"):
        spoken[1] = _set_tone(spoken[1], "1")
    else:
        for i, char in enumerate(text[:-1]):
            if char == "一" and spoken[i + 1].endswith("4"):
                spoken[i] = _set_tone(spoken[i], "2")
            elif char == "一" and text[i + 1] not in _MARKS:
                spoken[i] = _set_tone(spoken[i], "4")
    return spoken


def _change_neutral(word: Word, finals: Finals, split: Callable[[str], Halves]) -> Finals:
    text, spoken, lists = word.text, list(finals), word_lists()
    for i in range(1, len(text)):
        if len(text) == 4 and i == 2 and text[:2] != text[2:]:  # 银行行长 is no reduplication
            continue
        if text[i] == text[i - 1] and word.pos[:1] in "nva" and text not in lists["full"]:
            spoken[i] = _set_tone(spoken[i], "5")
    neutral = _neutral_syllable(word)
    if neutral is not None:
        spoken[neutral] = _set_tone(spoken[neutral], "5")
    end = 0
    for part in split(text):
        end += len(part)
        if part and (part in lists["neutral"] or part[-2:] in lists["neutral"]):
            spoken[end - 1] = _set_tone(spoken[end - 1], "5")
    return spoken


def _neutral_syllable(word: Word) -> int | None:
    """Return the index of the syllable that is neutral because of the word's ending, or None."""
    text, pos = word
    counter = text.find("个")
    last = len(text) - 1
    light_ending = (
        text[-1] in _PARTICLES
        or (text in ("了", "着", "过") and pos in ("ul", "uz", "ug"))  # 走了, 看着, 去过
        or (last > 0 and text[-1] in "们子" and pos in "rn" and text not in word_lists()["full"])
        or (last > 0 and text[-1] in "上下里" and pos in "slf")  # 桌上, 家里
        or (last > 0 and text[-1] in "来去" and text[-2] in "上下进出回过起开")
    )
    if light_ending:
        return last
    counts = counter > 0 and (text[counter - 1].isnumeric() or text[counter - 1] in _COUNTERS)
    if counts or text == "个":
        return counter
    neutral = word_lists()["neutral"]
    return last if text in neutral or text[-2:] in neutral else None


def _change_third_tones(text: str, finals: Finals, split: Callable[[str], Halves]) -> Finals:
    """Raise the first of adjacent third tones in a word of two to four syllables."""
    spoken = list(finals)
    if len(text) == 2 and all(map(_is_third_tone, spoken)):
        spoken[0] = _set_tone(spoken[0], "2")
    elif len(text) == 3:
        return _change_three_syllables(spoken, len(split(text)[0]))
    elif len(text) == 4:  # an idiom: two words of two syllables
        for i in (0, 2):
            if all(map(_is_third_tone, spoken[i : i + 2])):
                spoken[i] = _set_tone(spoken[i], "2")
    return spoken


def _change_three_syllables(finals: Finals, head: int) -> Finals:
    rising: list[int] = []
    if all(map(_is_third_tone, finals)):
        rising = {2: [0, 1], 1: [1]}.get(head, [])  # 蒙古/包, 纸/老虎
    elif head == 2:
        if all(map(_is_third_tone, finals[:2])):  # 所有/人
            rising = [0]
    elif head == 1:
        if all(map(_is_third_tone, finals[1:])):
            rising = [1]
        elif _is_third_tone(finals[0]) and _is_third_tone(finals[1]):  # 好/喜欢
            rising = [0]
    return [_set_tone(f, "2") if i in rising else f for i, f in enumerate(finals)]


def apply_erhua(word: Word, finals: Finals) -> Finals:
    """Give a final 儿 the tone of the syllable before it, unless it is a separate syllable."""
    if not word.text.endswith("儿") or len(finals) != len(word.text):
        return finals
    spoken = list(finals)
    if spoken[-1] == "er1":
        spoken[-1] = "er2"
    lists = word_lists()
    own_syllable = word.text in lists["no_erhua"] or word.pos in ("a", "j", "nr")
    if word.text not in lists["erhua"] and own_syllable:
        return spoken
    attached = spoken[-1] in ("er2", "er5") and word.text[-2:] not in lists["no_erhua"]
    if attached and len(spoken) > 1:
        spoken[-1] = "er" + spoken[-2][-1]
    return spoken
