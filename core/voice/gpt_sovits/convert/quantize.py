"""Linear layers of T2S and HuBERT with 8-bit weights."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.voice.gpt_sovits.bundle import Precision
from core.voice.gpt_sovits.convert.checkpoint import Checkpoint, Float
from core.voice.gpt_sovits.convert.graph import CONTRIB, Graph
from core.voice.gpt_sovits.convert.t2s import Linear, float_linear
from core.voice.gpt_sovits.stored import BLOCK, SEVEN_BITS, ZERO_POINT

_INPUT_STEPS = 127
"""Quantisation steps of an input row, from 0 to its peak."""
MAX_WEIGHT = 64
"""Largest magnitude of a quantised weight. CPUs without VNNI add two products in 16 bits, and
2 * 255 * 64 fits. Inputs that are never negative are at most 127, so that weights may be 127."""
_WIDE_BLOCK = 128


def choose_linear(precision: Precision) -> Linear:
    """Choose the linear layers of T2S."""
    return rowwise_linear if precision in ("int8", "fast") else float_linear


def rowwise_linear(
    g: Graph, x: str, weight: Float, bias: Float | None, *, positive: bool = False
) -> str:
    """A linear layer with 8-bit inputs, a scale per row, and 7- or 8-bit weights, one per output.

    Products are added as integers, so a row is bit-identical whatever the batch.
    """
    zero = 0 if positive else ZERO_POINT
    rows, scales = _round_rows(weight)
    operand: Any = rows
    if not positive:
        operand = g.restored("seven", rows, rows.shape, np.int8)
        scales = scales / np.float32(SEVEN_BITS)
    peak = g.op("ReduceMax", x if positive else g.op("Abs", x), np.array([-1]))
    # A row of zeros is divided by 0 here, but the product is multiplied by its peak, 0.
    step = np.float32(1 / _INPUT_STEPS)
    rounded = g.op("QuantizeLinear", g.op("Div", x, peak), step, np.uint8(zero))
    operands = [rounded, operand, np.float32(1), scales * step, np.uint8(zero)]
    product = g.op("Mul", g.op("MatMulIntegerToFloat", *operands, domain=CONTRIB), peak)
    return product if bias is None else g.op("Add", product, bias)


def vnni_linear(
    g: Graph, x: str, weight: Float, bias: Float | None, *, positive: bool = False
) -> str:
    """The weights of `rowwise_linear`, with 8-bit inputs, a scale per block of 64.

    One operator instead of seven. A row is bit-identical whatever the batch; with blocks of 128 it
    would not be. The weights are those in the file, transposed when the graph is opened.
    """
    outputs, inputs = weight.shape
    rows, scales = _round_rows(weight)
    blocks = -(-inputs // BLOCK)
    codes = g.restored("blocks", rows, (outputs, blocks, BLOCK), np.uint8)
    wide = g.op(
        "Reshape", g.op("Expand", scales[:, None], np.array([outputs, blocks])), np.array([-1])
    )
    return _product_of_blocks(g, x, [codes, wide], bias, (outputs, inputs, BLOCK))


def blockwise_dense(g: Graph, x: str, ckpt: Checkpoint, name: str) -> str:
    """The linear layer `name` of the checkpoint with 8-bit weights and inputs, a scale per block of
    128: (..., in) -> (..., out)."""
    weight, bias = ckpt.weight_and_bias(name)
    outputs, inputs = weight.shape
    wide = np.pad(weight, ((0, 0), (0, -inputs % _WIDE_BLOCK))).reshape(outputs, -1, _WIDE_BLOCK)
    scales = np.maximum(np.abs(wide).max(2) / 127, 1e-12).astype(np.float32)
    stored = (np.rint(wide / scales[:, :, None]) + ZERO_POINT).astype(np.uint8)
    return _product_of_blocks(g, x, [stored, scales.ravel()], bias, (outputs, inputs, _WIDE_BLOCK))


def _product_of_blocks(
    g: Graph, x: str, operands: list[Any], bias: Float | None, sizes: tuple[int, int, int]
) -> str:
    outputs, inputs, block = sizes
    options = {"K": inputs, "N": outputs, "bits": 8, "block_size": block, "accuracy_level": 4}
    return g.op("MatMulNBits", x, *operands, None, None, bias, domain=CONTRIB, **options)


def _round_rows(weight: Float) -> tuple[NDArray[np.int8], Float]:
    """(out, in) -> 8-bit weights (in, out), a scale per output."""
    scales = np.maximum(np.abs(weight).max(1) / 127, 1e-12).astype(np.float32)
    return np.rint(weight / scales[:, None]).astype(np.int8).T, scales
