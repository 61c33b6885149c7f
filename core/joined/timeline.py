"""The position of every item in a joined file, computed from the results of the items alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from core.label import aigc
from core.manifest.chapters import BOOK_NAME, PARTIAL_SUFFIX
from core.manifest.resolve import Item, Job
from core.result.item_result import ItemResult, TimeSpan

ITEM_GAP, CHAPTER_GAP = 0.25, 1.0
"""Seconds between items, and between the chapters of a book, where the manifest asks for no
pause."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One item in a joined file."""

    item: Item
    result: ItemResult
    skip: float
    """Seconds at the beginning of the item's own file that are left out."""
    start: float
    """Seconds from the beginning of the joined file, like `end`."""
    end: float


@dataclass(frozen=True, slots=True)
class Timeline:
    """The items of one joined file, in the order in which they are played."""

    id: str
    pieces: list[Piece]
    missing: list[int]
    """Indices of the items that failed."""
    seconds: float
    rate: int
    """Sample rate of the first item, in Hz."""
    format: str
    chapters: list[TimeSpan]
    """Of a book; empty otherwise."""

    @property
    def name(self) -> str:
        """The file's name without extension."""
        return self.id + (PARTIAL_SUFFIX if self.missing else "")


def timelines(job: Job, items: Sequence[ItemResult]) -> list[Timeline]:
    """The files to join. `items`: the results of all items, in the order of the manifest."""
    if job.output.concatenate == "none":
        return []
    readable = {item.index: item for item in job.items}
    unreadable = {error.index: error.chapters for error in job.errors}
    members: dict[str, list[ItemResult]] = {}
    for result in items:
        item = readable.get(result.index)
        for chapter in (item.chapter,) if item else unreadable[result.index]:
            name = BOOK_NAME if job.output.concatenate == "book" else chapter
            members.setdefault(name, []).append(result)
    return [_timeline(name, results, readable, job) for name, results in members.items()]


def _timeline(name: str, results: list[ItemResult], items: dict[int, Item], job: Job) -> Timeline:
    made = [(items[result.index], result) for result in results if result.output]
    pieces: list[Piece] = []
    position = 0.0
    for i, (item, result) in enumerate(made):
        cue = result.label.cue if result.label else "none"
        following = made[i + 1][0] if i + 1 < len(made) else None
        # Only the joined file begins and ends with the audible cue: inside, it is cut out.
        skip = aigc.lead_seconds(cue) if i else 0.0
        trail = item.pause_ms / 1000 + (aigc.trail_seconds(cue) if following else 0.0)
        ends_with_cue = following is None and bool(aigc.trail_seconds(cue))
        if ends_with_cue:
            trail = 0.0  # the cue comes after the pause
        length = (result.output.duration_s if result.output else 0.0) - skip - trail
        end = position + length
        pieces.append(Piece(item, result, round(skip, 4), round(position, 4), round(end, 4)))
        position = end + (0.0 if ends_with_cue else _gap(item, following))
    first = made[0][1].output if made else None
    return Timeline(
        id=name,
        pieces=pieces,
        missing=sorted({result.index for result in results if not result.output}),
        seconds=round(position, 4),
        rate=first.sample_rate if first else 0,
        format=job.format,
        chapters=list(_chapters(pieces)) if job.output.concatenate == "book" else [],
    )


def _gap(item: Item, following: Item | None) -> float:
    """Seconds of silence after an item."""
    asked = item.pause_ms if item.after_ms is None else item.after_ms
    if asked or item.after_ms is not None:
        return asked / 1000
    if following is None:
        return 0.0
    return ITEM_GAP if item.chapter == following.chapter else CHAPTER_GAP


def _chapters(pieces: list[Piece]) -> Iterator[TimeSpan]:
    for name, group in groupby(pieces, key=lambda piece: piece.item.chapter):
        members = list(group)
        if name:
            yield TimeSpan(id=name, start=members[0].start, end=members[-1].end)
