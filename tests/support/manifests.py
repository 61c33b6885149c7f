"""Small manifests for tests."""

from __future__ import annotations

import json
from typing import Any

from core.errors import Refused
from core.manifest import resolve

VOICE = {
    "reference": "refs/alice.flac",
    "transcript": "what alice says in it",
    "language": "en",
    "consent": "consent/alice.json",
}
ITEM = {"id": "hello", "text": "The first words in her voice.", "voice": "alice"}


def manifest(**changes: Any) -> dict[str, Any]:
    """Return the minimal manifest of the documentation with top-level fields changed."""
    return {
        "schema": "voicedrop/job/1",
        "voices": {"alice": VOICE},
        "items": [ITEM],
    } | changes


def encode(document: Any) -> bytes:
    return json.dumps(document, ensure_ascii=False).encode("utf-8", "surrogatepass")


def of_item(**changes: Any) -> resolve.Job:
    """Return a job with a good item, followed by one with these fields."""
    items = [{**ITEM, "id": "good"}, ITEM | changes]
    return resolve.parse_job(json.dumps(manifest(items=items)).encode())


def item_error(**changes: Any) -> Refused:
    """Return the error of an item with these fields; the good item must not be affected."""
    parsed = of_item(**changes)
    assert [item.id for item in parsed.items] == ["good"]
    assert [error.index for error in parsed.errors] == [1]
    return parsed.errors[0].error


def text_of(text: str, **changes: Any) -> resolve.Item:
    return of_item(text=text, **changes).items[1]


def lines(*items: Any, header: Any = None, end: str = "\n") -> bytes:
    """Return JSON Lines; items that are strings are not encoded."""
    head = header if header is not None else {k: v for k, v in manifest().items() if k != "items"}
    return end.join(
        part if isinstance(part, str) else json.dumps(part) for part in (head, *items)
    ).encode()
