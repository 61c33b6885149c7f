"""Japanese: words and readings by OpenJTalk, morae in Kokoro's IPA.

The alphabet follows misaki's Japanese front end for Kokoro v1.0 (Apache-2.0), which is based on
polm/cutlet (MIT). Pitch accent is omitted because the model was trained without it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from itertools import chain
from typing import Final

from core.text import openjtalk
from core.text.ja_numbers import expand
from core.text.ja_readings import write_in_kana

_VOWELS = {"あ": "a", "い": "i", "う": "ɯ", "え": "e", "お": "o"}
_ROWS = {
    "かきくけこ": "ka kʲi kɯ ke ko", "がぎぐげご": "ɡa ɡʲi ɡɯ ɡe ɡo",
    "さしすせそ": "sa ɕi sɨ se so", "ざじずぜぞ": "ʣa ʥi zɨ ʣe ʣo",
    "たちつてと": "ta ʨi ʦɨ te to", "だぢづでど": "da ʥi zɨ de do",
    "なにぬねの": "na ɲi nɯ ne no", "はひふへほ": "ha çi ɸɯ he ho",
    "ばびぶべぼ": "ba bʲi bɯ be bo", "ぱぴぷぺぽ": "pa pʲi pɯ pe po",
    "まみむめも": "ma mʲi mɯ me mo", "やゆよ": "ja jɯ jo", "らりるれろ": "ɾa ɾʲi ɾɯ ɾe ɾo",
    "わゐゑをゔ": "βa i e o vɯ",
}  # fmt: skip
_GLIDES = {
    "き": "kʲ", "ぎ": "ɡʲ", "し": "ɕ", "じ": "ʥ", "ち": "ʨ", "ぢ": "ʥ", "に": "ɲ", "ひ": "ç",
    "び": "bʲ", "ぴ": "pʲ", "み": "mʲ", "り": "ɾʲ", "て": "tʲ", "で": "dʲ",
}  # fmt: skip
_FOREIGN = {
    "いぇ": "je", "うぃ": "βi", "うぇ": "βe", "うぉ": "βo", "くぁ": "kᵝa", "くぃ": "kᵝi",
    "くぇ": "kᵝe", "くぉ": "kᵝo", "ぐぁ": "ɡᵝa", "ぐぃ": "ɡᵝi", "ぐぇ": "ɡᵝe", "ぐぉ": "ɡᵝo",
    "しぇ": "ɕe", "じぇ": "ʥe", "ちぇ": "ʨe", "つぁ": "ʦa", "つぃ": "ʦʲi", "つぇ": "ʦe",
    "つぉ": "ʦo", "てぃ": "tʲi", "でぃ": "dʲi", "とぅ": "tɯ", "どぅ": "dɯ", "ふぁ": "ɸa",
    "ふぃ": "ɸʲi", "ふぇ": "ɸe", "ふぉ": "ɸo", "ゔぁ": "va", "ゔぃ": "vʲi", "ゔぇ": "ve",
    "ゔぉ": "vo", "すぃ": "si", "ずぃ": "zi",
}  # fmt: skip


def _table() -> dict[str, str]:
    table = _VOWELS | _FOREIGN
    for row, ipas in _ROWS.items():
        table |= dict(zip(row, ipas.split(), strict=True))
    for kana, onset in _GLIDES.items():
        table |= {kana + "ゃ": onset + "a", kana + "ゅ": onset + "ɨ", kana + "ょ": onset + "o"}
    sounds = ["a", "i", "ɯ", "e", "o", "ja", "jɯ", "jo", "βa"]
    small = dict(zip("ぁぃぅぇぉゃゅょゎ", sounds, strict=True))
    return table | small | {"っ": "ʔ", "ー": "ː"}


_ARABIC_FORMS = re.compile("[\ufb50-\ufdff\ufe70-\ufeff]+")
"""They have no reading, and one of them becomes eighteen characters in NFKC."""
_MORAE: Final = _table()
_MARKS = {
    "。": ".", "、": ",", "？": "?", "！": "!", "「": "“", "」": "”", "『": "“", "』": "”",
    "：": ":", "；": ";", "（": "(", "）": ")", "，": ",", "～": "—", "〜": "—",
    "…": "…", "・": " ",
}  # fmt: skip
_PARTICLES = {"助詞", "助動詞"}
_NASAL = (("mpb", "m"), ("kɡ", "ŋ"), ("ɲʨʥ", "ɲ"), ("ntdɾz", "n"))


def to_words(text: str) -> str:
    """Return Japanese text with signs and units as words; OpenJTalk reads the numbers."""
    return write_in_kana(expand(_ARABIC_FORMS.sub("", text)))


def phonemise(text: str, following: str = "") -> str:
    """Return the phonemes of Japanese text; words are separated by spaces."""
    del following  # no word depends on the next one
    spoken = "".join(sound for _, sound in read_words(text))
    return re.sub(r"\s+", " ", spoken.replace(" ː", "ː")).strip()


def read_words(text: str) -> Iterator[tuple[str, str]]:
    """Yield the words of Japanese text, in full width and with numbers as words, and the phonemes
    of each with a space before them; the marks of those that are not spoken."""
    text = unicodedata.normalize("NFKC", to_words(text))
    for word in chain.from_iterable(openjtalk.split_words(text)):
        is_mark = word["pos"] == "記号" and word["pos_group1"] != "アルファベット"
        if is_mark or not word["pron"].strip("*"):
            yield word["string"], _convert_marks(word["string"])
        else:
            yield word["string"], " " + kana_to_ipa(word["pron"].replace("’", ""))


def _convert_marks(string: str) -> str:
    marks = re.sub(r"\w", "", unicodedata.normalize("NFKC", string))  # a letter is no phoneme
    return "".join(_MARKS.get(char, char) for char in marks)


def kana_to_ipa(reading: str) -> str:
    """Return the IPA of katakana or hiragana: `コンニチワ` is `koɲɲiʨiβa`."""
    hira = "".join(chr(ord(c) - 0x60) if "ァ" <= c <= "ヶ" else c for c in reading)
    morae: list[str] = []
    while hira:
        size = 2 if hira[:2] in _MORAE else 1
        morae.append("ん" if hira[0] == "ん" else _MORAE.get(hira[:size], ""))
        hira = hira[size:]
    following = [*morae[1:], ""]
    return "".join(
        _nasal(after) if mora == "ん" else mora
        for mora, after in zip(morae, following, strict=True)
    )


def _nasal(after: str) -> str:
    """Return the nasal of ん, which assimilates to the next sound."""
    return next((n for onsets, n in _NASAL if after and after[0] in onsets), "ɴ")
