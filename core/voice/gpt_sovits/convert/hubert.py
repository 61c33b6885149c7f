"""HuBERT-base, which hears the reference, and the codebook that names what it hears.

Hsu et al. 2021, https://arxiv.org/abs/2106.07447, as `transformers.HubertModel` computes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from core.voice.gpt_sovits.convert.checkpoint import Checkpoint
from core.voice.gpt_sovits.convert.graph import Graph
from core.voice.gpt_sovits.convert.layers import (
    attend,
    conv,
    dense,
    folded,
    gelu,
    heads_of,
    linear,
    merged,
    norm,
    transposed,
)


def build(g: Graph, hubert: Checkpoint, config: Mapping[str, Any], sovits: Checkpoint) -> None:
    """wave (1, samples) at 16 kHz -> ssl (1, channels, frames), codes (frames / 2,)."""
    if any(key.startswith("hubert.") for key in hubert.tensors):
        hubert = hubert.below("hubert.")
    eps = float(config.get("layer_norm_eps", 1e-5))
    wave = g.real("wave", (1, "samples"))
    x = transposed(g, _features(g, wave, hubert, config, eps))
    x = norm(g, x, *_pair(hubert, "feature_projection.layer_norm"), eps)
    x = dense(g, x, hubert, "feature_projection.projection")
    x = _positions(g, x, hubert, int(config["num_conv_pos_embedding_groups"]))
    x = norm(g, x, *_pair(hubert, "encoder.layer_norm"), eps)
    for i in range(hubert.count("encoder.layers.%d.attention.q_proj.weight")):
        below = hubert.below(f"encoder.layers.{i}.")
        x = _layer(g, x, below, int(config["num_attention_heads"]), eps)
    ssl = transposed(g, x)
    g.output("ssl", ssl, (1, "channels", "frames"))
    g.output("codes", _codes(g, ssl, sovits), ("tokens",), np.int64)


def _features(
    g: Graph, wave: str, hubert: Checkpoint, config: Mapping[str, Any], eps: float
) -> str:
    x = g.op("Unsqueeze", wave, np.array([1]))
    for i, stride in enumerate(config["conv_stride"]):
        layer = f"feature_extractor.conv_layers.{i}"
        bias = hubert.take(f"{layer}.conv.bias") if f"{layer}.conv.bias" in hubert else None
        x = conv(g, x, hubert.take(f"{layer}.conv.weight"), bias, stride=int(stride), padding=0)
        if i == 0:
            x = _group_norm(g, x, *_pair(hubert, f"{layer}.layer_norm"), eps)
        x = gelu(g, x)
    return x


def _group_norm(g: Graph, x: str, weight: Any, bias: Any, eps: float) -> str:
    """One group a channel, which is what ONNX calls instance normalisation."""
    return g.op("InstanceNormalization", x, weight, bias, epsilon=eps)


def _positions(g: Graph, x: str, hubert: Checkpoint, groups: int) -> str:
    name = "encoder.pos_conv_embed.conv"
    weight = folded(hubert, name, axis=2)
    width = weight.shape[2]
    y = conv(
        g, transposed(g, x), weight, hubert.take(f"{name}.bias"), padding=width // 2, groups=groups
    )
    if width % 2 == 0:  # an even kernel padded on both sides makes one frame too many
        y = g.slice(y, 0, -1, axis=2)
    return g.op("Add", x, transposed(g, gelu(g, y)))


def _layer(g: Graph, x: str, layer: Checkpoint, heads: int, eps: float) -> str:
    width = layer.shape("attention.q_proj.weight")[0]
    q, k, v = (
        heads_of(g, dense(g, x, layer, f"attention.{p}_proj"), heads, width // heads) for p in "qkv"
    )
    y = merged(g, attend(g, q, k, v, (width // heads) ** -0.5), width)
    y = dense(g, y, layer, "attention.out_proj")
    x = norm(g, g.op("Add", x, y), *_pair(layer, "layer_norm"), eps)
    y = gelu(g, dense(g, x, layer, "feed_forward.intermediate_dense"))
    y = dense(g, y, layer, "feed_forward.output_dense")
    return norm(g, g.op("Add", x, y), *_pair(layer, "final_layer_norm"), eps)


def _codes(g: Graph, ssl: str, sovits: Checkpoint) -> str:
    """argmin |x - e|^2 = argmax (x.e - |e|^2 / 2); the first of equals."""
    weight = sovits.take("ssl_proj.weight")
    x = conv(g, ssl, weight, sovits.take("ssl_proj.bias"), stride=weight.shape[2], padding=0)
    codebook = sovits.take("quantizer.vq.layers.0._codebook.embed")
    half = np.square(codebook, dtype=np.float64).sum(1) / 2
    nearness = linear(g, transposed(g, x), codebook, -half.astype(np.float32))
    return g.reshape(g.op("ArgMax", nearness, axis=2, keepdims=0), -1)


def _pair(ckpt: Checkpoint, name: str) -> tuple[Any, Any]:
    return ckpt.take(f"{name}.weight"), ckpt.take(f"{name}.bias")
