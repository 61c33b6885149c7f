"""T2S, the language model from phonemes to semantic tokens: one graph that reads the prompt, one
that makes a step for a batch of rows on caches that are written in place.

Both are post-norm transformers without a final norm. Text rows see all text; audio rows see all
text and the audio before them.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from core.convert.checkpoint import Checkpoint, Float
from core.convert.graph import Graph
from core.convert.layers import attend, norm

MAX_POSITIONS = 4096
"""Phonemes of prompt and sentence together, or tokens of prompt and sentence: a sentence has at
most 510 characters and 1500 tokens."""


class Project(Protocol):
    """Writes x W' + b for a (rows, in) x and an (out, in) W: plainly or quantised."""

    def __call__(
        self, g: Graph, x: str, weight: Float, bias: Float | None, *, positive: bool = False
    ) -> str:
        """`positive`: no element of x is negative."""


def plain(g: Graph, x: str, weight: Float, bias: Float | None, *, positive: bool = False) -> str:
    return g.op("Gemm", x, weight.T, *([] if bias is None else [bias]))


class T2S:
    """Dimensions from tensor shapes; only the number of heads comes from the config."""

    def __init__(self, ckpt: Checkpoint) -> None:
        self.ckpt = ckpt.below("model.")
        self.heads = int(ckpt.setting("model", "head"))
        self.width = self.ckpt.shape("ar_audio_embedding.word_embeddings.weight")[1]
        self.layers = self.ckpt.count("h.layers.%d.linear1.weight")
        self.vocabulary = self.ckpt.shape("ar_predict_layer.weight")[0]
        self.bert = self.ckpt.shape("bert_proj.weight")[1]
        if not self.layers or self.width % self.heads:
            raise ckpt.invalid(f"{self.layers} layers and {self.heads} heads for {self.width}")

    @property
    def head_width(self) -> int:
        return self.width // self.heads


def build_prefill(g: Graph, t2s: T2S, project: Project) -> None:
    """phones (T,), bert (T, 1024), prompt (P,) -> logits (1, vocabulary) of the first token,
    keys and values (layers, heads, T + P, head width)."""
    phones = g.input("phones", ("phones",), np.int64)
    prompt = g.input("prompt", ("prompt",), np.int64)
    table = positions(t2s.width)
    text = _embedded(g, t2s, "ar_text", phones, _first(g, table, phones))
    bert = g.op("Gemm", g.real("bert", ("phones", t2s.bert)), *_bert(t2s))
    audio = _embedded(g, t2s, "ar_audio", prompt, _first(g, table, prompt))
    x = g.op("Concat", g.op("Add", text, bert), audio, axis=0)
    mask = _prefill_mask(g, x, g.shape(phones, 0))
    keys, values = [], []
    for i in range(t2s.layers):
        layer = t2s.ckpt.below(f"h.layers.{i}.")
        rows = g.op("Transpose", _qkv(g, x, t2s, layer, project), perm=[2, 1, 0, 3])
        q, k, v = g.ops("Split", 3, rows, axis=1, num_outputs=3)
        y = g.op("Transpose", attend(g, q, k, v, 1, mask), perm=[0, 2, 1, 3])
        x = _rest(g, x, g.reshape(y, -1, t2s.width), layer, project)
        keys.append(k)
        values.append(v)
    last = g.op("Gather", x, np.array([-1]), axis=0)
    g.output("logits", project(g, last, t2s.ckpt.take("ar_predict_layer.weight"), None), (1, "n"))
    shape = (t2s.layers, t2s.heads, "sequence", t2s.head_width)
    g.output("keys", g.op("Concat", *keys, axis=0), shape, g.dtype)
    g.output("values", g.op("Concat", *values, axis=0), shape, g.dtype)


def build_step(g: Graph, t2s: T2S, project: Project) -> None:
    """token, position and length (rows,), caches k_i, v_i (rows, heads, capacity, head width) ->
    logits (rows, vocabulary), caches K_i, V_i, meant to be bound to the memory of k_i, v_i.

    `position` counts audio, `length` is where the cache ends: the place that is written.
    """
    token, position, length = (
        g.input(name, ("rows",), np.int64) for name in ("token", "position", "length")
    )
    cache = ("rows", t2s.heads, "capacity", t2s.head_width)
    caches = [(g.input(f"k_{i}", cache), g.input(f"v_{i}", cache)) for i in range(t2s.layers)]
    place = g.op("Gather", positions(t2s.width), position)
    x = _embedded(g, t2s, "ar_audio", token, place)
    mask = _step_mask(g, caches[0][0], length)
    for i, (past_k, past_v) in enumerate(caches):
        layer = t2s.ckpt.below(f"h.layers.{i}.")
        q, k, v = g.ops("Split", 3, _qkv(g, x, t2s, layer, project), axis=1, num_outputs=3)
        g.write("TensorScatter", [f"K_{i}"], past_k, k, length, axis=2)
        g.write("TensorScatter", [f"V_{i}"], past_v, v, length, axis=2)
        y = attend(g, q, f"K_{i}", f"V_{i}", 1, mask)
        x = _rest(g, x, g.reshape(y, -1, t2s.width), layer, project)
    logits = project(g, x, t2s.ckpt.take("ar_predict_layer.weight"), None)
    g.output("logits", logits, ("rows", t2s.vocabulary))
    for i in range(t2s.layers):
        g.returns(f"K_{i}", cache)
        g.returns(f"V_{i}", cache)


