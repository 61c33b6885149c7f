"""Interprets the pickles that torch writes, and refuses all others.

Python's `pickle.Unpickler` is unsafe even with a restricted `find_class`: a file can exhaust memory
or overflow the C stack. This interpreter has the two dozen opcodes of protocol 2 that state dicts
need (described in Lib/pickletools.py) and a few globals. Each opcode accepts only the types that
torch gives it, and takes time and memory in proportion to its own bytes: only strings and numbers
are hashed, nothing is copied that a later opcode could name again, and no value is compared,
traversed or printed.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from core.errors import ExplainedError, Refused

MAX_BYTES = 2 * 2**20
"""The pickle of an official checkpoint has about 0.1 MB."""
_MAX_OPCODES = 500_000
_MAX_DIMENSIONS = 8
_MAX_SIZE = 2**63 - 1
"""Of a dimension, stride or offset, in elements."""


@dataclass(frozen=True, slots=True)
class Storage:
    """Elements of one type, a member of the zip file."""

    kind: str
    """Such as `HalfStorage`."""
    member: str
    count: int


@dataclass(slots=True, eq=False)
class Record:
    """A `utils.HParams` instance."""

    attributes: dict[str, Any] = field(default_factory=dict)


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
_STORAGE_GLOBALS = {f"torch.{name}" for name in _STORAGES}
_RECORD = "utils.HParams"
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

    Values may be nested deeply and contain themselves. Raises Refused CHECKPOINT_UNSAFE, which
    names a forbidden global, or CHECKPOINT_INVALID.
    """
    if len(data) > MAX_BYTES:
        raise Refused("CHECKPOINT_UNSAFE", f"its pickle is too large: {len(data)} bytes")
    machine = _Machine()
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):
            if count == _MAX_OPCODES:
                raise Refused("CHECKPOINT_UNSAFE", f"its pickle has over {count} opcodes")
            machine.run(opcode.name, argument)
        return machine.pop()
    except ExplainedError as exc:
        raise Refused("CHECKPOINT_INVALID", f"its pickle is damaged: {exc}") from exc
    except (ValueError, KeyError) as exc:  # of pickletools, and of the memo
        raise Refused("CHECKPOINT_INVALID", "its pickle is damaged") from exc


