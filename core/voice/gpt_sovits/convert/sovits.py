"""SoVITS without its vocoder: the text encoder, the timbre encoder and the flow.

VITS (Kim et al. 2021, arXiv:2106.06103) with semantic tokens in place of aligned text; attention
with relative positions after Shaw et al. 2018 (arXiv:1803.02155).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from core.voice.gpt_sovits.convert.checkpoint import Checkpoint
from core.voice.gpt_sovits.convert.graph import CONTRIB, Graph
from core.voice.gpt_sovits.convert.layers import (
    attend,
    conv,
    dense,
    folded,
    heads_of,
    linear,
    merged,
    norm,
    transposed,
)

MRTE_HEADS = 4
STYLE_HEADS = 2
Version = Literal["v2", "v2Pro", "v2ProPlus"]


@dataclass(frozen=True, slots=True)
class Sovits:
    ckpt: Checkpoint
    version: Version
    heads: int

    @property
    def pro(self) -> bool:
        return self.version != "v2"


def recognise(ckpt: Checkpoint) -> Sovits:
    """The version, told from the tensors alone. Raises Refused CHECKPOINT_INVALID on others."""
    if any(key.startswith("cfm.") for key in ckpt.tensors):
        raise ckpt.invalid("a v3 or v4 model: only v2, v2Pro and v2ProPlus can be converted")
    symbols = ckpt.shape("enc_p.text_embedding.weight")[0]
    if symbols == 322:
        raise ckpt.invalid("a v1 model (322 symbols): only v2, v2Pro and v2ProPlus")
    version: Version = "v2"
    if "sv_emb.weight" in ckpt:
        # Both Pro versions upsample by 10 first; the bigger one with a kernel of twice that.
        wide = ckpt.shape("dec.ups.0.weight_v")[2] == 2 * _first_rate(ckpt)
        version = "v2ProPlus" if wide else "v2Pro"
    return Sovits(ckpt, version, int(ckpt.setting("model", "n_heads")))


def build_timbre(g: Graph, sovits: Sovits) -> None:
    """spectrogram (1, 704, frames)[, speaker (1, size)] -> timbre (1, gin, 1) of one reference."""
    style = sovits.ckpt.below("ref_enc.")
    spectrogram = g.real("spectrogram", (1, "bins", "frames"))
    x = _mish(g, dense(g, transposed(g, spectrogram), style, "spectral.0.fc"))
    x = transposed(g, _mish(g, dense(g, x, style, "spectral.3.fc")))
    for i in range(style.count("temporal.%d.conv1.conv.weight")):
        name = f"temporal.{i}.conv1.conv"
        y = conv(g, x, style.take(f"{name}.weight"), style.take(f"{name}.bias"))
        value, gate = g.ops("Split", 2, y, axis=1, num_outputs=2)
        x = g.op("Add", x, g.op("Mul", value, g.op("Sigmoid", gate)))
    x = transposed(g, x)
    width = style.shape("slf_attn.fc.weight")[0]
    q, k, v = (
        heads_of(g, dense(g, x, style, f"slf_attn.w_{p}s"), STYLE_HEADS, width // STYLE_HEADS)
        for p in "qkv"
    )
    # Divided by the root of the model's width, not of a head's: a quirk of upstream.
    y = merged(g, attend(g, q, k, v, width**-0.5), width)
    x = g.op("Add", dense(g, y, style, "slf_attn.fc"), x)
    x = dense(g, x, style, "fc.fc")
    timbre = transposed(g, g.op("ReduceMean", x, np.array([1]), keepdims=1))
    if sovits.pro:
        timbre = _with_speaker(g, timbre, sovits.ckpt)
    g.output("timbre", timbre, (1, "gin", 1))


def build_encode(g: Graph, sovits: Sovits) -> None:
    """tokens (T,), phones (P,), timbre (1, gin, 1) -> latent (1, 2 T, hidden)."""
    enc = sovits.ckpt.below("enc_p.")
    tokens = g.input("tokens", ("tokens",), np.int64)
    phones = g.input("phones", ("phones",), np.int64)
    timbre = g.real("timbre", (1, "gin", 1))
    codebook = sovits.ckpt.take("quantizer.vq.layers.0._codebook.embed")
    # Every token lasts two frames; projecting before repeating halves the work.
    x = dense(g, g.op("Gather", codebook, g.reshape(tokens, 1, -1)), enc, "ssl_proj")
    x = g.op("Expand", g.op("Unsqueeze", x, np.array([2])), np.array([1, 1, 2, 1], np.int64))
    x = g.reshape(x, 1, -1, enc.shape("ssl_proj.weight")[0])
    ssl = _encoder(g, x, enc.below("encoder_ssl."), sovits.heads)
    text = g.op("Gather", enc.take("text_embedding.weight"), g.reshape(phones, 1, -1))
    text = _encoder(g, text, enc.below("encoder_text."), sovits.heads)
    if sovits.pro:
        narrow = dense(g, transposed(g, timbre), sovits.ckpt, "ge_to512")
    else:
        narrow = transposed(g, timbre)
    x = _mrte(g, ssl, text, narrow, enc.below("mrte."))
    g.output("latent", _encoder(g, x, enc.below("encoder2."), sovits.heads), (1, "frames", "n"))


def build_flow(g: Graph, sovits: Sovits) -> None:
    """latent (1, frames, hidden), noise (1, inter, frames) already scaled, timbre -> z, and the
    prior's mean and log_std, all (1, inter, frames)."""
    ckpt = sovits.ckpt
    latent = g.real("latent", (1, "frames", "hidden"))
    noise = g.real("noise", (1, "inter", "frames"))
    timbre = g.real("timbre", (1, "gin", 1))
    stats = transposed(g, dense(g, latent, ckpt, "enc_p.proj"))
    mean, log_std = g.ops("Split", 2, stats, axis=1, num_outputs=2)
    z = g.op("Add", mean, g.op("Mul", noise, g.op("Exp", log_std)))
    couplings = [i for i in range(64) if f"flow.flows.{i}.pre.weight" in ckpt]
    for i in reversed(couplings):
        z = g.slice(z, -1, -(2**31), axis=1, step=-1)  # the flow swaps its halves by mirroring
        z = _coupling(g, z, timbre, ckpt.below(f"flow.flows.{i}."))
    for name, value in (("z", z), ("mean", mean), ("log_std", log_std)):
        g.output(name, value, (1, "inter", "frames"))


