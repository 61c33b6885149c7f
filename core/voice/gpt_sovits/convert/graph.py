"""Writing ONNX graphs: one method call a node, every large tensor in one file that all share."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np
import onnx
from numpy.typing import DTypeLike, NDArray
from onnx import TensorProto, helper

OPSET = 24
"""The first with TensorScatter, which writes a key-value cache in place."""
CONTRIB = "com.microsoft"
_IR_VERSION = 11
_INLINE_BYTES = 1024
_ALIGNMENT = 64

type_of = helper.np_dtype_to_tensor_dtype
Shape = tuple[int | str, ...]


class Weights:
    """The data file of a bundle. Equal tensors are stored once, whichever graphs use them."""

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self._file: BinaryIO = path.open("wb")
        self._places: dict[bytes, tuple[int, int]] = {}

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
        """Let graphs that are saved already be loaded."""
        self._file.flush()

    def add(self, value: NDArray[Any]) -> tuple[int, int]:
        """Offset and length of the value's bytes in the file."""
        data = np.ascontiguousarray(value).reshape(-1).view(np.uint8).data
        key = hashlib.sha256(data).digest()
        if key not in self._places:
            offset = self._file.tell()
            self._file.write(data)
            self._file.write(bytes(-len(data) % _ALIGNMENT))
            self._places[key] = (offset, len(data))
        return self._places[key]


class Graph:
    """A graph under construction. Values are the names of tensors; arrays and numbers given to
    `op` become constants, floating ones in the graph's own precision."""

    def __init__(self, weights: Weights, dtype: DTypeLike = np.float32) -> None:
        self.dtype = np.dtype(dtype)
        self._weights = weights
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, TensorProto] = {}
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._count = 0

    def input(self, name: str, shape: Shape, dtype: DTypeLike | None = None) -> str:
        kind = type_of(np.dtype(dtype or self.dtype))
        self._inputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def real(self, name: str, shape: Shape) -> str:
        """A float32 input, in the graph's own precision from here on."""
        return self._converted(self.input(name, shape, np.float32))

    def output(self, name: str, value: str, shape: Shape, dtype: DTypeLike | None = None) -> None:
        """Give a value to the caller: float32 unless `dtype` says otherwise."""
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
        names = [self._fresh(kind) for _ in range(outputs)]
        refs = [self._ref(value) for value in inputs]
        self._nodes.append(helper.make_node(kind, refs, names, domain=domain, **attributes))
        return names

    def write(self, kind: str, names: list[str], *inputs: Any, **attributes: Any) -> None:
        """A node whose outputs carry names of their own, for caches that are updated in place."""
        refs = [self._ref(value) for value in inputs]
        self._nodes.append(helper.make_node(kind, refs, names, **attributes))

    def returns(self, name: str, shape: Shape, dtype: DTypeLike) -> None:
        """Declare a value named by `write` to be an output, without a copy."""
        self._outputs.append(helper.make_tensor_value_info(name, type_of(np.dtype(dtype)), shape))

    def shape(self, value: str, axis: int) -> str:
        """The size of one axis, shape (1,)."""
        return self.op("Shape", value, start=axis, end=axis + 1)

    def slice(self, value: str, first: Any, last: Any, axis: int, step: int = 1) -> str:
        bounds = [b if isinstance(b, str) else np.array([b], np.int64) for b in (first, last)]
        return self.op("Slice", value, *bounds, np.array([axis]), np.array([step]))

    def reshape(self, value: str, *sizes: int) -> str:
        """Sizes as ONNX has them: 0 keeps an axis, -1 is inferred."""
        return self.op("Reshape", value, np.array(sizes, np.int64))

    def save(self, path: Path) -> None:
        graph = helper.make_graph(
            self._nodes, path.stem, self._inputs, self._outputs, list(self._constants.values())
        )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(CONTRIB, 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION)
        path.write_bytes(model.SerializeToString())

    def _converted(self, value: str) -> str:
        return value if self.dtype == np.float32 else self.op("Cast", value, to=type_of(self.dtype))

    def _ref(self, value: Any) -> str:
        if value is None:
            return ""
        return value if isinstance(value, str) else self._constant(np.asarray(value))

    def _constant(self, value: NDArray[Any]) -> str:
        if value.dtype.kind == "f":
            value = value.astype(self.dtype)
        name = f"constant_{len(self._constants)}"
        if value.nbytes < _INLINE_BYTES:
            tensor = onnx.numpy_helper.from_array(np.ascontiguousarray(value), name)
        else:
            offset, length = self._weights.add(value)
            tensor = TensorProto(name=name, dims=value.shape, data_type=type_of(value.dtype))
            tensor.data_location = TensorProto.EXTERNAL
            place = {"location": self._weights.name, "offset": str(offset), "length": str(length)}
            for key, text in place.items():
                tensor.external_data.add(key=key, value=text)
        self._constants[name] = tensor
        return name

    def _fresh(self, kind: str) -> str:
        self._count += 1
        return f"{kind}_{self._count}"
