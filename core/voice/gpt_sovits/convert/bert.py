"""RoBERTa (BERT) for Chinese text, up to the layer whose output T2S was trained with.

Devlin et al. 2018, https://arxiv.org/abs/1810.04805, as `transformers.BertModel` computes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from core.voice.gpt_sovits.convert.checkpoint import Checkpoint, Float
from core.voice.gpt_sovits.convert.graph import Graph
from core.voice.gpt_sovits.convert.layers import attend, dense, gelu, heads_of, merged, norm

_UNUSED_LAYERS = 2
"""T2S reads `hidden_states[-3]`: what the last layer but two puts out."""


def build(g: Graph, ckpt: Checkpoint, config: Mapping[str, Any]) -> None:
    """ids (T,) with [CLS] and [SEP] -> features (T - 2, hidden), one row a character."""
    bert = ckpt.below("bert.") if any(k.startswith("bert.") for k in ckpt.tensors) else ckpt
    heads, eps = int(config["num_attention_heads"]), float(config["layer_norm_eps"])
    x = norm(g, _embedded(g, bert), *_norm_pair(bert, "embeddings.LayerNorm"), eps)
    layers = bert.count("encoder.layer.%d.attention.self.query.weight")
    for i in range(layers - _UNUSED_LAYERS):
        x = _layer(g, x, bert.below(f"encoder.layer.{i}."), heads, eps)
    inner = g.slice(x, 1, -1, axis=1)
    g.output("features", g.op("Squeeze", inner, np.array([0])), ("characters", "hidden"))


def _embedded(g: Graph, bert: Checkpoint) -> str:
    ids = g.input("ids", ("tokens",), np.int64)
    words = g.op("Gather", bert.take("embeddings.word_embeddings.weight"), ids)
    # Every token is of the first of the two sentences BERT was trained on.
    fixed = bert.take("embeddings.position_embeddings.weight")
    fixed = fixed + bert.take("embeddings.token_type_embeddings.weight")[0]
    places = g.op("Slice", fixed, np.array([0]), g.shape(ids, 0), np.array([0]))
    return g.op("Unsqueeze", g.op("Add", words, places), np.array([0]))


def _layer(g: Graph, x: str, layer: Checkpoint, heads: int, eps: float) -> str:
    width = layer.shape("attention.self.query.weight")[0]
    q, k, v = (
        heads_of(g, dense(g, x, layer, f"attention.self.{name}"), heads, width // heads)
        for name in ("query", "key", "value")
    )
    y = merged(g, attend(g, q, k, v, (width // heads) ** -0.5), width)
    y = dense(g, y, layer, "attention.output.dense")
    x = norm(g, g.op("Add", x, y), *_norm_pair(layer, "attention.output.LayerNorm"), eps)
    y = dense(g, gelu(g, dense(g, x, layer, "intermediate.dense")), layer, "output.dense")
    return norm(g, g.op("Add", x, y), *_norm_pair(layer, "output.LayerNorm"), eps)


def _norm_pair(ckpt: Checkpoint, name: str) -> tuple[Float, Float]:
    """Old files call the two gamma and beta."""
    old = f"{name}.gamma" in ckpt
    weight, bias = ("gamma", "beta") if old else ("weight", "bias")
    return ckpt.take(f"{name}.{weight}"), ckpt.take(f"{name}.{bias}")
