"""Operators of the Kokoro graph put in forms that ONNX Runtime computes faster. What they compute
stays what it was but for rounding."""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, NodeProto

from core.voice.kokoro.editing import Editor, attribute, make, other

_NORM = ("ReduceMean", "Sub", "Mul", "ReduceMean", "Add", "Sqrt", "Div")
_FLATTEST = 1e-3
"""Snake activations flatter than this are straight lines, and 1 / alpha would lose digits."""


def normalise_at_once(model: ModelProto) -> None:
    """Adaptive instance norms are exported as nine operators, each a pass over memory: mean, two
    differences, variance, quotient, scale, shift. InstanceNormalization takes scale and shift from
    outside as well, and passes twice. The three branches of a stage share all but scale and shift:
    each gets its own."""
    edit = Editor(model)
    flat = edit.constant("norm/flat", np.array([-1], np.int64))
    for root in model.graph.node:
        if root.op_type != "Sqrt" or (chain := _norm(root, edit)) is None:
            continue
        mean, _, _, _, add, _, div = chain
        epsilon = float(edit.values(add.input[1]).item())
        for scaled in edit.users(div.output[0]):
            (shifted,) = edit.users(scaled.output[0])
            (output,) = shifted.output
            scale = other(scaled, than=div.output[0])
            shift = other(shifted, than=scaled.output[0])
            inputs = [mean.input[0], f"{output}/scale", f"{output}/shift"]
            nodes = [
                make("Reshape", [scale, flat], [inputs[1]]),
                make("Reshape", [shift, flat], [inputs[2]]),
                make("InstanceNormalization", inputs, [output], epsilon=epsilon),
            ]
            edit.put(output, nodes)
            edit.leave_out(scaled.output)
        edit.leave_out(node.output[0] for node in chain)
    edit.apply()


def _norm(root: NodeProto, edit: Editor) -> list[NodeProto] | None:
    """The operators of a norm around its square root, to the quotient; None if it is another kind
    of root."""
    chain = [root]
    for position in (0, 0, 0, 0, 1):  # up: Add, ReduceMean, Mul, Sub, ReduceMean
        inputs = chain[0].input
        if position >= len(inputs) or inputs[position] not in edit.makers:
            return None
        chain.insert(0, edit.makers[inputs[position]])
    chain += edit.users(root.output[0])
    if tuple(node.op_type for node in chain) != _NORM:
        return None
    scaled = edit.users(chain[-1].output[0])
    return chain if all(node.op_type == "Mul" for node in scaled) else None


def activate_by_cosine(model: ModelProto) -> None:
    """Snake activations, x + sin(a x)^2 / a, are five passes over memory. With u = 2 a x they are
    (u - cos u + 1) / 2a: the norm in front gives u as well as x, the norm of no statistics behind
    divides and adds at once, and two passes are left between them."""
    edit = Editor(model)
    for sine in model.graph.node:
        if sine.op_type == "Sin" and (chain := _snake(sine, edit)) is not None:
            norm, inner, square, outer, output, alpha = chain
            twice = 2 * np.where(np.abs(alpha) < _FLATTEST, np.float32(_FLATTEST), alpha)
            size = len(twice)
            half = edit.constant(f"{output}/half", np.float32(1) / twice)
            factor = edit.constant(f"{output}/twice", twice)
            zeros = edit.constant(f"snake/zeros/{size}", np.zeros(size, np.float32))
            ones = edit.constant(f"snake/ones/{size}", np.ones(size, np.float32))
            source, scale, shift = norm.input
            wave = f"{output}/u"
            scaled = [source, f"{wave}/scale", f"{wave}/shift"]
            affine = make(
                "BatchNormalization",
                [f"{output}/sum", half, half, zeros, ones],
                [output],
                epsilon=0.0,
            )
            nodes = [
                make("Mul", [scale, factor], [scaled[1]]),
                make("Mul", [shift, factor], [scaled[2]]),
                make("InstanceNormalization", scaled, [wave]),
                make("Cos", [wave], [f"{output}/cosine"]),
                make("Sub", [wave, f"{output}/cosine"], [f"{output}/sum"]),
                affine,
            ]
            nodes[2].attribute.extend(norm.attribute)
            edit.put(output, nodes)
            edit.leave_out(node.output[0] for node in (norm, inner, sine, square, outer))
    edit.apply()


def _snake(
    sine: NodeProto, edit: Editor
) -> tuple[NodeProto, NodeProto, NodeProto, NodeProto, str, np.ndarray] | None:
    """Around a sine: the norm in front, Mul, Pow, Mul, and the name of what they make, with alpha
    of every channel; None if it is another kind of sine."""
    inner = edit.makers.get(sine.input[0])
    if inner is None or inner.op_type != "Mul":
        return None
    (alpha,) = [name for name in inner.input if name in edit.weights] or [""]
    norm = edit.makers.get(other(inner, than=alpha))
    (square,) = edit.users(sine.output[0])
    if not alpha or square.op_type != "Pow" or norm is None:
        return None
    (outer,) = edit.users(square.output[0])
    (added,) = edit.users(outer.output[0])
    values = np.asarray(edit.values(alpha), np.float32).ravel()
    return norm, inner, square, outer, str(added.output[0]), values