def positions(width: int) -> Float:
    """Sines and cosines, interleaved (Vaswani et al. 2017), in float32 as torch computes them."""
    speeds = np.exp(np.arange(0, width, 2, dtype=np.float32) * np.float32(-np.log(10000) / width))
    angles = np.arange(MAX_POSITIONS, dtype=np.float32)[:, None] * speeds
    return np.stack([np.sin(angles), np.cos(angles)], axis=2).reshape(MAX_POSITIONS, width)


def _embedded(g: Graph, t2s: T2S, name: str, ids: str, place: str) -> str:
    table = t2s.ckpt.take(f"{name}_embedding.word_embeddings.weight")
    alpha = t2s.ckpt.take(f"{name}_position.alpha")
    return g.op("Add", g.op("Gather", table, ids), g.op("Mul", place, alpha))


def _first(g: Graph, table: Float, ids: str) -> str:
    """As many rows of the table as there are ids."""
    return g.op("Slice", table, np.array([0]), g.shape(ids, 0), np.array([0]))


def _bert(t2s: T2S) -> tuple[Float, Float]:
    return t2s.ckpt.take("bert_proj.weight").T, t2s.ckpt.take("bert_proj.bias")


def _qkv(g: Graph, x: str, t2s: T2S, layer: Checkpoint, project: Project) -> str:
    """(rows, width) -> (rows, 3 heads, 1, head width): queries, keys, values.

    The scale of attention is in the queries' weights: ONNX Runtime has a fast kernel for one row
    times a matrix, but not with a factor.
    """
    weight, bias = layer.take("self_attn.in_proj_weight"), layer.take("self_attn.in_proj_bias")
    factor = np.ones(len(bias), np.float32)
    factor[: t2s.width] = t2s.head_width**-0.5
    y = project(g, x, weight * factor[:, None], bias * factor)
    return g.reshape(y, -1, 3 * t2s.heads, 1, t2s.head_width)


def _rest(g: Graph, x: str, y: str, layer: Checkpoint, project: Project) -> str:
    """What follows attention in a layer."""
    y = project(g, y, *_pair(layer, "self_attn.out_proj"))
    x = norm(g, g.op("Add", x, y), *_pair(layer, "norm1"))
    y = g.op("Relu", project(g, x, *_pair(layer, "linear1")))
    y = project(g, y, *_pair(layer, "linear2"), positive=True)
    return norm(g, g.op("Add", x, y), *_pair(layer, "norm2"))


def _pair(layer: Checkpoint, name: str) -> tuple[Float, Float]:
    return layer.take(f"{name}.weight"), layer.take(f"{name}.bias")


def _prefill_mask(g: Graph, x: str, text: str) -> str:
    """Row i sees column j if j is text, or if i is not and j <= i."""
    places = g.op("Range", np.int64(0), g.op("Squeeze", g.shape(x, 0)), np.int64(1))
    row, column = (g.op("Unsqueeze", places, np.array([axis])) for axis in (1, 0))
    earlier = g.op("And", g.op("Not", g.op("Less", row, text)), g.op("LessOrEqual", column, row))
    return _hidden(g, g.op("Or", g.op("Less", column, text), earlier))


def _step_mask(g: Graph, cache: str, length: str) -> str:
    capacity = g.op("Squeeze", g.shape(cache, 2))
    places = g.op("Range", np.int64(0), capacity, np.int64(1))
    last = g.reshape(length, -1, 1, 1, 1)
    return _hidden(g, g.op("LessOrEqual", places, last))


def _hidden(g: Graph, visible: str) -> str:
    """0 where visible, as good as -inf elsewhere; finite, so that fp16 makes no NaN of it."""
    zero, away = np.array(0, g.dtype), np.array(-30000, g.dtype)
    return g.op("Where", visible, zero, away)
