"""Linear layers of T2S with 8-bit weights."""

from __future__ import annotations

import numpy as np

from core.voice.gpt_sovits.bundle import Precision
from core.voice.gpt_sovits.convert.checkpoint import Float
from core.voice.gpt_sovits.convert.graph import CONTRIB, Graph
from core.voice.gpt_sovits.convert.t2s import Linear, float_linear

_INPUT_STEPS = 127
"""Quantisation steps of an input row, from 0 to its peak."""
MAX_WEIGHT = 64
"""Largest magnitude of a quantised weight. CPUs without VNNI add two products in 16 bits, and
2 * 255 * 64 fits. Inputs that are never negative are at most 127, so that weights may be 127."""
_ZERO_POINT = 128
"""The byte that represents 0."""
_BLOCK = 64


def choose_linear(precision: Precision) -> Linear:
    """Choose the linear layers of T2S."""
    return rowwise_linear if precision in ("int8", "fast") else float_linear


def rowwise_linear(
    g: Graph, x: str, weight: Float, bias: Float | None, *, positive: bool = False
) -> str:
    """A linear layer with 8-bit weights, a scale per output, and 8-bit inputs, a scale per row.

    Products are added as integers, so a row is bit-identical whatever the batch.
    """
    most, zero = (127, 0) if positive else (MAX_WEIGHT, _ZERO_POINT)
    scales = np.maximum(np.abs(weight).max(1) / most, 1e-12).astype(np.float32)
    stored = np.rint(weight / scales[:, None]).astype(np.int8).T
    peak = g.op("ReduceMax", x if positive else g.op("Abs", x), np.array([-1]))
    # A row of zeros is divided by 0 here, but the product is multiplied by its peak, 0.
    step = np.float32(1 / _INPUT_STEPS)
    rounded = g.op("QuantizeLinear", g.op("Div", x, peak), step, np.uint8(zero))
    operands = [rounded, stored, np.float32(1), scales * step, np.uint8(zero)]
    product = g.op("Mul", g.op("MatMulIntegerToFloat", *operands, domain=CONTRIB), peak)
    return product if bias is None else g.op("Add", product, bias)


def blockwise_linear(
    g: Graph, x: str, weight: Float, bias: Float | None, *, positive: bool = False
) -> str:
    """A linear layer with 8-bit weights and inputs, a scale per block of 64 inputs.

    One operator instead of seven. A row is bit-identical whatever the batch; with blocks of 128 it
    would not be.
    """
    outputs, inputs = weight.shape
    wide = np.pad(weight, ((0, 0), (0, -inputs % _BLOCK))).reshape(outputs, -1, _BLOCK)
    scales = np.maximum(np.abs(wide).max(2) / 127, 1e-12).astype(np.float32)
    stored = (np.rint(wide / scales[:, :, None]) + _ZERO_POINT).astype(np.uint8)
    options = {"K": inputs, "N": outputs, "bits": 8, "block_size": _BLOCK, "accuracy_level": 4}
    return g.op("MatMulNBits", x, stored, scales, None, None, bias, domain=CONTRIB, **options)