def convolve_by_matmul(model: ModelProto) -> None:
    """ONNX Runtime has no fast kernel for ConvInteger with the weights on the left, but a very
    fast one (signed weights on the right, packed once) for MatMulIntegerToFloat: lay the windows
    out as rows, multiply, scale and add the bias at once. The integer sums stay as they were; only
    the bias is no longer rounded down to whole steps.
    """
    edit = Editor(model)
    for conv in model.graph.node:
        if conv.op_type == "ConvInteger" and attribute(conv, "strides") == [1]:
            tail = _tail(conv, edit)
            scale = other(tail[-1], than=tail[-2].output[0])
            last = tail[-1].output[0]
            edit.put(last, _as_matmul(conv, edit, scale, _bias(tail, edit), last))
            edit.leave_out(name for node in tail[:-1] for name in node.output)
    edit.apply()


def _tail(conv: NodeProto, edit: Editor) -> list[NodeProto]:
    """The convolution and what turns its sums into floats: [Add bias], Cast, Mul scale."""
    tail = [conv]
    while tail[-1].op_type != "Mul":
        tail += edit.users(tail[-1].output[0])
    return tail


def _bias(tail: list[NodeProto], edit: Editor) -> str:
    """The float bias behind the quantised one (Reshape, Cast, Floor, Div), "" if there is none."""
    if tail[1].op_type != "Add":
        return ""
    name = other(tail[1], than=tail[0].output[0])
    while name in edit.makers:
        name = str(edit.makers[name].input[0])
    return name


def _as_matmul(
    conv: NodeProto, edit: Editor, scale: str, bias: str, output: str
) -> list[NodeProto]:
    source, kernel, zero, kernel_zero = conv.input
    matrix = edit.values(kernel)  # [out, in, width]
    rows = matrix.transpose(2, 1, 0).reshape(-1, matrix.shape[0])  # [width * in, out]
    signed = edit.constant(f"{kernel}/rows", _signed(rows))
    signed_zero = edit.constant(f"{kernel_zero}/signed", _signed(edit.values(kernel_zero)))
    one = edit.constant("conv/one", np.array(1, np.float32))
    factors = [f"{output}/windows", signed, scale, one, zero, signed_zero, bias]
    return [
        make("Transpose", [source], [f"{output}/0"], perm=[0, 2, 1]),
        *_windows(edit, conv, output),
        make("MatMulIntegerToFloat", factors, [f"{output}/rows"], domain="com.microsoft"),
        make("Transpose", [f"{output}/rows"], [output], perm=[0, 2, 1]),
    ]


def _windows(edit: Editor, conv: NodeProto, output: str) -> list[NodeProto]:
    """Of `output`/0 [1, time, in], the rows that the windows of a convolution cover: [1, time,
    width * in]. Gather copies every row of channels once; Slice and Concat copied it twice."""
    (width,) = attribute(conv, "kernel_shape")
    if width == 1:
        return [make("Identity", [f"{output}/0"], [f"{output}/windows"])]
    (dilation,) = attribute(conv, "dilations")
    before, after = attribute(conv, "pads")
    steps = edit.constant(f"conv/{width}/{dilation}", np.arange(width) * dilation)
    padding = edit.constant(f"conv/{before}_{after}", np.array([0, before, 0, 0, after, 0]))
    start = edit.constant("conv/start", np.array(0))
    one = edit.constant("conv/1", np.array(1))
    column = edit.constant("conv/column", np.array([-1, 1]))
    joined = edit.constant("conv/joined", np.array([1, 0, -1]))
    return [
        make("Shape", [f"{output}/0"], [f"{output}/shape"]),
        make("Gather", [f"{output}/shape", one], [f"{output}/time"]),
        make("Range", [start, f"{output}/time", one], [f"{output}/range"]),
        make("Reshape", [f"{output}/range", column], [f"{output}/starts"]),
        make("Add", [f"{output}/starts", steps], [f"{output}/at"]),
        make("Pad", [f"{output}/0", padding, conv.input[2]], [f"{output}/padded"]),
        make("Gather", [f"{output}/padded", f"{output}/at"], [f"{output}/taps"], axis=1),
        make("Reshape", [f"{output}/taps", joined], [f"{output}/windows"]),
    ]


def _signed(weights: np.ndarray) -> np.ndarray:
    """The published weights lie in 0..127. As -64..63 no sum of two products of bytes overflows 16
    bits, which processors without VNNI add them in."""
    return np.asarray(weights.astype(np.int16) - 64, np.int8)
