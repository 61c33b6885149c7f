"""ERes2NetV2, the speaker encoder of v2Pro and v2ProPlus (Chen et al. 2024, arXiv:2406.02167).

Feature maps are (1, channels, bins, frames).
"""

from __future__ import annotations

import numpy as np

from core.voice.gpt_sovits.convert.checkpoint import Checkpoint, Float
from core.voice.gpt_sovits.convert.graph import Graph

_RELU_LIMIT = 20.0
"""Maximum of its ReLU, except in the first layer."""


def build(g: Graph, ckpt: Checkpoint) -> None:
    """Write ERes2NetV2 up to its mean pooling.

    fbank (1, frames, 80) -> speaker (1, 320 m), where m is the number of channels of `conv1`.
    """
    fbank = g.float_input("fbank", (1, "frames", "bins"))
    x = g.op("Unsqueeze", g.op("Transpose", fbank, perm=[0, 2, 1]), np.array([1]))
    x = g.op("Relu", _conv_bn(g, x, ckpt, "conv1", "bn1"))
    stages = []
    for stage in range(1, 5):
        for i in range(ckpt.count_layers(f"layer{stage}.%d.conv1.weight")):
            stride = 2 if stage > 1 and i == 0 else 1
            x = _residual_block(g, x, ckpt.submodule(f"layer{stage}.{i}."), stride)
        stages.append(x)
    coarse = _conv(g, stages[2], ckpt.load("layer3_ds.weight"), None, stride=2)
    x = _fuse_features(g, stages[3], coarse, ckpt.submodule("fuse34."))
    x = g.op("ReduceMean", x, np.array([3]), keepdims=0)  # mean over frames
    g.output("speaker", g.reshape(x, 1, -1), (1, "size"))


def _residual_block(g: Graph, x: str, ckpt: Checkpoint, stride: int) -> str:
    """BasicBlockERes2NetV2: (1, in, bins, frames) -> (1, out, bins / stride, frames / stride)."""
    wide = _clipped_relu(g, _conv_bn(g, x, ckpt, "conv1", "bn1", stride=stride))
    parts = ckpt.count_layers("convs.%d.weight")
    pieces = g.ops("Split", parts, wide, axis=1, num_outputs=parts)
    outs: list[str] = []
    for i, piece in enumerate(pieces):
        if i and "fuse_models.0.local_att.0.weight" in ckpt:
            piece = _fuse_features(g, outs[-1], piece, ckpt.submodule(f"fuse_models.{i - 1}."))
        elif i:
            piece = g.op("Add", outs[-1], piece)
        outs.append(_clipped_relu(g, _conv_bn(g, piece, ckpt, f"convs.{i}", f"bns.{i}")))
    y = _conv_bn(g, g.op("Concat", *outs, axis=1), ckpt, "conv3", "bn3")
    if "shortcut.0.weight" in ckpt:
        x = _conv_bn(g, x, ckpt, "shortcut.0", "shortcut.1", stride=stride)
    return _clipped_relu(g, g.op("Add", y, x))


def _fuse_features(g: Graph, x: str, y: str, ckpt: Checkpoint) -> str:
    """AFF, attentional feature fusion: x (1 + a) + y (1 - a) = x + y + a (x - y), same shapes."""
    a = _conv_bn(g, g.op("Concat", x, y, axis=1), ckpt, "local_att.0", "local_att.1")
    a = g.op("Mul", a, g.op("Sigmoid", a))
    a = g.op("Tanh", _conv_bn(g, a, ckpt, "local_att.3", "local_att.4"))
    return g.op("Add", g.op("Add", x, y), g.op("Mul", a, g.op("Sub", x, y)))


def _conv_bn(g: Graph, x: str, ckpt: Checkpoint, conv: str, norm: str, *, stride: int = 1) -> str:
    """Conv2d and BatchNorm2d, folded into one convolution; see `_conv`."""
    gain, offset, mean, variance = (
        ckpt.load(f"{norm}.{part}").astype(np.float64)
        for part in ("weight", "bias", "running_mean", "running_var")
    )
    scale = gain / np.sqrt(variance + 1e-5)
    bias = ckpt.load(f"{conv}.bias") if f"{conv}.bias" in ckpt else 0.0
    weight = ckpt.load(f"{conv}.weight") * scale.reshape(-1, 1, 1, 1)
    bias = (offset + (bias - mean) * scale).astype(np.float32)
    return _conv(g, x, weight.astype(np.float32), bias, stride=stride)


def _conv(g: Graph, x: str, weight: Float, bias: Float | None, *, stride: int = 1) -> str:
    """torch.nn.Conv2d: (1, in, bins, frames) -> (1, out, bins / stride, frames / stride)."""
    pad = weight.shape[2] // 2
    inputs = [weight] if bias is None else [weight, bias]
    return g.op("Conv", x, *inputs, strides=[stride, stride], pads=[pad] * 4)


def _clipped_relu(g: Graph, x: str) -> str:
    return g.op("Clip", x, np.float32(0), np.float32(_RELU_LIMIT))