def _first_rate(ckpt: Checkpoint) -> int:
    return int(ckpt.setting("model", "upsample_rates")[0])


def _with_speaker(g: Graph, timbre: str, ckpt: Checkpoint) -> str:
    speaker = dense(g, g.real("speaker", (1, "size")), ckpt, "sv_emb")
    both = g.op("Add", timbre, g.op("Unsqueeze", speaker, np.array([2])))
    return g.op("PRelu", both, ckpt.take("prelu.weight").reshape(-1, 1))


def _mish(g: Graph, x: str) -> str:
    return g.op("Mul", x, g.op("Tanh", g.op("Softplus", x)))


def _mrte(g: Graph, ssl: str, text: str, timbre: str, ckpt: Checkpoint) -> str:
    """Tokens look up their phonemes; the timbre is added to every frame."""
    content, text = dense(g, ssl, ckpt, "c_pre"), dense(g, text, ckpt, "text_pre")
    width = ckpt.shape("c_pre.weight")[0]
    size = width // MRTE_HEADS
    q = heads_of(g, dense(g, content, ckpt, "cross_attention.conv_q"), MRTE_HEADS, size)
    k, v = (
        heads_of(g, dense(g, text, ckpt, f"cross_attention.conv_{p}"), MRTE_HEADS, size)
        for p in "kv"
    )
    y = dense(g, merged(g, attend(g, q, k, v, size**-0.5), width), ckpt, "cross_attention.conv_o")
    return dense(g, g.op("Add", g.op("Add", y, content), timbre), ckpt, "c_post")


def _encoder(g: Graph, x: str, ckpt: Checkpoint, heads: int) -> str:
    """Post-norm transformer with convolutions as feed-forward, on (1, time, channels)."""
    for i in range(ckpt.count("attn_layers.%d.conv_q.weight")):
        y = _relative_attention(g, x, ckpt.below(f"attn_layers.{i}."), heads)
        x = norm(g, g.op("Add", x, y), *_scale(ckpt, f"norm_layers_1.{i}"))
        ffn = ckpt.below(f"ffn_layers.{i}.")
        y = conv(g, transposed(g, x), ffn.take("conv_1.weight"), ffn.take("conv_1.bias"))
        y = conv(g, g.op("Relu", y), ffn.take("conv_2.weight"), ffn.take("conv_2.bias"))
        x = norm(g, g.op("Add", x, transposed(g, y)), *_scale(ckpt, f"norm_layers_2.{i}"))
    return x


