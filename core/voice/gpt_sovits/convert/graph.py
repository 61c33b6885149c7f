"""Builds ONNX graphs node by node. Large tensors go into one file that all graphs share."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import msgspec
import numpy as np
import onnx
from numpy.typing import DTypeLike, NDArray
from onnx import TensorProto, helper

from core.voice.gpt_sovits import stored

OPSET = 24
"""The first with TensorScatter, which updates a key-value cache in place."""
CONTRIB = "com.microsoft"
_IR_VERSION = 11
_INLINE_BYTES = 1024
_ALIGNMENT = 64

type_of = helper.np_dtype_to_tensor_dtype
Shape = tuple[int | str, ...]


class Weights:
    """The data file of a bundle. Equal tensors are stored once for all graphs."""

    def __init__(self, path: Path) -> None:
        self._file: BinaryIO = path.open("wb")
        self._stored: dict[bytes, tuple[int, int]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def flush(self) -> None:
        """Write what is buffered, so that the graphs saved so far can be loaded."""
        self._file.flush()

    def add(self, value: NDArray[Any]) -> tuple[int, int]:
        """Store a tensor and return the offset and length of its bytes."""
        data = np.ascontiguousarray(value).reshape(-1).view(np.uint8).data
        key = hashlib.sha256(data).digest()
        if key not in self._stored:
            offset = self._file.tell()
            self._file.write(data)
            self._file.write(bytes(-len(data) % _ALIGNMENT))
            self._stored[key] = (offset, len(data))
        return self._stored[key]


class Graph:
    """A graph under construction. Methods return names of tensors.

    Arrays and numbers as inputs become constants, floats in the precision `dtype`. Matrices and
    larger arrays of floats are stored with `stored_bits`: 6, 8, 16 or 32.
    """

    def __init__(
        self, weights: Weights, dtype: DTypeLike = np.float32, *, stored_bits: int = 32
    ) -> None:
        self.dtype = np.dtype(dtype)
        self._stored_bits = stored_bits
        self._weights = weights
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, TensorProto] = {}
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._restored: list[stored.Stored] = []
        self._restored_size = 0
        self._count = 0

    def input(self, name: str, shape: Shape, dtype: DTypeLike | None = None) -> str:
        kind = type_of(np.dtype(dtype or self.dtype))
        self._inputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def float_input(self, name: str, shape: Shape) -> str:
        """Add a float32 input and convert it to the graph's precision."""
        value = self.input(name, shape, np.float32)
        return value if self.dtype == np.float32 else self.op("Cast", value, to=type_of(self.dtype))

    def output(self, name: str, value: str, shape: Shape, dtype: DTypeLike | None = None) -> None:
        """Make a value an output, as float32 by default."""
        if dtype is None and self.dtype != np.float32:
            value = self.op("Cast", value, to=TensorProto.FLOAT)
        self._nodes.append(helper.make_node("Identity", [value], [name]))
        kind = type_of(np.dtype(dtype or np.float32))
        self._outputs.append(helper.make_tensor_value_info(name, kind, shape))

    def op(self, kind: str, *inputs: Any, domain: str = "", **attributes: Any) -> str:
        return self.ops(kind, 1, *inputs, domain=domain, **attributes)[0]

    def ops(
        self, kind: str, outputs: int, *inputs: Any, domain: str = "", **attributes: Any
    ) -> list[str]:
        names = [self._new_name(kind) for _ in range(outputs)]
        refs = [self._tensor_name(value) for value in inputs]
        self._nodes.append(helper.make_node(kind, refs, names, domain=domain, **attributes))
        return names

    def named_op(self, kind: str, names: list[str], *inputs: Any, **attributes: Any) -> None:
        """Add a node with the given output names, for caches that are updated in place."""
        refs = [self._tensor_name(value) for value in inputs]
        self._nodes.append(helper.make_node(kind, refs, names, **attributes))

    def declare_output(self, name: str, shape: Shape, dtype: DTypeLike) -> None:
        """Make an output of `named_op` an output of the graph, without a copy."""
        self._outputs.append(helper.make_tensor_value_info(name, type_of(np.dtype(dtype)), shape))

    def shape(self, value: str, axis: int) -> str:
        """Return the size of one axis as a tensor (1,)."""
        return self.op("Shape", value, start=axis, end=axis + 1)

    def slice(self, value: str, first: Any, last: Any, axis: int, step: int = 1) -> str:
        bounds = [b if isinstance(b, str) else np.array([b], np.int64) for b in (first, last)]
        return self.op("Slice", value, *bounds, np.array([axis]), np.array([step]))

    def reshape(self, value: str, *sizes: int) -> str:
        """In `sizes`, 0 keeps an axis and -1 is inferred."""
        return self.op("Reshape", value, np.array(sizes, np.int64))

    def save(self, path: Path) -> None:
        graph = helper.make_graph(
            self._nodes, path.stem, self._inputs, self._outputs, list(self._constants.values())
        )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(CONTRIB, 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION)
        path.write_bytes(model.SerializeToString())
        if self._restored:
            path.with_suffix(".json").write_bytes(msgspec.json.encode(self._restored))

    def _tensor_name(self, value: Any) -> str:
        if value is None:
            return ""
        if isinstance(value, str):
            return value
        array = np.asarray(value)
        small = array.dtype.kind != "f" or array.ndim < 2 or array.nbytes < _INLINE_BYTES
        return self._constant(array) if small or self._stored_bits == 32 else self._store(array)

    def _store(self, value: NDArray[Any]) -> str:
        if self._stored_bits == 16:
            return self.restored("half", value.astype(np.float16), value.shape, np.float32)
        data, axis = stored.round_to_codes(value, self._stored_bits)
        form: stored.Form = "codes6" if self._stored_bits == 6 else "codes8"
        return self.restored(form, data, value.shape, np.float32, source=value.shape, axis=axis)

    def restored(
        self,
        form: stored.Form,
        data: NDArray[Any],
        shape: tuple[int, ...],
        dtype: DTypeLike,
        *,
        source: tuple[int, ...] | None = None,
        axis: int = 0,
    ) -> str:
        """Add a tensor that is made of `data`, of the shape `source`, when the graph is opened."""
        offset, size = self._weights.add(data)
        name = f"constant_{len(self._constants)}"
        tensor = TensorProto(name=name, dims=shape, data_type=type_of(np.dtype(dtype)))
        place, length = self._restored_size, math.prod(shape) * np.dtype(dtype).itemsize
        self._restored_size += length + -length % _ALIGNMENT
        self._constants[name] = _external(tensor, stored.RESTORED, place, length)
        entry = stored.Stored(
            form=form,
            shape=list(data.shape if source is None else source),
            offset=offset,
            size=size,
            axis=axis,
            place=place,
            length=length,
        )
        self._restored.append(entry)
        return name

    def _constant(self, value: NDArray[Any]) -> str:
        if value.dtype.kind == "f":
            value = value.astype(self.dtype)
        name = f"constant_{len(self._constants)}"
        if value.nbytes < _INLINE_BYTES:
            tensor = onnx.numpy_helper.from_array(np.ascontiguousarray(value), name)
        else:
            offset, length = self._weights.add(value)
            tensor = TensorProto(name=name, dims=value.shape, data_type=type_of(value.dtype))
            _external(tensor, stored.WEIGHTS, offset, length)
        self._constants[name] = tensor
        return name

    def _new_name(self, kind: str) -> str:
        self._count += 1
        return f"{kind}_{self._count}"


def _external(tensor: TensorProto, file: str, offset: int, length: int) -> TensorProto:
    tensor.data_location = TensorProto.EXTERNAL
    place = {"location": file, "offset": str(offset), "length": str(length)}
    for key, text in place.items():
        tensor.external_data.add(key=key, value=text)
    return tensor
