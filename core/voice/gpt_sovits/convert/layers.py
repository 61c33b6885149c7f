"""Layers that several networks have.

A function adds the nodes of a layer to the graph `g` and returns the name of their output tensor.
Sequences are (1, time, channels) for matrix products and (1, channels, time) for convolutions.
"""

from __future__ import annotations

import numpy as np

from core.voice.gpt_sovits.convert.checkpoint import Checkpoint, Float
from core.voice.gpt_sovits.convert.graph import CONTRIB, Graph


def linear(g: Graph, x: str, weight: Float, bias: Float | None = None) -> str:
    """torch.nn.Linear: (..., in) -> (..., out). `weight` is (out, in) or (out, in, 1)."""
    product = g.op("MatMul", x, weight.reshape(weight.shape[:2]).T)
    return product if bias is None else g.op("Add", product, bias)


def dense(g: Graph, x: str, ckpt: Checkpoint, name: str) -> str:
    """The linear layer or 1x1 convolution `name` of the checkpoint: (..., in) -> (..., out)."""
    return linear(g, x, *ckpt.weight_and_bias(name))


def conv(
    g: Graph,
    x: str,
    weight: Float,
    bias: Float | None,
    *,
    stride: int = 1,
    padding: int | None = None,
    groups: int = 1,
) -> str:
    """torch.nn.Conv1d: (1, in, time) -> (1, out, time); the default padding keeps the length."""
    pad = (weight.shape[2] - 1) // 2 if padding is None else padding
    inputs = [weight] if bias is None else [weight, bias]
    return g.op("Conv", x, *inputs, strides=[stride], pads=[pad, pad], group=groups)


def layer_norm(g: Graph, x: str, weight: Float, bias: Float, eps: float = 1e-5) -> str:
    """torch.nn.LayerNorm over the last axis, (..., channels)."""
    return g.op("LayerNormalization", x, weight, bias, axis=-1, epsilon=eps)


def transpose(g: Graph, x: str) -> str:
    """(1, time, channels) -> (1, channels, time), and back."""
    return g.op("Transpose", x, perm=[0, 2, 1])


def gelu(g: Graph, x: str) -> str:
    return g.op("Gelu", x, approximate="none")


def split_heads(g: Graph, x: str, heads: int, width: int) -> str:
    """(1, time, heads * width) -> (1, heads, time, width)."""
    return g.op("Transpose", g.reshape(x, 1, -1, heads, width), perm=[0, 2, 1, 3])


def merge_heads(g: Graph, x: str, width: int) -> str:
    """(1, heads, time, width / heads) -> (1, time, width)."""
    return g.reshape(g.op("Transpose", x, perm=[0, 2, 1, 3]), 1, -1, width)


def attention(g: Graph, q: str, k: str, v: str, scale: float, mask: str | None = None) -> str:
    """Scaled dot-product attention, softmax(scale q k' + mask) v, on (1, heads, time, width)."""
    scores = g.op("FusedMatMul", q, k, domain=CONTRIB, transB=1, alpha=float(scale))
    if mask is not None:
        scores = g.op("Add", scores, mask)
    return g.op("MatMul", g.op("Softmax", scores, axis=-1), v)


def fold_weight_norm(ckpt: Checkpoint, name: str, axis: int = 0) -> Float:
    """Return the weight of a layer with torch's weight norm, g v / |v|; other layers' as stored."""
    aliases = [(".weight_g", ".weight_v")]
    aliases.append((".parametrizations.weight.original0", ".parametrizations.weight.original1"))
    for gain, direction in aliases:
        if name + gain in ckpt:
            v = ckpt.load(name + direction)
            others = tuple(i for i in range(v.ndim) if i != axis)
            length = np.sqrt(np.square(v, dtype=np.float64).sum(others, keepdims=True))
            return np.asarray(ckpt.load(name + gain) * (v / length), np.float32)
    return ckpt.load(f"{name}.weight")
