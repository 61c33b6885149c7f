from __future__ import annotations

import json
from typing import Any

import pytest

from core.errors import Refused
from core.manifest.chapters import MAX_CHAPTERS
from core.manifest.resolve import Job, parse_job

VOICES = {"a": {"reference": "refs/a.flac", "language": "en"}}


def parse(chapters: list[str], output: dict[str, Any], **first: Any) -> Job:
    """Parse a job of one item per name in `chapters`. `first`: more fields of the first item."""
    items = [
        {"id": f"i{n}", "text": "Words.", **({"chapter": name} if name else {})}
        for n, name in enumerate(chapters)
    ]
    items[0] |= first
    document = {"schema": "voicedrop/job/1", "voices": VOICES, "items": items, "output": output}
    return parse_job(json.dumps(document).encode())


REFUSED = {
    "an item without one": (["a", ""], {}, {}, "FIELD_MISSING", "/items/1/chapter"),
    "one that was ended before": (["a", "b", "a"], {}, {}, "CHAPTER_INVALID", "/items/2/chapter"),
    "two that differ by case": (["a", "A"], {}, {}, "CHAPTER_INVALID", "/items/1/chapter"),
    "a reserved name": (["x.partial"], {}, {}, "CHAPTER_INVALID", "/items/0/chapter"),
    "the title of none": (
        ["a"],
        {"titles": {"b": "B"}},
        {},
        "CHAPTER_INVALID",
        "/output/titles/b",
    ),
    "subtitles of an item": (
        ["a"],
        {},
        {"subtitle": ["srt"]},
        "FIELD_UNSUPPORTED",
        "/items/0/subtitle",
    ),
}


@pytest.mark.parametrize(
    ("chapters", "output", "first", "code", "pointer"), REFUSED.values(), ids=REFUSED
)
def test_chapters_that_cannot_be_joined_are_refused(
    chapters: list[str],
    output: dict[str, Any],
    first: dict[str, Any],
    code: str,
    pointer: str,
) -> None:
    with pytest.raises(Refused) as caught:
        parse(chapters, {"concatenate": "chapters"} | output, **first)
    assert (caught.value.code, caught.value.pointer) == (code, pointer)


def test_a_book_has_as_many_chapters_as_its_format_can_count() -> None:
    names = [f"c{n}" for n in range(MAX_CHAPTERS + 1)]
    assert len(parse(names[:-1], {"concatenate": "book"}).items) == MAX_CHAPTERS
    with pytest.raises(Refused, match="at most 255 chapters, not 256"):
        parse(names, {"concatenate": "book"})
    assert parse(names, {"concatenate": "chapters"}).items


def test_an_item_that_cannot_be_read_may_belong_to_either_chapter_beside_it() -> None:
    """The files of both lack it."""
    items = [{"id": f"i{n}", "text": "Words.", "chapter": name} for n, name in enumerate("ab")]
    unreadable = {"id": "bad", "text": 7}
    output = {"concatenate": "chapters"}
    document = {"schema": "voicedrop/job/1", "voices": VOICES, "output": output}
    for position, expected in ((0, ("a",)), (1, ("a", "b")), (2, ("b",))):
        listed = [*items[:position], unreadable, *items[position:]]
        (error,) = parse_job(json.dumps(document | {"items": listed}).encode()).errors
        assert (error.id, error.chapters) == ("bad", expected)
