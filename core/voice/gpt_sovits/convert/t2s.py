"""T2S, the language model from phonemes to semantic tokens: one graph that reads the prompt, one
that makes a step for a batch of rows on caches that are written in place.

Both are post-norm transformers without a final norm. Text rows see all text; audio rows see all
text and the audio before them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np

from core.voice.gpt_sovits.convert.checkpoint import Checkpoint, Float
from core.voice.gpt_sovits.convert.graph import CONTRIB, Graph, type_of
from core.voice.gpt_sovits.convert.layers import attend, norm

MAX_POSITIONS = 4096
"""Phonemes of prompt and sentence together, or tokens of prompt and sentence: a sentence has at
most 510 characters and 1500 tokens."""
_BYTE = 127
_MULTIPLE = 8
"""Attention over bytes wants heads of a multiple of this width: narrower ones are filled with 0."""


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


@dataclass(frozen=True, slots=True)
class Spans:
    """The largest keys and values to be kept as bytes, (layers, heads, head width) each."""

    keys: Float
    values: Float


def kept_width(t2s: T2S, *, in_bytes: bool) -> int:
    """Of a head, in caches."""
    return -(-t2s.head_width // _MULTIPLE) * _MULTIPLE if in_bytes else t2s.head_width


def build_prefill(g: Graph, t2s: T2S, project: Project, spans: Spans | None = None) -> None:
    """phones (T,), bert (T, 1024), prompt (P,) -> logits (1, vocabulary) of the first token,
    keys and values (layers, heads, T + P, kept width): bytes where `spans` are given."""
    phones = g.input("phones", ("phones",), np.int64)
    prompt = g.input("prompt", ("prompt",), np.int64)
    table = positions(t2s.width)
    text = _embedded(g, t2s, "ar_text", phones, _first(g, table, phones))
    bert = g.op("Gemm", g.real("bert", ("phones", t2s.bert)), *_bert(t2s))
    audio = _embedded(g, t2s, "ar_audio", prompt, _first(g, table, prompt))
    x = g.op("Concat", g.op("Add", text, bert), audio, axis=0)
    mask = _prefill_mask(g, x, g.shape(phones, 0))
    keys: list[str] = []
    values: list[str] = []
    width = kept_width(t2s, in_bytes=spans is not None)
    for i in range(t2s.layers):
        layer = _Layer.of(t2s, i, spans)
        qkv = g.reshape(project(g, x, layer.inner, layer.bias), -1, 3 * t2s.heads, 1, width)
        rows = g.op("Transpose", qkv, perm=[2, 1, 0, 3])
        q, k, v = g.ops("Split", 3, rows, axis=1, num_outputs=3)
        y = g.op("Transpose", attend(g, q, k, v, 1, mask), perm=[0, 2, 1, 3])
        x = _rest(g, x, g.reshape(y, -1, t2s.heads * width), layer, project)
        for held, value in ((keys, k), (values, v)):
            held.append(_byte(g, value) if spans else value)
    last = g.op("Gather", x, np.array([-1]), axis=0)
    g.output("logits", project(g, last, t2s.ckpt.take("ar_predict_layer.weight"), None), (1, "n"))
    shape, kind = (t2s.layers, t2s.heads, "sequence", width), np.int8 if spans else g.dtype
    g.output("keys", g.op("Concat", *keys, axis=0), shape, kind)
    g.output("values", g.op("Concat", *values, axis=0), shape, kind)


def build_step(g: Graph, t2s: T2S, project: Project, spans: Spans | None = None) -> None:
    """token, position and length (rows,), caches k_i, v_i (rows, heads, capacity, kept width) ->
    logits (rows, vocabulary), caches K_i, V_i, meant to be bound to the memory of k_i, v_i.

    `position` counts audio, `length` is where the cache ends: the place that is written.
    """
    token, position, length = (
        g.input(name, ("rows",), np.int64) for name in ("token", "position", "length")
    )
    cache = ("rows", t2s.heads, "capacity", kept_width(t2s, in_bytes=spans is not None))
    kind = np.int8 if spans else g.dtype
    for i in range(t2s.layers):
        g.input(f"k_{i}", cache, kind)
        g.input(f"v_{i}", cache, kind)
    place = g.op("Gather", positions(t2s.width), position)
    x = _embedded(g, t2s, "ar_audio", token, place)
    if spans:
        x = g.op("Unsqueeze", x, np.array([1]))
    remember = _remembered_in_bytes(g, t2s, length) if spans else _remembered(g, t2s, length)
    for i in range(t2s.layers):
        layer = _Layer.of(t2s, i, spans)
        y = remember(project(g, x, layer.inner, layer.bias), i)
        x = _rest(g, x, y, layer, project)
    logits = project(g, x, t2s.ckpt.take("ar_predict_layer.weight"), None)
    g.output("logits", g.reshape(logits, -1, t2s.vocabulary), ("rows", t2s.vocabulary))
    for i in range(t2s.layers):
        g.returns(f"K_{i}", cache, kind)
        g.returns(f"V_{i}", cache, kind)


Remember = Callable[[str, int], str]
"""Queries, keys and values of a step and the number of the layer -> what attention finds."""


def _remembered(g: Graph, t2s: T2S, length: str) -> Remember:
    mask = _step_mask(g, "k_0", length)

    def remember(qkv: str, i: int) -> str:
        heads = g.reshape(qkv, -1, 3 * t2s.heads, 1, t2s.head_width)
        q, k, v = g.ops("Split", 3, heads, axis=1, num_outputs=3)
        g.write("TensorScatter", [f"K_{i}"], f"k_{i}", k, length, axis=2)
        g.write("TensorScatter", [f"V_{i}"], f"v_{i}", v, length, axis=2)
        return g.reshape(attend(g, q, f"K_{i}", f"V_{i}", 1, mask), -1, t2s.width)

    return remember


def _remembered_in_bytes(g: Graph, t2s: T2S, length: str) -> Remember:
    """One operator of ONNX Runtime's a layer. It looks at no more places than a row has filled."""
    last = g.op("Cast", length, to=type_of(np.dtype(np.int32)))
    room = g.op("Cast", g.shape("k_0", 2), to=type_of(np.dtype(np.int32)))
    one = np.ones(1, np.float32)

    def remember(qkv: str, i: int) -> str:
        inputs = [qkv, None, None, f"k_{i}", f"v_{i}", last, room, *[None] * 5, one, one]
        how = {"num_heads": t2s.heads, "kv_num_heads": t2s.heads, "scale": 1.0}
        kept = {"k_quant_type": "PER_TENSOR", "v_quant_type": "PER_TENSOR"}
        names = [f"found_{i}", f"K_{i}", f"V_{i}"]
        bits = {"kv_cache_bit_width": 8}
        g.write("GroupQueryAttention", names, *inputs, domain=CONTRIB, **how, **kept, **bits)
        return names[0]

    return remember


