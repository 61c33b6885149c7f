"""American English: misaki's lexicon, its rules for function words and endings, and a
grapheme-to-phoneme network for other words.

Based on hexgrad/misaki's `en.py` (Apache-2.0), without its part-of-speech tagger: the few words
whose pronunciation depends on it are decided by the word before them.
"""

from __future__ import annotations

import lzma
import re
import unicodedata
from pathlib import Path

from core.inference import LoadedOnce
from core.text.en_numbers import expand

_VOWELS = frozenset("AIOQWYaiuæɑɒɔəɛɜɪʊʌᵻɐ")
_CONSONANTS = frozenset("bdfhjklmnpstvwzðŋɡɹɾʃʒʤʧθ")
_PAUSES = frozenset(";:,.!?—…")
_FLAPPING = frozenset("AIOWYiuæɑəɛɪɹʊʌ")
"""Sounds after which an American t becomes a flap."""
_TOKEN = re.compile(r"[A-Za-z]+(?:'[A-Za-z]+)*'?|[;:,.!?—…()“”\"]")
_MARKS = str.maketrans("‘’–−[]{}，。！？：；、", "''—-()(),.!?:;,")
_BEFORE_VERB = frozenset(
    "to will would can could may might must shall should do does did don't doesn't didn't won't "  # noqa: SIM905
    "can't cannot couldn't wouldn't shouldn't i you we they who let's please".split()
)
_BEFORE_NOUN = frozenset(
    "the a an this that these those my your his her its our their no any some of each every in on "  # noqa: SIM905
    "at with for by from".split()
)

_FUNCTION_WORDS: dict[str, tuple[str, ...]] = {
    "a": ("ˈA", "ɐ"),
    "an": ("ɐn", "ɐn", "ɐn"),
    "the": ("ðə", "ðə", "ði"),
    "THE": ("ðə", "ðə", "ði"),
    "to": ("tu", "tə", "tʊ"),
    "in": ("ˈɪn", "ɪn", "ɪn"),
    "I": ("ˌI", "ˌI", "ˌI"),
    "am": ("æm", "ɐm", "ɐm"),
    "used": ("jˈuzd", "jˈust"),
}
"""Pronunciations before a pause, a consonant and a vowel. For `used`: otherwise, and before `to`;
for `a`: otherwise, and before a word."""


def phonemise(text: str) -> str:
    """Return the phonemes of English text with numbers."""
    plain = unicodedata.normalize("NFKD", text.translate(_MARKS))
    plain = "".join(char for char in plain if not unicodedata.combining(char))
    tokens = _TOKEN.findall(re.sub(r"\.{2,}", "…", re.sub(r"-{2,}|\s-\s", "—", expand(plain))))
    spoken: list[str] = []
    after: bool | None = None  # whether a vowel follows; None for a pause
    for i in range(len(tokens) - 1, -1, -1):
        before = tokens[i - 1].lower() if i else ""
        following = tokens[i + 1].lower() if i + 1 < len(tokens) else ""
        sound = _phonemes_of_word(tokens[i], before, following, after)
        after = _starts_with_vowel(sound, after)
        spoken.append(sound)
    line = " ".join(reversed(spoken)).replace("ɾ", "T").replace("ʔ", "t")
    return re.sub(r"\s+([;:,.!?…)”])", r"\1", re.sub(r"([(“])\s+", r"\1", line))


def _starts_with_vowel(sound: str, after: bool | None) -> bool | None:
    """Return whether phonemes begin with a vowel; None for a pause, `after` if there are none."""
    for symbol in sound:
        if symbol in _PAUSES:
            return None
        if symbol in _VOWELS or symbol in _CONSONANTS:
            return symbol in _VOWELS
    return after


def _phonemes_of_word(word: str, before: str, following: str, after: bool | None) -> str:
    if not word[0].isalpha():
        return word
    weak = _function_word(word, following, after)
    if weak:
        return weak
    stress = None if word == word.lower() else 2.0 if word == word.upper() else 0.5
    phonemes = _look_up(word, before, after) or _look_up_inflected(word, before, after)
    if not phonemes and word != word.lower():
        phonemes = _look_up(word.lower(), before, after) or _look_up_inflected(
            word.lower(), before, after
        )
    if phonemes:
        return _set_stress(phonemes, stress)
    if word.isupper() and len(word) <= 5:
        return _spell_letters(word)
    from core.voice.kokoro.text.english_g2p import predict_phonemes

    return predict_phonemes(word.replace("'", ""))


