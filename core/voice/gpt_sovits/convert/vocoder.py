"""The HiFi-GAN vocoder of SoVITS (Kong et al. 2020, arXiv:2010.05646), upstream's Generator.

Tensors are (1, channels, 1, time), because ONNX Runtime has its fast blocked layout (NCHWc) only
for 2-D convolutions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from core.voice.gpt_sovits.convert.checkpoint import Checkpoint, Float
from core.voice.gpt_sovits.convert.graph import Graph
from core.voice.gpt_sovits.convert.layers import fold_weight_norm
from core.voice.gpt_sovits.convert.quantize import MAX_WEIGHT

_SLOPE = 0.1
_LAST_SLOPE = 0.01
"""Slope of the last activation, torch's default."""


@dataclass(frozen=True, slots=True)
class VocoderConfig:
    """Hyperparameters that tensor shapes do not show."""

    rates: tuple[int, ...]
    """Upsampling rate of each stage."""
    dilations: tuple[tuple[int, ...], ...]
    """Dilations of each residual block of a stage."""

    @staticmethod
    def of(ckpt: Checkpoint) -> VocoderConfig:
        dilations = ckpt.setting("model", "resblock_dilation_sizes")
        if str(ckpt.setting("model", "resblock")) != "1":
            raise ckpt.invalid("its vocoder has residual blocks of type 2, which are not supported")
        rates = tuple(int(rate) for rate in ckpt.setting("model", "upsample_rates"))
        return VocoderConfig(rates, tuple(tuple(int(d) for d in row) for row in dilations))


class ConvWriter(Protocol):
    """Writes a leaky ReLU and a convolution of ResBlock1, on (1, channels, 1, time)."""

    def __call__(
        self, g: Graph, x: str, weight: Float, bias: Float, dilation: int, name: str
    ) -> str: ...


def exact_conv(g: Graph, x: str, weight: Float, bias: Float, dilation: int, name: str) -> str:
    return _conv(g, _leaky_relu(g, x), weight, bias, dilation)


def observed_conv(g: Graph, x: str, weight: Float, bias: Float, dilation: int, name: str) -> str:
    """Write an exact convolution and return minimum and maximum around it, (2,), as outputs."""
    activation = _leaky_relu(g, x)
    out = _conv(g, activation, weight, bias, dilation)
    for tensor, value in ((f"{name}.in", activation), (f"{name}.out", out)):
        extremes = [g.op(f"Reduce{kind}", value, keepdims=0) for kind in ("Min", "Max")]
        flat = [g.op("Unsqueeze", extreme, np.array([0])) for extreme in extremes]
        g.output(tensor, g.op("Concat", *flat, axis=0), (2,))
    return out


@dataclass(frozen=True, slots=True)
class QuantisedConv:
    """Writes 8-bit convolutions; exact ones where no range is given."""

    ranges: Mapping[str, tuple[float, float]]
    """Minimum and maximum, by the output names of `observed_conv`."""

    def __call__(
        self, g: Graph, x: str, weight: Float, bias: Float, dilation: int, name: str
    ) -> str:
        if f"{name}.in" not in self.ranges:
            return exact_conv(g, x, weight, bias, dilation, name)
        activation = self._quantised(g, _leaky_relu(g, x), f"{name}.in")
        scale = np.maximum(np.abs(weight).max((1, 2)) / MAX_WEIGHT, 1e-12).astype(np.float32)
        stored = np.rint(weight / scale[:, None, None]).astype(np.int8)[:, :, None]
        kernel = g.op("DequantizeLinear", stored, scale, np.zeros(len(scale), np.int8), axis=0)
        y = _conv_2d(g, activation, kernel, bias, dilation, weight.shape[2])
        return self._quantised(g, y, f"{name}.out")

    def _quantised(self, g: Graph, x: str, name: str) -> str:
        low, high = min(self.ranges[name][0], 0.0), max(self.ranges[name][1], 0.0)
        scale = np.float32(max(high - low, 1e-6) / 255)
        zero = np.uint8(np.clip(np.rint(-low / scale), 0, 255))
        return g.op("DequantizeLinear", g.op("QuantizeLinear", x, scale, zero), scale, zero)


