"""Chinese: words by jieba, readings by pypinyin, syllables in Kokoro's IPA.

The alphabet follows misaki's Chinese front end for Kokoro v1.0 (Apache-2.0), which is based on
stefantaubert/pinyin-to-ipa (MIT): affricates are one symbol, tones are arrows after the vowel.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

from core.text.zh_numbers import ReadingStyle, numbers_to_words, simplify

STYLE = ReadingStyle(celsius="摄氏度", one_in_address="幺")
"""How this voice reads numbers where two readings are correct."""
_INITIALS = {
    "b": "p", "c": "ʦʰ", "ch": "ꭧʰ", "d": "t", "f": "f", "g": "k", "h": "x", "j": "ʨ",
    "k": "kʰ", "l": "l", "m": "m", "n": "n", "p": "pʰ", "q": "ʨʰ", "r": "ɻ", "s": "s",
    "sh": "ʂ", "t": "tʰ", "x": "ɕ", "z": "ʦ", "zh": "ꭧ", "": "",
}  # fmt: skip
# "0" is replaced by the tone.
_FINALS = {
    "a": "a0", "ai": "ai0", "an": "a0n", "ang": "a0ŋ", "ao": "au0", "e": "ɤ0", "ei": "ei0",
    "en": "ə0n", "eng": "ə0ŋ", "er": "ɚ0", "i": "i0", "ia": "ja0", "ian": "jɛ0n", "iang": "ja0ŋ",
    "iao": "jau0", "ie": "je0", "in": "i0n", "ing": "i0ŋ", "io": "jɔ0", "iong": "jʊ0ŋ",
    "iou": "jou0", "o": "wo0", "ong": "ʊ0ŋ", "ou": "ou0", "u": "u0", "ua": "wa0", "uai": "wai0",
    "uan": "wa0n", "uang": "wa0ŋ", "uei": "wei0", "uen": "wə0n", "ueng": "wə0ŋ", "uo": "wo0",
    "v": "y0", "van": "ɥɛ0n", "ve": "ɥe0", "vn": "y0n", "ê": "ɛ0", "m": "m0", "n": "n0", "ng": "ŋ0",
}  # fmt: skip
_TONES = {"1": "→", "2": "↗", "3": "↓", "4": "↘", "5": ""}
_MARKS = str.maketrans(
    {
        "，": ",", "、": ",", "。": ".", "．": ".", "！": "!", "？": "?", "：": ":", "；": ";",
        "（": "(", "）": ")", "《": "“", "》": "”", "「": "“", "」": "”", "『": "“", "』": "”",
        "【": "“", "】": "”", "～": "—", "·": " ", "〈": "“", "〉": "”",
    }
)  # fmt: skip
_TOKEN = re.compile(r"[㐀-鿿豈-﫿〇]+|[^㐀-鿿豈-﫿〇]+")


def to_words(text: str) -> str:
    """Return Chinese text with numbers, signs and units as words, in simplified characters."""
    return numbers_to_words(simplify(text), STYLE)


def phonemise(text: str, following: str = "") -> str:
    """Return the phonemes of Chinese text with numbers; words are separated by spaces."""
    del following  # no word depends on the next one
    pieces = []
    for run in _TOKEN.findall(to_words(text)):
        if re.match(r"[㐀-鿿豈-﫿〇]", run):
            pieces.append(" ".join(_ipa_of_words(run)))
        else:
            marks = re.sub(r"\w", "", run.translate(_MARKS))  # a letter is no phoneme
            pieces.append(re.sub(r"([,.!?:;”)])", r"\1 ", marks))
    return "".join(pieces)


def _ipa_of_words(run: str) -> Iterator[str]:
    from core.text import zh_words  # loads dictionaries
    from core.text.zh_readings import read_words
    from core.text.zh_sandhi import Word

    words = zh_words.tag_words(run) if len(run) > 1 else [Word(run, "")]
    for _, readings in read_words(run, words):
        yield "".join(map(ipa_of_syllable, readings))


@cache
def ipa_of_syllable(syllable: str) -> str:
    """Return the IPA of a syllable: `zhong1` is `ꭧʊ→ŋ`; "" for syllables that Mandarin lacks."""
    from pypinyin.contrib.tone_convert import to_finals, to_initials

    plain, tone = syllable[:-1], syllable[-1]
    initial, final = to_initials(plain, strict=True), to_finals(plain, strict=True)
    if final == "i" and initial in {"z", "c", "s", "zh", "ch", "sh", "r"}:
        sound = "ɨ0"  # the buzzed vowel of 四 and 是
    elif final == "o" and not initial:
        sound = "ɔ0"
    else:
        sound = _FINALS.get(final or plain, "")
    return _INITIALS.get(initial, "") + sound.replace("0", _TONES.get(tone, ""))
