"""Rewrites graphs for CUDA when they are opened; what they compute stays the same.

ONNX Runtime's TensorScatter copies its indices to the host to check them, so a step would wait for
the GPU at every key and every value. ScatterND does not, and a step that never waits can be
captured as a CUDA graph.

A convolution asks cuDNN for a new plan whenever the length of its input changes, which it does with
every sentence. On an H100 encoder, flow and vocoder took 1.7 ms for each of their convolutions,
whatever its size. Matrix products need no plan.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike
from onnx import GraphProto, NodeProto, helper, numpy_helper

_TO_THE_END = np.iinfo(np.int64).max


def rewrite(graph: str, model: bytes) -> bytes:
    """Rewrite the model of a graph of a bundle."""
    steps = {"step": scatter_by_index}
    products = dict.fromkeys(("encode", "flow", "vocoder"), multiply_instead_of_convolving)
    if (step := (steps | products).get(graph)) is None:
        return model
    edited = onnx.load_from_string(model)
    step(edited.graph)
    return bytes(edited.SerializeToString())


def scatter_by_index(graph: GraphProto) -> None:
    """Replace TensorScatter on a cache (rows, heads, capacity, width), at `length` of each row."""
    edit = _Rewriting(graph)
    heads = graph.input[-1].type.tensor_type.shape.dim[1].dim_value
    place = np.zeros((1, heads, 1, 3), np.int64)
    place[0, :, 0, 1] = np.arange(heads)
    rows = edit.op("Squeeze", edit.op("Shape", "length"))
    row = edit.op("Reshape", edit.op("Range", np.int64(0), rows, np.int64(1)), _shape(-1, 1, 1, 1))
    position = edit.op("Reshape", "length", _shape(-1, 1, 1, 1))
    place_in_row = edit.op("Add", place, edit.op("Mul", row, np.array([1, 0, 0])))
    indices = edit.op("Add", place_in_row, edit.op("Mul", position, np.array([0, 0, 1])))

    def scatter(node: NodeProto) -> None:
        cache, update, _ = node.input
        edit.op("ScatterND", cache, indices, update, output=node.output[0])

    edit.apply({"TensorScatter": scatter})


def multiply_instead_of_convolving(graph: GraphProto) -> None:
    """Replace the convolutions over time whose weights are constants, (batch, channels, time) or
    (batch, channels, 1, time), with a stride of 1 and one group, and their transposes with any
    stride."""
    edit = _Rewriting(graph)
    sizes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}

    def convolve(node: NodeProto) -> None:
        if node.input[1] in sizes and _is_plain(node):
            _convolve(edit, node, sizes[node.input[1]])
        else:
            edit.keep(node)

    def transpose(node: NodeProto) -> None:
        if node.input[1] in sizes:
            _convolve_transposed(edit, node, sizes[node.input[1]])
        else:
            edit.keep(node)

    edit.apply({"Conv": convolve, "ConvTranspose": transpose})


def _is_plain(node: NodeProto) -> bool:
    values = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    return values.get("group", 1) == 1 and set(values.get("strides", [1])) == {1}


def _convolve(edit: _Rewriting, node: NodeProto, kernel: tuple[int, ...]) -> None:
    """Multiply the weights (out, in * width) by the windows (in * width, time) of the input."""
    outer, inner, width = kernel[0], kernel[1], kernel[-1]
    dilation = _over_time(node, "dilations", [1])[0]
    x = edit.op("Reshape", node.input[0], _shape(0, inner, -1))
    if width > 1:
        before, after = _over_time(node, "pads", [0, 0])
        padded = edit.op("Pad", x, _shape(0, 0, before, 0, 0, after))
        length = edit.op("Squeeze", edit.op("Shape", padded, start=2, end=3))
        length = edit.op("Sub", length, np.int64(dilation * (width - 1)))
        starts = edit.op("Range", np.int64(0), length, np.int64(1))
        taps = edit.op("Add", starts, np.arange(width)[:, None] * dilation)
        windows = edit.op("Gather", padded, taps, axis=2)
        x = edit.op("Reshape", windows, _shape(0, inner * width, -1))
    weight = edit.op("Reshape", node.input[1], _shape(outer, inner * width))
    y = edit.op("MatMul", weight, x)
    _finish(edit, node, y, outer, is_flat=len(kernel) == 3)


def _convolve_transposed(edit: _Rewriting, node: NodeProto, kernel: tuple[int, ...]) -> None:
    """Multiply the weights (out * taps * stride, in) by the input; add the taps, which overlap."""
    inner, outer, width = kernel[0], kernel[1], kernel[-1]
    stride = _over_time(node, "strides", [1])[0]
    first, last = _over_time(node, "pads", [0, 0])
    taps = -(-width // stride)
    spare = taps * stride - width
    weight = edit.op("Reshape", node.input[1], _shape(inner, outer, width))
    weight = edit.op("Pad", weight, _shape(0, 0, 0, 0, 0, spare))
    weight = edit.op("Transpose", weight, perm=[1, 2, 0])
    weight = edit.op("Reshape", weight, _shape(outer * taps * stride, inner))
    x = edit.op("Reshape", node.input[0], _shape(0, inner, -1))
    y = edit.op("Reshape", edit.op("MatMul", weight, x), _shape(0, outer, taps, stride, -1))
    shifted = []
    for tap in range(taps):
        bounds = [np.array([value]) for value in (tap, tap + 1, 2)]
        one = edit.op("Slice", y, *bounds)
        pads = _shape(*[0] * 4, tap, *[0] * 4, taps - 1 - tap)
        shifted.append(edit.op("Pad", one, pads))
    y = edit.op("Transpose", edit.op("Sum", *shifted), perm=[0, 1, 2, 4, 3])
    y = edit.op("Reshape", y, _shape(0, outer, -1))
    end = -(spare + last) or _TO_THE_END
    y = edit.op("Slice", y, np.array([first]), np.array([end]), np.array([2]))
    _finish(edit, node, y, outer, is_flat=len(kernel) == 3)


def _finish(edit: _Rewriting, node: NodeProto, y: str, outer: int, *, is_flat: bool) -> None:
    """Add the bias to (batch, out, time), and give it the shape and name of the node's output."""
    if len(node.input) == 3:
        y = edit.op("Add", y, edit.op("Reshape", node.input[2], _shape(outer, 1)))
    shape = _shape(0, outer, -1) if is_flat else _shape(0, outer, 1, -1)
    edit.op("Reshape", y, shape, output=node.output[0])


