"""The layers that the networks have in common.

Sequences are (1, time, channels) where attention and matrix products work on them and
(1, channels, time) where convolutions do; every function says which.
"""

from __future__ import annotations

import numpy as np

from core.voice.gpt_sovits.convert.checkpoint import Checkpoint, Float
from core.voice.gpt_sovits.convert.graph import CONTRIB, Graph


def linear(g: Graph, x: str, weight: Float, bias: Float | None = None) -> str:
    """`weight` is (out, in) or, of a 1x1 convolution, (out, in, 1); x is (..., in)."""
    product = g.op("MatMul", x, weight.reshape(weight.shape[:2]).T)
    return product if bias is None else g.op("Add", product, bias)


def dense(g: Graph, x: str, ckpt: Checkpoint, name: str) -> str:
    """The linear layer or 1x1 convolution `name` of a checkpoint, on (..., in)."""
    return linear(g, x, ckpt.take(f"{name}.weight"), ckpt.take(f"{name}.bias"))


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
    """1-D convolution on (1, channels, time); `padding=None` keeps the length."""
    pad = (weight.shape[2] - 1) // 2 if padding is None else padding
    inputs = [weight] if bias is None else [weight, bias]
    return g.op("Conv", x, *inputs, strides=[stride], pads=[pad, pad], group=groups)


def norm(g: Graph, x: str, weight: Float, bias: Float, eps: float = 1e-5) -> str:
    """Layer norm over the last axis."""
    return g.op("LayerNormalization", x, weight, bias, axis=-1, epsilon=eps)


def transposed(g: Graph, x: str) -> str:
    """(1, time, channels) <-> (1, channels, time)."""
    return g.op("Transpose", x, perm=[0, 2, 1])


def gelu(g: Graph, x: str) -> str:
    return g.op("Gelu", x, approximate="none")


def heads_of(g: Graph, x: str, heads: int, width: int) -> str:
    """(1, time, heads * width) -> (1, heads, time, width)."""
    return g.op("Transpose", g.reshape(x, 1, -1, heads, width), perm=[0, 2, 1, 3])


def merged(g: Graph, x: str, width: int) -> str:
    """(1, heads, time, ...) -> (1, time, width), the inverse of `heads_of`."""
    return g.reshape(g.op("Transpose", x, perm=[0, 2, 1, 3]), 1, -1, width)


def attend(g: Graph, q: str, k: str, v: str, scale: float, mask: str | None = None) -> str:
    """softmax(scale q k' + mask) v on (1, heads, time, width)."""
    scores = g.op("FusedMatMul", q, k, domain=CONTRIB, transB=1, alpha=float(scale))
    if mask is not None:
        scores = g.op("Add", scores, mask)
    return g.op("MatMul", g.op("Softmax", scores, axis=-1), v)


def folded(ckpt: Checkpoint, name: str, axis: int = 0) -> Float:
    """The weight that weight norm describes: g v / |v|, the norm over all axes but `axis`."""
    aliases = [(".weight_g", ".weight_v")]
    aliases.append((".parametrizations.weight.original0", ".parametrizations.weight.original1"))
    for gain, direction in aliases:
        if name + gain in ckpt:
            v = ckpt.take(name + direction)
            others = tuple(i for i in range(v.ndim) if i != axis)
            length = np.sqrt(np.square(v, dtype=np.float64).sum(others, keepdims=True))
            return np.asarray(ckpt.take(name + gain) * (v / length), np.float32)
    return ckpt.take(f"{name}.weight")
