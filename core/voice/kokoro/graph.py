"""Edits of the Kokoro graph: scalable pitch, no computation of the silence at both ends, faster
operators, and integer weights that are exact on every processor."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper

from core.voice.kokoro import operators
from core.voice.kokoro.editing import Editor, make_node

_PITCH = "/encoder/F0_proj/Conv_output_0"
_ENERGY = "/encoder/N_proj/Conv_output_0"
_PHONEMES = "/encoder/MatMul_1_output_0"
"""Features of the phonemes, repeated for their durations: 40 columns per second."""
_CURVES = ("/encoder/Reshape_output_0", "/encoder/Reshape_1_output_0")
"""Inputs of the decoder for pitch and energy: 80 values per second."""
_AUDIBLE = -3.0
"""Energy (the predictor's logarithmic measure) below which audio is 50 dB under the peak."""
_FRAMES_BEFORE, _FRAMES_AFTER = 2, 4
"""Columns kept before the first audible one and after the last."""


def prepare(model: bytes) -> bytes:
    """Add input `f0_scale` [1] and output `f0_scaled` [1, 1, frames]; replace slow operators."""
    edited = onnx.load_from_string(model)
    expose_pitch(edited)
    cut_silence(edited)
    operators.fuse_norms(edited)
    operators.fuse_snake_activations(edited)
    operators.convert_convolutions(edited)
    separate_zero_points(edited)
    return bytes(edited.SerializeToString())


def expose_pitch(model: ModelProto) -> None:
    """Multiply the output of the pitch predictor by `f0_scale` before it is used."""
    graph = model.graph
    for node in graph.node:
        node.input[:] = ["f0_scaled" if name == _PITCH else name for name in node.input]
    producer = next(i for i, node in enumerate(graph.node) if _PITCH in node.output)
    graph.node.insert(producer + 1, make_node("Mul", [_PITCH, "f0_scale"], ["f0_scaled"]))
    floats = TensorProto.FLOAT
    graph.input.append(helper.make_tensor_value_info("f0_scale", floats, [1]))
    graph.output.append(helper.make_tensor_value_info("f0_scaled", floats, [1, 1, "frames"]))


def cut_silence(model: ModelProto) -> None:
    """Run the decoder from shortly before the first audible column to shortly after the last.

    The decoder takes nearly all the time, and every sentence has a third of a second of silence
    before it and half a second after it that would be trimmed anyway. The prosody is still
    predicted with the silence. The decoder's norms then cover speech alone, so that short sentences
    are no louder than long ones. If no column is audible, all are kept.
    """
    graph, edit = model.graph, Editor(model)

    def number(value: int) -> str:
        return edit.constant(f"cut/{value}", np.array([value], np.int64))

    ends = [
        make_node(
            "Greater", [_ENERGY, edit.constant("cut/audible", np.float32(_AUDIBLE))], ["cut/yes"]
        ),
        make_node("Cast", ["cut/yes"], ["cut/mask"], to=TensorProto.INT32),
        make_node("Reshape", ["cut/mask", number(-1)], ["cut/line"]),
        make_node("ArgMax", ["cut/line"], ["cut/first"], axis=0),
        make_node("ArgMax", ["cut/line"], ["cut/last"], axis=0, select_last_index=1),
        make_node("Div", ["cut/first", number(2)], ["cut/first_column"]),
        make_node("Sub", ["cut/first_column", number(_FRAMES_BEFORE)], ["cut/early"]),
        make_node("Max", ["cut/early", number(0)], ["cut/start"]),
        make_node("Div", ["cut/last", number(2)], ["cut/last_column"]),
        make_node("Add", ["cut/last_column", number(_FRAMES_AFTER + 1)], ["cut/end"]),
        make_node("Mul", ["cut/start", number(2)], ["cut/curve_start"]),
        make_node("Mul", ["cut/end", number(2)], ["cut/curve_end"]),
        make_node("Slice", [_PHONEMES, "cut/start", "cut/end", number(2)], [f"{_PHONEMES}/cut"]),
    ]
    ends += [
        make_node("Slice", [curve, "cut/curve_start", "cut/curve_end", number(1)], [f"{curve}/cut"])
        for curve in _CURVES
    ]
    cut = {name: f"{name}/cut" for name in (_PHONEMES, *_CURVES)}
    for node in graph.node:
        node.input[:] = [cut.get(name, name) for name in node.input]
    graph.node.extend(ends)
    edit.apply()
    _sort_nodes(graph)


def _sort_nodes(graph: onnx.GraphProto) -> None:
    """Sort nodes topologically, otherwise in their original order."""
    known = {"", *(value.name for value in graph.input), *(t.name for t in graph.initializer)}
    waiting, ordered = [*graph.node], list[NodeProto]()
    while waiting:
        late = []
        for node in waiting:
            if known.issuperset(node.input):
                ordered.append(node)
                known.update(node.output)
            else:
                late.append(node)
        if len(late) == len(waiting):
            raise ValueError(f"No node produces an input of {late[0].name or late[0].output[0]}.")
        waiting = late
    copies = [NodeProto.FromString(node.SerializeToString()) for node in ordered]
    del graph.node[:]
    graph.node.extend(copies)


def separate_zero_points(model: ModelProto) -> None:
    """Give every node its own signed zero point. Where ONNX Runtime makes weights unsigned (see
    core/inference.py), it replaces each zero point only once, by name."""
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
