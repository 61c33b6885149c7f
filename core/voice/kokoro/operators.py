"""Replace operators of the Kokoro graph by equivalents that ONNX Runtime computes faster. Results
differ only by rounding."""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, NodeProto

from core.voice.kokoro.editing import Editor, int_attribute, make_node, other_input

_NORM = ("ReduceMean", "Sub", "Mul", "ReduceMean", "Add", "Sqrt", "Div")
_MIN_ALPHA = 1e-3
"""Snake activations with a smaller alpha are straight lines, and 1 / alpha would lose precision."""


def fuse_norms(model: ModelProto) -> None:
    """Replace adaptive instance norms, exported as nine operators that each pass over memory, by
    InstanceNormalization, which passes twice. The three branches of a stage share everything except
    scale and shift, and each gets its own norm."""
    edit = Editor(model)
    flat = edit.constant("norm/flat", np.array([-1], np.int64))
    for root in model.graph.node:
        if root.op_type != "Sqrt" or (chain := _match_norm(root, edit)) is None:
            continue
        mean, _, _, _, add, _, div = chain
        epsilon = float(edit.constant_values(add.input[1]).item())
        for scaled in edit.consumers(div.output[0]):
            (shifted,) = edit.consumers(scaled.output[0])
            (output,) = shifted.output
            scale = other_input(scaled, than=div.output[0])
            shift = other_input(shifted, than=scaled.output[0])
            inputs = [mean.input[0], f"{output}/scale", f"{output}/shift"]
            nodes = [
                make_node("Reshape", [scale, flat], [inputs[1]]),
                make_node("Reshape", [shift, flat], [inputs[2]]),
                make_node("InstanceNormalization", inputs, [output], epsilon=epsilon),
            ]
            edit.replace_node(output, nodes)
            edit.remove_nodes(scaled.output)
        edit.remove_nodes(node.output[0] for node in chain)
    edit.apply()


def _match_norm(root: NodeProto, edit: Editor) -> list[NodeProto] | None:
    """Return the operators of the norm around a square root, up to the quotient, or None if the
    root is not part of a norm."""
    chain = [root]
    for position in (0, 0, 0, 0, 1):  # up: Add, ReduceMean, Mul, Sub, ReduceMean
        inputs = chain[0].input
        if position >= len(inputs) or inputs[position] not in edit.producers:
            return None
        chain.insert(0, edit.producers[inputs[position]])
    chain += edit.consumers(root.output[0])
    if tuple(node.op_type for node in chain) != _NORM:
        return None
    scaled = edit.consumers(chain[-1].output[0])
    return chain if all(node.op_type == "Mul" for node in scaled) else None


def fuse_snake_activations(model: ModelProto) -> None:
    """Replace snake activations, x + sin(a x)^2 / a, five passes over memory, by the equivalent
    (u - cos u + 1) / 2a with u = 2 a x, three passes: the norm before it outputs u, and a
    BatchNormalization with fixed statistics divides and adds at once."""
    edit = Editor(model)
    for sine in model.graph.node:
        if sine.op_type == "Sin" and (chain := _match_snake(sine, edit)) is not None:
            norm, inner, square, outer, output, alpha = chain
            twice = 2 * np.where(np.abs(alpha) < _MIN_ALPHA, np.float32(_MIN_ALPHA), alpha)
            size = len(twice)
            half = edit.constant(f"{output}/half", np.float32(1) / twice)
            factor = edit.constant(f"{output}/twice", twice)
            zeros = edit.constant(f"snake/zeros/{size}", np.zeros(size, np.float32))
            ones = edit.constant(f"snake/ones/{size}", np.ones(size, np.float32))
            source, scale, shift = norm.input
            wave = f"{output}/u"
            scaled = [source, f"{wave}/scale", f"{wave}/shift"]
            affine = make_node(
                "BatchNormalization",
                [f"{output}/sum", half, half, zeros, ones],
                [output],
                epsilon=0.0,
            )
            nodes = [
                make_node("Mul", [scale, factor], [scaled[1]]),
                make_node("Mul", [shift, factor], [scaled[2]]),
                make_node("InstanceNormalization", scaled, [wave]),
                make_node("Cos", [wave], [f"{output}/cosine"]),
                make_node("Sub", [wave, f"{output}/cosine"], [f"{output}/sum"]),
                affine,
            ]
            nodes[2].attribute.extend(norm.attribute)
            edit.replace_node(output, nodes)
            edit.remove_nodes(node.output[0] for node in (norm, inner, sine, square, outer))
    edit.apply()


def _match_snake(
    sine: NodeProto, edit: Editor
) -> tuple[NodeProto, NodeProto, NodeProto, NodeProto, str, np.ndarray] | None:
    """Return the operators around a sine (the norm before it, Mul, Pow, Mul), the name of their
    output, and alpha of every channel; None if the sine is not part of a snake activation."""
    inner = edit.producers.get(sine.input[0])
    if inner is None or inner.op_type != "Mul":
        return None
    (alpha,) = [name for name in inner.input if name in edit.weights] or [""]
    norm = edit.producers.get(other_input(inner, than=alpha))
    (square,) = edit.consumers(sine.output[0])
    if not alpha or square.op_type != "Pow" or norm is None:
        return None
    (outer,) = edit.consumers(square.output[0])
    (added,) = edit.consumers(outer.output[0])
    values = np.asarray(edit.constant_values(alpha), np.float32).ravel()
    return norm, inner, square, outer, str(added.output[0]), values


