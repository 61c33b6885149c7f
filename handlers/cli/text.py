"""`voicedrop text`: show how a text will be read, to find out why a word sounds wrong."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import cast, get_args

from core.errors import Refused
from core.settings import Engine
from core.text import lexicon, ssml
from core.text.annotated import split_at_pauses, to_written
from core.text.lexicon import Lexicon
from core.text.markup import without_markup
from core.text.segment import LANGUAGES, split_by_language
from core.text.spoken import check_speakable
from core.text.symbols import symbol_table
from core.voice.gpt_sovits.frontend import Frontend
from core.voice.gpt_sovits.text_features import Phrase, Span, original_text
from core.voice.kokoro import text as kokoro
from handlers.cli.files import read_file
from handlers.cli.screen import CommandOutput


def choose_engine(name: str) -> Engine:
    """Return the engine of a name. Raises Refused VALUE_RANGE."""
    engines = get_args(Engine)
    if name not in engines:
        raise Refused(
            "VALUE_RANGE", f"Unknown engine {name!r}: choose one of {', '.join(engines)}."
        )
    return cast(Engine, name)


def annotate(text: str, language: str, engine: Engine, file: Path | None, *, is_ssml: bool) -> str:
    """Return a text with the readings of a lexicon that hold for all voices, and of SSML.

    Raises Refused LEXICON_INVALID, MARKUP_INVALID, LANGUAGE_UNSUPPORTED, OBJECT_MISSING,
    OBJECT_TOO_LARGE.
    """
    found = Lexicon()
    if file:
        found = lexicon.parse(read_file(file, limit=lexicon.MAX_BYTES), str(file))
    plain = without_markup(text)
    main = _main_language(plain) if language.startswith("auto") else language.removeprefix("all_")
    spoken = kokoro.LANGUAGES if engine == "kokoro" else frozenset(LANGUAGES)

    def look_up(words: str, of: str) -> str:
        return found.annotate(words, of, "", spoken)

    return ssml.read(text, main, spoken, look_up) if is_ssml else look_up(plain, main)


def show_reading(
    text: str, language: str, cut: str = "sentence", engine: Engine = "gpt_sovits"
) -> CommandOutput:
    """Return the sentences as written, as spoken, and as phonemes, as the engine reads them.

    `text`: it may be annotated. Raises Refused LANGUAGE_UNSUPPORTED or VALUE_RANGE, Misconfigured
    MODEL_MISSING.
    """
    if engine == "kokoro":
        language = _main_language(to_written(text)) if language == "auto" else language
        front_end: Frontend | kokoro.KokoroFrontend = kokoro.KokoroFrontend()
    else:
        front_end = Frontend(cut)
    sentences: list[dict[str, object]] = []
    lines: list[str] = []
    for part, pause in split_at_pauses(text):
        if engine == "kokoro":
            read, shown = _read_with_kokoro(part, language)
        else:
            read, shown = _read_with_gpt_sovits(part, language, cut)
        sentences += read
        lines += shown
        if pause is not None:
            sentences.append({"pause_s": pause})
            lines.append(f"  pause   {pause:g} s")
    dropped = []
    if lines and language in LANGUAGES:
        dropped = [notice.message for notice in check_speakable(text, language, front_end)]
    data = {"engine": engine, "language": language, "sentences": sentences, "dropped": dropped}
    return CommandOutput(data, [*lines, *dropped] or ["nothing that can be spoken"])


def _main_language(text: str) -> str:
    """Return the language of most of a text, for an engine that has to be told."""
    count: Counter[str] = Counter()
    for language, run in split_by_language(text, "auto"):
        count[language] += len(run)
    return count.most_common(1)[0][0] if count else "en"


def _read_with_kokoro(text: str, language: str) -> tuple[list[dict[str, object]], list[str]]:
    if language not in kokoro.LANGUAGES:
        supported = ", ".join(sorted(kokoro.LANGUAGES))
        message = f"The embedded voice reads {supported}, not {language!r}: choose a language."
        raise Refused("LANGUAGE_UNSUPPORTED", message)
    sentences: list[dict[str, object]] = []
    lines = []
    for sentence in kokoro.read_sentences(text, language):
        runs = [(name, phones) for name, phones in sentence.runs if phones]
        if runs:
            lines += [sentence.written, f"  spoken  {sentence.spoken}"]
            lines += [f"  {name:<6}  {phones}" for name, phones in runs]
            spans = [{"language": name, "phones": list(phones)} for name, phones in runs]
            spoken: dict[str, object] = {
                "written": sentence.written,
                "text": sentence.spoken,
                "spans": spans,
            }
            sentences.append(spoken)
    return sentences, lines


def _read_with_gpt_sovits(
    text: str, language: str, cut: str
) -> tuple[list[dict[str, object]], list[str]]:
    phrases = Frontend(cut)(text, language)
    names = {number: symbol for symbol, number in symbol_table().items()}
    sentences = [_sentence(phrase, names) for phrase in phrases]
    return sentences, [line for phrase in phrases for line in _lines(phrase, names)]


def _sentence(phrase: Phrase, names: dict[int, str]) -> dict[str, object]:
    return {
        "written": original_text(phrase),
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
    lines = [original_text(phrase), f"  spoken  {join_spans(phrase)}"]
    for span in phrase:
        lines.append(f"  {span.language:<6}  {_format_phones(span, names)}")
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
