"""Text -> the phonemes of GPT-SoVITS v2: Mandarin, Cantonese, English, Japanese, Korean."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from core.errors import importing
from core.text.reading import Reading

_SHORTEST_ENGLISH = 4


def read(text: str, language: str) -> Reading:
    """A text of one language (`en`, `ja`, `ko`, `yue`, `zh`), normalised and in phonemes.

    Raises Misconfigured MODEL_MISSING where the language's dictionaries are not installed.
    """
    return padded(reader(language)(text)) if language == "en" else reader(language)(text)


def padded(reading: Reading) -> Reading:
    """Very short English begins with a pause, as in training."""
    if len(reading.phones) >= _SHORTEST_ENGLISH:
        return reading
    return Reading(reading.text, (",", *reading.phones))


@cache
def reader(language: str) -> Callable[[str], Reading]:
    """Dictionaries are slow to load, so each language comes with its first text."""
    if language == "zh":
        from core.text.zh import read
    elif language == "en":
        from core.text.en import read
    elif language == "ja":
        from core.text.ja import read
    elif language == "ko":
        with importing("The package mecab_ko, which texts in ko need,", ("mecab_ko",), "ko"):
            from core.text.ko import read
    else:
        with importing("The package ToJyutping, which texts in yue need,", ("ToJyutping",), "yue"):
            from core.text.yue import read
    return read
