"""The HiFi-GAN vocoder (Kong et al. 2020, arXiv:2010.05646) from latent frames to the wave."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from core.voice.gpt_sovits.convert.checkpoint import Checkpoint, Float
from core.voice.gpt_sovits.convert.graph import Graph
from core.voice.gpt_sovits.convert.layers import folded

_SLOPE = 0.1
_LAST_SLOPE = 0.01
"""Upstream leaves the last activation at torch's default."""
_WEIGHTS = 64
"""Largest magnitude of an 8-bit weight: with more, the 16 bits that CPUs without VNNI add products
in overflow."""


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


class Branch(Protocol):
    """How the convolutions of the residual blocks are computed."""

    def __call__(
        self, g: Graph, x: str, weight: Float, bias: Float, dilation: int, name: str
    ) -> str: ...


def exact(g: Graph, x: str, weight: Float, bias: Float, dilation: int, name: str) -> str:
    return _conv(g, _leaky(g, x), weight, bias, dilation)


def observed(g: Graph, x: str, weight: Float, bias: Float, dilation: int, name: str) -> str:
    """Exact, and tells the extremes of what goes in and comes out."""
    heard = _leaky(g, x)
    out = _conv(g, heard, weight, bias, dilation)
    for tap, value in ((f"{name}.in", heard), (f"{name}.out", out)):
        extremes = [g.op(f"Reduce{kind}", value, keepdims=0) for kind in ("Min", "Max")]
        flat = [g.op("Unsqueeze", extreme, np.array([0])) for extreme in extremes]
        g.output(tap, g.op("Concat", *flat, axis=0), (2,))
    return out


@dataclass(frozen=True, slots=True)
class Rounded:
    """In 8 bits between the extremes that `observed` told; exact where it told none."""

    ranges: Mapping[str, tuple[float, float]]

    def __call__(
        self, g: Graph, x: str, weight: Float, bias: Float, dilation: int, name: str
    ) -> str:
        if f"{name}.in" not in self.ranges:
            return exact(g, x, weight, bias, dilation, name)
        heard = self._rounded(g, _leaky(g, x), f"{name}.in")
        scale = np.maximum(np.abs(weight).max((1, 2)) / _WEIGHTS, 1e-12).astype(np.float32)
        stored = np.rint(weight / scale[:, None, None]).astype(np.int8)[:, :, None]
        kernel = g.op("DequantizeLinear", stored, scale, np.zeros(len(scale), np.int8), axis=0)
        return self._rounded(g, _convolved(g, heard, kernel, bias, dilation, weight.shape[2]),
                             f"{name}.out")  # fmt: skip

    def _rounded(self, g: Graph, x: str, tap: str) -> str:
        low, high = min(self.ranges[tap][0], 0.0), max(self.ranges[tap][1], 0.0)
        scale = np.float32(max(high - low, 1e-6) / 255)
        zero = np.uint8(np.clip(np.rint(-low / scale), 0, 255))
        return g.op("DequantizeLinear", g.op("QuantizeLinear", x, scale, zero), scale, zero)


def build(g: Graph, ckpt: Checkpoint, plan: Plan, branch: Branch = exact) -> None:
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
            _residual(g, x, dec, kinds * i + j, plan.dilations[j], branch) for j in range(kinds)
        ]
        x = g.op("Sum", *blocks)
    x = _leaky(g, x, _LAST_SLOPE)
    x = _conv(g, x, dec.take("conv_post.weight") / np.float32(kinds), None)
    g.output("wave", g.reshape(g.op("Tanh", x), -1), ("samples",))


def _residual(
    g: Graph, x: str, dec: Checkpoint, number: int, dilations: tuple[int, ...], branch: Branch
) -> str:
    for i, dilation in enumerate(dilations):
        y = x
        for layer, step in ((f"convs1.{i}", dilation), (f"convs2.{i}", 1)):
            name = f"resblocks.{number}.{layer}"
            y = branch(g, y, folded(dec, name), dec.take(f"{name}.bias"), step, name)
        x = g.op("Add", y, x)
    return x


def _conv(g: Graph, x: str, weight: Float, bias: Float | None, dilation: int = 1) -> str:
    return _convolved(g, x, weight[:, :, None], bias, dilation, weight.shape[2])


def _convolved(
    g: Graph, x: str, kernel: Float | str, bias: Float | None, dilation: int, width: int
) -> str:
    pad = dilation * (width - 1) // 2
    inputs = [kernel] if bias is None else [kernel, bias]
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
