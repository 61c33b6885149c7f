"""Explain where a JSON value does not fit its Struct, in words for users.

msgspec decides whether a value fits, but its messages change between versions and name Python
types. So the first violation is searched for here, only to explain it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import inspect as types

from core.errors import REFUSED

ViolationKind = Literal["type", "missing", "unknown", "pattern", "choice", "range", "surrogate"]


class Violation(NamedTuple):
    kind: ViolationKind
    path: tuple[str | int, ...]
    """Names and indices from the document to the value."""
    message: str
    value: Any = None
    """The value that does not fit."""


def string_pattern(pattern: str, advice: str, *, examples: list[Any] | None = None) -> msgspec.Meta:
    """Return the constraint that a string matches a pattern. `advice`: message if it does not."""
    return msgspec.Meta(pattern=pattern, examples=examples, extra={"advice": advice})


def find_violation(value: Any, type_: type[msgspec.Struct]) -> Violation | None:
    """Return the first violation in a JSON value, or None if none can be named."""
    return next(_find_all(value, _type_info(type_)), None)


_type_info = lru_cache(types.type_info)


def _find_all(value: Any, kind: types.Type) -> Iterator[Violation]:
    if isinstance(kind, types.Metadata):
        yield from _with_advice(_find_all(value, kind.type), kind.extra or {})
    elif isinstance(kind, types.UnionType):
        others = [one for one in kind.types if not isinstance(one, types.NoneType)]
        if value is not None and len(others) == 1:
            yield from _find_all(value, others[0])
    elif isinstance(kind, types.LiteralType):
        yield from _check_choice(value, kind.values)
    elif type(kind) in _CHECKS:
        expected, given, check = _CHECKS[type(kind)]
        if type(value) in given:
            yield from check(value, kind)
        elif given in ((dict,), (list,)):
            yield Violation("type", (), f"Expected {expected}, not {_name_of_type(value)}", value)
        else:
            yield _wrong_type(value, expected)


def _with_advice(found: Iterator[Violation], extra: Mapping[str, Any]) -> Iterator[Violation]:
    for one in found:
        is_advised = one.kind == "pattern" and not one.path
        yield one._replace(message=extra.get("advice", one.message)) if is_advised else one


def _check_struct(value: dict[str, Any], kind: types.StructType) -> Iterator[Violation]:
    fields = {field.encode_name: field for field in kind.fields}
    for name, part in value.items():
        if name in fields:
            yield from _with_prefix(name, _find_all(part, fields[name].type))
        elif kind.forbid_unknown_fields:
            yield Violation("unknown", (name,), f"There is no field `{name[:80]}`", part)
    for name, field in fields.items():
        if field.required and name not in value:
            yield Violation("missing", (name,), f"`{name}` is missing")


def _check_map(value: dict[str, Any], kind: types.DictType) -> Iterator[Violation]:
    for name, part in value.items():
        yield from _with_prefix(name, _find_all(part, kind.value_type))


def _check_list(value: list[Any], kind: types.ListType) -> Iterator[Violation]:
    for index, part in enumerate(value):
        yield from _with_prefix(index, _find_all(part, kind.item_type))
    yield from _check_range(len(value), kind.min_length, kind.max_length, "a length of ")


def _check_text(value: str, kind: types.StrType) -> Iterator[Violation]:
    if kind.pattern and not re.search(kind.pattern, value):
        yield Violation("pattern", (), "It does not match the required pattern", value)
    yield from _check_range(len(value), kind.min_length, kind.max_length, "a length of ")


def _check_number(value: float, kind: types.IntType | types.FloatType) -> Iterator[Violation]:
    yield from _check_range(value, kind.ge, kind.le)


def _check_range(
    value: float, low: float | None, high: float | None, what: str = ""
) -> Iterator[Violation]:
    if (low is None or low <= value) and (high is None or value <= high):
        return
    bounds = f"at least {low}" if high is None else f"at most {high}"
    if low is not None and high is not None:
        bounds = f"{low} to {high}"
    yield Violation("range", (), f"Expected {what}{bounds}", value)


def _check_choice(value: Any, allowed: Iterable[Any]) -> Iterator[Violation]:
    expected = sorted(allowed)
    if type(value) is not type(expected[0]) or _has_lone_surrogate(value):
        yield _wrong_type(value, _name_of_type(expected[0]))
    elif value not in expected:
        yield Violation("choice", (), f"Use one of {', '.join(map(str, expected))}", value)


def _check_datetime(value: str, kind: types.DateTimeType) -> Iterator[Violation]:
    try:
        msgspec.convert(value, Annotated[datetime, msgspec.Meta(tz=kind.tz)])
    except UnicodeEncodeError:
        yield _SURROGATE
    except msgspec.ValidationError:
        yield Violation("range", (), "Expected a time such as 2026-01-31T00:00:00Z", value)


def _wrong_type(value: Any, expected: str) -> Violation:
    """Return the violation of a field that takes a string, number, boolean or date."""
    if _has_lone_surrogate(value):
        return _SURROGATE
    return Violation("type", (), f"Expected {expected}, not {_name_of_type(value)}", value)


def _has_lone_surrogate(value: Any) -> bool:
    """Return whether it is a string with half of a surrogate pair, which has no UTF-8 form."""
    return isinstance(value, str) and any("\ud800" <= char <= "\udfff" for char in value)


_SURROGATE = Violation("surrogate", (), REFUSED["TEXT_SURROGATE"].removesuffix("."))


def _no_check(value: Any, kind: types.Type) -> Iterator[Violation]:
    yield from ()


def _with_prefix(name: str | int, found: Iterator[Violation]) -> Iterator[Violation]:
    return (one._replace(path=(name, *one.path)) for one in found)


_CHECKS: Mapping[
    type[types.Type], tuple[str, tuple[type, ...], Callable[[Any, Any], Iterator[Violation]]]
] = {
    types.StructType: ("an object", (dict,), _check_struct),
    types.DictType: ("an object", (dict,), _check_map),
    types.ListType: ("an array", (list,), _check_list),
    types.StrType: ("a string", (str,), _check_text),
    types.DateTimeType: ("a string", (str,), _check_datetime),
    types.IntType: ("an integer", (int,), _check_number),
    types.FloatType: ("a number", (int, float), _check_number),
    types.BoolType: ("true or false", (bool,), _no_check),
}
_TYPE_NAMES: Mapping[type, str] = {
    type(None): "null",
    bool: "true or false",
    int: "an integer",
    float: "a decimal number",
    str: "a string",
    list: "an array",
    dict: "an object",
}


def _name_of_type(value: Any) -> str:
    return _TYPE_NAMES.get(type(value), "something else")
