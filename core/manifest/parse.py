"""Parse manifest bytes into a header and items, without defaults; a bad item becomes an error.

A manifest is one JSON document, or JSON Lines: the header on line 1, then one item per line. Only
one item at a time is in memory as parsed JSON. Pointers are JSON pointers (RFC 6901) into the
document, such as `/items/3/text`. In JSON Lines the header is the document, and an item's pointer
names its line, counted from 1: `line 17/text`.
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
from core.manifest.validate import convert, convert_header, join_pointer


@dataclass(frozen=True, slots=True)
class Limits:
    manifest_bytes: int = 32 * 1024 * 1024
    line_bytes: int = 64 * 1024
    items: int = manifest.MAX_ITEMS
    item_chars: int = 5_000
    job_chars: int = 2_000_000
    meta_bytes: int = 4096
    bad_lines: float = 0.1
    """Share of unreadable lines above which the file is refused: it is hardly JSON Lines."""


class Entry(msgspec.Struct, frozen=True, gc=False):
    """An item, without defaults, or the error that keeps it from being read."""

    pointer: str
    id: str
    """Empty if the item has no valid one."""
    spec: manifest.Item | Refused
    span: tuple[int, int] = (0, 0)
    """Start and end in `ParsedManifest.source`."""


@dataclass(slots=True)
class ParsedManifest:
    header: Manifest
    notices: list[Notice]
    source: str | bytes = b""
    """A document as text, JSON Lines as bytes."""
    first: int = 0
    """Index of the first entry in the manifest; not 0 in a shard."""
    entries: list[Entry] = field(default_factory=list)

    def add(self, entry: Entry, limits: Limits) -> None:
        if len(self.entries) == limits.items:
            message = f"At most {limits.items} items: split the job."
            raise Refused("ITEMS_TOO_MANY", message, pointer=entry.pointer)
        self.entries.append(entry)

    def raw_lines(self, start: int, stop: int, limits: Limits) -> Iterator[bytes]:
        """Yield the items from `start` to before `stop` as written, each on one line."""
        for entry in self.entries[start:stop]:
            piece = self.source[slice(*entry.span)]
            if isinstance(piece, bytes):
                # One byte beyond the limit is enough for the reader to refuse the line.
                yield piece[: limits.line_bytes + 1]
            else:
                # Line ends inside strings are escaped, so these are white space between values.
                yield piece.replace("\n", " ").replace("\r", " ").encode()


def parse_document(data: bytes, limits: Limits) -> ParsedManifest:
    """Parse a JSON document. Raises Refused for errors outside the items."""
    text, notices = strict.decode_text(data)
    reader = strict.Reader(text)
    if not text.lstrip().startswith("{"):
        reader.read_document()
        raise Refused("SCHEMA_TYPE", "A manifest must be one JSON object.")
    fields: dict[str, Any] = {}
    parsed = ParsedManifest(manifest.EMPTY_MANIFEST, notices, text)
    for key, decoded in reader.iterate_members("items"):
        if key == "items/":
            span = (decoded.start, decoded.end)
            parsed.add(_to_entry(decoded, f"/items/{len(parsed.entries)}", span), limits)
            continue
        if decoded.error:
            raise _at_pointer(decoded.error, join_pointer("", key))
        if key in fields:
            message = f"Duplicate key {key[:80]!r}: remove one."
            raise Refused("JSON_DUPLICATE_KEY", message, pointer=join_pointer("", key))
        fields[key] = decoded.value
    if not isinstance(fields.pop("items", []), list):
        raise Refused("SCHEMA_TYPE", "`items` must be an array.", pointer="/items")
    parsed.header = convert_header(fields)
    return parsed


def parse_lines(data: bytes, limits: Limits) -> ParsedManifest:
    """Parse JSON Lines. Raises Refused for errors in the header or too many unreadable lines."""
    lines = _line_spans(data)
    start, end = next(lines)
    parsed = _parse_header_line(data[start:end])
    parsed.source = data
    reader = strict.Reader()
    unreadable = 0
    for number, span in enumerate(lines, 2):
        entry = _parse_line(data, span, number, reader, limits)
        unreadable += isinstance(entry.spec, Refused) and entry.spec.code in _UNREADABLE_CODES
        parsed.add(entry, limits)
    if unreadable > 10 and unreadable > limits.bad_lines * len(parsed.entries):
        message = f"{unreadable} of {len(parsed.entries)} items cannot be read as JSON."
        raise Refused("JSON_SYNTAX", message)
    return parsed


_UNREADABLE_CODES = ("JSON_SYNTAX", "JSON_ENCODING", "JSONL_LINE_TOO_LONG")


def parse_shard_items(
    header: Manifest, data: bytes, *, first: int, lines: bool, limits: Limits
) -> ParsedManifest:
    """Parse items that `ParsedManifest.raw_lines` returned, with the pointers of the manifest.

    `first`: index of the first item; `lines`: the manifest is JSON Lines.
    """
    parsed = ParsedManifest(header, [], data, first)
    reader = strict.Reader()
    for index, span in enumerate(_line_spans(data), first):
        if lines:
            parsed.add(_parse_line(data, span, index + 2, reader, limits), limits)
        else:
            reader.load(data[slice(*span)].decode())
            decoded = reader.read_document(depth=strict.MAX_DEPTH - 2)
            parsed.add(_to_entry(decoded, f"/items/{index}", span), limits)
    return parsed


def _line_spans(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield start and end of each line, without the line end. A final line end starts no line."""
    start = 0
    while start < len(data) or start == 0:
        end = data.find(b"\n", start)
        following = (len(data) if end < 0 else end) + 1
        end = following - 1
        yield start, end - 1 if end > start and data[end - 1] == 13 else end
        start = following


