"""An interpreter for the pickles that torch writes, and for nothing else.

Python's own `pickle.Unpickler` builds whatever a file asks for as fast as the file asks, so a
restricted `find_class` still leaves memory bombs and C stack overflows. This one runs the two dozen
opcodes of protocol 2 that state dicts need (Lib/pickletools.py describes them), knows a handful of
globals by name, and refuses the rest.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from core.errors import Explained, Refused

MAX_BYTES = 16 * 2**20
"""A full-size checkpoint's pickle is a tenth of a megabyte."""

Storage = tuple[str, str, int]
"""(element type such as `HalfStorage`, member name, number of elements)."""


class Record(dict[str, Any]):
    """Stands for an instance of `utils.HParams`: its attributes, none of its behaviour."""


@dataclass(frozen=True, slots=True)
class Strided:
    """A tensor as torch describes it: a window into a storage."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Global:
    name: str


_STORAGES = {"FloatStorage", "HalfStorage", "DoubleStorage", "BFloat16Storage", "LongStorage"}
_STORAGES |= {"IntStorage", "ShortStorage", "CharStorage", "ByteStorage", "BoolStorage"}
_KNOWN = {
    "collections.OrderedDict",
    "utils.HParams",
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_parameter",
    *(f"torch.{name}" for name in _STORAGES),
}
_LITERALS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
}
_CONSTANTS = {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE"}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def loads(data: bytes) -> Any:
    """The object in `data`: dicts, lists, tuples, numbers, strings, `Record`s and `Strided`s.

    Raises Refused CHECKPOINT_UNSAFE, naming what the file wanted to load, or CHECKPOINT_INVALID.
    """
    if len(data) > MAX_BYTES:
        raise Refused("CHECKPOINT_UNSAFE", f"its pickle declares {len(data)} bytes")
    machine = _Machine()
    try:
        for opcode, argument, _ in pickletools.genops(data):
            machine.run(opcode.name, argument)
        return machine.stack.pop()
    except Explained as exc:
        raise Refused("CHECKPOINT_INVALID", f"the pickle inside is damaged: {exc}") from exc
    except (IndexError, KeyError, TypeError, ValueError, AttributeError, OverflowError) as exc:
        raise Refused("CHECKPOINT_INVALID", "the pickle inside is damaged") from exc


class _Machine:
    """Every step costs time and memory in proportion to its own bytes, whatever the file says: no
    value is hashed but strings, none is walked through, none is printed."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def run(self, name: str, argument: Any) -> None:
        if name in _LITERALS or name in _CONSTANTS:
            self.stack.append(_LITERALS[name]() if name in _LITERALS else argument)
        elif name in _TUPLES:
            self._tuple(len(self.stack) - _TUPLES[name])
        elif name in ("BINPUT", "LONG_BINPUT"):
            self.memo[argument] = self.stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            self.stack.append(self.memo[argument])
        elif name == "GLOBAL":
            self.stack.append(_known(argument.replace(" ", ".")))
        elif name == "MARK":
            self.marks.append(len(self.stack))
        elif name not in ("PROTO", "STOP"):
            self._combine(name)

    def _combine(self, name: str) -> None:
        match name:
            case "TUPLE":
                self._tuple(self.marks.pop())
            case "SETITEMS" | "APPENDS":
                self._fill(self.marks.pop(), name)
            case "SETITEM" | "APPEND":
                self._fill(len(self.stack) - (2 if name == "SETITEM" else 1), name + "S")
            case "BINPERSID":
                self.stack.append(_storage(self.stack.pop()))
            case "REDUCE" | "NEWOBJ":
                arguments = self.stack.pop()
                self.stack.append(_call(self.stack.pop(), arguments))
            case "BUILD":
                _build(self.stack.pop(), self.stack[-1])
            case _:
                raise Refused("CHECKPOINT_UNSAFE", f"its pickle uses the opcode {name}")

    def _tuple(self, start: int) -> None:
        if start < 0:
            raise Explained("stack underflow")
        made = tuple(self.stack[start:])
        del self.stack[start:]
        self.stack.append(made)

    def _fill(self, start: int, name: str) -> None:
        if start < 1:
            raise Explained("stack underflow")
        items, target = self.stack[start:], self.stack[start - 1]
        del self.stack[start:]
        if name == "APPENDS":
            target.extend(items)
        else:
            target.update(_mapping(zip(items[::2], items[1::2], strict=True)))


def _known(name: str) -> _Global:
    if name not in _KNOWN:
        raise Refused("CHECKPOINT_UNSAFE", f"its pickle wants to load {name}")
    return _Global(name)


def _call(function: _Global, arguments: tuple[Any, ...]) -> Any:
    match function.name.rsplit(".", 1)[-1]:
        case "OrderedDict":
            return _mapping(arguments[0]) if arguments else {}
        case "HParams":
            return Record()
        case "_rebuild_tensor_v2":
            storage, offset, shape, stride = arguments[:4]
            return _strided(storage, offset, shape, stride)
        case "_rebuild_parameter" if isinstance(arguments[0], Strided):
            return arguments[0]
        case name:
            raise Explained(f"{name} called with other things than tensors")


def _build(state: Any, target: Any) -> None:
    """Attributes of an HParams; those of other objects say nothing about tensors."""
    if isinstance(target, Record):
        target.update(state)


def _strided(storage: Any, offset: Any, shape: Any, stride: Any) -> Strided:
    sizes = [offset, *shape, *stride]
    if not (isinstance(storage, tuple) and all(type(size) is int and size >= 0 for size in sizes)):
        raise Explained("a tensor without a storage or with negative sizes")
    if len(shape) != len(stride) or len(shape) > 8:
        raise Explained("a tensor whose strides do not fit its shape")
    return Strided((storage[0], storage[1], storage[2]), offset, tuple(shape), tuple(stride))


def _storage(identity: Any) -> Storage:
    kind, element, member, _, count = identity
    if kind != "storage" or not isinstance(element, _Global) or not isinstance(member, str):
        raise Explained("a persistent id that is no storage")
    if type(count) is not int:
        raise Explained("a storage without a size")
    return element.name.rsplit(".", 1)[-1], member, count


def _mapping(pairs: Iterable[Any]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for key, value in pairs:
        if not isinstance(key, str):
            raise Explained("a key that is not a string")
        made[key] = value
    return made
