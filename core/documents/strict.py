"""A strict JSON reader for manifests: UTF-8, no duplicate keys, no NaN, no inexact numbers.

Every common parser accepts duplicate keys (the last one wins), so a typo in a generated manifest
would silently drop an item's text. The scanner of the standard library is used because it says
where each value ends, so that one bad item can be reported and the next ones read.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Generator, Iterator
from typing import Any, NamedTuple

from core.errors import Notice, Refused

MAX_DEPTH = 16
MAX_EXACT_INTEGER = 2**53 - 1
"""RFC 7493: larger integers lose digits in parsers that store numbers as doubles."""

_WHITE_SPACE = re.compile(r"[ \t\n\r]*")
_BOM = b"\xef\xbb\xbf"


class Decoded(NamedTuple):
    value: Any
    start: int
    end: int
    """Index of the first character after the value."""
    error: Refused | None
    """An error in the value that does not hide where it ends."""


class Reader:
    """Reads the values of one text. Errors that hide a value's end are raised, others returned.

    Raises Refused JSON_SYNTAX with line and column, JSON_TOO_DEEP beyond the parser's own depth.
    """

    def __init__(self, text: str = "") -> None:
        self.load(text)
        self._errors: list[Refused] = []
        self._scan = json.JSONDecoder(
            object_pairs_hook=self._object,
            parse_int=self._integer,
            parse_float=self._float,
            parse_constant=self._constant,
        ).raw_decode

    def load(self, text: str, *, line: int = 1) -> None:
        """Read from another text next. `line`: number of its first line in the file."""
        self.text = text
        self._line = line

    def read_value(self, start: int, *, depth: int = MAX_DEPTH) -> Decoded:
        """Read the value that begins at `start`. `depth`: levels of nesting allowed."""
        self._errors.clear()
        try:
            value, end = self._scan(self.text, start)
        except json.JSONDecodeError as exc:
            raise self.syntax_error(*explain_syntax_error(exc)) from None
        except RecursionError:
            raise Refused("JSON_TOO_DEEP") from None
        if not _is_within_depth(value, depth):
            self._errors.append(Refused("JSON_TOO_DEEP"))
        return Decoded(value, start, end, self._errors[0] if self._errors else None)

    def read_document(self, *, depth: int = MAX_DEPTH) -> Decoded:
        """Read the only value of the text."""
        decoded = self.read_value(self.skip_space(0), depth=depth)
        self.expect_end(decoded.end)
        return decoded

    def iterate_members(self, streamed: str) -> Iterator[tuple[str, Decoded]]:
        """Yield the keys and values of the only object of the text, one at a time.

        The member `streamed`, if it is an array, is yielded as an empty list, and then its elements
        one by one, with a slash after the key.
        """
        at = self.skip_space(self.expect("{", self.skip_space(0)))
        while not self.text.startswith("}", at):
            if not self.text.startswith('"', at):
                raise self.syntax_error("Expecting a key in double quotes", at)
            key, _, at, _ = self.read_value(at)
            at = self.skip_space(self.expect(":", self.skip_space(at)))
            if key == streamed and self.text.startswith("[", at):
                yield key, Decoded([], at, at, None)
                at = yield from self._iterate_elements(f"{key}/", at)
            else:
                decoded = self.read_value(at, depth=MAX_DEPTH - 1)
                yield key, decoded
                at = decoded.end
            at = self._skip_separator(at, "}")
        self.expect_end(at + 1)

    def _iterate_elements(self, key: str, start: int) -> Generator[tuple[str, Decoded], None, int]:
        """Yield the elements of the array at `start`; return the index after its bracket."""
        at = self.skip_space(start + 1)
        while not self.text.startswith("]", at):
            element = self.read_value(at, depth=MAX_DEPTH - 2)
            yield key, element
            at = self._skip_separator(element.end, "]")
        return at + 1

    def _skip_separator(self, at: int, closing: str) -> int:
        """Return the index of the next member or of the closing bracket."""
        at = self.skip_space(at)
        if self.text.startswith(closing, at):
            return at
        at = self.skip_space(self.expect(",", at))
        if self.text.startswith(closing, at):
            raise self.syntax_error("Trailing comma", at)
        return at

    def skip_space(self, at: int) -> int:
        """Return the first index from `at` on that is not white space."""
        return _skip_space(self.text, at)

    def expect(self, mark: str, at: int) -> int:
        if not self.text.startswith(mark, at):
            raise self.syntax_error(f"Expecting {mark!r}", at)
        return at + 1

    def expect_end(self, at: int) -> None:
        """Raise Refused if anything but white space follows."""
        at = self.skip_space(at)
        if at < len(self.text):
            raise self.syntax_error(_REASONS["Extra data"], at)

    def syntax_error(self, reason: str, at: int) -> Refused:
        line = self.text.count("\n", 0, at) + self._line
        column = at - self.text.rfind("\n", 0, at)
        if (quote := self.text[at : at + 1]) and quote in _CURLY_QUOTES:
            reason += f'. Write " in place of {quote}'
        elif self.text.startswith(("//", "/*", "#"), at):
            reason += ". JSON has no comments: remove it"
        elif at == 0 and _CSV.match(self.text):
            reason += ". This looks like CSV: write each row as an item of a manifest"
        return Refused("JSON_SYNTAX", f"{reason}: line {line} column {column}.")

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made, twice = unique_members(pairs)
        if twice is not None:
            self._errors.append(
                Refused("JSON_DUPLICATE_KEY", f"Duplicate key {twice[:80]!r} in one object.")
            )
        return made

    def _integer(self, digits: str) -> int:
        # int() takes quadratic time, and most parsers would round longer numbers anyway.
        if len(digits) > 17 or abs(int(digits)) > MAX_EXACT_INTEGER:
            self._errors.append(
                Refused("NUMBER_RANGE", f"The integer {digits[:20]}... is beyond 2^53 - 1.")
            )
            return 0
        return int(digits)

    def _float(self, digits: str) -> float:
        number = float(digits)
        if not math.isfinite(number):
            self._errors.append(Refused("NUMBER_RANGE", f"The number {digits[:20]} is too large."))
            return 0.0
        return number

    def _constant(self, name: str) -> None:
        self._errors.append(Refused("JSON_SYNTAX", f"{name} is not JSON: remove the field."))


def unique_members(pairs: list[tuple[str, Any]]) -> tuple[dict[str, Any], str | None]:
    """Return the members of an object, and the first duplicate key, if any."""
    made = dict(pairs)
    if len(made) == len(pairs):
        return made, None
    times = Counter(key for key, _ in pairs)
    return made, next(key for key in times if times[key] > 1)


def _skip_space(text: str, at: int) -> int:
    match = _WHITE_SPACE.match(text, at)
    return match.end() if match else at


def explain_syntax_error(error: json.JSONDecodeError) -> tuple[str, int]:
    """Return reason and position of a syntax error, the same for every version of Python."""
    at, trailing = error.pos, "Trailing comma"
    if error.msg.startswith("Illegal trailing comma"):  # Python 3.13 stops at the comma
        return trailing, _skip_space(error.doc, at + 1)
    comma = error.doc.rfind(",", 0, at)
    if (
        comma >= 0
        and error.doc[at : at + 1] in ("}", "]")
        and _skip_space(error.doc, comma + 1) == at
    ):
        return trailing, at
    return _REASONS.get(error.msg, "This is not JSON"), at


_CSV = re.compile(r"\w+[,;\t]\s*\w")
_CURLY_QUOTES = "\u201c\u201d\u201e\u201f\u2018\u2019\u201a\u00ab\u00bb\uff02"
"""Quotation marks that editors of texts put in place of straight ones."""
_REASONS = {
    "Expecting property name enclosed in double quotes": "Expecting a key in double quotes",
    "Expecting ':' delimiter": "Expecting ':'",
    "Expecting ',' delimiter": "Expecting ','",
    "Expecting value": "Expecting a value",
    "Unterminated string starting at": "Unterminated string",
    "Invalid control character at": "A control character in a string must be escaped",
    "Invalid \\escape": "Invalid escape",
    "Invalid \\uXXXX escape": "\\u must be followed by four hexadecimal digits",
    "Extra data": "Unexpected text after the document",
}


def decode_text(data: bytes) -> tuple[str, list[Notice]]:
    """Decode UTF-8 and remove a byte order mark.

    Raises Refused MANIFEST_EMPTY, or JSON_ENCODING with the encoding that it looks like.
    """
    notices = [Notice("BOM")] if data.startswith(_BOM) else []
    data = data.removeprefix(_BOM)
    if not data.strip():
        raise Refused("MANIFEST_EMPTY")
    if guess := _detect_encoding(data):
        raise Refused("JSON_ENCODING", f"This looks like {guess}: save the manifest as UTF-8.")
    try:
        return data.decode(), notices
    except UnicodeDecodeError as exc:
        line = data.count(b"\n", 0, exc.start) + 1
        guess = _describe_legacy_encoding(data)
        message = f"Line {line} is not UTF-8{guess}: save the manifest as UTF-8."
        raise Refused("JSON_ENCODING", message) from None


def _detect_encoding(data: bytes) -> str:
    if data.startswith(b"{") and 0 not in data[:4]:
        return ""
    for start, name in _SIGNATURES.items():
        if data.startswith(start):
            return name
    # JSON begins with an ASCII character, so its NUL bytes show the width and the byte order.
    if data[:4].count(0):
        wide = data[:4].count(0) > 2
        return f"UTF-{32 if wide else 16} ({'big' if data[0] == 0 else 'little'} endian)"
    return ""


_SIGNATURES = {
    b"\xff\xfe\0\0": "UTF-32 (little endian)",
    b"\0\0\xfe\xff": "UTF-32 (big endian)",
    b"\xff\xfe": "UTF-16 (little endian)",
    b"\xfe\xff": "UTF-16 (big endian)",
    b"\x1f\x8b": "a gzip file",
    b"PK\x03\x04": "a zip file",
}


def _describe_legacy_encoding(data: bytes) -> str:
    """Return which legacy encoding the bytes are probably in, or an empty string."""
    for codec, name, letters in _LEGACY_ENCODINGS:
        try:
            decoded = data.decode(codec)
        except UnicodeDecodeError:
            continue
        foreign = [c for c in decoded if c > "\x7f"]
        if sum(map(letters, foreign)) > 0.5 * len(foreign):
            return f" and looks like {name}"
    return ""


_LEGACY_ENCODINGS = (
    ("shift_jis", "Shift-JIS", lambda c: "\u3041" <= c <= "\u30ff"),
    ("gb18030", "GBK or GB 18030", lambda c: "\u4e00" <= c <= "\u9fff"),
    ("cp1252", "Windows-1252 or Latin-1", str.isalpha),
)


def _is_within_depth(value: Any, depth: int) -> bool:
    """Return whether objects and arrays are nested at most `depth` levels."""
    if isinstance(value, dict):
        return depth > 0 and all(
            _is_within_depth(v, depth - 1) for v in value.values() if _is_container(v)
        )
    if isinstance(value, list):
        return depth > 0 and all(_is_within_depth(v, depth - 1) for v in value if _is_container(v))
    return True


def _is_container(value: Any) -> bool:
    return isinstance(value, dict | list)
