"""Edits of the Kokoro graph, made while loading: pitch in and out, faster convolutions and norms,
and weights that stay exact on every processor."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

_PITCH = "/encoder/F0_proj/Conv_output_0"
_TO_THE_END = np.iinfo(np.int64).max


def prepare(model: bytes) -> bytes:
    """Add input `f0_scale` [1] and output `f0_scaled` [1, 1, frames]; rewrite convolutions and
    norms."""
    edited = onnx.load_from_string(model)
    _open_pitch(edited)
    _normalise_at_once(edited)
    _convolve_by_matmul(edited)
    _own_zero_points(edited)
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


def _normalise_at_once(model: ModelProto) -> None:
    """Adaptive instance norms are exported as nine operators, each a pass over memory: mean, two
    differences, variance, quotient, scale, shift. InstanceNormalization takes scale and shift from
    outside as well, and passes twice."""
    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}
    users: dict[str, list[NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    flat = numpy_helper.from_array(np.array([-1], np.int64), "norm/flat")
    graph.initializer.append(flat)
    fused: dict[str, list[NodeProto]] = {}
    gone: set[str] = set()
    for root in graph.node:
        if root.op_type != "Sqrt" or (chain := _norm(root, makers, users)) is None:
            continue
        mean, _, _, _, add, _, div, scaled, shifted = chain
        scale = next(name for name in scaled.input if name != div.output[0])
        shift = next(name for name in shifted.input if name != scaled.output[0])
        (epsilon,) = numpy_helper.to_array(weights[add.input[1]]).ravel()
        (output,) = shifted.output
        fused[output] = [
            helper.make_node("Reshape", [scale, flat.name], [f"{output}/scale"]),
            helper.make_node("Reshape", [shift, flat.name], [f"{output}/shift"]),
            helper.make_node(
                "InstanceNormalization",
                [mean.input[0], f"{output}/scale", f"{output}/shift"],
                [output],
                epsilon=float(epsilon),
            ),
        ]
        gone |= {node.output[0] for node in chain[:-1]}
    _replace(model, gone, fused)


_NORM = ("ReduceMean", "Sub", "Mul", "ReduceMean", "Add", "Sqrt", "Div", "Mul", "Add")


def _norm(
    root: NodeProto, makers: dict[str, NodeProto], users: dict[str, list[NodeProto]]
) -> list[NodeProto] | None:
    """The nine operators of a norm around its square root; None if it is another kind of root."""
    chain = [root]
    for position in (0, 0, 0, 0, 1):  # up: Add, ReduceMean, Mul, Sub, ReduceMean
        inputs = chain[0].input
        if position >= len(inputs) or inputs[position] not in makers:
            return None
        chain.insert(0, makers[inputs[position]])
    while len(chain) < len(_NORM):
        following = users[chain[-1].output[0]]
        if len(following) != 1:
            return None
        chain.append(following[0])
    return chain if tuple(node.op_type for node in chain) == _NORM else None


def _own_zero_points(model: ModelProto) -> None:
    """Give every node its own signed zero point: where ONNX Runtime makes weights unsigned (see
    core/onnx.py) it replaces each by name, once."""
    graph = model.graph
    signed = {t.name: t for t in graph.initializer if t.data_type == TensorProto.INT8}
    seen: set[str] = set()
    for node in graph.node:
        for i, name in enumerate(node.input):
            if name in seen:
                own = TensorProto()
                own.CopyFrom(signed[name])
                own.name = f"{name}/{len(seen)}"
                graph.initializer.append(own)
                node.input[i] = own.name
                seen.add(own.name)
            elif name in signed:
                seen.add(name)


def _replace(model: ModelProto, gone: set[str], made: dict[str, list[NodeProto]]) -> None:
    """Leave out the nodes that write `gone`; put others where a name of `made` was written; drop
    the weights that nobody uses any more."""
    graph = model.graph
    nodes = [
        new
        for node in graph.node
        if node.output[0] not in gone
        for new in made.get(node.output[0], [node])
    ]
    used = {name for node in nodes for name in node.input}
    weights = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(weights)


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
    del model.graph.initializer[:]
    model.graph.initializer.extend(weights.values())
    _replace(model, gone, replaced)


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