class _Machine:
    """Runs opcodes on a stack."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def run(self, name: str, argument: Any) -> None:
        if name in _LITERALS or name in _CONSTANTS:
            self.stack.append(_LITERALS[name]() if name in _LITERALS else argument)
        elif name in _TUPLES:
            self.stack.append(tuple(self._take(_TUPLES[name])))
        elif name in ("BINPUT", "LONG_BINPUT"):
            self.memo[argument] = self._top(object)
        elif name in ("BINGET", "LONG_BINGET"):
            self.stack.append(self.memo[argument])
        elif name == "GLOBAL":
            self.stack.append(_allowed_global(argument.replace(" ", ".")))
        elif name == "MARK":
            self.marks.append(len(self.stack))
        elif name not in ("PROTO", "STOP"):
            self._combine(name)

    def pop(self) -> Any:
        return self._take(1)[0]

    def _combine(self, name: str) -> None:
        match name:
            case "TUPLE":
                self.stack.append(tuple(self._take_marked()))
            case "SETITEM" | "SETITEMS":
                items = self._take(2) if name == "SETITEM" else self._take_marked()
                self._top(dict).update(_string_pairs(items))
            case "APPEND" | "APPENDS":
                items = self._take(1) if name == "APPEND" else self._take_marked()
                self._top(list).extend(items)
            case "BINPERSID":
                self.stack.append(_storage(self.pop()))
            case "REDUCE" | "NEWOBJ":
                function, arguments = self._take(2)
                self.stack.append(_call(name, function, arguments))
            case "BUILD":
                _set_state(self.pop(), self._top((Record, dict)))
            case _:
                raise Refused("CHECKPOINT_UNSAFE", f"its pickle uses the opcode {name}")

    def _top(self, kind: type[Any] | tuple[type[Any], ...]) -> Any:
        """Return the top of the stack, which must be above the last mark."""
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise ExplainedError("stack underflow")
        if not isinstance(self.stack[-1], kind):
            raise ExplainedError(f"an opcode is used on a {type(self.stack[-1]).__name__}")
        return self.stack[-1]

    def _take(self, count: int) -> list[Any]:
        """Remove values from the stack, all of which must be above the last mark."""
        first = len(self.stack) - count
        if first < (self.marks[-1] if self.marks else 0):
            raise ExplainedError("stack underflow")
        taken = self.stack[first:]
        del self.stack[first:]
        return taken

    def _take_marked(self) -> list[Any]:
        if not self.marks:
            raise ExplainedError("stack underflow")
        return self._take(len(self.stack) - self.marks.pop())


def _allowed_global(name: str) -> _Global:
    if name not in {*_CALLS, *_STORAGE_GLOBALS, _RECORD}:
        shown = repr(name[:100])
        raise Refused("CHECKPOINT_UNSAFE", f"its pickle loads {shown}, which could execute code")
    return _Global(name)


def _call(opcode: str, function: Any, arguments: Any) -> Any:
    """REDUCE calls one of `_CALLS`, NEWOBJ creates a Record."""
    name = function.name if isinstance(function, _Global) else ""
    if not isinstance(arguments, tuple):
        raise ExplainedError("the arguments of a call are not a tuple")
    if opcode == "NEWOBJ" and name == _RECORD and not arguments:
        return Record()
    if opcode == "REDUCE" and name in _CALLS:
        return _CALLS[name](arguments)
    raise ExplainedError(f"{name or 'something'} is called as a function of others")


def _set_state(state: Any, target: Record | dict[str, Any]) -> None:
    """Set the attributes of a Record. Those of an OrderedDict, which are torch's version numbers,
    are not needed."""
    if type(state) is not dict:
        raise ExplainedError("attributes are not a mapping")
    if isinstance(target, Record):
        target.attributes = state


def _ordered_dict(arguments: tuple[Any, ...]) -> dict[str, Any]:
    if arguments:
        raise ExplainedError("an OrderedDict is called with arguments")
    return {}


def _strided_tensor(arguments: tuple[Any, ...]) -> StridedTensor:
    if len(arguments) < 4:
        raise ExplainedError("a tensor has no storage or no shape")
    storage, offset, shape, stride = arguments[:4]
    if not (isinstance(storage, Storage) and type(shape) is type(stride) is tuple):
        raise ExplainedError("a tensor has no storage or no shape")
    if len(shape) != len(stride) or len(shape) > _MAX_DIMENSIONS:
        raise ExplainedError("the strides of a tensor do not fit its shape")
    if not all(type(size) is int and 0 <= size <= _MAX_SIZE for size in (offset, *shape, *stride)):
        raise ExplainedError("a tensor has sizes that are negative or no numbers")
    return StridedTensor(storage, offset, shape, stride)


def _parameter(arguments: tuple[Any, ...]) -> StridedTensor:
    if not arguments or not isinstance(arguments[0], StridedTensor):
        raise ExplainedError("a parameter is not a tensor")
    return arguments[0]


_CALLS: dict[str, Callable[[tuple[Any, ...]], Any]] = {
    "collections.OrderedDict": _ordered_dict,
    "torch._utils._rebuild_tensor_v2": _strided_tensor,
    "torch._utils._rebuild_parameter": _parameter,
}


def _storage(identity: Any) -> Storage:
    """Read a persistent id: ("storage", element type, member, device, number of elements)."""
    if type(identity) is not tuple or len(identity) != 5:
        raise ExplainedError("a persistent id is not a storage")
    kind, element, member, _, count = identity
    if not (isinstance(kind, str) and kind == "storage" and isinstance(member, str)):
        raise ExplainedError("a persistent id is not a storage")
    if not (isinstance(element, _Global) and element.name in _STORAGE_GLOBALS):
        raise ExplainedError("a storage has no element type")
    if type(count) is not int:
        raise ExplainedError("a storage has no size")
    return Storage(element.name.removeprefix("torch."), member, count)


def _string_pairs(items: list[Any]) -> dict[str, Any]:
    keys = items[::2]
    if not all(isinstance(key, str) for key in keys):
        raise ExplainedError("a key is not a string")
    return dict(zip(keys, items[1::2], strict=True))
