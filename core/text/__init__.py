"""Text -> the phonemes of GPT-SoVITS v2: Mandarin, Cantonese, English, Japanese, Korean."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from core.errors import importing
from core.text.pronunciation import Pronunciation

_MIN_ENGLISH_PHONES = 4


def phonemise(text: str, language: str) -> Pronunciation:
    """A text of one language (`en`, `ja`, `ko`, `yue`, `zh`), normalised and in phonemes.

    Raises Misconfigured MODEL_MISSING where the language's dictionaries are not installed.
    """
    return (
        add_leading_pause(load_phonemiser(language)(text))
        if language == "en"
        else load_phonemiser(language)(text)
    )


def add_leading_pause(reading: Pronunciation) -> Pronunciation:
    """Very short English begins with a pause, as in training."""
    if len(reading.phones) >= _MIN_ENGLISH_PHONES:
        return reading
    return Pronunciation(reading.text, (",", *reading.phones))


@cache
def load_phonemiser(language: str) -> Callable[[str], Pronunciation]:
    """Dictionaries are slow to load, so each language comes with its first text."""
    if language == "zh":
        from core.text.zh import phonemise
    elif language == "en":
        from core.text.en import phonemise
    elif language == "ja":
        from core.text.ja import phonemise
    elif language == "ko":
        with importing("The package mecab_ko, which texts in ko need,", ("mecab_ko",), "ko"):
            from core.text.ko import phonemise
    else:
        with importing("The package ToJyutping, which texts in yue need,", ("ToJyutping",), "yue"):
            from core.text.yue import phonemise
    return phonemise
