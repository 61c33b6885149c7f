"""Where every item lies in a joined file, from the results of the items alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from core.label import aigc
from core.manifest.chapters import BOOK_NAME, PARTIAL_SUFFIX
from core.manifest.resolve import Item, Job
from core.result.item_result import ItemResult, TimeSpan

BREATH, BREAK = 0.25, 1.0
"""Seconds between items, and between the chapters of a book, that ask for no pause."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One item in a joined file."""

    item: Item
    made: ItemResult
    skip: float
    """Seconds at the beginning of the item's file that are left out."""
    start: float
    """Seconds in the joined file, as is `end`."""
    end: float


@dataclass(frozen=True, slots=True)
class Plan:
    id: str
    pieces: list[Piece]
    missing: list[int]
    seconds: float
    rate: int
    format: str
    chapters: list[TimeSpan]
    """Of a book."""

    @property
    def name(self) -> str:
        return self.id + (PARTIAL_SUFFIX if self.missing else "")


def plans(job: Job, made: Sequence[ItemResult]) -> list[Plan]:
    """What is to be joined, from what became of the items (in the order of the manifest)."""
    if job.output.concatenate == "none":
        return []
    wanted = {item.index: item for item in job.items}
    unread = {error.index: error.chapters for error in job.errors}
    places: dict[str, list[tuple[str, ItemResult]]] = {}
    for one in made:
        item = wanted.get(one.index)
        for chapter in (item.chapter,) if item else unread[one.index]:
            name = BOOK_NAME if job.output.concatenate == "book" else chapter
            places.setdefault(name, []).append((chapter, one))
    return [_plan(name, members, wanted, job) for name, members in places.items()]


def _plan(
    name: str, members: list[tuple[str, ItemResult]], wanted: dict[int, Item], job: Job
) -> Plan:
    heard = [(wanted[one.index], one) for _, one in members if one.output]
    missing = sorted({one.index for _, one in members if not one.output})
    pieces: list[Piece] = []
    at = 0.0
    for i, (item, one) in enumerate(heard):
        cue = one.label.cue if one.label else "none"
        skip = aigc.lead_seconds(cue) if i else 0.0
        following = heard[i + 1][0] if i + 1 < len(heard) else None
        trail = item.pause_ms / 1000 + (aigc.trail_seconds(cue) if following else 0.0)
        if following is None and aigc.trail_seconds(cue):
            trail = 0.0  # the cue comes after the pause
        length = (one.output.duration_s if one.output else 0.0) - skip - trail
        pieces.append(Piece(item, one, round(skip, 4), round(at, 4), round(at + length, 4)))
        at += length + (
            0.0 if following is None and aigc.trail_seconds(cue) else _gap(item, following)
        )
    first = heard[0][1].output if heard else None
    return Plan(
        id=name,
        pieces=pieces,
        missing=missing,
        seconds=round(at, 4),
        rate=first.sample_rate if first else 0,
        format=job.format,
        chapters=list(_chapters(pieces)) if job.output.concatenate == "book" else [],
    )


def _gap(item: Item, following: Item | None) -> float:
    asked = item.pause_ms if item.after_ms is None else item.after_ms
    if asked or item.after_ms is not None:
        return asked / 1000
    if following is None:
        return 0.0
    return BREATH if item.chapter == following.chapter else BREAK


def _chapters(pieces: list[Piece]) -> Iterator[TimeSpan]:
    for name, group in groupby(pieces, key=lambda piece: piece.item.chapter):
        members = list(group)
        if name:
            yield TimeSpan(id=name, start=members[0].start, end=members[-1].end)
