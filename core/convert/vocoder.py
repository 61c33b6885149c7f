"""The HiFi-GAN vocoder (Kong et al. 2020, arXiv:2010.05646) from latent frames to the wave."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from core.convert.checkpoint import Checkpoint, Float
from core.convert.graph import Graph
from core.convert.layers import folded

_SLOPE = 0.1
_LAST_SLOPE = 0.01
"""Upstream leaves the last activation at torch's default."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What tensor shapes cannot tell."""

    rates: tuple[int, ...]
    dilations: tuple[tuple[int, ...], ...]

    @staticmethod
    def of(ckpt: Checkpoint) -> Plan:
        dilations = ckpt.setting("model", "resblock_dilation_sizes")
        if str(ckpt.setting("model", "resblock")) != "1":
            raise ckpt.invalid("its vocoder has residual blocks of type 2")
        rates = tuple(int(rate) for rate in ckpt.setting("model", "upsample_rates"))
        return Plan(rates, tuple(tuple(int(d) for d in row) for row in dilations))


def build(g: Graph, ckpt: Checkpoint, plan: Plan) -> None:
    """z (1, inter, frames), timbre (1, gin, 1) -> wave (samples,), 640 a frame.

    Written as 2-D convolutions of height 1: ONNX Runtime has its fast blocked layout (NCHWc) only
    for those.
    """
    dec = ckpt.below("dec.")
    z, timbre = g.real("z", (1, "inter", "frames")), g.real("timbre", (1, "gin", 1))
    x = _conv(g, _tall(g, z), dec.take("conv_pre.weight"), dec.take("conv_pre.bias"))
    condition = _conv(g, _tall(g, timbre), dec.take("cond.weight"), dec.take("cond.bias"))
    x = g.op("Add", x, condition)
    kinds = len(plan.dilations)
    for i, rate in enumerate(plan.rates):
        # The mean over the residual blocks is their sum, its divisor moved into the weights behind
        # the next activation, which is homogeneous.
        share = np.float32(1 if i == 0 else 1 / kinds)
        weight = folded(dec, f"ups.{i}") * share
        x = _upsample(g, _leaky(g, x), weight, dec.take(f"ups.{i}.bias"), rate)
        blocks = [
            _residual(g, x, dec.below(f"resblocks.{kinds * i + j}."), plan.dilations[j])
            for j in range(kinds)
        ]
        x = g.op("Sum", *blocks)
    x = _leaky(g, x, _LAST_SLOPE)
    x = _conv(g, x, dec.take("conv_post.weight") / np.float32(kinds), None)
    g.output("wave", g.reshape(g.op("Tanh", x), -1), ("samples",))


def _residual(g: Graph, x: str, block: Checkpoint, dilations: tuple[int, ...]) -> str:
    for i, dilation in enumerate(dilations):
        y = x
        for name, step in ((f"convs1.{i}", dilation), (f"convs2.{i}", 1)):
            y = _conv(g, _leaky(g, y), folded(block, name), block.take(f"{name}.bias"), step)
        x = g.op("Add", y, x)
    return x


def _conv(g: Graph, x: str, weight: Float, bias: Float | None, dilation: int = 1) -> str:
    pad = dilation * (weight.shape[2] - 1) // 2
    inputs = [weight[:, :, None]] if bias is None else [weight[:, :, None], bias]
    return g.op("Conv", x, *inputs, dilations=[1, dilation], pads=[0, pad, 0, pad])


def _upsample(g: Graph, x: str, weight: Float, bias: Float, rate: int) -> str:
    pad = (weight.shape[2] - rate) // 2
    return g.op(
        "ConvTranspose", x, weight[:, :, None], bias, strides=[1, rate], pads=[0, pad, 0, pad]
    )


def _leaky(g: Graph, x: str, slope: float = _SLOPE) -> str:
    return g.op("LeakyRelu", x, alpha=slope)


def _tall(g: Graph, x: str) -> str:
    return g.op("Unsqueeze", x, np.array([2]))
