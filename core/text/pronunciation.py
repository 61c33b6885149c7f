"""What a language module makes of a text."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pronunciation:
    """Text as it is spoken, and its phonemes."""

    text: str
    """Normalised: numbers as words, marks in ASCII."""
    phones: tuple[str, ...]
    word2ph: tuple[int, ...] = ()
    """Phonemes of each character of `text`; only Chinese and Cantonese have them."""
