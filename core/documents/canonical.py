"""JSON with exactly one byte form: RFC 8785 (JSON Canonicalization Scheme), written and read.

Signatures, associated data and log leaves are computed over these bytes, so that two programs in
two languages agree on them. Keys are sorted by their UTF-16 code units, there is no white space,
text is UTF-8, numbers are written as ECMAScript writes them.
"""

from __future__ import annotations

import codecs
import json
import math
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

import msgspec

from core.documents import strict
from core.documents.strict import EXACT
from core.errors import Explained


def dump(document: Any) -> bytes:
    """Canonical bytes of JSON values, Structs and dataclasses.

    Raises ValueError for what has no canonical form: NaN, infinities, integers beyond 2^53 - 1,
    lone surrogates, nesting too deep to write; TypeError for what is not JSON.
    """
    try:
        return _write(msgspec.to_builtins(document)).encode()
    except RecursionError:
        raise ValueError("nested too deeply") from None


def join(members: Mapping[str, bytes]) -> bytes:
    """The object of these members, whose values are in canonical bytes already."""
    written = [_text(name).encode() + b":" + members[name] for name in _ordered(members)]
    return b"{" + b",".join(written) + b"}"


def load(data: bytes) -> Any:
    """The values in strict JSON, canonical or not.

    Raises Explained where two readers could see two documents: duplicate keys, NaN, integers that
    do not fit a double, text that is not UTF-8, a byte order mark; and for nesting too deep to
    read.
    """
    if data.startswith(codecs.BOM_UTF8):
        raise Explained("a byte order mark stands before it: save it as UTF-8 without one")
    try:
        return json.loads(
            data.decode(), object_pairs_hook=_unique, parse_constant=_no_number, parse_int=_integer
        )
    except RecursionError:
        raise Explained("nested too deeply") from None
    except UnicodeDecodeError as exc:
        raise Explained("not UTF-8") from exc
    except json.JSONDecodeError as exc:
        reason, at = strict.found(exc)
        line = exc.doc.count("\n", 0, at) + 1
        raise Explained(f"not JSON: {reason} (line {line})") from exc


def _write(value: Any) -> str:
    kind = type(value)
    if kind is str:
        return _text(value)
    if kind is dict:
        names, form = _form(value)
        # Written here and not each by a call: results of many items are mostly empty fields.
        return form % tuple(
            [
                _text(member)
                if type(member) is str
                else (not member and _EMPTY.get(type(member))) or _write(member)
                for member in map(value.__getitem__, names)
            ]
        )
    if kind is list:
        return "[" + ",".join([_write(element) for element in value]) + "]" if value else "[]"
    return "null" if value is None else _scalar(value)


_EMPTY = {type(None): "null", bool: "false", int: "0", float: "0", list: "[]", dict: "{}"}


def _form(value: dict[str, Any]) -> tuple[list[str], str]:
    """Keys in their order, and the object with a place for the value of each."""
    return (_formed if len(value) <= 32 else _formed.__wrapped__)(tuple(value))


@lru_cache(maxsize=256)  # a document of many items has few kinds of objects
def _formed(names: tuple[str, ...]) -> tuple[list[str], str]:
    ordered = _ordered(names)
    members = [_text(name).replace("%", "%%") + ":%s" for name in ordered]
    return ordered, "{" + ",".join(members) + "}"


def _ordered(value: Iterable[str]) -> list[str]:
    """By UTF-16 code units, which for ASCII is how strings compare anyway."""
    names = sorted(value)
    return names if "".join(names).isascii() else sorted(names, key=_units)


def _units(key: str) -> bytes:
    return key.encode("utf-16-be")


def _scalar(value: Any) -> str:
    if value is True or value is False:
        return "true" if value else "false"
    if isinstance(value, int) and -EXACT <= value <= EXACT:
        return str(value)
    if isinstance(value, float) and math.isfinite(value):
        return _number(value)
    raise ValueError(f"{value!r} has no canonical form")


_text = json.encoder.encode_basestring
"""A string in quotes; only quotes, backslashes and control characters are escaped."""


def _number(value: float) -> str:
    """ECMAScript Number::toString: the shortest digits that read back as `value`."""
    if value == 0:
        return "0"
    mantissa, _, exponent = f"{value!r}".partition("e")
    sign = "-" if value < 0 else ""
    whole, _, fraction = mantissa.removeprefix("-").partition(".")
    point = len(whole) + int(exponent or 0)  # where the decimal point stands in `digits`
    digits = (whole + fraction).lstrip("0")
    point -= len(whole + fraction) - len(digits)
    digits = digits.rstrip("0")
    if 0 < point <= 21:
        body = digits.ljust(point, "0")
        return sign + body[:point] + ("." + body[point:] if body[point:] else "")
    if -6 < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    tail = "." + digits[1:] if digits[1:] else ""
    return f"{sign}{digits[0]}{tail}e{point - 1:+d}"


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made, twice = strict.unique(pairs)
    if twice is not None:
        raise Explained(f"the key {twice!r} stands twice in one object")
    return made


def _no_number(name: str) -> Any:
    raise Explained(f"{name} is not JSON")


def _integer(digits: str) -> int | float:
    if len(digits) < 16:
        return int(digits)
    # A large float is written without point or exponent; any other digits would read differently.
    value = float(digits)
    if abs(value) > EXACT and (math.isinf(value) or _number(value) != digits):
        raise Explained(f"{digits[:24]} does not fit a double")
    return value if abs(value) > EXACT else int(digits)
