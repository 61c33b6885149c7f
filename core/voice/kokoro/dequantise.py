"""Turns the 8-bit Kokoro graph into one of floats, for CUDA, which has no kernels for integers.

The weights keep their rounded values; what passes through the network is no longer rounded.
Convolutions stay the matrix products that `operators` made of them: they need no cuDNN plan for
each new length.
"""

from __future__ import annotations

import hashlib

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto

from core.voice.kokoro.editing import Editor, make_node
from core.voice.kokoro.operators import dequantisation, float_bias

_ONE, _ZERO = "float/one", "float/zero"
"""Scale and zero point of what is not rounded."""


def dequantise(model: bytes) -> bytes:
    """Return the graph that `graph.prepare` returned, with weights and arithmetic in float32."""
    edited = onnx.load_from_string(model)
    del edited.graph.value_info[:]  # states the types of before
    _keep_activations(edited)
    edit = Editor(edited)
    edit.constant(_ONE, np.float32(1))
    edit.constant(_ZERO, np.float32(0))
    for node in edited.graph.node:
        if node.op_type == "ConvInteger":
            _convolve(edit, node)
        elif node.op_type == "DynamicQuantizeLSTM":
            edit.replace_node(node.output[0], [_lstm(edit, node)])
        elif node.op_type in ("MatMulInteger", "MatMulIntegerToFloat"):
            edit.replace_node(node.output[0], _multiply(edit, node))
    edit.apply()
    return bytes(edited.SerializeToString())


def _keep_activations(model: ModelProto) -> None:
    """Remove the operators that round to 8 bits: what they read takes the place of the result."""
    graph, renamed = model.graph, dict[str, str]()
    kept = []
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        if node.op_type == "DynamicQuantizeLinear":
            renamed |= zip(node.output, (node.input[0], _ONE, _ZERO), strict=True)
        else:
            kept.append(NodeProto.FromString(node.SerializeToString()))
    del graph.node[:]
    graph.node.extend(kept)


def _multiply(edit: Editor, node: NodeProto) -> list[NodeProto]:
    """MatMulInteger (a, b, zeros) or MatMulIntegerToFloat (a, b, scales, zeros, bias)."""
    (output,) = node.output
    if node.op_type == "MatMulInteger":
        return [make_node("MatMul", [node.input[0], _weights(edit, node, 1, 3)], [output])]
    names = [f"{output}/product", f"{output}/scaled", f"{output}/rescaled"]
    bias = node.input[6] if len(node.input) > 6 else ""
    return [
        make_node("MatMul", [node.input[0], _weights(edit, node, 1, 5)], [names[0]]),
        make_node("Mul", [names[0], node.input[2]], [names[1]]),
        make_node("Mul", [names[1], node.input[3]], [names[2]]),
        make_node("Add", [names[2], bias or _ZERO], [output]),
    ]


def _convolve(edit: Editor, conv: NodeProto) -> None:
    """Replace a ConvInteger, whose bias is rounded to steps, and what dequantises its result."""
    tail = dequantisation(conv, edit)
    output, bias = tail[-1].output[0], float_bias(tail, edit)
    scale = next(name for name in tail[-1].input if name != tail[-2].output[0])
    column = edit.constant("float/column", np.array([1, -1, 1]))
    product = make_node("Conv", [conv.input[0], _weights(edit, conv, 1, 3)], [f"{output}/product"])
    product.attribute.extend(conv.attribute)
    nodes = [product, make_node("Mul", [f"{output}/product", scale], [f"{output}/scaled"])]
    if bias:
        nodes.append(make_node("Reshape", [bias, column], [f"{output}/bias"]))
    nodes.append(
        make_node("Add", [f"{output}/scaled", f"{output}/bias" if bias else _ZERO], [output])
    )
    edit.replace_node(output, nodes)
    edit.remove_nodes(name for node in tail[:-1] for name in node.output)


def _lstm(edit: Editor, node: NodeProto) -> NodeProto:
    """DynamicQuantizeLSTM has LSTM's inputs, then scales and zeros of both weights, which are
    (directions, in, 4 * hidden) instead of (directions, 4 * hidden, in)."""
    inputs = list(node.input)
    for weight, scale in ((1, 8), (2, 10)):
        zero = edit.constant_values(inputs[scale + 1]).astype(np.float32)
        values = edit.constant_values(inputs[weight]).astype(np.float32)
        factor = np.asarray(edit.constant_values(inputs[scale]), np.float32)
        wide = (len(factor), 1, -1)
        values = (values - zero.reshape(wide)) * factor.reshape(wide)
        inputs[weight] = edit.constant(f"{inputs[weight]}/float", values.transpose(0, 2, 1).copy())
    lstm = make_node("LSTM", inputs[:8], list(node.output))
    lstm.attribute.extend(node.attribute)
    return lstm


def _weights(edit: Editor, node: NodeProto, weight: int, zero: int) -> str:
    """Return weights whose zero point is subtracted; what is not constant was not rounded."""
    name = str(node.input[weight])
    if name not in edit.weights:
        return name
    values: NDArray[np.generic] = edit.constant_values(name)
    point = np.float32(0)
    if len(node.input) > zero and node.input[zero]:
        point = np.float32(edit.constant_values(node.input[zero]))
    # Layers that share their weights have copies of them.
    digest = hashlib.sha256(values.tobytes()).hexdigest()
    shared = f"float/{digest}/{values.shape}/{point}"
    if shared in edit.weights:
        return shared
    return edit.constant(shared, values.astype(np.float32) - point)