def _byte(g: Graph, value: str) -> str:
    return g.op("QuantizeLinear", value, np.float32(1), np.int8(0))


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


@dataclass(frozen=True, slots=True)
class _Layer:
    """The weights around attention, (out, in); the rest as it lies in the checkpoint."""

    ckpt: Checkpoint
    inner: Float
    """Queries, keys and values of all heads, in this order."""
    bias: Float
    outer: Float

    @classmethod
    def of(cls, t2s: T2S, number: int, spans: Spans | None) -> Self:
        """The scale of attention is in the queries' weights: ONNX Runtime has a fast kernel for
        one row times a matrix, but not with a factor. So are the scales that make bytes of keys and
        values; queries and the projection behind undo them."""
        ckpt = t2s.ckpt.below(f"h.layers.{number}.")
        weight, bias = (ckpt.take(f"self_attn.in_proj_{part}") for part in ("weight", "bias"))
        outer = ckpt.take("self_attn.out_proj.weight")
        key = value = np.ones((t2s.heads, t2s.head_width), np.float32)
        if spans:
            key, value = (
                np.maximum(one[number] / _BYTE, 1e-12) for one in (spans.keys, spans.values)
            )
        factor = np.stack([key * t2s.head_width**-0.5, 1 / key, 1 / value]).astype(np.float32)
        return cls(
            ckpt,
            _widened(weight * factor.reshape(-1, 1), 3, t2s, spans),
            _widened(bias * factor.reshape(-1), 3, t2s, spans),
            _widened((outer * value.reshape(-1)).T, 1, t2s, spans).T,
        )


def _widened(rows: Float, kinds: int, t2s: T2S, spans: Spans | None) -> Float:
    """(kinds * heads * head width, ...) -> (kinds * heads * kept width, ...), with zeros."""
    lacking = kept_width(t2s, in_bytes=spans is not None) - t2s.head_width
    heads = rows.reshape(kinds * t2s.heads, t2s.head_width, -1)
    wide = np.pad(heads, ((0, 0), (0, lacking), (0, 0)))
    return np.asarray(wide.reshape(-1, *rows.shape[1:]), np.float32)


def _rest(g: Graph, x: str, y: str, layer: _Layer, project: Project) -> str:
    """What follows attention in a layer."""
    ckpt = layer.ckpt
    y = project(g, y, layer.outer, ckpt.take("self_attn.out_proj.bias"))
    x = norm(g, g.op("Add", x, y), *_pair(ckpt, "norm1"))
    y = g.op("Relu", project(g, x, *_pair(ckpt, "linear1")))
    y = project(g, y, *_pair(ckpt, "linear2"), positive=True)
    return norm(g, g.op("Add", x, y), *_pair(ckpt, "norm2"))


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
