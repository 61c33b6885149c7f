"""RoBERTa (BERT) for Chinese text, up to the layer whose output T2S was trained with.

Devlin et al. 2018, https://arxiv.org/abs/1810.04805, as `transformers.BertModel` computes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from core.voice.gpt_sovits.convert.checkpoint import Checkpoint
from core.voice.gpt_sovits.convert.graph import Graph
from core.voice.gpt_sovits.convert.layers import (
    attention,
    dense,
    gelu,
    layer_norm,
    merge_heads,
    split_heads,
)

_UNUSED_LAYERS = 2
"""T2S reads `hidden_states[-3]`, the output of the third to last layer."""


def build(g: Graph, ckpt: Checkpoint, config: Mapping[str, Any]) -> None:
    """Write BertModel: ids (T,) with [CLS] and [SEP] -> features (T - 2, hidden)."""
    bert = ckpt.submodule("bert.") if any(k.startswith("bert.") for k in ckpt.tensors) else ckpt
    heads, eps = int(config["num_attention_heads"]), float(config["layer_norm_eps"])
    x = _layer_norm(g, _embeddings(g, bert), bert, "embeddings.LayerNorm", eps)
    layers = bert.count_layers("encoder.layer.%d.attention.self.query.weight")
    for i in range(layers - _UNUSED_LAYERS):
        x = _transformer_layer(g, x, bert.submodule(f"encoder.layer.{i}."), heads, eps)
    inner = g.slice(x, 1, -1, axis=1)
    g.output("features", g.op("Squeeze", inner, np.array([0])), ("characters", "hidden"))


def _embeddings(g: Graph, bert: Checkpoint) -> str:
    """BertEmbeddings without its norm: ids (T,) -> (1, T, hidden)."""
    ids = g.input("ids", ("tokens",), np.int64)
    words = g.op("Gather", bert.load("embeddings.word_embeddings.weight"), ids)
    # Token type 0 is added here, because all tokens are of the first sentence of BERT's pair.
    fixed = bert.load("embeddings.position_embeddings.weight")
    fixed = fixed + bert.load("embeddings.token_type_embeddings.weight")[0]
    positions = g.op("Slice", fixed, np.array([0]), g.shape(ids, 0), np.array([0]))
    return g.op("Unsqueeze", g.op("Add", words, positions), np.array([0]))


def _transformer_layer(g: Graph, x: str, layer: Checkpoint, heads: int, eps: float) -> str:
    """BertLayer, post-norm: (1, T, hidden) -> (1, T, hidden)."""
    width = layer.shape("attention.self.query.weight")[0]
    q, k, v = (
        split_heads(g, dense(g, x, layer, f"attention.self.{name}"), heads, width // heads)
        for name in ("query", "key", "value")
    )
    y = merge_heads(g, attention(g, q, k, v, (width // heads) ** -0.5), width)
    y = dense(g, y, layer, "attention.output.dense")
    x = _layer_norm(g, g.op("Add", x, y), layer, "attention.output.LayerNorm", eps)
    y = dense(g, gelu(g, dense(g, x, layer, "intermediate.dense")), layer, "output.dense")
    return _layer_norm(g, g.op("Add", x, y), layer, "output.LayerNorm", eps)


def _layer_norm(g: Graph, x: str, ckpt: Checkpoint, name: str, eps: float) -> str:
    """LayerNorm, whose weight and bias are called gamma and beta in old files."""
    old = f"{name}.gamma" in ckpt
    weight, bias = ("gamma", "beta") if old else ("weight", "bias")
    return layer_norm(g, x, ckpt.load(f"{name}.{weight}"), ckpt.load(f"{name}.{bias}"), eps)
