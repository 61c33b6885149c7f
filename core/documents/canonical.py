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
from core.documents.strict import MAX_EXACT_INTEGER
from core.errors import ExplainedError


def dump(document: Any) -> bytes:
    """Canonical bytes of JSON values, Structs and dataclasses.

    Raises ValueError for what has no canonical form: NaN, infinities, integers beyond 2^53 - 1,
    lone surrogates, nesting too deep to write; TypeError for what is not JSON.
    """
    try:
        return _serialise(msgspec.to_builtins(document)).encode()
    except RecursionError:
        raise ValueError("nested too deeply") from None


def join_members(members: Mapping[str, bytes]) -> bytes:
    """The object of these members, whose values are in canonical bytes already."""
    written = [
        _serialise_text(name).encode() + b":" + members[name] for name in _sort_keys(members)
    ]
    return b"{" + b",".join(written) + b"}"


def load(data: bytes) -> Any:
    """The values in strict JSON, canonical or not.

    Raises Explained where two readers could see two documents: duplicate keys, NaN, integers that
    do not fit a double, text that is not UTF-8, a byte order mark; and for nesting too deep to
    read.
    """
    if data.startswith(codecs.BOM_UTF8):
        raise ExplainedError("a byte order mark stands before it: save it as UTF-8 without one")
    try:
        return json.loads(
            data.decode(),
            object_pairs_hook=_object,
            parse_constant=_refuse_constant,
            parse_int=_integer,
        )
    except RecursionError:
        raise ExplainedError("nested too deeply") from None
    except UnicodeDecodeError as exc:
        raise ExplainedError("not UTF-8") from exc
    except json.JSONDecodeError as exc:
        reason, at = strict.explain_syntax_error(exc)
        line = exc.doc.count("\n", 0, at) + 1
        raise ExplainedError(f"not JSON: {reason} (line {line})") from exc


def _serialise(value: Any) -> str:
    kind = type(value)
    if kind is str:
        return _serialise_text(value)
    if kind is dict:
        names, form = _object_template(value)
        # Written here and not each by a call: results of many items are mostly empty fields.
        return form % tuple(
            [
                _serialise_text(member)
                if type(member) is str
                else (not member and _EMPTY_VALUES.get(type(member))) or _serialise(member)
                for member in map(value.__getitem__, names)
            ]
        )
    if kind is list:
        return "[" + ",".join([_serialise(element) for element in value]) + "]" if value else "[]"
    return "null" if value is None else _serialise_scalar(value)


_EMPTY_VALUES = {type(None): "null", bool: "false", int: "0", float: "0", list: "[]", dict: "{}"}


def _object_template(value: dict[str, Any]) -> tuple[list[str], str]:
    """Keys in their order, and the object with a place for the value of each."""
    return (_cached_template if len(value) <= 32 else _cached_template.__wrapped__)(tuple(value))


@lru_cache(maxsize=256)  # a document of many items has few kinds of objects
def _cached_template(names: tuple[str, ...]) -> tuple[list[str], str]:
    ordered = _sort_keys(names)
    members = [_serialise_text(name).replace("%", "%%") + ":%s" for name in ordered]
    return ordered, "{" + ",".join(members) + "}"


def _sort_keys(value: Iterable[str]) -> list[str]:
    """By UTF-16 code units, which for ASCII is how strings compare anyway."""
    names = sorted(value)
    return names if "".join(names).isascii() else sorted(names, key=_utf16_units)


def _utf16_units(key: str) -> bytes:
    return key.encode("utf-16-be")


def _serialise_scalar(value: Any) -> str:
    if value is True or value is False:
        return "true" if value else "false"
    if isinstance(value, int) and -MAX_EXACT_INTEGER <= value <= MAX_EXACT_INTEGER:
        return str(value)
    if isinstance(value, float) and math.isfinite(value):
        return _serialise_number(value)
    raise ValueError(f"{value!r} has no canonical form")


_serialise_text = json.encoder.encode_basestring
"""A string in quotes; only quotes, backslashes and control characters are escaped."""


def _serialise_number(value: float) -> str:
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


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made, twice = strict.unique_members(pairs)
    if twice is not None:
        raise ExplainedError(f"the key {twice!r} stands twice in one object")
    return made


def _refuse_constant(name: str) -> Any:
    raise ExplainedError(f"{name} is not JSON")


def _integer(digits: str) -> int | float:
    if len(digits) < 16:
        return int(digits)
    # A large float is written without point or exponent; any other digits would read differently.
    value = float(digits)
    if abs(value) > MAX_EXACT_INTEGER and (math.isinf(value) or _serialise_number(value) != digits):
        raise ExplainedError(f"{digits[:24]} does not fit a double")
    return value if abs(value) > MAX_EXACT_INTEGER else int(digits)
