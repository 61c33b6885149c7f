"""Interprets the pickles that torch writes, and refuses all others.

Python's `pickle.Unpickler` is unsafe even with a restricted `find_class`: a file can exhaust memory
or overflow the C stack. This interpreter has the two dozen opcodes of protocol 2 that state dicts
need (described in Lib/pickletools.py) and a few globals.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from core.errors import ExplainedError, Refused

MAX_BYTES = 16 * 2**20
"""The pickle of an official checkpoint has about 0.1 MB."""

Storage = tuple[str, str, int]
"""(element type such as `HalfStorage`, member name, number of elements)."""


class Record(dict[str, Any]):
    """The attributes of a `utils.HParams` instance."""


@dataclass(frozen=True, slots=True)
class StridedTensor:
    """A strided view into a storage, torch's description of a tensor."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Global:
    name: str


_STORAGES = {"FloatStorage", "HalfStorage", "DoubleStorage", "BFloat16Storage", "LongStorage"}
_STORAGES |= {"IntStorage", "ShortStorage", "CharStorage", "ByteStorage", "BoolStorage"}
_ALLOWED_GLOBALS = {
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
    """Return the object: dicts, lists, tuples, numbers, strings, `Record`s, `StridedTensor`s.

    Raises Refused CHECKPOINT_UNSAFE, which names a forbidden global, or CHECKPOINT_INVALID.
    """
    if len(data) > MAX_BYTES:
        raise Refused("CHECKPOINT_UNSAFE", f"its pickle is too large: {len(data)} bytes")
    machine = _Machine()
    try:
        for opcode, argument, _ in pickletools.genops(data):
            machine.run(opcode.name, argument)
        return machine.stack.pop()
    except ExplainedError as exc:
        raise Refused("CHECKPOINT_INVALID", f"its pickle is damaged: {exc}") from exc
    except (IndexError, KeyError, TypeError, ValueError, AttributeError, OverflowError) as exc:
        raise Refused("CHECKPOINT_INVALID", "its pickle is damaged") from exc


class _Machine:
    """Runs opcodes. Each takes time and memory in proportion to its own bytes: only strings are
    hashed, and no value is traversed or printed."""

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
            self.stack.append(_allowed_global(argument.replace(" ", ".")))
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
                _set_state(self.stack.pop(), self.stack[-1])
            case _:
                raise Refused("CHECKPOINT_UNSAFE", f"its pickle uses the opcode {name}")

    def _tuple(self, start: int) -> None:
        if start < 0:
            raise ExplainedError("stack underflow")
        self.stack[start:] = [tuple(self.stack[start:])]

    def _fill(self, start: int, name: str) -> None:
        if start < 1:
            raise ExplainedError("stack underflow")
        items, target = self.stack[start:], self.stack[start - 1]
        del self.stack[start:]
        if name == "APPENDS":
            target.extend(items)
        else:
            target.update(_string_mapping(zip(items[::2], items[1::2], strict=True)))


def _allowed_global(name: str) -> _Global:
    if name not in _ALLOWED_GLOBALS:
        raise Refused("CHECKPOINT_UNSAFE", f"its pickle loads {name}, which could execute code")
    return _Global(name)


def _call(function: _Global, arguments: tuple[Any, ...]) -> Any:
    match function.name.rsplit(".", 1)[-1]:
        case "OrderedDict":
            return _string_mapping(arguments[0]) if arguments else {}
        case "HParams":
            return Record()
        case "_rebuild_tensor_v2":
            storage, offset, shape, stride = arguments[:4]
            return _strided_tensor(storage, offset, shape, stride)
        case "_rebuild_parameter" if isinstance(arguments[0], StridedTensor):
            return arguments[0]
        case name:
            raise ExplainedError(f"{name} is called with arguments that are not tensors")


def _set_state(state: Any, target: Any) -> None:
    """Set the attributes of a Record; those of other objects are not needed."""
    if isinstance(target, Record):
        target.update(state)


def _strided_tensor(storage: Any, offset: Any, shape: Any, stride: Any) -> StridedTensor:
    sizes = [offset, *shape, *stride]
    if not (isinstance(storage, tuple) and all(type(size) is int and size >= 0 for size in sizes)):
        raise ExplainedError("a tensor has no storage or negative sizes")
    if len(shape) != len(stride) or len(shape) > 8:
        raise ExplainedError("the strides of a tensor do not fit its shape")
    return StridedTensor((storage[0], storage[1], storage[2]), offset, tuple(shape), tuple(stride))


def _storage(identity: Any) -> Storage:
    kind, element, member, _, count = identity
    if kind != "storage" or not isinstance(element, _Global) or not isinstance(member, str):
        raise ExplainedError("a persistent id is not a storage")
    if type(count) is not int:
        raise ExplainedError("a storage has no size")
    return element.name.rsplit(".", 1)[-1], member, count


def _string_mapping(pairs: Iterable[Any]) -> dict[str, Any]:
    mapping: dict[str, Any] = {}
    for key, value in pairs:
        if not isinstance(key, str):
            raise ExplainedError("a key is not a string")
        mapping[key] = value
    return mapping
