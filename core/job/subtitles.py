"""Subtitles as SubRip, WebVTT and JSON: the sentences of an item or joined file, with their times.

A sentence is timed by the engine's chunks. One that is too long for a cue is split at punctuation
and spaces; each cue gets a share of its time in proportion to its length, which is an estimate.
"""

from __future__ import annotations

import html
import json
import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import msgspec
import numpy as np

from core.crypto import sealing
from core.crypto.sealing import Context
from core.job import object_record
from core.job.object_record import ObjectRecord
from core.job.runtime import Runtime
from core.manifest.fields import Subtitle
from core.manifest.resolve import Item
from core.result.item_result import SUBTITLE_TYPES, ItemResult, Sentence, SubtitleFile
from core.storage.object_keys import output_key
from core.text.annotated import to_written
from core.voice import SpeechChunk

MAX_WIDTH = 42
"""Columns of a line; a full-width character takes two."""
MAX_LINES = 2
MIN_SECONDS = 5 / 6
"""Shortest time that a cue is shown, unless the next one begins earlier."""
MAX_SENTENCES = 100
"""Sentences of an item that are timed one by one: its record must fit into object metadata."""


@dataclass(frozen=True, slots=True)
class TimedText:
    """A sentence or a cue, with its time in seconds."""

    start: float
    end: float
    text: str


def sentence_times(text: str, chunks: Sequence[SpeechChunk], pause: float) -> list[Sentence]:
    """Return the time of each sentence in the chunks, joined with `pause` seconds between them."""
    sentences: list[Sentence] = []
    offset, chars = 0.0, 0
    for number, chunk in enumerate(chunks):
        offset += 0.0 if not number or chunk.is_joined else pause
        first, last = _sound_bounds(chunk)
        start, end = round((offset + first) * 1000), round((offset + last) * 1000)
        offset += chunk.seconds
        if sentences and not chunk.text and not chunk.samples.any():
            continue  # a pause at the end
        if chunk.text or not sentences:
            chars = _find_end(text, chars, chunk.text)
            sentences.append(Sentence(chars, start, end))
        else:
            sentences[-1] = Sentence(chars, sentences[-1].start_ms, end)
    while len(sentences) > MAX_SENTENCES:
        pairs = [sentences[i : i + 2] for i in range(0, len(sentences), 2)]
        sentences = [Sentence(p[-1].chars, p[0].start_ms, p[-1].end_ms) for p in pairs]
    if sentences:
        sentences[-1] = Sentence(len(text), sentences[-1].start_ms, sentences[-1].end_ms)
    return sentences


def _sound_bounds(chunk: SpeechChunk) -> tuple[float, float]:
    """Return the seconds into the chunk at which its sound begins and ends."""
    level = np.abs(chunk.samples)
    audible = np.flatnonzero(level > 0.02 * level.max(initial=0.0))
    if not len(audible):
        return 0.0, chunk.seconds
    return int(audible[0]) / chunk.rate, (int(audible[-1]) + 1) / chunk.rate


def _find_end(text: str, start: int, sentence: str) -> int:
    """Return the end of a sentence that begins at `start`. Only letters and digits are compared,
    because engines change punctuation and spaces."""
    end = start
    for char in filter(str.isalnum, sentence):
        index = text.find(char, end)
        end = index + 1 if index >= 0 else end
    while end < len(text) and not text[end].isalnum() and not (end and text[end - 1].isspace()):
        end += 1
    return end


def shift_sentences(sentences: Iterable[Sentence], seconds: float) -> list[Sentence]:
    shift = round(seconds * 1000)
    return [Sentence(s.chars, s.start_ms + shift, s.end_ms + shift) for s in sentences]


def timed_sentences(
    text: str, sentences: Sequence[Sentence], offset: float = 0.0
) -> Iterator[TimedText]:
    """Yield the sentences of an item that begins `offset` seconds into a file."""
    start = 0
    for sentence in sentences:
        words = " ".join(text[start : sentence.chars].split())
        start = sentence.chars
        if words:
            start_s, end_s = sentence.start_ms / 1000, sentence.end_ms / 1000
            yield TimedText(offset + start_s, offset + end_s, words)


def make_cues(sentences: Iterable[TimedText]) -> list[TimedText]:
    """Return cues of at most MAX_LINES lines each, separated by "\n". No two cues overlap."""
    cues = [cue for sentence in sentences for cue in _split_into_cues(sentence)]
    next_starts = [cue.start for cue in cues[1:]] + [float("inf")]
    return [
        replace(cue, end=min(max(cue.end, cue.start + MIN_SECONDS), next_start))
        for cue, next_start in zip(cues, next_starts, strict=True)
    ]


def _split_into_cues(sentence: TimedText) -> Iterator[TimedText]:
    lines = _wrap(sentence.text, MAX_WIDTH)
    start, seconds = sentence.start, sentence.end - sentence.start
    total = sum(map(_width, lines))
    for i in range(0, len(lines), MAX_LINES):
        group = lines[i : i + MAX_LINES]
        end = start + seconds * sum(map(_width, group)) / total
        yield TimedText(start, end, "\n".join(group))
        start = end


