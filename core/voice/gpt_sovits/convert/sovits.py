"""SoVITS without its vocoder: the encoder of tokens and phonemes, the timbre encoder, the flow.

VITS (Kim et al. 2021, arXiv:2106.06103) with semantic tokens in place of aligned text, and
attention with relative positions (Shaw et al. 2018, arXiv:1803.02155). Layers are named as in
upstream's GPT_SoVITS/module.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from core.voice.gpt_sovits.convert.checkpoint import Checkpoint
from core.voice.gpt_sovits.convert.graph import CONTRIB, Graph
from core.voice.gpt_sovits.convert.layers import (
    attention,
    conv,
    dense,
    fold_weight_norm,
    layer_norm,
    linear,
    merge_heads,
    split_heads,
    transpose,
)

MRTE_HEADS = 4
STYLE_HEADS = 2
Version = Literal["v2", "v2Pro", "v2ProPlus"]


@dataclass(frozen=True, slots=True)
class Sovits:
    """A SoVITS checkpoint and what was detected about it."""

    ckpt: Checkpoint
    version: Version
    heads: int

    @property
    def is_pro(self) -> bool:
        return self.version != "v2"


def detect_version(ckpt: Checkpoint) -> Sovits:
    """Detect the version from the tensors. Raises Refused CHECKPOINT_INVALID for v1, v3, v4."""
    if any(key.startswith("cfm.") for key in ckpt.tensors):
        raise ckpt.invalid("a v3 or v4 model, which is not supported: use v2, v2Pro or v2ProPlus")
    symbols = ckpt.shape("enc_p.text_embedding.weight")[0]
    if symbols == 322:
        raise ckpt.invalid("a v1 model, which is not supported: use v2, v2Pro or v2ProPlus")
    version: Version = "v2"
    if "sv_emb.weight" in ckpt:
        # Only v2ProPlus has a first upsampling kernel of twice the rate.
        rate = int(ckpt.setting("model", "upsample_rates")[0])
        wide = ckpt.shape("dec.ups.0.weight_v")[2] == 2 * rate
        version = "v2ProPlus" if wide else "v2Pro"
    return Sovits(ckpt, version, int(ckpt.setting("model", "n_heads")))


def build_timbre(g: Graph, sovits: Sovits) -> None:
    """Write MelStyleEncoder: spectrogram (1, 704, frames) -> timbre (1, gin, 1).

    v2Pro and v2ProPlus also read a speaker embedding, speaker (1, size).
    """
    style = sovits.ckpt.submodule("ref_enc.")
    spectrogram = g.float_input("spectrogram", (1, "bins", "frames"))
    x = _mish(g, dense(g, transpose(g, spectrogram), style, "spectral.0.fc"))
    x = transpose(g, _mish(g, dense(g, x, style, "spectral.3.fc")))
    for i in range(style.count_layers("temporal.%d.conv1.conv.weight")):
        name = f"temporal.{i}.conv1.conv"
        y = conv(g, x, *style.weight_and_bias(name))
        value, gate = g.ops("Split", 2, y, axis=1, num_outputs=2)
        x = g.op("Add", x, g.op("Mul", value, g.op("Sigmoid", gate)))
    x = transpose(g, x)
    width = style.shape("slf_attn.fc.weight")[0]
    q, k, v = (
        split_heads(g, dense(g, x, style, f"slf_attn.w_{p}s"), STYLE_HEADS, width // STYLE_HEADS)
        for p in "qkv"
    )
    # Upstream scales by the width of the model, not of a head.
    y = merge_heads(g, attention(g, q, k, v, width**-0.5), width)
    x = g.op("Add", dense(g, y, style, "slf_attn.fc"), x)
    x = dense(g, x, style, "fc.fc")
    timbre = transpose(g, g.op("ReduceMean", x, np.array([1]), keepdims=1))
    if sovits.is_pro:
        timbre = _add_speaker(g, timbre, sovits.ckpt)
    g.output("timbre", timbre, (1, "gin", 1))


def build_encode(g: Graph, sovits: Sovits) -> None:
    """Write TextEncoder up to and including `encoder2`.

    tokens (T,), phones (P,), timbre (1, gin, 1) -> latent (1, 2 T, hidden).
    """
    enc = sovits.ckpt.submodule("enc_p.")
    tokens = g.input("tokens", ("tokens",), np.int64)
    phones = g.input("phones", ("phones",), np.int64)
    timbre = g.float_input("timbre", (1, "gin", 1))
    codebook = sovits.ckpt.load("quantizer.vq.layers.0._codebook.embed")
    # A token has two frames. It is projected before it is repeated, which halves the work.
    x = dense(g, g.op("Gather", codebook, g.reshape(tokens, 1, -1)), enc, "ssl_proj")
    x = g.op("Expand", g.op("Unsqueeze", x, np.array([2])), np.array([1, 1, 2, 1], np.int64))
    x = g.reshape(x, 1, -1, enc.shape("ssl_proj.weight")[0])
    ssl = _transformer(g, x, enc.submodule("encoder_ssl."), sovits.heads)
    text = g.op("Gather", enc.load("text_embedding.weight"), g.reshape(phones, 1, -1))
    text = _transformer(g, text, enc.submodule("encoder_text."), sovits.heads)
    if sovits.is_pro:
        narrow = dense(g, transpose(g, timbre), sovits.ckpt, "ge_to512")
    else:
        narrow = transpose(g, timbre)
    x = _mrte(g, ssl, text, narrow, enc.submodule("mrte."))
    latent = _transformer(g, x, enc.submodule("encoder2."), sovits.heads)
    g.output("latent", latent, (1, "frames", "n"))


def build_flow(g: Graph, sovits: Sovits) -> None:
    """Write the last projection of TextEncoder and ResidualCouplingBlock in reverse.

    latent (1, frames, hidden), scaled noise (1, inter, frames), timbre (1, gin, 1) -> z and the
    prior's mean and log_std, (1, inter, frames) each.
    """
    ckpt = sovits.ckpt
    latent = g.float_input("latent", (1, "frames", "hidden"))
    noise = g.float_input("noise", (1, "inter", "frames"))
    timbre = g.float_input("timbre", (1, "gin", 1))
    stats = transpose(g, dense(g, latent, ckpt, "enc_p.proj"))
    mean, log_std = g.ops("Split", 2, stats, axis=1, num_outputs=2)
    z = g.op("Add", mean, g.op("Mul", noise, g.op("Exp", log_std)))
    couplings = [i for i in range(64) if f"flow.flows.{i}.pre.weight" in ckpt]
    for i in reversed(couplings):
        z = g.slice(z, -1, -(2**31), axis=1, step=-1)  # Flip
        z = _coupling_layer(g, z, timbre, ckpt.submodule(f"flow.flows.{i}."))
    for name, value in (("z", z), ("mean", mean), ("log_std", log_std)):
        g.output(name, value, (1, "inter", "frames"))


def _add_speaker(g: Graph, timbre: str, ckpt: Checkpoint) -> str:
    """`sv_emb` and `prelu`: timbre (1, gin, 1) and the input speaker (1, size) -> (1, gin, 1)."""
    speaker = dense(g, g.float_input("speaker", (1, "size")), ckpt, "sv_emb")
    both = g.op("Add", timbre, g.op("Unsqueeze", speaker, np.array([2])))
    return g.op("PRelu", both, ckpt.load("prelu.weight").reshape(-1, 1))


def _mish(g: Graph, x: str) -> str:
    return g.op("Mul", x, g.op("Tanh", g.op("Softplus", x)))


def _mrte(g: Graph, ssl: str, text: str, timbre: str, ckpt: Checkpoint) -> str:
    """MRTE: cross-attention from frames to phonemes, plus the timbre.

    ssl (1, frames, hidden), text (1, P, hidden), timbre (1, 1, n) -> (1, frames, hidden).
    """
    content, text = dense(g, ssl, ckpt, "c_pre"), dense(g, text, ckpt, "text_pre")
    width = ckpt.shape("c_pre.weight")[0]
    size = width // MRTE_HEADS
    q = split_heads(g, dense(g, content, ckpt, "cross_attention.conv_q"), MRTE_HEADS, size)
    k, v = (
        split_heads(g, dense(g, text, ckpt, f"cross_attention.conv_{p}"), MRTE_HEADS, size)
        for p in "kv"
    )
    y = merge_heads(g, attention(g, q, k, v, size**-0.5), width)
    y = dense(g, y, ckpt, "cross_attention.conv_o")
    return dense(g, g.op("Add", g.op("Add", y, content), timbre), ckpt, "c_post")


def _transformer(g: Graph, x: str, ckpt: Checkpoint, heads: int) -> str:
    """Encoder, a post-norm transformer with convolutional FFN, on (1, time, hidden)."""
    for i in range(ckpt.count_layers("attn_layers.%d.conv_q.weight")):
        y = _relative_attention(g, x, ckpt.submodule(f"attn_layers.{i}."), heads)
        x = _add_and_norm(g, x, y, ckpt, f"norm_layers_1.{i}")
        ffn = ckpt.submodule(f"ffn_layers.{i}.")
        y = conv(g, transpose(g, x), *ffn.weight_and_bias("conv_1"))
        y = conv(g, g.op("Relu", y), *ffn.weight_and_bias("conv_2"))
        x = _add_and_norm(g, x, transpose(g, y), ckpt, f"norm_layers_2.{i}")
    return x


def _relative_attention(g: Graph, x: str, ckpt: Checkpoint, heads: int) -> str:
    """MultiHeadAttention with relative positions, on (1, time, hidden)."""
    width = ckpt.shape("conv_q.weight")[0]
    size = width // heads
    q, k, v = (split_heads(g, dense(g, x, ckpt, f"conv_{p}"), heads, size) for p in "qkv")
    q = g.op("Mul", q, np.float32(size**-0.5))
    near = g.op("MatMul", q, ckpt.load("emb_rel_k")[0].T)  # (1, heads, time, 2 window + 1)
    scores = g.op("FusedMatMul", q, k, domain=CONTRIB, transB=1)
    weights = g.op("Softmax", g.op("Add", scores, _band_to_square(g, near)), axis=-1)
    table = ckpt.load("emb_rel_v")[0]
    nearby = g.op("MatMul", _square_to_band(g, weights, len(table)), table)
    y = g.op("Add", g.op("MatMul", weights, v), nearby)
    return dense(g, merge_heads(g, y, width), ckpt, "conv_o")


def _band_to_square(g: Graph, band: str) -> str:
    """Relative to absolute positions: (1, heads, time, w), w odd -> (1, heads, time, time).

    Column c of row i moves to column i + c - w // 2: rows are padded to time + w elements and the
    tensor is reshaped to rows of one element less, which shifts each row by one more.
    """
    time, window = g.shape(band, 2), g.shape(band, 3)
    end = g.op("Concat", np.zeros(7, np.int64), time, axis=0)
    longer = g.op("Sub", g.op("Add", time, window), np.array([1]))
    flat = _flatten(g, g.op("Pad", band, end))
    skewed = _unflatten(g, g.slice(flat, 0, g.op("Mul", time, longer), axis=2), time, longer)
    half = g.op("Div", window, np.array([2]))
    return g.slice(skewed, half, g.op("Add", half, time), axis=3)


def _square_to_band(g: Graph, square: str, window: int) -> str:
    """Absolute to relative positions, its inverse: -> (1, heads, time, window)."""
    half = window // 2
    time = g.shape(square, 2)
    padded = g.op("Pad", square, np.array([0, 0, 0, half, 0, 0, 0, half]))
    tail = g.op("Concat", np.zeros(5, np.int64), time, axis=0)
    flat = g.op("Pad", _flatten(g, padded), tail)
    skewed = _unflatten(g, flat, time, g.op("Add", time, np.array([window])))
    return g.slice(skewed, 0, window, axis=3)


def _flatten(g: Graph, x: str) -> str:
    return g.reshape(x, 0, 0, -1)


def _unflatten(g: Graph, flat: str, rows: str, columns: str) -> str:
    return g.op("Reshape", flat, g.op("Concat", np.zeros(2, np.int64), rows, columns, axis=0))


def _coupling_layer(g: Graph, z: str, timbre: str, ckpt: Checkpoint) -> str:
    """ResidualCouplingLayer in reverse, x1 - shift(x0), on (1, inter, frames).

    The shift is computed by a WaveNet (`WN`) that is conditioned on the timbre.
    """
    kept, moved = g.ops("Split", 2, z, axis=1, num_outputs=2)
    x = conv(g, kept, *ckpt.weight_and_bias("pre"))
    layers = ckpt.count_layers("enc.in_layers.%d.bias")
    weight, bias = fold_weight_norm(ckpt, "enc.cond_layer"), ckpt.load("enc.cond_layer.bias")
    condition = linear(g, transpose(g, timbre), weight, bias)
    conditions = g.ops("Split", layers, transpose(g, condition), axis=1, num_outputs=layers)
    skips: list[str] = []
    for i in range(layers):
        name = f"enc.in_layers.{i}"
        a = conv(g, x, fold_weight_norm(ckpt, name), ckpt.load(f"{name}.bias"))
        a, gate = g.ops("Split", 2, g.op("Add", a, conditions[i]), axis=1, num_outputs=2)
        a = g.op("Mul", g.op("Tanh", a), g.op("Sigmoid", gate))
        name = f"enc.res_skip_layers.{i}"
        y = conv(g, a, fold_weight_norm(ckpt, name), ckpt.load(f"{name}.bias"))
        if i < layers - 1:
            residual, y = g.ops("Split", 2, y, axis=1, num_outputs=2)
            x = g.op("Add", x, residual)
        skips.append(y)
    shift = conv(g, g.op("Sum", *skips), *ckpt.weight_and_bias("post"))
    return g.op("Concat", kept, g.op("Sub", moved, shift), axis=1)


def _add_and_norm(g: Graph, x: str, y: str, ckpt: Checkpoint, name: str) -> str:
    """A residual sum and LayerNorm, on (1, time, hidden)."""
    weight, bias = ckpt.load(f"{name}.gamma"), ckpt.load(f"{name}.beta")
    return layer_norm(g, g.op("Add", x, y), weight, bias)
