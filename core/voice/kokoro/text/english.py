"""American English: misaki's lexicon, its rules for function words and endings, and a
grapheme-to-phoneme network for other words.

Based on hexgrad/misaki's `en.py` (Apache-2.0). Homographs are decided by the part-of-speech tagger
of `core.text.en_tags`.
"""

from __future__ import annotations

import lzma
import re
import unicodedata
from pathlib import Path

from core.inference import LoadedOnce
from core.text import en_tags
from core.text.en_capitals import EMPHASISED, lower_capitals
from core.text.en_numbers import expand

_VOWELS = frozenset("AIOQWYaiuæɑɒɔəɛɜɪʊʌᵻɐ")
_CONSONANTS = frozenset("bdfhjklmnpstvwzðŋɡɹɾʃʒʤʧθ")
_PAUSES = frozenset(";:,.!?—…")
_FLAPPING = frozenset("AIOWYiuæɑəɛɪɹʊʌ")
"""Sounds after which an American t becomes a flap."""
_TOKEN = re.compile(r"[A-Za-z]+(?:'[A-Za-z]+)*'?|[;:,.!?—…()“”\"]")
_QUOTES = str.maketrans("‘’", "''")
_MARKS = str.maketrans("–−[]{}，。！？：；、", "—-()(),.!?:;,")
_BY_TAG = re.compile("(?:VERB|ADJ|ADV|VBD)=")
"""A homograph that its part of speech decides."""
_KINDS = {"V": "VERB", "N": "NOUN", "J": "ADJ", "R": "ADV"}
_NEXT = {
    "bass": ("guitar drum drums player line clef solo guitarist singer".split(), "bˈAs"),  # noqa: SIM905
    "lead": ("pipe pipes paint poisoning pencil acid".split(), "lˈɛd"),  # noqa: SIM905
    "wound": ("up down around through back".split(), "wˈWnd"),  # noqa: SIM905
}
"""Homographs that the next word decides: these words, and the sound before one of them."""
_ANY_WORD = "word"
"""In place of one whose phonemes are given."""
_CAPITALS = re.compile("([A-Z]{2,})('?s)?")
_PARTS = re.compile("[A-Z]+(?![a-z])|[A-Z]?[a-z']+")
_UNPRONOUNCEABLE = re.compile("[^AEIOUY]{3}|^[^AEIOUY]+$")

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


def to_words(text: str) -> str:
    """Return English text with numbers, signs and units as words."""
    words = expand(lower_capitals(text.translate(_QUOTES), lambda word: word in _lexicon()))
    return re.sub(r"[ \t]+", " ", words)


def phonemise(text: str, following: str = "") -> str:
    """Return the phonemes of English text with numbers. `following`: those of a word after it."""
    plain = unicodedata.normalize("NFKD", to_words(text).translate(_MARKS))
    plain = "".join(char for char in plain if not unicodedata.combining(char))
    tokens = _TOKEN.findall(re.sub(r"\.{2,}", "…", re.sub(r"-{2,}|\s-\s", "—", plain)))
    ambiguous = any(_BY_TAG.search(_lexicon().get(token.lower(), "")) for token in tokens)
    tags = en_tags.tag_sentence(tokens) if ambiguous else [""] * len(tokens)
    spoken: list[str] = []
    after = _starts_with_vowel(following, None)  # whether a vowel follows; None for a pause
    for i in range(len(tokens) - 1, -1, -1):
        word_after = tokens[i + 1] if i + 1 < len(tokens) else _ANY_WORD if following else ""
        if tokens[i] == "A" and _is_letter(tokens[i - 1] if i else "", word_after):
            sound = "ˈA"
        else:
            sound = _phonemes_of_word(tokens[i], tags[i], word_after.lower(), after)
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


def _is_letter(before: str, following: str) -> bool:
    """Return whether a capital A is the letter and not the article, between these tokens."""
    if len(following) < 2 or not following[0].isalpha() or following.isupper():
        return True
    starts = not before[-1:].isalpha()
    in_title = before.istitle() and len(before) > 1 and following.istitle()
    return not (starts or in_title)


def _phonemes_of_word(word: str, tag: str, following: str, after: bool | None) -> str:
    if not word[0].isalpha() or (weak := _function_word(word, following, after)):
        return weak if word[0].isalpha() else word
    next_words, sound = _NEXT.get(word.lower(), ((), ""))
    if following in next_words:
        return sound
    if (capitals := _CAPITALS.fullmatch(word)) and word not in _FUNCTION_WORDS:
        return _read_capitals(capitals[1], tag, after, is_plural=bool(capitals[2]))
    if phonemes := _known_word(word, tag, after):
        return _set_stress(phonemes, None if word == word.lower() else 0.5)
    parts = _PARTS.findall(word)  # Chat and GPT
    if len(parts) < 2:
        return _predict(word)
    return "".join(_phonemes_of_word(part, "", "", after) for part in parts)


def _read_capitals(word: str, tag: str, after: bool | None, *, is_plural: bool) -> str:
    """Read a word in capitals as an acronym of the lexicon, an emphasised word, or by letters."""
    entry = _lexicon().get(word, "")
    if entry and "=" not in entry:
        sound = entry
    elif word in EMPHASISED or (len(word) > 3 and _known_word(word.lower(), tag, after)):
        sound = _set_stress(_known_word(word.lower(), tag, after), 2.0)
    elif len(word) > 5 and not _UNPRONOUNCEABLE.search(word):
        sound = _predict(word)
    else:
        sound = _spell_letters(word)
    return _plural(sound) if is_plural else sound


def _known_word(word: str, tag: str, after: bool | None) -> str:
    """Return the phonemes of a word in the lexicon, of its lower-case or inflected form, or ""."""
    for form in dict.fromkeys((word, word.lower())):
        if sound := _look_up(form, tag, after) or _look_up_inflected(form, tag, after):
            return sound
    return ""


def _predict(word: str) -> str:
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


def _look_up(word: str, tag: str, after: bool | None) -> str:
    entry = _lexicon().get(word, "")
    if "=" not in entry:
        return entry
    readings = dict(reading.split("=", 1) for reading in entry.split(" "))
    if after is None and "None" in readings:
        kind = "None"
    else:
        kind = tag if tag in ("VBD", "VBN") and tag in readings else _KINDS.get(tag[:1], "DEFAULT")
    return readings.get(kind) or readings["DEFAULT"]


def _look_up_inflected(word: str, tag: str, after: bool | None) -> str:
    """Return the phonemes of a known word with the ending -s, -'s, -ed or -ing, or ""."""
    for ending, stems, join in _ENDINGS:
        if word.endswith(ending) and len(word) > len(ending) + 1:
            root = word[: -len(ending)]
            if ending in {"ing", "ed"} and root[-1] == root[-2]:
                stems = (*stems, "<")  # stopping, stopped: without the doubled consonant
            for stem in stems:
                sound = _look_up(root[:-1] if stem == "<" else root + stem, tag, after)
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
