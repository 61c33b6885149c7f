"""English: ARPAbet by dictionary, part of speech, compound splitting and a network."""

from __future__ import annotations

import lzma
import re
import unicodedata
from collections.abc import Callable

from core.inference import LoadedOnce
from core.text import en_tags
from core.text.en_capitals import EMPHASISED, lower_capitals
from core.text.en_compound import split_compound
from core.text.en_g2p import predict_arpabet
from core.text.en_numbers import expand
from core.text.pronunciation import Pronunciation
from core.text.symbols import DATA, symbol_table

_WIDE = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | {
    ord(mark): plain
    for mark, plain in {
        "，": ", ", "。": ". ", "！": "! ", "？": "? ", "；": ", ", "：": ", ", "、": ", ",
        ";": ",", "　": " ", "‘": "", "“": "", "”": "", "…": "...", "ʼ": "'", "`": "'",
        "œ": "oe", "Œ": "Oe", "æ": "ae", "ß": "ss", "ø": "o", "ł": "l",
    }.items()
}  # fmt: skip
_TOKEN = re.compile(r"[A-Za-z](?:[A-Za-z]|['\-])+[A-Za-z]|[A-Za-z]+|\S")
_RUN = re.compile(r"\s*([.,?!])(?:\s*[.,?!])*")
_INITIALS = re.compile(r"(?<![A-Za-z])(?:(?:[A-Z]\.){2,}|(?:[a-z]\.){2,})")
_OPENING_QUOTE = re.compile(r"(?<![A-Za-z])'(?=[A-Za-z])(?!(?:em|til|cause|bout|tis|twas|n)\b)")
_VOICELESS = frozenset({"P", "T", "K", "F", "TH", "HH"})
_SIBILANTS = frozenset({"S", "Z", "SH", "ZH", "CH", "JH"})

_NAME_PREFIXES = ("Mc", "Mac", "De", "Di", "Du", "La", "Le", "O'", "Van", "Von", "St")
_SAID_AS_WORDS = frozenset({"RAM", "ROM", "PIN", "SIM", "GIF", "LAN", "COVID", "JPEG", "BIOS"})

_BY_NEXT_WORD = {
    "bass": ("guitar drum drums player line clef solo guitarist singer", "B EY1 S", ""),
    "lead": ("pipe pipes paint poisoning pencil acid", "L EH1 D", "L IY1 D"),
    "used": ("to", "Y UW1 S T", "Y UW1 Z D"),
    "wound": ("up down around through back", "W AW1 N D", "W UW1 N D"),
    "close": ("the your my his her our their this that it all", "K L OW1 Z", ""),
}
"""Homographs that the next word decides: the next words, the phones before one of them, and the
phones otherwise (if empty, the part of speech decides)."""

Phones = tuple[str, ...]


def phonemise(text: str) -> Pronunciation:
    """Return the phones of English text; other scripts are dropped (see `core.text.segment`)."""
    spoken = normalise(text)
    tokens = _TOKEN.findall(spoken)
    ambiguous = any(token.lower() in en_tags.homographs() for token in tokens)
    tags = en_tags.tag_sentence(tokens) if ambiguous else [""] * len(tokens)
    words = zip(tokens, tags, [*tokens, ""][1:], strict=True)
    sounds = [phone for word in words for phone in _phones_of_token(*word)]
    phones = ["-" if phone == "'" else phone for phone in sounds]
    phones = [phone for phone in phones if phone in symbol_table() and phone != "UW"]
    return Pronunciation(spoken, tuple(phones))


def normalise(text: str) -> str:
    """Return letters, spaces and `'.,?!-`; everything else is written as words or dropped."""
    text = re.sub(r"(?<=\w)’(?=\w)", "'", text.translate(_WIDE)).replace("’", "")
    text = expand(lower_capitals(text, lambda word: word in _dictionary()))
    decomposed = unicodedata.normalize("NFD", text)
    text = "".join(char for char in decomposed if not unicodedata.combining(char))
    text = re.sub(r"\s*:(?=\s|$)", ",", text)
    text = _INITIALS.sub(_expand_initials, text)
    text = re.sub(r"[—–]|[^ A-Za-z'.,?!\-]", " ", text)
    if _OPENING_QUOTE.search(text):
        text = re.sub(r"(?<=[A-Za-z.,?!])'(?![A-Za-z])", "", _OPENING_QUOTE.sub("", text))
    text = re.sub(r"(?<![A-Za-z])-|-(?![A-Za-z])", " ", text)
    text = re.sub(r"[A-Za-z']+", lambda word: _space_capitals(word[0]), text)
    return re.sub(r"\s+", " ", _RUN.sub(lambda run: run[1] + " ", text)).strip()


def _expand_initials(match: re.Match[str]) -> str:
    """Write `U.S.` as `U S`, with a full stop if it ends the text."""
    ends_text = not match.string[match.end() :].strip()
    return " ".join(match[0].upper().split(".")).strip() + ("." if ends_text else "")


