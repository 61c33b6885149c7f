"""`voicedrop text`: how a text will be read, so that people can see why a word sounds wrong."""

from __future__ import annotations

from core.text.symbols import symbol_table
from core.voice.gpt_sovits.frontend import Frontend
from core.voice.gpt_sovits.text_features import Phrase, Span
from handlers.cli.screen import Report


def read(text: str, language: str, cut: str = "sentence") -> Report:
    """Sentences, the language of their parts, the words as they are said, phonemes and ids.

    Raises Refused LANGUAGE_UNSUPPORTED or VALUE_RANGE, Misconfigured MODEL_MISSING.
    """
    phrases = Frontend(cut)(text, language)
    names = {number: symbol for symbol, number in symbol_table().items()}
    sentences = [_sentence(phrase, names) for phrase in phrases]
    lines = [line for phrase in phrases for line in _lines(phrase, names)]
    return Report(
        {"language": language, "sentences": sentences}, lines or ["nothing that can be spoken"]
    )


def _sentence(phrase: Phrase, names: dict[int, str]) -> dict[str, object]:
    return {
        "text": joined(phrase),
        "spans": [
            {
                "language": span.language,
                "text": span.text,
                "phones": [names[phone] for phone in span.phones],
                "ids": list(span.phones),
                "word2ph": list(span.word2ph),
            }
            for span in phrase
        ],
    }


def joined(phrase: Phrase) -> str:
    """The spans in one line, with a space where Latin words meet."""
    text = ""
    for span in phrase:
        apart = text[-1:].isascii() and span.text[:1].isascii() and span.text[:1].isalnum()
        text += (" " if text and apart else "") + span.text
    return text


def _lines(phrase: Phrase, names: dict[int, str]) -> list[str]:
    lines = [joined(phrase)]
    for span in phrase:
        lines.append(f"  {span.language:<3} {_aligned(span, names)}")
    return lines


def _aligned(span: Span, names: dict[int, str]) -> str:
    """Phonemes; in Chinese after the character they belong to."""
    phones = [names[phone] for phone in span.phones]
    if not span.word2ph:
        return " ".join(phones)
    words, at = [], 0
    for char, count in zip(span.text, span.word2ph, strict=True):
        sounds = phones[at : at + count]
        words.append(char if sounds == [char] else f"{char} {' '.join(sounds)}")
        at += count
    return "  ".join(words)
