"""Weights that are stored in another form than a graph uses: rounded, or for another operator.

A graph `x.onnx` may have a file `x.json`, which lists those of its tensors that are made of bytes
of `weights.bin` when the graph is opened. Bundles of earlier converters have no such file.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from core import inference

WEIGHTS = "weights.bin"
RESTORED = "restored.bin"
"""Name of a file that is only in memory."""
BLOCK = 64
"""Inputs that share a scale in `blocks`."""
ZERO_POINT = 128
"""The byte that represents 0 in `blocks`."""
SEVEN_BITS = 64 / 127
"""Largest code of `seven` in relation to that of 8 bits."""
Form = Literal["half", "codes8", "codes6", "seven", "blocks"]
"""half: float16, used as float32. codes8, codes6: integers of 8 or 6 bits and a scale for each
entry of an axis, used as float32. seven, blocks: 8-bit weights (in, out), used with 7 bits, or as
`MatMulNBits` reads them, (out, blocks, BLOCK)."""


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """How a tensor of a graph is stored."""

    form: Form
    shape: list[int]
    """Before it is restored."""
    offset: int
    size: int
    """In bytes, including the scales."""
    place: int
    """Where the graph reads it in `RESTORED`."""
    length: int
    """In bytes, when it is restored."""
    axis: int = 0
    """Of the scales."""


def open_graph(
    path: Path, *, rewrite: Callable[[bytes], bytes] | None = None, **options: Any
) -> Any:
    """Open `path`, whose model is rewritten first, as `inference.open_session` does. Raises ONNX
    Runtime's own exceptions, ValueError and OSError if a file is damaged."""
    listed = path.with_suffix(".json")
    if rewrite is None and not listed.is_file():
        return inference.open_session(path, **options)
    model = path if rewrite is None else rewrite(path.read_bytes())
    data = np.memmap(path.parent / WEIGHTS, np.uint8, "c")
    description = listed.read_bytes() if listed.is_file() else b"[]"
    entries = msgspec.json.decode(description, type=list[Stored])
    restored = np.empty(max((e.place + e.length for e in entries), default=0), np.uint8)
    for e in entries:
        value = restore(e, data[e.offset : e.offset + e.size])
        restored[e.place : e.place + e.length] = value.reshape(-1).view(np.uint8)
    files = {WEIGHTS: data} | ({RESTORED: restored} if entries else {})
    session = inference.open_session(model, files=files, **options)
    del restored, files
    _return_memory()
    return session


def _return_memory() -> None:
    """Give the memory of copies back to the operating system, which glibc does not do by itself:
    up to 90 MB."""
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)


def round_to_codes(value: NDArray[Any], bits: int) -> tuple[NDArray[np.uint8], int]:
    """Return the bytes of codes and scales, and the axis of the scales.

    That is the first or second, and scales may clip the largest values: what has the smallest
    relative error, on average over the inputs and the outputs of the weights, some of which may be
    much smaller than others.
    """
    most = 2 ** (bits - 1) - 1
    tried = []
    for axis in (0, 1):
        others = tuple(i for i in range(value.ndim) if i != axis)
        peak = np.maximum(np.abs(value).max(others, keepdims=True), 1e-12)
        for share in (1.0,) if bits == 8 else (1.0, 0.9, 0.8, 0.7):
            scale = (peak * share / most).astype(np.float32)
            codes = np.rint(value / scale).clip(-most, most)
            error = _relative_error(np.square(codes * scale - value), np.square(value))
            tried.append((error, codes.astype(np.int8), scale, axis))
    _, codes, scale, axis = min(tried, key=lambda attempt: attempt[0])
    packed = _pack(codes) if bits == 6 else codes.reshape(-1).view(np.uint8)
    return np.concatenate([packed, scale.reshape(-1).view(np.uint8)]), axis


def _relative_error(noise: NDArray[Any], power: NDArray[Any]) -> float:
    axes = [tuple(i for i in range(noise.ndim) if i != axis) for axis in (0, 1)]
    return sum(float((noise.sum(a) / np.maximum(power.sum(a), 1e-20)).mean()) for a in axes)


def restore(entry: Stored, data: NDArray[np.uint8]) -> NDArray[Any]:
    if entry.form == "half":
        return data.view(np.float16).reshape(entry.shape).astype(np.float32)
    if entry.form in ("codes6", "codes8"):
        return _decode(entry, data)
    codes = data.view(np.int8).reshape(entry.shape)
    return _to_seven_bits(codes) if entry.form == "seven" else _to_blocks(codes)


def _decode(entry: Stored, data: NDArray[np.uint8]) -> NDArray[np.float32]:
    scale_shape = [n if i == entry.axis else 1 for i, n in enumerate(entry.shape)]
    split = len(data) - 4 * entry.shape[entry.axis]
    scale = np.frombuffer(data[split:].tobytes(), np.float32).reshape(scale_shape)
    codes = data[:split].view(np.int8)
    if entry.form == "codes6":
        codes = _unpack(data[:split])[: int(np.prod(entry.shape))]
    out = np.empty(entry.shape, np.float32)
    np.multiply(codes.reshape(entry.shape), scale, out=out, dtype=np.float32)
    return out


def _pack(codes: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Pack four codes of 6 bits into three bytes: the last is in the high bits of the others."""
    flat = (codes.reshape(-1) + 32).astype(np.uint8)
    quarters = np.pad(flat, (0, -len(flat) % 4)).reshape(4, -1)
    high = np.stack([(quarters[3] >> shift & 3) << 6 for shift in (0, 2, 4)])
    return np.asarray(quarters[:3] | high, np.uint8).reshape(-1)


def _unpack(packed: NDArray[np.uint8]) -> NDArray[np.int8]:
    rows = packed.reshape(3, -1)
    out = np.empty((4, rows.shape[1]), np.uint8)
    np.bitwise_and(rows, 63, out=out[:3])
    out[3] = rows[0] >> 6 | rows[1] >> 6 << 2 | rows[2] >> 6 << 4
    out -= 32  # wraps like a signed byte
    return out.view(np.int8).reshape(-1)


def _to_seven_bits(codes: NDArray[np.int8]) -> NDArray[np.int8]:
    table = np.rint(np.arange(-128, 128) * SEVEN_BITS).astype(np.int8)
    return np.asarray(np.take(np.roll(table, 128), codes.view(np.uint8)))


def _to_blocks(codes: NDArray[np.int8]) -> NDArray[np.uint8]:
    inputs, outputs = codes.shape
    out = np.full((outputs, -(-inputs // BLOCK) * BLOCK), ZERO_POINT, np.uint8)
    np.bitwise_xor(codes.view(np.uint8).T, ZERO_POINT, out=out[:, :inputs])
    return out.reshape(outputs, -1, BLOCK)
