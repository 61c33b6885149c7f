"""HuBERT-base and the codebook, which turn a reference recording into semantic tokens.

Hsu et al. 2021, https://arxiv.org/abs/2106.07447, as `transformers.HubertModel` computes it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from core.voice.gpt_sovits.convert.checkpoint import Checkpoint
from core.voice.gpt_sovits.convert.graph import Graph
from core.voice.gpt_sovits.convert.layers import (
    attention,
    conv,
    dense,
    fold_weight_norm,
    gelu,
    layer_norm,
    linear,
    merge_heads,
    split_heads,
    transpose,
)

Dense = Callable[[Graph, str, Checkpoint, str], str]
"""Writes a linear layer of a checkpoint, see `layers.dense`."""


def build(
    g: Graph,
    hubert: Checkpoint,
    config: Mapping[str, Any],
    sovits: Checkpoint,
    write: Dense = dense,
) -> None:
    """Write HubertModel and the quantiser of SoVITS.

    wave (1, samples) at 16 kHz -> ssl (1, channels, frames), codes (frames / 2,).
    """
    if any(key.startswith("hubert.") for key in hubert.tensors):
        hubert = hubert.submodule("hubert.")
    eps = float(config.get("layer_norm_eps", 1e-5))
    wave = g.float_input("wave", (1, "samples"))
    x = transpose(g, _feature_extractor(g, wave, hubert, config, eps))
    x = layer_norm(g, x, *hubert.weight_and_bias("feature_projection.layer_norm"), eps)
    x = dense(g, x, hubert, "feature_projection.projection")
    x = _positional_convolution(g, x, hubert, int(config["num_conv_pos_embedding_groups"]))
    x = layer_norm(g, x, *hubert.weight_and_bias("encoder.layer_norm"), eps)
    for i in range(hubert.count_layers("encoder.layers.%d.attention.q_proj.weight")):
        below = hubert.submodule(f"encoder.layers.{i}.")
        x = _transformer_layer(g, x, below, int(config["num_attention_heads"]), eps, write)
    ssl = transpose(g, x)
    g.output("ssl", ssl, (1, "channels", "frames"))
    g.output("codes", _nearest_codes(g, ssl, sovits), ("tokens",), np.int64)


def _feature_extractor(
    g: Graph, wave: str, hubert: Checkpoint, config: Mapping[str, Any], eps: float
) -> str:
    """HubertFeatureEncoder: (1, samples) -> (1, channels, frames)."""
    x = g.op("Unsqueeze", wave, np.array([1]))
    for i, stride in enumerate(config["conv_stride"]):
        layer = f"feature_extractor.conv_layers.{i}"
        bias = hubert.load(f"{layer}.conv.bias") if f"{layer}.conv.bias" in hubert else None
        x = conv(g, x, hubert.load(f"{layer}.conv.weight"), bias, stride=int(stride), padding=0)
        if i == 0:
            # A group norm of one channel per group is ONNX's instance normalisation.
            weight, bias = hubert.weight_and_bias(f"{layer}.layer_norm")
            x = g.op("InstanceNormalization", x, weight, bias, epsilon=eps)
        x = gelu(g, x)
    return x


def _positional_convolution(g: Graph, x: str, hubert: Checkpoint, groups: int) -> str:
    """HubertPositionalConvEmbedding and its residual: (1, frames, channels)."""
    name = "encoder.pos_conv_embed.conv"
    weight = fold_weight_norm(hubert, name, axis=2)
    width = weight.shape[2]
    y = conv(
        g, transpose(g, x), weight, hubert.load(f"{name}.bias"), padding=width // 2, groups=groups
    )
    if width % 2 == 0:  # HubertSamePadLayer
        y = g.slice(y, 0, -1, axis=2)
    return g.op("Add", x, transpose(g, gelu(g, y)))


def _transformer_layer(
    g: Graph, x: str, layer: Checkpoint, heads: int, eps: float, write: Dense
) -> str:
    """HubertEncoderLayer, post-norm, on (1, frames, channels)."""
    width = layer.shape("attention.q_proj.weight")[0]
    q, k, v = (
        split_heads(g, write(g, x, layer, f"attention.{p}_proj"), heads, width // heads)
        for p in "qkv"
    )
    y = merge_heads(g, attention(g, q, k, v, (width // heads) ** -0.5), width)
    y = write(g, y, layer, "attention.out_proj")
    x = layer_norm(g, g.op("Add", x, y), *layer.weight_and_bias("layer_norm"), eps)
    y = gelu(g, write(g, x, layer, "feed_forward.intermediate_dense"))
    y = write(g, y, layer, "feed_forward.output_dense")
    return layer_norm(g, g.op("Add", x, y), *layer.weight_and_bias("final_layer_norm"), eps)


def _nearest_codes(g: Graph, ssl: str, sovits: Checkpoint) -> str:
    """`ssl_proj` and the quantiser of SoVITS: (1, channels, frames) -> (frames / 2,).

    The nearest code is argmin |x - e|^2 = argmax (x.e - |e|^2 / 2), the first of equal ones.
    """
    weight = sovits.load("ssl_proj.weight")
    x = conv(g, ssl, weight, sovits.load("ssl_proj.bias"), stride=weight.shape[2], padding=0)
    codebook = sovits.load("quantizer.vq.layers.0._codebook.embed")
    half = np.square(codebook, dtype=np.float64).sum(1) / 2
    nearness = linear(g, transpose(g, x), codebook, -half.astype(np.float32))
    return g.reshape(g.op("ArgMax", nearness, axis=2, keepdims=0), -1)
