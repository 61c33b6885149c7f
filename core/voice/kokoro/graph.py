"""Edits of the Kokoro graph, made while loading: pitch in and out, and faster convolutions."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

_PITCH = "/encoder/F0_proj/Conv_output_0"
_TO_THE_END = np.iinfo(np.int64).max


def prepare(model: bytes) -> bytes:
    """Add input `f0_scale` [1] and output `f0_scaled` [1, 1, frames], and rewrite convolutions."""
    edited = onnx.load_from_string(model)
    _open_pitch(edited)
    _convolve_by_matmul(edited)
    return bytes(edited.SerializeToString())


def _open_pitch(model: ModelProto) -> None:
    """Put a multiplication between the pitch predictor and everything that uses its curve."""
    graph = model.graph
    for node in graph.node:
        node.input[:] = ["f0_scaled" if name == _PITCH else name for name in node.input]
    maker = next(i for i, node in enumerate(graph.node) if _PITCH in node.output)
    graph.node.insert(maker + 1, helper.make_node("Mul", [_PITCH, "f0_scale"], ["f0_scaled"]))
    floats = TensorProto.FLOAT
    graph.input.append(helper.make_tensor_value_info("f0_scale", floats, [1]))
    graph.output.append(helper.make_tensor_value_info("f0_scaled", floats, [1, 1, "frames"]))


def _convolve_by_matmul(model: ModelProto) -> None:
    """ONNX Runtime has no fast kernel for ConvInteger with the weights on the left, but a very
    fast one (VNNI, signed weights on the right, packed once) for MatMulIntegerToFloat: lay the
    windows out as rows, multiply, scale and add the bias at once. The integer sums stay as they
    were; only the bias is no longer rounded down to whole steps.
    """
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    makers = {name: node for node in model.graph.node for name in node.output}
    users = {name: node for node in model.graph.node for name in node.input}
    replaced: dict[str, list[NodeProto]] = {}
    gone: set[str] = set()
    for conv in model.graph.node:
        if conv.op_type == "ConvInteger" and _attribute(conv, "strides") == [1]:
            tail = _tail(conv, users)
            bias = _bias(tail, makers)
            scale = next(name for name in tail[-1].input if name not in tail[-2].output)
            last = tail[-1].output[0]
            replaced[last] = _as_matmul(conv, weights, scale, bias, last)
            gone |= {name for node in tail[:-1] for name in node.output}
    nodes = [
        new
        for node in model.graph.node
        if node.output[0] not in gone
        for new in replaced.get(node.output[0], [node])
    ]
    used = {name for node in nodes for name in node.input}
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(w for name, w in weights.items() if name in used)


def _tail(conv: NodeProto, users: dict[str, NodeProto]) -> list[NodeProto]:
    """The convolution and what turns its sums into floats: [Add bias], Cast, Mul scale."""
    tail = [conv]
    while tail[-1].op_type != "Mul":
        tail.append(users[tail[-1].output[0]])
    return tail


def _bias(tail: list[NodeProto], makers: dict[str, NodeProto]) -> str:
    """The float bias behind the quantised one (Reshape, Cast, Floor, Div), "" if there is none."""
    if tail[1].op_type != "Add":
        return ""
    name: str = next(name for name in tail[1].input if name not in tail[0].output)
    while name in makers:
        name = str(makers[name].input[0])
    return name


def _as_matmul(
    conv: NodeProto, weights: dict[str, TensorProto], scale: str, bias: str, output: str
) -> list[NodeProto]:
    source, kernel, zero, kernel_zero = conv.input
    (dilation,) = _attribute(conv, "dilations")
    before, after = _attribute(conv, "pads")

    def constant(name: str, values: np.ndarray) -> str:
        weights[name] = numpy_helper.from_array(values, name)
        return name

    matrix = numpy_helper.to_array(weights[kernel])  # [out, in, width]
    width = matrix.shape[2]
    rows = matrix.transpose(2, 1, 0).reshape(-1, matrix.shape[0])  # [width * in, out]
    signed = constant(f"{kernel}/rows", (rows.astype(np.int16) - 128).astype(np.int8))
    point = numpy_helper.to_array(weights[kernel_zero]).astype(np.int16) - 128
    signed_zero = constant(f"{kernel_zero}/signed", point.astype(np.int8))
    one = constant("conv/one", np.array(1, np.float32))
    axis = constant("conv/time", np.array([1], np.int64))
    pads = constant(f"conv/{before}_{after}", np.array([0, before, 0, 0, after, 0], np.int64))

    windows = [f"{output}/{k}" for k in range(width)]
    slices = []
    for k, window in enumerate(windows):
        left = (width - 1 - k) * dilation
        start = constant(f"conv/{k * dilation}", np.array([k * dilation], np.int64))
        end = constant(f"conv/-{left}", np.array([-left if left else _TO_THE_END], np.int64))
        slices.append(helper.make_node("Slice", [f"{output}/padded", start, end, axis], [window]))
    factors = [f"{output}/windows", signed, scale, one, zero, signed_zero, bias]
    return [
        helper.make_node("Transpose", [source], [f"{output}/t"], perm=[0, 2, 1]),
        helper.make_node("Pad", [f"{output}/t", pads, zero], [f"{output}/padded"]),
        *slices,
        helper.make_node("Concat", windows, [f"{output}/windows"], axis=2),
        helper.make_node(
            "MatMulIntegerToFloat", factors, [f"{output}/rows"], domain="com.microsoft"
        ),
        helper.make_node("Transpose", [f"{output}/rows"], [output], perm=[0, 2, 1]),
    ]


def _attribute(node: NodeProto, name: str) -> list[int]:
    return next(list(a.ints) for a in node.attribute if a.name == name)
