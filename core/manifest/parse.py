"""Manifest bytes -> header and items as written, bad items kept as the error they are.

One JSON document, or JSON Lines: the header on line 1, then one item a line. Only one item is in
memory as parsed JSON at a time. Pointers are JSON pointers (RFC 6901) into the document,
`/items/3/text`. In JSON Lines the header is the document, and an item's pointer is into its line,
counted from 1: `line 17/text`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from core.documents import strict
from core.errors import JobError, Notice, Refused
from core.manifest import fields as manifest
from core.manifest.fields import Manifest
from core.manifest.validate import convert, header, join


@dataclass(frozen=True, slots=True)
class Limits:
    manifest_bytes: int = 32 * 1024 * 1024
    line_bytes: int = 64 * 1024
    items: int = manifest.MAX_ITEMS
    item_chars: int = 5_000
    job_chars: int = 2_000_000
    meta_bytes: int = 4096
    bad_lines: float = 0.1
    """Share of unreadable lines above which the file was hardly meant to be JSON Lines."""


class Entry(msgspec.Struct, frozen=True, gc=False):
    """An item as written."""

    pointer: str
    id: str
    """Empty if it has no valid one."""
    spec: manifest.Item | Refused
    span: tuple[int, int] = (0, 0)
    """Where it stands in the draft's source."""


@dataclass(slots=True)
class ParsedManifest:
    header: Manifest
    notices: list[Notice]
    source: str | bytes = b""
    """The document as text, JSON Lines as bytes."""
    first: int = 0
    """Index of the first entry: not 0 in a part of a manifest."""
    entries: list[Entry] = field(default_factory=list)

    def add(self, entry: Entry, limits: Limits) -> None:
        if len(self.entries) == limits.items:
            message = f"At most {limits.items} items: split the job."
            raise Refused("ITEMS_TOO_MANY", message, pointer=entry.pointer)
        self.entries.append(entry)

    def raw(self, start: int, stop: int, limits: Limits) -> Iterator[bytes]:
        """The items from `start` to before `stop` as they were written, each on one line."""
        for entry in self.entries[start:stop]:
            piece = self.source[slice(*entry.span)]
            if isinstance(piece, bytes):
                # One byte more than a line may have shows that it is too long.
                yield piece[: limits.line_bytes + 1]
            else:
                # Line ends inside strings are escaped, so these stand between values.
                yield piece.replace("\n", " ").replace("\r", " ").encode()


def read_document(data: bytes, limits: Limits) -> ParsedManifest:
    """Raises Refused for what is wrong with the document or its header."""
    text, notices = strict.text(data)
    reader = strict.Reader(text)
    if not text.lstrip().startswith("{"):
        reader.whole()
        raise Refused("SCHEMA_TYPE", "A manifest is one JSON object.")
    fields: dict[str, Any] = {}
    draft = ParsedManifest(manifest.NOTHING, notices, text)
    for key, decoded in reader.members("items"):
        if key == "items/":
            span = (decoded.start, decoded.end)
            draft.add(_entry(decoded, f"/items/{len(draft.entries)}", span), limits)
            continue
        if decoded.error:
            raise _placed(decoded.error, join("", key))
        if key in fields:
            message = f"The key {key[:80]!r} stands twice."
            raise Refused("JSON_DUPLICATE_KEY", message, pointer=join("", key))
        fields[key] = decoded.value
    if not isinstance(fields.pop("items", []), list):
        raise Refused("SCHEMA_TYPE", "Items are an array.", pointer="/items")
    draft.header = header(fields)
    return draft


def read_lines(data: bytes, limits: Limits) -> ParsedManifest:
    """Raises Refused for what is wrong with the header, or if many lines cannot be read at all."""
    lines = _lines(data)
    start, end = next(lines)
    draft = _line_header(data[start:end])
    draft.source = data
    reader = strict.Reader()
    unreadable = 0
    for number, span in enumerate(lines, 2):
        entry = _line_entry(data, span, number, reader, limits)
        unreadable += isinstance(entry.spec, Refused) and entry.spec.code in _UNREADABLE
        draft.add(entry, limits)
    if unreadable > 10 and unreadable > limits.bad_lines * len(draft.entries):
        message = f"{unreadable} of {len(draft.entries)} items cannot be read as JSON."
        raise Refused("JSON_SYNTAX", message)
    return draft


_UNREADABLE = ("JSON_SYNTAX", "JSON_ENCODING", "JSONL_LINE_TOO_LONG")


