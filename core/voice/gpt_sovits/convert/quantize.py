"""Smaller numbers where they cost nothing one can hear: 8-bit weights, calibrated convolutions."""

from __future__ import annotations

import numpy as np

from core.voice.gpt_sovits.bundle import Precision
from core.voice.gpt_sovits.convert.checkpoint import Float
from core.voice.gpt_sovits.convert.graph import CONTRIB, Graph
from core.voice.gpt_sovits.convert.t2s import Project, plain

_STEPS = 127
"""From 0 to the peak of a row."""
_WEIGHTS = 64
"""Largest magnitude of a weight: a byte of 255 times 64, twice, still fits the 16 bits that CPUs
without VNNI add products in. Inputs that are never negative are bytes up to 127, and leave 127."""
_ZERO = 128
"""The byte that stands for 0."""
_BLOCK = 64


def projection(precision: Precision) -> Project:
    """How T2S multiplies by its weights."""
    return rowwise if precision in ("int8", "fast") else plain


def rowwise(g: Graph, x: str, weight: Float, bias: Float | None, *, positive: bool = False) -> str:
    """Weights (out, in) as bytes with a scale an output; inputs as bytes with a scale a row.

    Products are added as integers, so a row comes out the same to the bit in any company.
    """
    most, zero = (127, 0) if positive else (_WEIGHTS, _ZERO)
    scales = np.maximum(np.abs(weight).max(1) / most, 1e-12).astype(np.float32)
    stored = np.rint(weight / scales[:, None]).astype(np.int8).T
    peak = g.op("ReduceMax", x if positive else g.op("Abs", x), np.array([-1]))
    # A row of zeros has the peak 0: whatever 0 / 0 is rounded to comes out as 0 again.
    step = np.float32(1 / _STEPS)
    rounded = g.op("QuantizeLinear", g.op("Div", x, peak), step, np.uint8(zero))
    operands = [rounded, stored, np.float32(1), scales * step, np.uint8(zero)]
    product = g.op("Mul", g.op("MatMulIntegerToFloat", *operands, domain=CONTRIB), peak)
    return product if bias is None else g.op("Add", product, bias)


def blockwise(
    g: Graph, x: str, weight: Float, bias: Float | None, *, positive: bool = False
) -> str:
    """Weights as bytes with a scale for every 64 inputs of an output; ONNX Runtime rounds inputs
    block by block as well. One operator instead of seven.

    With blocks of 64 a row comes out the same to the bit in any company; with 128 it would not.
    """
    outputs, inputs = weight.shape
    wide = np.pad(weight, ((0, 0), (0, -inputs % _BLOCK))).reshape(outputs, -1, _BLOCK)
    scales = np.maximum(np.abs(wide).max(2) / 127, 1e-12).astype(np.float32)
    stored = (np.rint(wide / scales[:, :, None]) + _ZERO).astype(np.uint8)
    how = {"K": inputs, "N": outputs, "bits": 8, "block_size": _BLOCK, "accuracy_level": 4}
    return g.op("MatMulNBits", x, stored, scales, None, None, bias, domain=CONTRIB, **how)