def _wrap(text: str, max_width: int) -> list[str]:
    """Return lines of nearly equal length, broken at spaces or between full-width characters."""
    count = -(-_width(text) // max_width)
    # Lines of equal length read better than a full one and a word. If they are too many, the lines
    # are filled.
    for width in (max(-(-_width(text) // count) + 6, 12), max_width):
        lines = list(_fill_lines(text, min(width, max_width)))
        if len(lines) <= count:
            return lines
    return lines


_UNIT = re.compile(r"[⺀-鿿豈-﫿＀-￯぀-ヿ가-힯][、。，！？；：」』）”’…ー]*|\S|\s+")


def _fill_lines(text: str, width: int) -> Iterator[str]:
    line = ""
    for word in _unbreakable_parts(text):
        if line.strip() and _width((line + word).rstrip()) > width:
            yield line.strip()
            line = ""
        while _width(word) > width:
            yield word[: width // 2]
            word = word[width // 2 :]
        line += word
    if line.strip():
        yield line.strip()


def _unbreakable_parts(text: str) -> Iterator[str]:
    """Yield words with the space, and full-width characters with the punctuation, after them."""
    word = ""
    for unit in _UNIT.findall(text):
        if _width(unit[0]) == 2 and word:
            yield word
            word = ""
        word += unit
        if _width(unit[0]) == 2 or unit.isspace():
            yield word
            word = ""
    if word:
        yield word


def _width(text: str) -> int:
    """Return the number of columns."""
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


def format_srt(sentences: Sequence[TimedText]) -> str:
    """Return SubRip: cues numbered from 1, lines ended by CRLF."""
    blocks = [
        f"{number}\n{_format_time(cue.start, ',')} --> {_format_time(cue.end, ',')}\n{cue.text}\n"
        for number, cue in enumerate(make_cues(sentences), 1)
    ]
    return "\n".join(blocks).replace("\n", "\r\n")


def format_vtt(sentences: Sequence[TimedText]) -> str:
    """Return WebVTT (W3C) with lines ended by LF, and `&`, `<` and `>` escaped."""
    blocks = [
        f"{_format_time(cue.start, '.')} --> {_format_time(cue.end, '.')}\n"
        f"{html.escape(cue.text, quote=False)}"
        for cue in make_cues(sentences)
    ]
    return "\n\n".join(["WEBVTT", *blocks]) + "\n"


def format_json(sentences: Sequence[TimedText]) -> str:
    """Return a JSON document of whole sentences, with times in seconds."""
    rows = [{"start": round(s.start, 3), "end": round(s.end, 3), "text": s.text} for s in sentences]
    document = {"schema": "voicedrop/subtitle/1", "sentences": rows}
    return json.dumps(document, ensure_ascii=False) + "\n"


_FORMATS = {"srt": format_srt, "vtt": format_vtt, "json": format_json}


def _format_time(seconds: float, separator: str) -> str:
    ms = round(seconds * 1000)
    clock = f"{ms // 3_600_000:02}:{ms // 60_000 % 60:02}:{ms // 1000 % 60:02}"
    return f"{clock}{separator}{ms % 1000:03}"


def add_to_item(
    result: ItemResult, item: Item, job_id: str, recordings: Collection[str], runtime: Runtime
) -> ItemResult:
    """Store the subtitles of an item; return its result with them. `recordings`: see `store`."""
    sentences = list(timed_sentences(to_written(item.text), result.sentences))
    files = store(sentences, item.subtitle, (job_id, item.id), recordings, runtime)
    return msgspec.structs.replace(result, subtitles=files)


def store(
    sentences: Sequence[TimedText],
    formats: Iterable[Subtitle],
    owner: tuple[str, str],
    recordings: Collection[str],
    runtime: Runtime,
) -> list[SubtitleFile]:
    """Store a sealed file in each format beside an output, or adopt those that are stored.

    `owner`: job id, and item id or `chapter_name`. `recordings`: SHA-256 of those whose voices say
    the text, so that it is deleted with what they say.
    """
    files = []
    for format_ in formats:
        key = output_key(*owner, format_)
        stored = object_record.adopt(key, SubtitleFile, runtime)
        if stored is None:
            context = Context(job=owner[0], item=owner[1], mt=SUBTITLE_TYPES[format_])
            plain = _FORMATS[format_](sentences).encode()
            sealed = sealing.seal(plain, context, runtime.keys.wrapping)
            entry = SubtitleFile(format=format_, key=key, envelope=sealed.envelope)
            record = ObjectRecord(key=key, fingerprint="", entry=entry)
            stored = object_record.put_or_adopt(
                sealed.body, record, sealed.envelope, runtime, recordings=recordings
            )
        files.append(stored[0].entry)
    return files
