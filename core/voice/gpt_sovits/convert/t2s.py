"""T2S, the language model from phonemes to semantic tokens, upstream's Text2SemanticDecoder.

There are two graphs: prefill reads the phonemes and the prompt, step decodes one token of each row.
Both are post-norm transformers without a final norm. Text attends to all text, audio to all text
and to earlier audio.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np

from core.voice.gpt_sovits.convert.checkpoint import Checkpoint, Float
from core.voice.gpt_sovits.convert.graph import CONTRIB, Graph, type_of
from core.voice.gpt_sovits.convert.layers import attention, layer_norm

MAX_POSITIONS = 4096
"""Maximum number of phonemes of prompt and sentence, and of their tokens. A sentence has at most
510 characters and 1500 tokens."""
_INT8_MAX = 127
_HEAD_MULTIPLE = 8
"""The head width of 8-bit attention is a multiple of this; heads are padded with zeros."""


class Linear(Protocol):
    """Writes a linear layer, exact or quantised: x (rows, in), weight (out, in) -> (rows, out)."""

    def __call__(
        self, g: Graph, x: str, weight: Float, bias: Float | None, *, positive: bool = False
    ) -> str:
        """`positive` states that no element of x is negative."""


def float_linear(
    g: Graph, x: str, weight: Float, bias: Float | None, *, positive: bool = False
) -> str:
    return g.op("Gemm", x, weight.T, *([] if bias is None else [bias]))


class T2S:
    """A T2S checkpoint and its dimensions; `heads` is from the config, others from shapes."""

    def __init__(self, ckpt: Checkpoint) -> None:
        self.ckpt = ckpt.submodule("model.")
        self.heads = int(ckpt.setting("model", "head"))
        self.width = self.ckpt.shape("ar_audio_embedding.word_embeddings.weight")[1]
        self.layers = self.ckpt.count_layers("h.layers.%d.linear1.weight")
        self.vocabulary = self.ckpt.shape("ar_predict_layer.weight")[0]
        self.bert = self.ckpt.shape("bert_proj.weight")[1]
        if not self.layers or self.width % self.heads:
            raise ckpt.invalid(f"{self.layers} layers, {self.width} channels in {self.heads} heads")

    @property
    def head_width(self) -> int:
        return self.width // self.heads


@dataclass(frozen=True, slots=True)
class CacheRanges:
    """Largest magnitudes of 8-bit keys and values, (layers, heads, head width) each."""

    keys: Float
    values: Float


def cache_head_width(t2s: T2S, *, int8: bool) -> int:
    """Return the width of a head in the cache."""
    return -(-t2s.head_width // _HEAD_MULTIPLE) * _HEAD_MULTIPLE if int8 else t2s.head_width


def build_prefill(g: Graph, t2s: T2S, linear: Linear, ranges: CacheRanges | None = None) -> None:
    """Write the first pass of Text2SemanticDecoder.infer_panel.

    phones (T,), bert (T, 1024), prompt (P,) -> logits (1, vocabulary) of the first token, keys and
    values (layers, heads, T + P, cache head width), which are 8-bit if there are `ranges`.
    """
    phones = g.input("phones", ("phones",), np.int64)
    prompt = g.input("prompt", ("prompt",), np.int64)
    table = sinusoidal_positions(t2s.width)
    text = _embed(g, t2s, "ar_text", phones, _first_rows(g, table, phones))
    bert = g.op("Gemm", g.float_input("bert", ("phones", t2s.bert)), *_bert_projection(t2s))
    audio = _embed(g, t2s, "ar_audio", prompt, _first_rows(g, table, prompt))
    x = g.op("Concat", g.op("Add", text, bert), audio, axis=0)
    mask = _prefill_mask(g, x, g.shape(phones, 0))
    keys: list[str] = []
    values: list[str] = []
    width = cache_head_width(t2s, int8=ranges is not None)
    for i in range(t2s.layers):
        layer = _Layer.of(t2s, i, ranges)
        qkv = g.reshape(linear(g, x, layer.inner, layer.bias), -1, 3 * t2s.heads, 1, width)
        rows = g.op("Transpose", qkv, perm=[2, 1, 0, 3])
        q, k, v = g.ops("Split", 3, rows, axis=1, num_outputs=3)
        y = g.op("Transpose", attention(g, q, k, v, 1, mask), perm=[0, 2, 1, 3])
        x = _after_attention(g, x, g.reshape(y, -1, t2s.heads * width), layer, linear)
        for cache, value in ((keys, k), (values, v)):
            cache.append(_quantise(g, value) if ranges else value)
    last = g.op("Gather", x, np.array([-1]), axis=0)
    g.output("logits", linear(g, last, t2s.ckpt.load("ar_predict_layer.weight"), None), (1, "n"))
    shape, kind = (t2s.layers, t2s.heads, "sequence", width), np.int8 if ranges else g.dtype
    g.output("keys", g.op("Concat", *keys, axis=0), shape, kind)
    g.output("values", g.op("Concat", *values, axis=0), shape, kind)


def build_step(g: Graph, t2s: T2S, linear: Linear, ranges: CacheRanges | None = None) -> None:
    """Write a later pass of Text2SemanticDecoder.infer_panel, for several rows.

    token, position and length (rows,), caches k_i, v_i (rows, heads, capacity, cache head width) ->
    logits (rows, vocabulary), caches K_i, V_i, which the caller binds to the memory of k_i, v_i.
    `position` counts audio tokens; `length` is the cache position that is written.
    """
    token, position, length = (
        g.input(name, ("rows",), np.int64) for name in ("token", "position", "length")
    )
    cache = ("rows", t2s.heads, "capacity", cache_head_width(t2s, int8=ranges is not None))
    kind = np.int8 if ranges else g.dtype
    for i in range(t2s.layers):
        g.input(f"k_{i}", cache, kind)
        g.input(f"v_{i}", cache, kind)
    embedding = g.op("Gather", sinusoidal_positions(t2s.width), position)
    x = _embed(g, t2s, "ar_audio", token, embedding)
    if ranges:
        x = g.op("Unsqueeze", x, np.array([1]))
    attend = _int8_attention(g, t2s, length) if ranges else _float_attention(g, t2s, length)
    for i in range(t2s.layers):
        layer = _Layer.of(t2s, i, ranges)
        y = attend(linear(g, x, layer.inner, layer.bias), i)
        x = _after_attention(g, x, y, layer, linear)
    logits = linear(g, x, t2s.ckpt.load("ar_predict_layer.weight"), None)
    g.output("logits", g.reshape(logits, -1, t2s.vocabulary), ("rows", t2s.vocabulary))
    for i in range(t2s.layers):
        g.declare_output(f"K_{i}", cache, kind)
        g.declare_output(f"V_{i}", cache, kind)


Attention = Callable[[str, int], str]
"""Writes the attention of a step and updates the cache, given a layer's number and its projected
queries, keys and values (rows, 3 * heads * width) -> (rows, heads * width)."""


def _float_attention(g: Graph, t2s: T2S, length: str) -> Attention:
    """Update the cache with TensorScatter."""
    mask = _step_mask(g, "k_0", length)

    def attend(qkv: str, i: int) -> str:
        heads = g.reshape(qkv, -1, 3 * t2s.heads, 1, t2s.head_width)
        q, k, v = g.ops("Split", 3, heads, axis=1, num_outputs=3)
        g.named_op("TensorScatter", [f"K_{i}"], f"k_{i}", k, length, axis=2)
        g.named_op("TensorScatter", [f"V_{i}"], f"v_{i}", v, length, axis=2)
        return g.reshape(attention(g, q, f"K_{i}", f"V_{i}", 1, mask), -1, t2s.width)

    return attend


def _int8_attention(g: Graph, t2s: T2S, length: str) -> Attention:
    """Use ONNX Runtime's GroupQueryAttention, which reads only the filled positions of a row."""
    last = g.op("Cast", length, to=type_of(np.dtype(np.int32)))
    capacity = g.op("Cast", g.shape("k_0", 2), to=type_of(np.dtype(np.int32)))
    one = np.ones(1, np.float32)

    def attend(qkv: str, i: int) -> str:
        inputs = [qkv, None, None, f"k_{i}", f"v_{i}", last, capacity, *[None] * 5, one, one]
        heads = {"num_heads": t2s.heads, "kv_num_heads": t2s.heads, "scale": 1.0}
        quant = {"k_quant_type": "PER_TENSOR", "v_quant_type": "PER_TENSOR"}
        names = [f"found_{i}", f"K_{i}", f"V_{i}"]
        bits = {"kv_cache_bit_width": 8}
        g.named_op("GroupQueryAttention", names, *inputs, domain=CONTRIB, **heads, **quant, **bits)
        return names[0]

    return attend


