"""The result of a language module."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pronunciation:
    """A normalised text and its phonemes."""

    text: str
    """The text with numbers as words and punctuation in ASCII."""
    phones: tuple[str, ...]
    word2ph: tuple[int, ...] = ()
    """Number of phonemes of each character of `text`; empty except for Mandarin and Cantonese."""