def build(
    g: Graph, ckpt: Checkpoint, config: VocoderConfig, write_conv: ConvWriter = exact_conv
) -> None:
    """Write Generator: z (1, inter, frames), timbre (1, gin, 1) -> wave (samples,), 640 a frame."""
    dec = ckpt.submodule("dec.")
    z, timbre = g.float_input("z", (1, "inter", "frames")), g.float_input("timbre", (1, "gin", 1))
    x = _conv(g, _add_height(g, z), dec.load("conv_pre.weight"), dec.load("conv_pre.bias"))
    condition = _conv(g, _add_height(g, timbre), dec.load("cond.weight"), dec.load("cond.bias"))
    x = g.op("Add", x, condition)
    count = len(config.dilations)
    for i, rate in enumerate(config.rates):
        # Upstream takes the mean of the residual blocks. Here it is a sum, and the next weights are
        # divided by their number: the leaky ReLU between is homogeneous.
        weight = fold_weight_norm(dec, f"ups.{i}") * np.float32(1 if i == 0 else 1 / count)
        x = _upsample(g, _leaky_relu(g, x), weight, dec.load(f"ups.{i}.bias"), rate)
        blocks = [
            _residual_block(g, x, dec, count * i + j, config.dilations[j], write_conv)
            for j in range(count)
        ]
        x = g.op("Sum", *blocks)
    x = _leaky_relu(g, x, _LAST_SLOPE)
    x = _conv(g, x, dec.load("conv_post.weight") / np.float32(count), None)
    g.output("wave", g.reshape(g.op("Tanh", x), -1), ("samples",))


def _residual_block(
    g: Graph,
    x: str,
    dec: Checkpoint,
    number: int,
    dilations: tuple[int, ...],
    write_conv: ConvWriter,
) -> str:
    """ResBlock1, on (1, channels, 1, time)."""
    for i, dilation in enumerate(dilations):
        y = x
        for layer, step in ((f"convs1.{i}", dilation), (f"convs2.{i}", 1)):
            name = f"resblocks.{number}.{layer}"
            y = write_conv(g, y, fold_weight_norm(dec, name), dec.load(f"{name}.bias"), step, name)
        x = g.op("Add", y, x)
    return x


def _conv(g: Graph, x: str, weight: Float, bias: Float | None, dilation: int = 1) -> str:
    """torch.nn.Conv1d that keeps the length: (1, in, 1, time) -> (1, out, 1, time)."""
    return _conv_2d(g, x, weight[:, :, None], bias, dilation, weight.shape[2])


def _conv_2d(
    g: Graph, x: str, kernel: Float | str, bias: Float | None, dilation: int, width: int
) -> str:
    pad = dilation * (width - 1) // 2
    inputs = [kernel] if bias is None else [kernel, bias]
    return g.op("Conv", x, *inputs, dilations=[1, dilation], pads=[0, pad, 0, pad])


def _upsample(g: Graph, x: str, weight: Float, bias: Float, rate: int) -> str:
    """torch.nn.ConvTranspose1d: (1, in, 1, time) -> (1, out, 1, rate * time)."""
    pad = (weight.shape[2] - rate) // 2
    return g.op(
        "ConvTranspose", x, weight[:, :, None], bias, strides=[1, rate], pads=[0, pad, 0, pad]
    )


def _leaky_relu(g: Graph, x: str, slope: float = _SLOPE) -> str:
    return g.op("LeakyRelu", x, alpha=slope)


def _add_height(g: Graph, x: str) -> str:
    """(1, channels, time) -> (1, channels, 1, time)."""
    return g.op("Unsqueeze", x, np.array([2]))