def _quantise(g: Graph, value: str) -> str:
    """Round keys or values to 8 bits; their scale is already folded into the weights."""
    return g.op("QuantizeLinear", value, np.float32(1), np.int8(0))


def sinusoidal_positions(width: int) -> Float:
    """Return SinePositionalEmbedding (positions, width): interleaved sines and cosines (Vaswani et
    al. 2017), in float32 like torch."""
    speeds = np.exp(np.arange(0, width, 2, dtype=np.float32) * np.float32(-np.log(10000) / width))
    angles = np.arange(MAX_POSITIONS, dtype=np.float32)[:, None] * speeds
    return np.stack([np.sin(angles), np.cos(angles)], axis=2).reshape(MAX_POSITIONS, width)


def _embed(g: Graph, t2s: T2S, name: str, ids: str, positions: str) -> str:
    """TokenEmbedding plus scaled positions: ids (n,), positions (n, width) -> (n, width)."""
    table = t2s.ckpt.load(f"{name}_embedding.word_embeddings.weight")
    alpha = t2s.ckpt.load(f"{name}_position.alpha")
    return g.op("Add", g.op("Gather", table, ids), g.op("Mul", positions, alpha))


def _first_rows(g: Graph, table: Float, ids: str) -> str:
    """Slice as many rows of the table as there are ids."""
    return g.op("Slice", table, np.array([0]), g.shape(ids, 0), np.array([0]))


