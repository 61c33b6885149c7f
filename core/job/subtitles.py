"""Subtitles: the sentences that were spoken, when they are heard, in cues that can be read.

The times of sentences are those of the engine's chunks. A sentence too long for one cue is cut at
its marks and spaces, and shares its time among the cues by their length, which is an estimate.
"""

from __future__ import annotations

import html
import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec
import numpy as np

from core.crypto import sealing
from core.crypto.sealing import Context
from core.job import object_record
from core.job.object_record import ObjectRecord
from core.job.runtime import Runtime
from core.manifest.resolve import Item
from core.result.item_result import ItemResult, Sentence, SubtitleFile
from core.storage.object_keys import output_key
from core.voice import SpeechChunk

WIDTH = 42
"""Columns of a line; a full-width character takes two."""
LINES = 2
SHORTEST = 5 / 6
"""Seconds a cue stays, where the next one leaves it room."""
MOST = 100
"""Sentences kept apart in an item: its record must fit into object metadata."""
_MEDIA = {"srt": "application/x-subrip", "vtt": "text/vtt", "json": "application/json"}


@dataclass(frozen=True, slots=True)
class Line:
    """Words, and when they are heard, in seconds."""

    start: float
    end: float
    text: str


def times(text: str, spoken: Sequence[SpeechChunk], pause: float) -> list[Sentence]:
    """When each sentence is heard in the chunks joined with `pause` seconds between them."""
    made: list[Sentence] = []
    at, chars = 0.0, 0
    for chunk in spoken:
        first, last = _heard(chunk)
        start, end = round((at + first) * 1000), round((at + last) * 1000)
        at += chunk.seconds + pause
        if chunk.text or not made:
            chars = _through(text, chars, chunk.text)
            made.append(Sentence(chars, start, end))
        else:
            made[-1] = Sentence(chars, made[-1].start_ms, end)
    while len(made) > MOST:
        pairs = [made[i : i + 2] for i in range(0, len(made), 2)]
        made = [Sentence(p[-1].chars, p[0].start_ms, p[-1].end_ms) for p in pairs]
    return [*made[:-1], Sentence(len(text), made[-1].start_ms, made[-1].end_ms)] if made else []


def _heard(chunk: SpeechChunk) -> tuple[float, float]:
    """Seconds into the chunk at which its sound begins and ends."""
    level = np.abs(chunk.samples)
    loud = np.flatnonzero(level > 0.02 * level.max(initial=0.0))
    if not len(loud):
        return 0.0, chunk.seconds
    return int(loud[0]) / chunk.rate, (int(loud[-1]) + 1) / chunk.rate


def _through(text: str, at: int, sentence: str) -> int:
    """Where the sentence ends in the text: engines change marks and spaces, so words count."""
    for char in filter(str.isalnum, sentence):
        found = text.find(char, at)
        at = found + 1 if found >= 0 else at
    while at < len(text) and not text[at].isalnum() and not (at and text[at - 1].isspace()):
        at += 1
    return at


def shifted(sentences: Iterable[Sentence], seconds: float) -> list[Sentence]:
    by = round(seconds * 1000)
    return [Sentence(s.chars, s.start_ms + by, s.end_ms + by) for s in sentences]


def lines(text: str, sentences: Sequence[Sentence], offset: float = 0.0) -> Iterator[Line]:
    """The sentences of an item whose file begins `offset` seconds into another."""
    start = 0
    for sentence in sentences:
        words = " ".join(text[start : sentence.chars].split())
        start = sentence.chars
        if words:
            yield Line(offset + sentence.start_ms / 1000, offset + sentence.end_ms / 1000, words)


def cues(said: Iterable[Line]) -> list[Line]:
    """Cues of at most LINES lines, none overlapping the next; `text` has line feeds."""
    made = [cue for line in said for cue in _cut(line)]
    following = [cue.start for cue in made[1:]] + [float("inf")]
    return [
        replace(cue, end=min(max(cue.end, cue.start + SHORTEST), after))
        for cue, after in zip(made, following, strict=True)
    ]


def _cut(line: Line) -> Iterator[Line]:
    rows = _rows(line.text, WIDTH)
    parts = [rows[i : i + LINES] for i in range(0, len(rows), LINES)]
    whole = sum(_columns(row) for row in rows)
    at, seconds = line.start, line.end - line.start
    for part in parts:
        end = at + seconds * sum(map(_columns, part)) / whole
        yield Line(at, end, "\n".join(part))
        at = end