def _relative_attention(g: Graph, x: str, ckpt: Checkpoint, heads: int) -> str:
    width = ckpt.shape("conv_q.weight")[0]
    size = width // heads
    q, k, v = (heads_of(g, dense(g, x, ckpt, f"conv_{p}"), heads, size) for p in "qkv")
    q = g.op("Mul", q, np.float32(size**-0.5))
    near = g.op("MatMul", q, ckpt.take("emb_rel_k")[0].T)  # (1, heads, time, 2 window + 1)
    scores = g.op("FusedMatMul", q, k, domain=CONTRIB, transB=1)
    weights = g.op("Softmax", g.op("Add", scores, _spread(g, near)), axis=-1)
    table = ckpt.take("emb_rel_v")[0]
    nearby = g.op("MatMul", _gathered(g, weights, len(table)), table)
    y = g.op("Add", g.op("MatMul", weights, v), nearby)
    return dense(g, merged(g, y, width), ckpt, "conv_o")


def _spread(g: Graph, band: str) -> str:
    """(..., time, w) with w odd -> (..., time, time): column c of row i goes to i + c - w // 2.

    Rows of time + w elements, read again as rows of one element less, shift by one each.
    """
    time, window = g.shape(band, 2), g.shape(band, 3)
    end = g.op("Concat", np.zeros(7, np.int64), time, axis=0)
    longer = g.op("Sub", g.op("Add", time, window), np.array([1]))
    flat = _flat(g, g.op("Pad", band, end))
    skewed = _folded(g, g.slice(flat, 0, g.op("Mul", time, longer), axis=2), time, longer)
    half = g.op("Div", window, np.array([2]))
    return g.slice(skewed, half, g.op("Add", half, time), axis=3)


def _gathered(g: Graph, square: str, window: int) -> str:
    """The inverse of `_spread`: the band of a square as (..., time, window)."""
    half = window // 2
    time = g.shape(square, 2)
    padded = g.op("Pad", square, np.array([0, 0, 0, half, 0, 0, 0, half]))
    tail = g.op("Concat", np.zeros(5, np.int64), time, axis=0)
    flat = g.op("Pad", _flat(g, padded), tail)
    skewed = _folded(g, flat, time, g.op("Add", time, np.array([window])))
    return g.slice(skewed, 0, window, axis=3)


def _flat(g: Graph, x: str) -> str:
    return g.reshape(x, 0, 0, -1)


def _folded(g: Graph, flat: str, rows: str, columns: str) -> str:
    return g.op("Reshape", flat, g.op("Concat", np.zeros(2, np.int64), rows, columns, axis=0))


def _coupling(g: Graph, z: str, timbre: str, ckpt: Checkpoint) -> str:
    """The inverse of x1 + shift(x0): a WaveNet conditioned on the timbre says the shift."""
    kept, moved = g.ops("Split", 2, z, axis=1, num_outputs=2)
    x = conv(g, kept, ckpt.take("pre.weight"), ckpt.take("pre.bias"))
    layers = ckpt.count("enc.in_layers.%d.bias")
    condition = linear(
        g, transposed(g, timbre), folded(ckpt, "enc.cond_layer"), ckpt.take("enc.cond_layer.bias")
    )
    conditions = g.ops("Split", layers, transposed(g, condition), axis=1, num_outputs=layers)
    skips: list[str] = []
    for i in range(layers):
        a = conv(g, x, folded(ckpt, f"enc.in_layers.{i}"), ckpt.take(f"enc.in_layers.{i}.bias"))
        a, gate = g.ops("Split", 2, g.op("Add", a, conditions[i]), axis=1, num_outputs=2)
        a = g.op("Mul", g.op("Tanh", a), g.op("Sigmoid", gate))
        name = f"enc.res_skip_layers.{i}"
        y = conv(g, a, folded(ckpt, name), ckpt.take(f"{name}.bias"))
        if i < layers - 1:
            residual, y = g.ops("Split", 2, y, axis=1, num_outputs=2)
            x = g.op("Add", x, residual)
        skips.append(y)
    shift = conv(g, g.op("Sum", *skips), ckpt.take("post.weight"), ckpt.take("post.bias"))
    return g.op("Concat", kept, g.op("Sub", moved, shift), axis=1)


def _scale(ckpt: Checkpoint, name: str) -> tuple[np.ndarray, np.ndarray]:
    return ckpt.take(f"{name}.gamma"), ckpt.take(f"{name}.beta")
