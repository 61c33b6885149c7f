"""The text front end: normalised text and the phonemes of GPT-SoVITS v2, in five languages.

Each language (`en`, `ja`, `ko`, `yue`, `zh`) has a module with `phonemise(text) -> Pronunciation`;
most have a second one that writes numbers as words (`en_numbers`). `cut` splits a text into pieces
to speak, `segment` splits a piece by language, and `symbols` maps phonemes to the checkpoints' ids.

To add a language, write its module, load it in `load_phonemiser` below and name it in `segment`;
CONTRIBUTING.md lists every step.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from core.errors import importing
from core.text.pronunciation import Pronunciation

_MIN_ENGLISH_PHONES = 4


def phonemise(text: str, language: str) -> Pronunciation:
    """Normalise a text of one language (`en`, `ja`, `ko`, `yue`, `zh`) and return its phonemes.

    Raises Misconfigured MODEL_MISSING if the language's dictionaries are not installed.
    """
    return (
        add_leading_pause(load_phonemiser(language)(text))
        if language == "en"
        else load_phonemiser(language)(text)
    )


def add_leading_pause(reading: Pronunciation) -> Pronunciation:
    """Put a pause before very short English, as in training."""
    if len(reading.phones) >= _MIN_ENGLISH_PHONES:
        return reading
    return Pronunciation(reading.text, (",", *reading.phones))


@cache
def load_phonemiser(language: str) -> Callable[[str], Pronunciation]:
    """Import and return `phonemise` of a language; its dictionaries are slow to load.

    Raises Misconfigured MODEL_MISSING.
    """
    if language == "zh":
        from core.text.zh import phonemise
    elif language == "en":
        from core.text.en import phonemise
    elif language == "ja":
        from core.text.ja import phonemise
    elif language == "ko":
        with importing("The package mecab_ko, required for Korean (ko),", ("mecab_ko",), "ko"):
            from core.text.ko import phonemise
    else:
        what = "The package ToJyutping, required for Cantonese (yue),"
        with importing(what, ("ToJyutping",), "yue"):
            from core.text.yue import phonemise
    return phonemise