def _parse_header_line(line: bytes) -> ParsedManifest:
    text, notices = strict.decode_text(line)
    return ParsedManifest(convert_header(_header_fields(text)), notices)


def _header_fields(text: str) -> dict[str, Any]:
    value, _, _, error = strict.Reader(text).read_document()
    if error:
        raise _at_pointer(error, "line 1")
    if not isinstance(value, dict) or "schema" not in value:
        raise Refused("JSONL_HEADER", pointer="line 1")
    if value.pop("items", "jsonl") != "jsonl":
        raise Refused("JSONL_HEADER", "The items follow, one per line.", pointer="/items")
    return value


def _parse_line(
    data: bytes, span: tuple[int, int], number: int, reader: strict.Reader, limits: Limits
) -> Entry:
    pointer = f"line {number}"
    if plain := _decode_simple_item(data[slice(*span)], limits):
        return Entry(pointer, plain.id, plain, span)
    try:
        reader.load(_line_text(data[slice(*span)], limits), line=number)
        decoded = reader.read_document(depth=strict.MAX_DEPTH - 2)
    except Refused as exc:
        return Entry(pointer, "", _at_pointer(exc, pointer), span)
    if isinstance(decoded.value, dict) and "schema" in decoded.value:
        raise Refused(
            "JSONL_HEADER", "A second header: are these two manifests in one file?", pointer=pointer
        )
    return _to_entry(decoded, pointer, span)


def _decode_simple_item(line: bytes, limits: Limits) -> manifest.Item | None:
    """Return the item of a simple line, else None. This is a fast path past the strict reader.

    In a line without escapes every key is a quoted string before a colon. Text that looks like a
    key only makes the line go the slow way. All values are strings or null, so numbers and nesting
    depth need no check.
    """
    if len(line) > limits.line_bytes or b"\\" in line:
        return None
    try:
        item = _ITEM_DECODER.decode(line)
    except (ValueError, RecursionError):  # not JSON, not an item, or not UTF-8
        return None
    # A key and its string have four quotes, any other member at least two. If there are no more
    # quotes than these strings need, there is no other member and no duplicate key.
    if line.count(b'"') == 4 * (5 - (item.voice, item.language, item.format).count(None)):
        return item
    keys = _KEY_PATTERN.findall(line)
    return item if _STRING_FIELDS.issuperset(keys) and len(set(keys)) == len(keys) else None


_KEY_PATTERN = re.compile(rb'"([^"]*)"[ \t\n\r]*:')
_STRING_FIELDS = frozenset((b"id", b"text", b"voice", b"language", b"format"))
_ITEM_DECODER = msgspec.json.Decoder(manifest.Item)


def _line_text(line: bytes, limits: Limits) -> str:
    if len(line) > limits.line_bytes:
        raise Refused("JSONL_LINE_TOO_LONG")
    if not line.strip():
        raise Refused("JSONL_BLANK_LINE")
    return strict.decode_text(line)[0]


def _to_entry(decoded: strict.Decoded, pointer: str, span: tuple[int, int]) -> Entry:
    try:
        if decoded.error:
            raise _at_pointer(decoded.error, pointer)
        spec = convert(decoded.value, manifest.Item, pointer)
    except Refused as exc:
        name = decoded.value.get("id") if isinstance(decoded.value, dict) else None
        return Entry(pointer, valid_id(name), without_traceback(exc), span)
    return Entry(pointer, spec.id, spec, span)


_ID_PATTERN = re.compile(manifest.ID_PATTERN)


def valid_id(name: Any) -> str:
    """Return the name if it is a valid id of an item or voice, else an empty string."""
    return name if isinstance(name, str) and _ID_PATTERN.search(name) else ""


def without_traceback(error: Refused) -> Refused:
    """Drop the traceback of an error: a job may keep a hundred thousand errors in memory."""
    error.__traceback__ = error.__context__ = None
    return error


def _at_pointer(error: JobError, pointer: str) -> Refused:
    """Return the same error with a pointer."""
    return Refused(error.code, error.message, pointer=pointer)