def _over_time(node: NodeProto, name: str, default: list[int]) -> list[int]:
    """Return the values of an attribute for the last axis."""
    values = next(
        (list(helper.get_attribute_value(a)) for a in node.attribute if a.name == name), default
    )
    axes = len(values) // len(default)
    return values[axes - 1 :: axes]


def _shape(*sizes: int) -> ArrayLike:
    return np.array(sizes, np.int64)


class _Rewriting:
    """Replaces nodes of a graph in their order. Arrays as inputs become constants."""

    def __init__(self, graph: GraphProto) -> None:
        self._graph = graph
        self._nodes: list[NodeProto] = []
        self._constants: dict[tuple[Any, ...], str] = {}

    def op(self, kind: str, *inputs: Any, output: str = "", **attributes: Any) -> str:
        """Add a node and return the name of its output."""
        name = output or f"cuda/{len(self._nodes)}"
        refs = [one if isinstance(one, str) else self._constant(one) for one in inputs]
        self._nodes.append(helper.make_node(kind, refs, [name], **attributes))
        return name

    def keep(self, node: NodeProto) -> None:
        self._nodes.append(node)

    def apply(self, replacements: dict[str, Callable[[NodeProto], None]]) -> None:
        """Replace the nodes of these kinds by those that a function adds."""
        for node in list(self._graph.node):
            replacements.get(node.op_type, self.keep)(node)
        copies = [NodeProto.FromString(node.SerializeToString()) for node in self._nodes]
        del self._graph.node[:]
        self._graph.node.extend(copies)

    def _constant(self, value: ArrayLike) -> str:
        array = np.asarray(value, np.int64)
        key = (array.shape, array.tobytes())
        if key not in self._constants:
            name = self._constants[key] = f"cuda/constant_{len(self._constants)}"
            self._graph.initializer.append(numpy_helper.from_array(array, name))
        return self._constants[key]
