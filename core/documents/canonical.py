"""Read and write canonical JSON: RFC 8785 (JSON Canonicalization Scheme).

Signatures, associated data and log leaves are computed over these bytes, so programs in different
languages must agree on them. Keys are sorted by their UTF-16 code units, there is no white space,
text is UTF-8, and numbers are written as in ECMAScript.
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
    """Return the canonical bytes of JSON values, Structs and dataclasses.

    Raises ValueError for values without a canonical form (NaN, infinities, integers that a double
    does not hold or that canonical JSON writes differently, lone surrogates, nesting too deep to
    write) and TypeError for what is not JSON.
    """
    try:
        return _serialise(msgspec.to_builtins(document)).encode()
    except RecursionError:
        raise ValueError("nested too deeply") from None


def join_members(members: Mapping[str, bytes]) -> bytes:
    """Return the canonical object with these members, whose values are canonical bytes."""
    written = [
        _serialise_text(name).encode() + b":" + members[name] for name in _sort_keys(members)
    ]
    return b"{" + b",".join(written) + b"}"


def load(data: bytes) -> Any:
    """Parse strict JSON, canonical or not.

    Raises ExplainedError for what two programs could read differently: duplicate keys, NaN,
    integers that do not fit a double, text that is not UTF-8, a byte order mark; and for nesting
    too deep to read.
    """
    if data.startswith(codecs.BOM_UTF8):
        raise ExplainedError("it begins with a byte order mark: save it as UTF-8 without one")
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
        # Inlined for speed: results of many items consist mostly of empty fields.
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
    """Return the sorted keys, and a %-template of the object with one `%s` per value."""
    return (_cached_template if len(value) <= 32 else _cached_template.__wrapped__)(tuple(value))


@lru_cache(maxsize=256)  # a document of many items has few kinds of objects
def _cached_template(names: tuple[str, ...]) -> tuple[list[str], str]:
    ordered = _sort_keys(names)
    members = [_serialise_text(name).replace("%", "%%") + ":%s" for name in ordered]
    return ordered, "{" + ",".join(members) + "}"


def _sort_keys(value: Iterable[str]) -> list[str]:
    """Sort by UTF-16 code units; for ASCII that is the order of strings."""
    names = sorted(value)
    return names if "".join(names).isascii() else sorted(names, key=_utf16_units)


def _utf16_units(key: str) -> bytes:
    return key.encode("utf-16-be")


def _serialise_scalar(value: Any) -> str:
    if value is True or value is False:
        return "true" if value else "false"
    if isinstance(value, int) and abs(value) < _FIRST_EXPONENT:
        # Struct fields for integers also read the integers as which larger doubles are written.
        digits = str(value)
        if abs(value) <= MAX_EXACT_INTEGER or _serialise_number(float(value)) == digits:
            return digits
    if isinstance(value, float) and math.isfinite(value):
        return _serialise_number(value)
    raise ValueError(f"{value!r} has no canonical form")


_FIRST_EXPONENT = 10**21
"""ECMAScript writes numbers from here on with an exponent."""
_serialise_text = json.encoder.encode_basestring
"""Quotes a string, escaping only quotes, backslashes and control characters."""


def _serialise_number(value: float) -> str:
    """Write a number as ECMAScript Number::toString does: the shortest digits that read back."""
    if value == 0:
        return "0"
    mantissa, _, exponent = f"{value!r}".partition("e")
    sign = "-" if value < 0 else ""
    whole, _, fraction = mantissa.removeprefix("-").partition(".")
    point = len(whole) + int(exponent or 0)  # position of the decimal point in `digits`
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
        raise ExplainedError(f"duplicate key {twice!r} in one object")
    return made


def _refuse_constant(name: str) -> Any:
    raise ExplainedError(f"{name} is not JSON")


def _integer(digits: str) -> int | float:
    if len(digits) < 16:
        return int(digits)
    # Canonical floats from 2^53 to 1e21 are written as integers. Other digits would lose precision.
    value = float(digits)
    if abs(value) > MAX_EXACT_INTEGER and (math.isinf(value) or _serialise_number(value) != digits):
        raise ExplainedError(f"{digits[:24]} does not fit a double")
    return value if abs(value) > MAX_EXACT_INTEGER else int(digits)
