"""Smaller numbers where they cost nothing one can hear: 8-bit weights, calibrated convolutions."""

from __future__ import annotations

import numpy as np

from core.convert.checkpoint import Float
from core.convert.graph import CONTRIB, Graph
from core.convert.t2s import Project, plain
from core.voice.gpt_sovits.bundle import Precision

_BLOCK = 64
"""With blocks of 128 and more ONNX Runtime sums a single row in another order than rows in pairs:
a sentence would then depend on how many are spoken with it."""
_ZERO = 128
"""The byte that stands for 0: what MatMulNBits assumes where no zero points are given."""
_INT8_ACTIVATIONS = 4


def projections(precision: Precision) -> tuple[Project, Project]:
    """How T2S multiplies by its weights: in a step, and in the prefill.

    In a step each row of the activations is quantised by itself, so rows of a batch stay
    independent. The prefill has one row and so may use the faster kernel with one scale for all.
    """
    return (blockwise, whole) if precision in ("int8", "fast") else (plain, plain)


def blockwise(g: Graph, x: str, weight: Float, bias: Float | None) -> str:
    """Weights (out, in) as bytes with a scale for every 64 inputs of an output."""
    out, inner = weight.shape
    block = _BLOCK if inner % _BLOCK == 0 else 16
    blocks = -(-inner // block)
    padded = np.pad(weight, ((0, 0), (0, blocks * block - inner))).reshape(out, blocks, block)
    scale = np.maximum(np.abs(padded).max(2, keepdims=True) / 127, 1e-12).astype(np.float32)
    stored = (np.rint(padded / scale) + _ZERO).astype(np.uint8)
    inputs = [stored, scale.reshape(out, blocks), None, None, *([] if bias is None else [bias])]
    return g.op(
        "MatMulNBits",
        x,
        *inputs,
        domain=CONTRIB,
        K=inner,
        N=out,
        bits=8,
        block_size=block,
        accuracy_level=_INT8_ACTIVATIONS,
    )


def whole(g: Graph, x: str, weight: Float, bias: Float | None) -> str:
    """Weights (out, in) as signed bytes with a scale for every output; activations on the fly."""
    scale = np.maximum(np.abs(weight).max(1) / 127, 1e-12).astype(np.float32)
    stored = np.rint(weight / scale[:, None]).astype(np.int8).T
    inputs = [stored, scale, None, *([] if bias is None else [bias])]
    return g.op("DynamicQuantizeMatMul", x, *inputs, domain=CONTRIB)