def read_part(
    header: Manifest, data: bytes, *, first: int, lines: bool, limits: Limits
) -> ParsedManifest:
    """Some items of a manifest as `Draft.raw` gave them, with the pointers they have there.

    `first`: index of the first; `lines`: the manifest is JSON Lines.
    """
    draft = ParsedManifest(header, [], data, first)
    reader = strict.Reader()
    for index, span in enumerate(_lines(data), first):
        if lines:
            draft.add(_line_entry(data, span, index + 2, reader, limits), limits)
        else:
            reader.load(data[slice(*span)].decode())
            decoded = reader.whole(depth=strict.MAX_DEPTH - 2)
            draft.add(_entry(decoded, f"/items/{index}", span), limits)
    return draft


def _lines(data: bytes) -> Iterator[tuple[int, int]]:
    """Where lines begin and end, their ends left out; the empty rest after the last is no line."""
    start = 0
    while start < len(data) or start == 0:
        end = data.find(b"\n", start)
        following = (len(data) if end < 0 else end) + 1
        end = following - 1
        yield start, end - 1 if end > start and data[end - 1] == 13 else end
        start = following


def _line_header(line: bytes) -> ParsedManifest:
    text, notices = strict.text(line)
    return ParsedManifest(header(_header_fields(text)), notices)


def _header_fields(text: str) -> dict[str, Any]:
    value, _, _, error = strict.Reader(text).whole()
    if error:
        raise _placed(error, "line 1")
    if not isinstance(value, dict) or "schema" not in value:
        raise Refused("JSONL_HEADER", pointer="line 1")
    if value.pop("items", "jsonl") != "jsonl":
        raise Refused("JSONL_HEADER", "The items follow, one a line.", pointer="/items")
    return value


def _line_entry(
    data: bytes, span: tuple[int, int], number: int, reader: strict.Reader, limits: Limits
) -> Entry:
    pointer = f"line {number}"
    if plain := _plain(data[slice(*span)], limits):
        return Entry(pointer, plain.id, plain, span)
    try:
        reader.load(_line_text(data[slice(*span)], limits), line=number)
        decoded = reader.whole(depth=strict.MAX_DEPTH - 2)
    except Refused as exc:
        return Entry(pointer, "", _placed(exc, pointer), span)
    if isinstance(decoded.value, dict) and "schema" in decoded.value:
        raise Refused("JSONL_HEADER", "A second header: two manifests in one?", pointer=pointer)
    return _entry(decoded, pointer, span)


def _plain(line: bytes, limits: Limits) -> manifest.Item | None:
    """The item of a line that needs no closer look, else None: a quick way past the strict reader.

    Without escapes every key stands between two quotes before a colon. More may look like one, but
    then there is no quick way; only strings (or null) follow, so numbers and depth do not matter.
    """
    if len(line) > limits.line_bytes or b"\\" in line:
        return None
    try:
        item = _ITEM.decode(line)
    except (ValueError, RecursionError):  # of JSON, of the fields, of UTF-8
        return None
    # A key and its string have four quotes, any other member two at least: with no more than these
    # strings need there is nothing else, and no key twice.
    if line.count(b'"') == 4 * (5 - (item.voice, item.language, item.format).count(None)):
        return item
    keys = _KEY.findall(line)
    return item if _STRINGS.issuperset(keys) and len(set(keys)) == len(keys) else None


_KEY = re.compile(rb'"([^"]*)"[ \t\n\r]*:')
_STRINGS = frozenset((b"id", b"text", b"voice", b"language", b"format"))
_ITEM = msgspec.json.Decoder(manifest.Item)


def _line_text(line: bytes, limits: Limits) -> str:
    if len(line) > limits.line_bytes:
        raise Refused("JSONL_LINE_TOO_LONG")
    if not line.strip():
        raise Refused("JSONL_BLANK_LINE")
    return strict.text(line)[0]


def _entry(decoded: strict.Decoded, pointer: str, span: tuple[int, int]) -> Entry:
    try:
        if decoded.error:
            raise _placed(decoded.error, pointer)
        spec = convert(decoded.value, manifest.Item, pointer)
    except Refused as exc:
        name = decoded.value.get("id") if isinstance(decoded.value, dict) else None
        return Entry(pointer, valid_id(name), without_traceback(exc), span)
    return Entry(pointer, spec.id, spec, span)


_ID = re.compile(manifest.ID_PATTERN)


def valid_id(name: Any) -> str:
    """The name if it may be an item's or a voice's, else an empty string."""
    return name if isinstance(name, str) and _ID.search(name) else ""


def without_traceback(error: Refused) -> Refused:
    """The error without the frames it came through: a hundred thousand may be kept."""
    error.__traceback__ = error.__context__ = None
    return error


def _placed(error: JobError, pointer: str) -> Refused:
    """The same error, saying where."""
    return Refused(error.code, error.message, pointer=pointer)
