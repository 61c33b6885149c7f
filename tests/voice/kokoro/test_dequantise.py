"""The graph of floats for CUDA, operator by operator; `python -m bench.gpu` compares whole
sentences, whose samples differ because rounding moves the phase of the voice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper

from core import inference
from core.voice.kokoro import KokoroVoice
from core.voice.kokoro.dequantise import dequantise
from core.voice.kokoro.editing import Editor

pytestmark = pytest.mark.slow
STEPS = 60
INTEGERS = {"MatMulInteger", "MatMulIntegerToFloat", "ConvInteger", "DynamicQuantizeLSTM"}


@pytest.fixture(scope="module")
def model(voice: KokoroVoice, cache: Path) -> ModelProto:
    (copy,) = cache.iterdir()
    return onnx.load(copy)


def around(model: ModelProto, kind: str) -> tuple[bytes, list[int]]:
    """Return a graph of one operator, and of what rounds its input x to 8 bits and makes its
    result y a float again; and the shape of x."""
    edit = Editor(model)
    middle = next(node for node in model.graph.node if node.op_type == kind)
    weights = edit.constant_values(middle.input[1]).shape
    nodes, pending, x = list[NodeProto](), [middle], middle.input[0]
    y = middle.output[0]
    while kind in ("MatMulInteger", "ConvInteger") and pending[-1].op_type != "Mul":
        pending += edit.consumers(y)
        y = pending[-1].output[0]
    if kind == "DynamicQuantizeLSTM":  # its first state is 0 by default
        middle.input[4:7] = ["", "", ""]
    while pending:
        node = pending.pop()
        if node in nodes:
            continue
        nodes.insert(0, node)
        if node.op_type == "DynamicQuantizeLinear":
            x = node.input[0]
        else:
            names = node.input if kind != "DynamicQuantizeLSTM" else []
            pending += [edit.producers[name] for name in names if name in edit.producers]
    width = max(
        (int(name.split("/")[1]) for node in nodes for name in node.input if is_taps(name)),
        default=1,
    )
    shape = {
        "MatMulInteger": [1, STEPS, weights[0]],
        "MatMulIntegerToFloat": [1, weights[0] // width, STEPS],
        "ConvInteger": [1, weights[1] if len(weights) > 1 else 1, 20 * STEPS],
        "DynamicQuantizeLSTM": [STEPS, 1, weights[1]],
    }[kind]
    used = {name for node in nodes for name in node.input}
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in (x, y)]
    constants = [tensor for tensor in model.graph.initializer if tensor.name in used]
    graph = helper.make_graph(nodes, "part", ends[:1], ends[1:], constants)
    part = ModelProto()
    part.CopyFrom(helper.make_model(graph, opset_imports=model.opset_import, ir_version=8))
    in_order(part)
    return part.SerializeToString(), shape


def is_taps(name: str) -> bool:
    return name.startswith("conv/") and all(part.isdigit() for part in name.split("/")[1:])


def in_order(part: ModelProto) -> None:
    from core.voice.kokoro.graph import _sort_nodes

    _sort_nodes(part.graph)


@pytest.mark.parametrize("kind", sorted(INTEGERS))
def test_an_operator_computes_the_same_without_rounding(model: ModelProto, kind: str) -> None:
    part, shape = around(model, kind)
    floats = dequantise(part)
    assert not {node.op_type for node in onnx.load_from_string(floats).graph.node} & INTEGERS
    x = np.random.default_rng(0).standard_normal(shape, np.float32)
    results = []
    for data in (part, floats):
        session = inference.open_session(data, threads=1, cpu_only=True)
        results.append(session.run(None, {session.get_inputs()[0].name: x})[0])
    eight, wide = results
    assert eight.shape == wide.shape
    noise = np.square(eight - wide, dtype=np.float64).mean()
    assert 10 * np.log10(np.square(wide, dtype=np.float64).mean() / noise) > 30