def _bert_projection(t2s: T2S) -> tuple[Float, Float]:
    return t2s.ckpt.load("bert_proj.weight").T, t2s.ckpt.load("bert_proj.bias")


@dataclass(frozen=True, slots=True)
class _Layer:
    """The weights of a T2SBlock; those around attention are scaled and padded, (out, in)."""

    ckpt: Checkpoint
    inner: Float
    """Projection to queries, keys and values of all heads, in this order."""
    bias: Float
    outer: Float
    """Projection of the result of attention."""

    @classmethod
    def of(cls, t2s: T2S, number: int, ranges: CacheRanges | None) -> Self:
        """Multiply the scale of attention into the query weights: ONNX Runtime's fast kernel for
        vectors times matrices has no factor. The scales of 8-bit keys and values are folded into
        their weights as well, and undone in the query and output weights."""
        ckpt = t2s.ckpt.submodule(f"h.layers.{number}.")
        weight, bias = (ckpt.load(f"self_attn.in_proj_{part}") for part in ("weight", "bias"))
        outer = ckpt.load("self_attn.out_proj.weight")
        key = value = np.ones((t2s.heads, t2s.head_width), np.float32)
        if ranges:
            key, value = (
                np.maximum(largest[number] / _INT8_MAX, 1e-12)
                for largest in (ranges.keys, ranges.values)
            )
        factor = np.stack([key * t2s.head_width**-0.5, 1 / key, 1 / value]).astype(np.float32)
        return cls(
            ckpt,
            _pad_heads(weight * factor.reshape(-1, 1), 3, t2s, ranges),
            _pad_heads(bias * factor.reshape(-1), 3, t2s, ranges),
            _pad_heads((outer * value.reshape(-1)).T, 1, t2s, ranges).T,
        )


def _pad_heads(rows: Float, kinds: int, t2s: T2S, ranges: CacheRanges | None) -> Float:
    """(kinds * heads * head width, ...) -> (kinds * heads * cache head width, ...), with zeros."""
    padding = cache_head_width(t2s, int8=ranges is not None) - t2s.head_width
    heads = rows.reshape(kinds * t2s.heads, t2s.head_width, -1)
    wide = np.pad(heads, ((0, 0), (0, padding), (0, 0)))
    return np.asarray(wide.reshape(-1, *rows.shape[1:]), np.float32)


def _after_attention(g: Graph, x: str, y: str, layer: _Layer, linear: Linear) -> str:
    """Rest of T2SBlock: x (rows, width), attention y (rows, heads * width) -> like x."""
    ckpt = layer.ckpt
    y = linear(g, y, layer.outer, ckpt.load("self_attn.out_proj.bias"))
    x = layer_norm(g, g.op("Add", x, y), *ckpt.weight_and_bias("norm1"))
    y = g.op("Relu", linear(g, x, *ckpt.weight_and_bias("linear1")))
    y = linear(g, y, *ckpt.weight_and_bias("linear2"), positive=True)
    return layer_norm(g, g.op("Add", x, y), *ckpt.weight_and_bias("norm2"))


def _prefill_mask(g: Graph, x: str, text: str) -> str:
    """Mask (T + P, T + P): row i attends to column j if j is text, or i is audio and j <= i."""
    indices = g.op("Range", np.int64(0), g.op("Squeeze", g.shape(x, 0)), np.int64(1))
    row, column = (g.op("Unsqueeze", indices, np.array([axis])) for axis in (1, 0))
    earlier = g.op("And", g.op("Not", g.op("Less", row, text)), g.op("LessOrEqual", column, row))
    return _additive_mask(g, g.op("Or", g.op("Less", column, text), earlier))


def _step_mask(g: Graph, cache: str, length: str) -> str:
    """Mask (rows, 1, 1, 1, capacity): a row attends to its cache up to `length`, inclusive."""
    capacity = g.op("Squeeze", g.shape(cache, 2))
    indices = g.op("Range", np.int64(0), capacity, np.int64(1))
    last = g.reshape(length, -1, 1, 1, 1)
    return _additive_mask(g, g.op("LessOrEqual", indices, last))


def _additive_mask(g: Graph, visible: str) -> str:
    """0 where visible, otherwise a number that is effectively -inf but finite in fp16."""
    return g.op("Where", visible, np.array(0, g.dtype), np.array(-30000, g.dtype))