def convert_convolutions(model: ModelProto) -> None:
    """Replace ConvInteger by MatMulIntegerToFloat, for which ONNX Runtime has a much faster kernel
    (signed weights on the right, packed once). Windows become rows of a matrix; product, scale and
    bias are one operator. Integer sums are the same; the bias is no longer rounded to whole steps.
    """
    edit = Editor(model)
    for conv in model.graph.node:
        if conv.op_type == "ConvInteger" and int_attribute(conv, "strides") == [1]:
            tail = dequantisation(conv, edit)
            scale = other_input(tail[-1], than=tail[-2].output[0])
            last = tail[-1].output[0]
            edit.replace_node(last, _to_matmul(conv, edit, scale, float_bias(tail, edit), last))
            edit.remove_nodes(name for node in tail[:-1] for name in node.output)
    edit.apply()


def dequantisation(conv: NodeProto, edit: Editor) -> list[NodeProto]:
    """Return the convolution and the operators that dequantise it: [Add bias], Cast, Mul scale."""
    tail = [conv]
    while tail[-1].op_type != "Mul":
        tail += edit.consumers(tail[-1].output[0])
    return tail


def float_bias(tail: list[NodeProto], edit: Editor) -> str:
    """Return the float bias from which the quantised one is computed (Reshape, Cast, Floor, Div),
    or "" if there is none."""
    if tail[1].op_type != "Add":
        return ""
    name = other_input(tail[1], than=tail[0].output[0])
    while name in edit.producers:
        name = str(edit.producers[name].input[0])
    return name


def _to_matmul(
    conv: NodeProto, edit: Editor, scale: str, bias: str, output: str
) -> list[NodeProto]:
    source, kernel, zero, kernel_zero = conv.input
    matrix = edit.constant_values(kernel)  # [out, in, width]
    rows = matrix.transpose(2, 1, 0).reshape(-1, matrix.shape[0])  # [width * in, out]
    signed = edit.constant(f"{kernel}/rows", _to_signed(rows))
    signed_zero = edit.constant(
        f"{kernel_zero}/signed", _to_signed(edit.constant_values(kernel_zero))
    )
    one = edit.constant("conv/one", np.array(1, np.float32))
    factors = [f"{output}/windows", signed, scale, one, zero, signed_zero, bias]
    return [
        make_node("Transpose", [source], [f"{output}/0"], perm=[0, 2, 1]),
        *_gather_windows(edit, conv, output),
        make_node("MatMulIntegerToFloat", factors, [f"{output}/rows"], domain="com.microsoft"),
        make_node("Transpose", [f"{output}/rows"], [output], perm=[0, 2, 1]),
    ]


def _gather_windows(edit: Editor, conv: NodeProto, output: str) -> list[NodeProto]:
    """Return nodes that gather the windows of a convolution, [1, time, width * in], from
    `output`/0 [1, time, in]. Gather copies each row of channels once; Slice and Concat would copy
    it twice."""
    (width,) = int_attribute(conv, "kernel_shape")
    if width == 1:
        return [make_node("Identity", [f"{output}/0"], [f"{output}/windows"])]
    (dilation,) = int_attribute(conv, "dilations")
    before, after = int_attribute(conv, "pads")
    steps = edit.constant(f"conv/{width}/{dilation}", np.arange(width) * dilation)
    padding = edit.constant(f"conv/{before}_{after}", np.array([0, before, 0, 0, after, 0]))
    start = edit.constant("conv/start", np.array(0))
    one = edit.constant("conv/1", np.array(1))
    column = edit.constant("conv/column", np.array([-1, 1]))
    joined = edit.constant("conv/joined", np.array([1, 0, -1]))
    return [
        make_node("Shape", [f"{output}/0"], [f"{output}/shape"]),
        make_node("Gather", [f"{output}/shape", one], [f"{output}/time"]),
        make_node("Range", [start, f"{output}/time", one], [f"{output}/range"]),
        make_node("Reshape", [f"{output}/range", column], [f"{output}/starts"]),
        make_node("Add", [f"{output}/starts", steps], [f"{output}/at"]),
        make_node("Pad", [f"{output}/0", padding, conv.input[2]], [f"{output}/padded"]),
        make_node("Gather", [f"{output}/padded", f"{output}/at"], [f"{output}/taps"], axis=1),
        make_node("Reshape", [f"{output}/taps", joined], [f"{output}/windows"]),
    ]


def _to_signed(weights: np.ndarray) -> np.ndarray:
    """Move the published weights from 0..127 to -64..63. Then no sum of two products of bytes
    overflows 16 bits, the width in which processors without VNNI add them."""
    return np.asarray(weights.astype(np.int16) - 64, np.int8)
