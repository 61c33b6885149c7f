"""JSON with exactly one byte form: RFC 8785 (JSON Canonicalization Scheme), written and read.

Signatures, associated data and log leaves are computed over these bytes, so that two programs in
two languages agree on them. Keys are sorted by their UTF-16 code units, there is no white space,
text is UTF-8, numbers are written as ECMAScript writes them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import msgspec

EXACT = 2**53 - 1
"""Larger integers lose digits in readers that keep every number as a double (RFC 7493)."""


def dump(document: Any) -> bytes:
    """Canonical bytes of JSON values, Structs and dataclasses.

    Raises ValueError for what has no canonical form: NaN, infinities, integers beyond 2^53 - 1,
    lone surrogates, nesting too deep to write; TypeError for what is not JSON.
    """
    try:
        return "".join(_write(msgspec.to_builtins(document))).encode()
    except RecursionError:
        raise ValueError("nested too deeply") from None


def load(data: bytes) -> Any:
    """The values in strict JSON, canonical or not.

    Raises ValueError where two readers could see two documents: duplicate keys, NaN, integers that
    do not fit a double, text that is not UTF-8; and for nesting too deep to read.
    """
    try:
        return json.loads(
            data.decode(), object_pairs_hook=_unique, parse_constant=_no_number, parse_int=_integer
        )
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _write(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield "{"
        for i, key in enumerate(sorted(value, key=lambda key: key.encode("utf-16-be"))):
            yield f"{',' if i else ''}{_text(key)}:"
            yield from _write(value[key])
        yield "}"
    elif isinstance(value, list):
        yield "["
        for i, element in enumerate(value):
            if i:
                yield ","
            yield from _write(element)
        yield "]"
    else:
        yield _scalar(value)


def _scalar(value: Any) -> str:
    match value:
        case str():
            return _text(value)
        case None | bool():
            return json.dumps(value)
        case int() if abs(value) <= EXACT:
            return str(value)
        case float() if math.isfinite(value):
            return _number(value)
        case _:
            raise ValueError(f"{value!r} has no canonical form")


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


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
    made = dict(pairs)
    if len(made) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r} stands twice in one object")
    return made


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _integer(digits: str) -> int | float:
    if len(digits) < 16:
        return int(digits)
    # A large float is written without point or exponent; any other digits would read differently.
    value = float(digits)
    if abs(value) > EXACT and (math.isinf(value) or _number(value) != digits):
        raise ValueError(f"{digits[:24]} does not fit a double")
    return value if abs(value) > EXACT else int(digits)
