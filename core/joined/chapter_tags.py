"""Chapter marks in an audio file's own metadata, put into a file without copying its sound.

MP3         ID3v2.4 CHAP and CTOC frames (id3.org, ID3v2 Chapter Frame Addendum 1.0)
FLAC, Opus  CHAPTERxxx and CHAPTERxxxNAME comments (xiph.org, Chapter extension)
WAV         a `cue ` chunk with labels in LIST adtl (RIFF, Microsoft 1994)
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from core.label.tags import build_flac_head, build_opus_head, encode_syncsafe, id3_text_frame


@dataclass(frozen=True, slots=True)
class ChapterMark:
    start: float
    """Seconds, as is `end`."""
    end: float
    id: str
    """ASCII."""
    title: str


@dataclass(frozen=True, slots=True)
class Splice:
    """`head`, the file from `start` on, `tail`."""

    head: bytes
    start: int
    tail: bytes


def splice(
    data: bytes, size: int, rate: int, field: tuple[str, str] | None, marks: Sequence[ChapterMark]
) -> Splice:
    """What turns a file of our encoder into one with a text field and chapter marks. `data`: its
    beginning, with all its metadata; `size`: of the whole. Raises ValueError."""
    if data[:4] == b"RIFF":
        return _riff(size, rate, field, marks)
    if data[:4] in (b"fLaC", b"OggS"):
        comments = [f"{field[0]}={field[1]}".encode()] if field else []
        comments += _comments(marks)
        if not comments:
            return Splice(b"", 0, b"")
        head, start = (build_flac_head if data[:4] == b"fLaC" else build_opus_head)(data, comments)
        return Splice(head, start, b"")
    frames = id3_text_frame(*field) if field else b""
    frames += _id3(marks)
    if not frames:
        return Splice(b"", 0, b"")
    return Splice(b"ID3\4\0\0" + encode_syncsafe(len(frames)) + frames, 0, b"")


def _comments(marks: Sequence[ChapterMark]) -> list[bytes]:
    made = []
    for i, mark in enumerate(marks, 1):
        ms = round(mark.start * 1000)
        clock = f"{ms // 3_600_000:02}:{ms // 60_000 % 60:02}:{ms // 1000 % 60:02}.{ms % 1000:03}"
        made += [f"CHAPTER{i:03}={clock}".encode(), f"CHAPTER{i:03}NAME={mark.title}".encode()]
    return made


def _id3(marks: Sequence[ChapterMark]) -> bytes:
    if not marks:
        return b""
    ids = [mark.id.encode("ascii") + b"\0" for mark in marks]
    # Top level, ordered.
    frames = _frame(b"CTOC", b"toc\0" + bytes([3, len(marks)]) + b"".join(ids))
    for name, mark in zip(ids, marks, strict=True):
        span = struct.pack(">II", round(mark.start * 1000), round(mark.end * 1000))
        title = _frame(b"TIT2", b"\3" + mark.title.encode())
        frames += _frame(b"CHAP", name + span + b"\xff" * 8 + title)
    return frames


def _frame(name: bytes, content: bytes) -> bytes:
    return name + encode_syncsafe(len(content)) + b"\0\0" + content


def _riff(
    size: int, rate: int, field: tuple[str, str] | None, marks: Sequence[ChapterMark]
) -> Splice:
    tail = bytes(size % 2)
    if marks:
        points = [(i, round(mark.start * rate)) for i, mark in enumerate(marks, 1)]
        cue = b"".join(struct.pack("<II4sIII", i, at, b"data", 0, 0, at) for i, at in points)
        tail += _chunk(b"cue ", struct.pack("<I", len(points)) + cue)
        labels = b"".join(
            _chunk(b"labl", struct.pack("<I", i) + mark.title.encode() + b"\0")
            for i, mark in enumerate(marks, 1)
        )
        tail += _chunk(b"LIST", b"adtl" + labels)
    if field:
        tail += _chunk(field[0].encode("ascii"), field[1].encode())
    head = b"RIFF" + struct.pack("<I", size + len(tail) - 8) + b"WAVE"
    return Splice(head, 12, tail)


def _chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)
