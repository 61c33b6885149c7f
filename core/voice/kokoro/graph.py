"""Edits of the Kokoro graph, made while loading: pitch in and out, and faster convolutions."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

_PITCH = "/encoder/F0_proj/Conv_output_0"
_TO_THE_END = np.iinfo(np.int64).max


def prepare(model: bytes) -> bytes:
    """Add input `f0_scale` [1] and output `f0_scaled` [1, 1, frames], and rewrite convolutions.

    Given the same f0_scale of 1, the audio is the same to the last bit.
    """
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
    fast one (VNNI, signed weights on the right, packed once) for MatMulInteger: lay the windows out
    as rows and multiply. Twice as fast on AVX-512, and integer arithmetic leaves the sums as they
    were.
    """
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes: list[NodeProto] = []
    for node in model.graph.node:
        if node.op_type == "ConvInteger" and _attribute(node, "strides") == [1]:
            nodes += _as_matmul(node, weights)
        else:
            nodes.append(node)
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    model.graph.initializer.extend(w for name, w in weights.items() if name in used)


def _as_matmul(conv: NodeProto, weights: dict[str, TensorProto]) -> list[NodeProto]:
    source, kernel, zero, kernel_zero = conv.input
    (output,) = conv.output
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
    axis = constant("conv/time", np.array([1], np.int64))
    pads = constant(f"conv/{before}_{after}", np.array([0, before, 0, 0, after, 0], np.int64))

    made = [
        helper.make_node("Transpose", [source], [f"{output}/t"], perm=[0, 2, 1]),
        helper.make_node("Pad", [f"{output}/t", pads, zero], [f"{output}/padded"]),
    ]
    for k in range(width):
        left = (width - 1 - k) * dilation
        start = constant(f"conv/{k * dilation}", np.array([k * dilation], np.int64))
        end = constant(f"conv/-{left}", np.array([-left if left else _TO_THE_END], np.int64))
        inputs = [f"{output}/padded", start, end, axis]
        made.append(helper.make_node("Slice", inputs, [f"{output}/{k}"]))
    windows = [f"{output}/{k}" for k in range(width)]
    factors = [f"{output}/windows", signed, zero, signed_zero]
    return [
        *made,
        helper.make_node("Concat", windows, [f"{output}/windows"], axis=2),
        helper.make_node("MatMulInteger", factors, [f"{output}/rows"]),
        helper.make_node("Transpose", [f"{output}/rows"], [output], perm=[0, 2, 1]),
    ]


def _attribute(node: NodeProto, name: str) -> list[int]:
    return next(list(a.ints) for a in node.attribute if a.name == name)
