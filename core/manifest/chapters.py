"""The chapters of a manifest whose items are joined into files.

An ambiguous manifest is refused before anything is spoken: an item without a chapter among items
that have one, a chapter that continues after another has begun, two names that differ only by case.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from core.errors import Refused
from core.manifest import fields as manifest
from core.manifest.fields import Manifest
from core.manifest.parse import Entry
from core.manifest.validate import join_pointer, suggest

PARTIAL_SUFFIX = ".partial"
"""Suffix of the name of a joined file in which items are missing."""
BOOK_NAME = "book"
MAX_CHAPTERS = 255
"""Limit for a book: ID3v2 counts the entries of its table of contents in one byte."""


def assign(entries: Sequence[Entry], head: Manifest) -> list[tuple[str, ...]]:
    """Return the chapter of each entry, `("",)` where none is named. An entry that cannot be read
    may belong to the chapter before it or to the one after it, so it gets both.

    Raises Refused CHAPTER_INVALID, FIELD_MISSING, FIELD_UNSUPPORTED.
    """
    named = [_chapter_of(entry, head) for entry in entries]
    if head.output.concatenate != "none":
        _refuse_unnamed(entries, named, head)
        _refuse_split_chapters(entries, named)
        _refuse_unknown_titles(named, head)
        _refuse_item_subtitles(entries)
        _refuse_too_many(named, head)
    return list(_fill_unknown(named))


def _chapter_of(entry: Entry, head: Manifest) -> str | None:
    """Return the chapter that an entry names, or None if the entry cannot be read."""
    if isinstance(entry.spec, Refused):
        return None
    return entry.spec.chapter or head.defaults.chapter or ""


def _refuse_unnamed(entries: Sequence[Entry], named: Sequence[str | None], head: Manifest) -> None:
    if head.output.concatenate == "book" and not any(named):
        return  # a book without chapter marks
    for entry, name in zip(entries, named, strict=True):
        if name == "":
            message = "Add a chapter to this item: the items of this job are joined by chapter."
            raise Refused("FIELD_MISSING", message, pointer=f"{entry.pointer}/chapter")


def _refuse_split_chapters(entries: Sequence[Entry], named: Sequence[str | None]) -> None:
    known = [(entry, name) for entry, name in zip(entries, named, strict=True) if name]
    seen: dict[str, str] = {}
    for name, members in groupby(known, key=lambda pair: pair[1]):
        pointer = f"{next(members)[0].pointer}/chapter"
        if name.endswith(PARTIAL_SUFFIX):
            message = f"A chapter name may not end in {PARTIAL_SUFFIX!r}, which is reserved."
            raise Refused("CHAPTER_INVALID", message, pointer=pointer)
        earlier = seen.setdefault(name.casefold(), name)
        if earlier != name:
            message = f"{name!r} and {earlier!r} differ only by case."
            raise Refused("CHAPTER_INVALID", message, pointer=pointer)
        if list(seen)[-1] != name.casefold():
            message = f"The chapter {name!r} has ended already: keep its items together."
            raise Refused("CHAPTER_INVALID", message, pointer=pointer)


def _refuse_unknown_titles(named: Sequence[str | None], head: Manifest) -> None:
    known = {name for name in named if name}
    for chapter in head.output.titles:
        if chapter not in known:
            message = f"No item is in this chapter.{suggest(chapter, known)}"
            pointer = join_pointer("/output/titles", chapter)
            raise Refused("CHAPTER_INVALID", message, pointer=pointer)


def _refuse_item_subtitles(entries: Sequence[Entry]) -> None:
    for entry in entries:
        if isinstance(entry.spec, manifest.Item) and entry.spec.subtitle is not None:
            message = "Items are joined: set `subtitle` in `defaults`, for the joined files."
            raise Refused("FIELD_UNSUPPORTED", message, pointer=f"{entry.pointer}/subtitle")


def _refuse_too_many(named: Sequence[str | None], head: Manifest) -> None:
    count = len({name for name in named if name})
    if head.output.concatenate == "book" and count > MAX_CHAPTERS:
        message = f"A book has at most {MAX_CHAPTERS} chapters, not {count}."
        raise Refused("CHAPTER_INVALID", message, pointer="/output/concatenate")


def _fill_unknown(named: Sequence[str | None]) -> Iterator[tuple[str, ...]]:
    following: list[str] = []
    after = ""
    for name in reversed(named):
        after = after if name is None else name
        following.append(after)
    before = following[-1] if following else ""
    for name, after in zip(named, reversed(following), strict=True):
        if name is None:
            yield (before,) if after in (before, "") else (before, after)
        else:
            before = name
            yield (name,)