def _function_word(word: str, following: str, after: bool | None) -> str:
    """Return a function word as pronounced before a pause (`after` is None), vowel or consonant."""
    sounds = _FUNCTION_WORDS.get(word) or _FUNCTION_WORDS.get(
        word.lower() if word.istitle() else ""
    )
    if not sounds:
        return ""
    if word.lower() == "used":
        return sounds[following == "to"]
    if word.lower() == "a":
        return sounds[following.isalpha()]
    return sounds[0 if after is None else 1 + after]


def _look_up(word: str, before: str, after: bool | None) -> str:
    entry = _lexicon().get(word, "")
    if "=" not in entry:
        return entry
    readings = dict(reading.split("=", 1) for reading in entry.split(" "))
    if after is None and "None" in readings:
        kind = "None"
    elif before in _BEFORE_VERB:
        kind = "VERB"
    else:
        kind = "NOUN" if before in _BEFORE_NOUN else "DEFAULT"
    return readings.get(kind) or readings["DEFAULT"]


def _look_up_inflected(word: str, before: str, after: bool | None) -> str:
    """Return the phonemes of a known word with the ending -s, -'s, -ed or -ing, or ""."""
    for ending, stems, join in _ENDINGS:
        if word.endswith(ending) and len(word) > len(ending) + 1:
            root = word[: -len(ending)]
            if ending in {"ing", "ed"} and root[-1] == root[-2]:
                stems = (*stems, "<")  # stopping, stopped: without the doubled consonant
            for stem in stems:
                sound = _look_up(root[:-1] if stem == "<" else root + stem, before, after)
                if sound:
                    return join(sound)
    return ""


def _plural(stem: str) -> str:
    if stem[-1] in "ptkfθ":
        return stem + "s"
    return stem + ("ᵻz" if stem[-1] in "szʃʒʧʤ" else "z")


def _past(stem: str) -> str:
    if stem[-1] in "pkfθʃsʧ":
        return stem + "t"
    if stem[-1] == "t" and stem[-2:-1] in _FLAPPING:
        return stem[:-1] + "ɾᵻd"
    return stem + ("ᵻd" if stem[-1] in "dt" else "d")


def _progressive(stem: str) -> str:
    flaps = stem[-1] == "t" and stem[-2:-1] in _FLAPPING
    return (stem[:-1] + "ɾ" if flaps else stem) + "ɪŋ"


_ENDINGS = (
    ("'s", ("",), _plural),
    ("s'", ("",), _plural),
    ("'", ("",), str),
    ("ies", ("y",), _plural),
    ("es", ("", "e"), _plural),
    ("s", ("",), _plural),
    ("ied", ("y",), _past),
    ("ed", ("", "e"), _past),
    ("ing", ("", "e"), _progressive),
)


def _spell_letters(word: str) -> str:
    """Spell an abbreviation such as `GPT`, with the stress on the last letter."""
    names = [_set_stress(_lexicon()[letter], -1.0) for letter in word if letter.isalpha()]
    return "".join([*names[:-1], names[-1].replace("ˌ", "ˈ")])


def _set_stress(sound: str, stress: float | None) -> str:
    """Raise the stress of a word (2), add stress if it has none (0.5), or lower it (-1)."""
    marked = "ˈ" in sound or "ˌ" in sound
    if stress is None or not any(symbol in _VOWELS for symbol in sound):
        return sound
    if stress < 0:
        return sound.replace("ˌ", "").replace("ˈ", "ˌ")
    if not marked:
        first = next(i for i, symbol in enumerate(sound) if symbol in _VOWELS)
        return sound[:first] + ("ˈ" if stress > 1 else "ˌ") + sound[first:]
    if stress > 1 and "ˈ" not in sound:
        return sound.replace("ˌ", "ˈ")
    return sound


@LoadedOnce
def _lexicon() -> dict[str, str]:
    """Return the phonemes of 183,000 words, or `KIND=phonemes KIND=phonemes` of a homograph."""
    packed = (Path(__file__).parents[1] / "data/en_us.tsv.xz").read_bytes()
    lines = lzma.decompress(packed).decode().split("\n")
    return dict(line.split("\t", 1) for line in lines)
