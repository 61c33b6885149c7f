"""ERes2NetV2, the speaker encoder of the Pro family (Chen et al. 2024, arXiv:2406.02167)."""

from __future__ import annotations

import numpy as np

from core.voice.gpt_sovits.convert.checkpoint import Checkpoint, Float
from core.voice.gpt_sovits.convert.graph import Graph

_CEILING = 20.0
"""Its ReLU is cut off here everywhere but in the stem."""


def build(g: Graph, ckpt: Checkpoint) -> None:
    """fbank (1, frames, 80) -> speaker (1, 320 m), m being the channels of the stem."""
    fbank = g.real("fbank", (1, "frames", "bins"))
    x = g.op("Unsqueeze", g.op("Transpose", fbank, perm=[0, 2, 1]), np.array([1]))
    x = g.op("Relu", _conv(g, x, *_fused(ckpt, "conv1", "bn1")))
    stages = []
    for stage in range(1, 5):
        for i in range(ckpt.count(f"layer{stage}.%d.conv1.weight")):
            stride = 2 if stage > 1 and i == 0 else 1
            x = _block(g, x, ckpt.below(f"layer{stage}.{i}."), stride)
        stages.append(x)
    coarse = _conv(g, stages[2], ckpt.take("layer3_ds.weight"), None, stride=2)
    x = _fuse(g, stages[3], coarse, ckpt.below("fuse34."))
    x = g.op("ReduceMean", x, np.array([3]), keepdims=0)  # time; (1, channels, bins) is left
    g.output("speaker", g.reshape(x, 1, -1), (1, "size"))


def _block(g: Graph, x: str, ckpt: Checkpoint, stride: int) -> str:
    wide = _clip(g, _conv(g, x, *_fused(ckpt, "conv1", "bn1"), stride=stride))
    parts = ckpt.count("convs.%d.weight")
    pieces = g.ops("Split", parts, wide, axis=1, num_outputs=parts)
    outs: list[str] = []
    for i, piece in enumerate(pieces):
        if i and "fuse_models.0.local_att.0.weight" in ckpt:
            piece = _fuse(g, outs[-1], piece, ckpt.below(f"fuse_models.{i - 1}."))
        elif i:
            piece = g.op("Add", outs[-1], piece)
        outs.append(_clip(g, _conv(g, piece, *_fused(ckpt, f"convs.{i}", f"bns.{i}"))))
    y = _conv(g, g.op("Concat", *outs, axis=1), *_fused(ckpt, "conv3", "bn3"))
    if "shortcut.0.weight" in ckpt:
        x = _conv(g, x, *_fused(ckpt, "shortcut.0", "shortcut.1"), stride=stride)
    return _clip(g, g.op("Add", y, x))


def _fuse(g: Graph, x: str, y: str, ckpt: Checkpoint) -> str:
    """Attentional feature fusion: x (1 + a) + y (1 - a) = x + y + a (x - y)."""
    a = _conv(g, g.op("Concat", x, y, axis=1), *_fused(ckpt, "local_att.0", "local_att.1"))
    a = g.op("Mul", a, g.op("Sigmoid", a))
    a = g.op("Tanh", _conv(g, a, *_fused(ckpt, "local_att.3", "local_att.4")))
    return g.op("Add", g.op("Add", x, y), g.op("Mul", a, g.op("Sub", x, y)))


def _fused(ckpt: Checkpoint, conv: str, norm: str) -> tuple[Float, Float]:
    """A convolution with the batch norm behind it, as one convolution."""
    gain, offset, mean, variance = (
        ckpt.take(f"{norm}.{part}").astype(np.float64)
        for part in ("weight", "bias", "running_mean", "running_var")
    )
    scale = gain / np.sqrt(variance + 1e-5)
    bias = ckpt.take(f"{conv}.bias") if f"{conv}.bias" in ckpt else 0.0
    weight = ckpt.take(f"{conv}.weight") * scale.reshape(-1, 1, 1, 1)
    return weight.astype(np.float32), (offset + (bias - mean) * scale).astype(np.float32)


def _conv(g: Graph, x: str, weight: Float, bias: Float | None, *, stride: int = 1) -> str:
    pad = weight.shape[2] // 2
    inputs = [weight] if bias is None else [weight, bias]
    return g.op("Conv", x, *inputs, strides=[stride, stride], pads=[pad] * 4)


def _clip(g: Graph, x: str) -> str:
    return g.op("Clip", x, np.float32(0), np.float32(_CEILING))
