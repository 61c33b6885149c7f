"""`voicedrop text`: show how a text will be read, to find out why a word sounds wrong."""

from __future__ import annotations

from core.text.symbols import symbol_table
from core.voice.gpt_sovits.frontend import Frontend
from core.voice.gpt_sovits.text_features import Phrase, Span
from handlers.cli.screen import CommandOutput


def show_reading(text: str, language: str, cut: str = "sentence") -> CommandOutput:
    """Return the sentences with the language, normalised words, phonemes and ids of their spans.

    Raises Refused LANGUAGE_UNSUPPORTED or VALUE_RANGE, Misconfigured MODEL_MISSING.
    """
    phrases = Frontend(cut)(text, language)
    names = {number: symbol for symbol, number in symbol_table().items()}
    sentences = [_sentence(phrase, names) for phrase in phrases]
    lines = [line for phrase in phrases for line in _lines(phrase, names)]
    data = {"language": language, "sentences": sentences}
    return CommandOutput(data, lines or ["nothing that can be spoken"])


def _sentence(phrase: Phrase, names: dict[int, str]) -> dict[str, object]:
    return {
        "text": join_spans(phrase),
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


def join_spans(phrase: Phrase) -> str:
    """Return the text of the spans, with a space between two words in Latin script."""
    text = ""
    for span in phrase:
        is_latin = text[-1:].isascii() and span.text[:1].isascii() and span.text[:1].isalnum()
        text += (" " if text and is_latin else "") + span.text
    return text


def _lines(phrase: Phrase, names: dict[int, str]) -> list[str]:
    lines = [join_spans(phrase)]
    for span in phrase:
        lines.append(f"  {span.language:<3} {_format_phones(span, names)}")
    return lines


def _format_phones(span: Span, names: dict[int, str]) -> str:
    """Return the phonemes, in Chinese each after its character."""
    phones = [names[phone] for phone in span.phones]
    if not span.word2ph:
        return " ".join(phones)
    words, at = [], 0
    for char, count in zip(span.text, span.word2ph, strict=True):
        own = phones[at : at + count]
        words.append(char if own == [char] else f"{char} {' '.join(own)}")
        at += count
    return "  ".join(words)
