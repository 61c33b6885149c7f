"""What in a JSON value does not fit its Struct, and where, in our words.

msgspec says whether a value fits. What it says about one that does not is no interface: it changes
with its versions and names types of Python. So the first thing that does not fit is looked for
here, only in order to explain it.
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

What = Literal["type", "missing", "unknown", "pattern", "choice", "range", "surrogate"]


class Misfit(NamedTuple):
    what: What
    path: tuple[str | int, ...]
    """Names and indices that lead to it."""
    message: str
    value: Any = None
    """What stands there."""


def written(pattern: str, advice: str, *, examples: list[Any] | None = None) -> msgspec.Meta:
    """That a string fits a pattern; `advice`: the message for one that does not."""
    return msgspec.Meta(pattern=pattern, examples=examples, extra={"advice": advice})


def find(value: Any, type_: type[msgspec.Struct]) -> Misfit | None:
    """The first misfit of values as JSON has them; None if there is none that can be named."""
    return next(_misfits(value, _kind(type_)), None)


_kind = lru_cache(types.type_info)


def _misfits(value: Any, kind: types.Type) -> Iterator[Misfit]:
    if isinstance(kind, types.Metadata):
        yield from _advised(_misfits(value, kind.type), kind.extra or {})
    elif isinstance(kind, types.UnionType):
        others = [one for one in kind.types if not isinstance(one, types.NoneType)]
        if value is not None and len(others) == 1:
            yield from _misfits(value, others[0])
    elif isinstance(kind, types.LiteralType):
        yield from _choice(value, kind.values)
    elif type(kind) in _EXPECTED:
        expected, given, check = _EXPECTED[type(kind)]
        if type(value) in given:
            yield from check(value, kind)
        elif given in ((dict,), (list,)):
            yield Misfit("type", (), f"Expected {expected}, not {_type_name(value)}", value)
        else:
            yield _wrong_type(value, expected)


def _advised(found: Iterator[Misfit], extra: Mapping[str, Any]) -> Iterator[Misfit]:
    for one in found:
        ours = one.what == "pattern" and not one.path
        yield one._replace(message=extra.get("advice", one.message)) if ours else one


def _struct(value: dict[str, Any], kind: types.StructType) -> Iterator[Misfit]:
    fields = {field.encode_name: field for field in kind.fields}
    for name, part in value.items():
        if name in fields:
            yield from _prefixed(name, _misfits(part, fields[name].type))
        elif kind.forbid_unknown_fields:
            yield Misfit("unknown", (name,), f"There is no field `{name[:80]}`", part)
    for name, field in fields.items():
        if field.required and name not in value:
            yield Misfit("missing", (name,), f"`{name}` is missing")


def _map(value: dict[str, Any], kind: types.DictType) -> Iterator[Misfit]:
    for name, part in value.items():
        yield from _prefixed(name, _misfits(part, kind.value_type))


def _list(value: list[Any], kind: types.ListType) -> Iterator[Misfit]:
    for index, part in enumerate(value):
        yield from _prefixed(index, _misfits(part, kind.item_type))
    yield from _range(len(value), kind.min_length, kind.max_length, "a length of ")


def _text(value: str, kind: types.StrType) -> Iterator[Misfit]:
    if kind.pattern and not re.search(kind.pattern, value):
        yield Misfit("pattern", (), "It is not written as it must be", value)
    yield from _range(len(value), kind.min_length, kind.max_length, "a length of ")


def _number(value: float, kind: types.IntType | types.FloatType) -> Iterator[Misfit]:
    yield from _range(value, kind.ge, kind.le)


def _range(value: float, low: float | None, high: float | None, what: str = "") -> Iterator[Misfit]:
    if (low is None or low <= value) and (high is None or value <= high):
        return
    bounds = f"at least {low}" if high is None else f"at most {high}"
    if low is not None and high is not None:
        bounds = f"{low} to {high}"
    yield Misfit("range", (), f"Expected {what}{bounds}", value)


def _choice(value: Any, allowed: Iterable[Any]) -> Iterator[Misfit]:
    expected = sorted(allowed)
    if type(value) is not type(expected[0]) or _halved(value):
        yield _wrong_type(value, _type_name(expected[0]))
    elif value not in expected:
        yield Misfit("choice", (), f"Use one of {', '.join(map(str, expected))}", value)


def _moment(value: str, kind: types.DateTimeType) -> Iterator[Misfit]:
    try:
        msgspec.convert(value, Annotated[datetime, msgspec.Meta(tz=kind.tz)])
    except UnicodeEncodeError:
        yield _HALVED
    except msgspec.ValidationError:
        yield Misfit("range", (), "Expected a time such as 2026-01-31T00:00:00Z", value)


def _wrong_type(value: Any, expected: str) -> Misfit:
    """Of a field for one string, number, truth value or moment."""
    if _halved(value):
        return _HALVED
    return Misfit("type", (), f"Expected {expected}, not {_type_name(value)}", value)


def _halved(value: Any) -> bool:
    """Whether it is a string with half of a surrogate pair, which no text can hold."""
    return isinstance(value, str) and any("\ud800" <= char <= "\udfff" for char in value)


_HALVED = Misfit("surrogate", (), REFUSED["TEXT_SURROGATE"].removesuffix("."))


def _no_check(value: Any, kind: types.Type) -> Iterator[Misfit]:
    yield from ()


def _prefixed(name: str | int, found: Iterator[Misfit]) -> Iterator[Misfit]:
    return (one._replace(path=(name, *one.path)) for one in found)


_EXPECTED: Mapping[
    type[types.Type], tuple[str, tuple[type, ...], Callable[[Any, Any], Iterator[Misfit]]]
] = {
    types.StructType: ("an object", (dict,), _struct),
    types.DictType: ("an object", (dict,), _map),
    types.ListType: ("an array", (list,), _list),
    types.StrType: ("a string", (str,), _text),
    types.DateTimeType: ("a string", (str,), _moment),
    types.IntType: ("an integer", (int,), _number),
    types.FloatType: ("a number", (int, float), _number),
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


def _type_name(value: Any) -> str:
    return _TYPE_NAMES.get(type(value), "something else")