def _space_capitals(word: str) -> str:
    """Put spaces between letters that are spelled: `GPT` is `G P T`, `OpenAI` is `Open A I`."""
    if word == word.lower() or word[1:] == word[1:].lower():
        return word
    plain = word.lower()
    base = re.sub(r"'s$|s$", "", word)
    whole = word.startswith(_NAME_PREFIXES) or (base.isupper() and len(base) > 3)
    known = plain in _dictionary() or base.lower() in _dictionary()
    if (whole and known) or base in _SAID_AS_WORDS or base in EMPHASISED:
        return word
    if base.isupper():
        return " ".join(base) + ("" if base == word else "'s")
    parts = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", word).split(" ")
    return " ".join(map(_space_capitals, parts)) if len(parts) > 1 else word


def _phones_of_token(token: str, tag: str, following: str) -> Phones:
    word = token.lower()
    if not word[0].isalpha():
        return (token,)
    if token == "A":  # noqa: S105
        return ("EY1",)
    if len(word) == 1:
        return _dictionary()[word]
    hints, before, otherwise = _BY_NEXT_WORD.get(word, ("", "", ""))
    if hint := before if following.lower() in hints.split() else otherwise:
        return tuple(hint.split(" "))
    if word in en_tags.homographs():
        return tuple(en_tags.choose_arpabet(word, tag).split(" "))
    return _phones_of_word(token)


def _phones_of_word(token: str) -> Phones:
    """Read a word by the dictionary, as a name, by letters, as an inflected form, by parts that are
    words, or by the network."""
    word = token.lower()
    known = _dictionary().get(word) if len(word) > 1 else None
    if known or (token.istitle() and (known := _dictionary().get(token.capitalize()))):
        return known
    if len(word) > 2 and word.endswith("'s"):
        return add_possessive(_phones_of_word(token[:-2]))
    if len(word) <= 3:
        return tuple(phone for letter in word for phone in _phones_of_letter(letter))
    if "-" in word:
        return tuple(phone for part in word.split("-") if part for phone in _phones_of_word(part))
    return _phones_of_inflected(word) or _phones_of_compound(word) or predict_arpabet(word)


def _phones_of_inflected(word: str) -> Phones:
    """Return the phones of a known word with the ending -s, -ed, -ing, -er or -ly; else nothing."""
    for ending, stems, add in _ENDINGS if len(word) <= _LONGEST_INFLECTED else ():
        root = word.removesuffix(ending)
        if root == word or len(root) < 3:
            continue
        if ending[0] in "ei" and root[-1] == root[-2]:
            stems = (*stems, "<")  # stopping, stopped: without the doubled consonant
        for stem in (root[:-1] if stem == "<" else root + stem for stem in stems):
            if phones := _dictionary().get(stem) or _phones_of_inflected(stem):
                return add(phones)
    return ()


def _phones_of_compound(word: str) -> Phones:
    """Return the phones of a word that consists of known words; else nothing."""
    parts = split_compound(word)
    if not all(part in _dictionary() and (len(part) > 2 or part in _SHORT) for part in parts):
        return ()
    return tuple(phone for part in parts for phone in _dictionary()[part])


def _phones_of_letter(letter: str) -> Phones:
    return ("EY1",) if letter == "a" else _dictionary().get(letter, (letter,))


def _add_past(phones: Phones) -> Phones:
    if phones[-1] in ("T", "D"):
        return (*phones, "AH0", "D")
    return (*phones, "T" if phones[-1] in _VOICELESS | _SIBILANTS - _VOICED else "D")


def add_possessive(phones: Phones) -> Phones:
    if phones[-1] in _VOICELESS:
        return (*phones, "S")
    return (*phones, "AH0", "Z") if phones[-1] in _SIBILANTS else (*phones, "Z")


_LONGEST_INFLECTED = 30
_VOICED = frozenset({"Z", "ZH", "JH"})
_SHORT = frozenset("on in up at to of by my we he it is no so go do me or as an be".split())  # noqa: SIM905
_ENDINGS: tuple[tuple[str, tuple[str, ...], Callable[[Phones], Phones]], ...] = (
    ("ies", ("y",), add_possessive),
    ("es", ("", "e"), add_possessive),
    ("s", ("",), add_possessive),
    ("ed", ("", "e"), _add_past),
    ("ing", ("", "e"), lambda phones: (*phones, "IH0", "NG")),
    ("er", ("", "e"), lambda phones: (*phones, "ER0")),
    ("ly", ("",), lambda phones: (*phones, "L", "IY0")),
    ("ness", ("",), lambda phones: (*phones, "N", "AH0", "S")),
)


@LoadedOnce
def _dictionary() -> dict[str, Phones]:
    """Return the phones of 146,000 words; names that are not also words are capitalised."""
    lines = lzma.decompress((DATA / "en.tsv.xz").read_bytes()).decode().split("\n")
    entries = (line.split("\t") for line in lines)
    return {word: tuple(sounds.split(" ")) for word, sounds in entries}
