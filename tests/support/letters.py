"""A text front end for random weights: each letter is a phoneme."""

from __future__ import annotations

from core.voice.gpt_sovits.text_features import Phrase, Span


class Letters:
    """Sentences end with a full stop."""

    languages = frozenset({"en", "zh"})

    def __call__(self, text: str, language: str) -> list[Phrase]:
        sentences = [part.strip() for part in text.split(".") if part.strip()]
        return [(self._span(sentence, language),) for sentence in sentences]

    def _span(self, text: str, language: str) -> Span:
        phones = tuple(ord(char) * 7 % 700 for char in text)
        return Span(language, text, phones, (1,) * len(text) if language == "zh" else ())