def _rows(text: str, width: int) -> list[str]:
    """Lines of nearly even length, broken at spaces or between full-width characters."""
    count = -(-_columns(text) // width)
    # Even lines read better than a full one and a word; if they do not fit, full ones.
    for wanted in (max(-(-_columns(text) // count) + 6, 12), width):
        rows = list(_filled(text, min(wanted, width)))
        if len(rows) <= count:
            return rows
    return rows


_UNIT = re.compile(r"[⺀-鿿豈-﫿＀-￯぀-ヿ가-힯][、。，！？；：」』）”’…ー]*|\S|\s+")


def _filled(text: str, width: int) -> Iterator[str]:
    row = ""
    for word in _words(text):
        if row.strip() and _columns((row + word).rstrip()) > width:
            yield row.strip()
            row = ""
        while _columns(word) > width:
            yield word[: width // 2]
            word = word[width // 2 :]
        row += word
    if row.strip():
        yield row.strip()


def _words(text: str) -> Iterator[str]:
    """What no line may break: a word with the space after it, a full-width character with the
    marks after it."""
    word = ""
    for unit in _UNIT.findall(text):
        if _columns(unit[0]) == 2 and word:
            yield word
            word = ""
        word += unit
        if _columns(unit[0]) == 2 or unit.isspace():
            yield word
            word = ""
    if word:
        yield word


def _columns(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


def srt(said: Sequence[Line]) -> str:
    """SubRip: numbered from 1, CRLF."""
    blocks = [
        f"{number}\n{_clock(cue.start, ',')} --> {_clock(cue.end, ',')}\n{cue.text}\n"
        for number, cue in enumerate(cues(said), 1)
    ]
    return "\n".join(blocks).replace("\n", "\r\n")


def vtt(said: Sequence[Line]) -> str:
    """WebVTT (W3C), LF; `&`, `<` and `>` escaped."""
    blocks = [
        f"{_clock(cue.start, '.')} --> {_clock(cue.end, '.')}\n{html.escape(cue.text, quote=False)}"
        for cue in cues(said)
    ]
    return "\n\n".join(["WEBVTT", *blocks]) + "\n"


def json_lines(said: Sequence[Line]) -> str:
    """One document: every sentence whole, times in seconds."""
    sentences = [{"start": round(s.start, 3), "end": round(s.end, 3), "text": s.text} for s in said]
    document = {"schema": "voicedrop/subtitle/1", "sentences": sentences}
    return json.dumps(document, ensure_ascii=False) + "\n"


_WRITERS: Mapping[str, Callable[[Sequence[Line]], str]] = {
    "srt": srt,
    "vtt": vtt,
    "json": json_lines,
}


def _clock(seconds: float, mark: str) -> str:
    ms = round(seconds * 1000)
    return f"{ms // 3_600_000:02}:{ms // 60_000 % 60:02}:{ms // 1000 % 60:02}{mark}{ms % 1000:03}"


def add_to_item(made: ItemResult, item: Item, job_id: str, runtime: Runtime) -> ItemResult:
    """The item with its subtitles stored beside it."""
    said = list(lines(item.text, made.sentences))
    stored = store(said, item.subtitle, (job_id, item.id), runtime)
    return msgspec.structs.replace(made, subtitles=stored)


def store(
    said: Sequence[Line],
    formats: Iterable[str],
    owner: tuple[str, str],
    runtime: Runtime,
) -> list[SubtitleFile]:
    """Sealed files beside an output. `owner`: job and item, for the envelopes."""
    made = []
    for form in formats:
        key = output_key(*owner, form)
        found = object_record.adopt(key, SubtitleFile, runtime)
        if found is None:
            context = Context(job=owner[0], item=owner[1], mt=_MEDIA[form])
            sealed = sealing.seal(_WRITERS[form](said).encode(), context, runtime.keys.wrapping)
            fresh = SubtitleFile(format=form, key=key, envelope=sealed.envelope)  # type: ignore[arg-type]  # one of _WRITERS
            record = ObjectRecord(key=key, fingerprint="", made=fresh)
            found = object_record.put_or_adopt(sealed.body, record, sealed.envelope, runtime)
        made.append(found[0].made)
    return made
