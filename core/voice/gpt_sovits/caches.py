"""Keys and values of all layers, in memory that the step graph reads and writes in place."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.voice.gpt_sovits.bundle import Bundle

Ids = NDArray[np.int64]
Float = NDArray[np.float32]

_BUCKET, _CUDA_BUCKET = 64, 512
"""Caches grow by this many places. On a CPU attention costs as much as the cache is long; on CUDA
every new shape costs, and few shapes are what CUDA graphs will want."""

_KINDS: dict[str, type[np.number[Any]]] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(int8)": np.int8,
}


class Caches:
    """Room for some rows, bound to the step graph.

    With a device named, the memory lives there while steps are made and is brought back only when
    rows come or go; without, numpy and the graph share it.
    """

    def __init__(self, bundle: Bundle, device: str = "") -> None:
        self._name = device
        self._bucket = _CUDA_BUCKET if device else _BUCKET
        self._bundle = bundle
        self._spec = bundle.spec.t2s
        self._kind = _KINDS[bundle.session(bundle.step).get_inputs()[-1].type]
        self._names = [f"{kind}_{i}" for i in range(self._spec.layers) for kind in "kv"]
        self._arrays: list[NDArray[Any]] = []
        self._device: list[Any] = []
        """The arrays' content while it is on CUDA."""
        self._bound: Any = None
        self._inputs: dict[str, Any] = {}
        self._out = np.empty((0, 0), np.float32)
        self.rows = 0

    def add(self, keys: NDArray[Any], values: NDArray[Any], places: int) -> None:
        """A row more: (layers, heads, length, head width) each. `places` are needed by all rows."""
        self._resize(self.rows + 1, places)
        self._copy_to_host()
        for i, cache in enumerate(self._arrays):
            source = (keys, values)[i % 2][i // 2]
            cache[self.rows, :, : source.shape[1]] = source
        self.rows += 1

    def keep(self, rows: list[int]) -> None:
        """Drop the others and move the kept ones to the front."""
        self._copy_to_host()
        for place, row in enumerate(rows):
            if place != row:
                for cache in self._arrays:
                    cache[place] = cache[row]
        self.rows = len(rows)

    def step(self, token: Ids, position: Ids, length: Ids, places: int) -> Float:
        """Logits (rows, vocabulary) after writing the tokens' keys and values at `length`."""
        self._resize(self.rows, places)
        if self._bound is None:
            self._bind()
        for name, value in (("token", token), ("position", position), ("length", length)):
            self._put(name, value)
        self._bundle.session(self._bundle.step).run_with_iobinding(self._bound)
        return self._out[: self.rows].copy()

    def _resize(self, rows: int, places: int) -> None:
        """Room for a power of two of rows and a whole number of buckets."""
        size = 1 << (rows - 1).bit_length()
        capacity = -(-places // self._bucket) * self._bucket
        held_size, _, held, _ = self._arrays[0].shape if self._arrays else (0, 0, 0, 0)
        if size == held_size and held - self._bucket <= capacity <= held:
            return
        self._copy_to_host()
        shape = (size, self._spec.heads, capacity, self._spec.head_width)
        old, self._arrays = self._arrays, [np.zeros(shape, self._kind) for _ in self._names]
        for before, after in zip(old, self._arrays, strict=False):
            kept = min(held, capacity)
            after[: self.rows, :, :kept] = before[: self.rows, :, :kept]
        self._bound = None

    def _copy_to_host(self) -> None:
        """Back into memory that numpy can reach."""
        if self._device:
            # `numpy()` of memory that is not CUDA's is a view that does not keep it alive.
            self._arrays = [value.numpy().copy() for value in self._device]
            self._device, self._bound = [], None

    def _bind(self) -> None:
        size = len(self._arrays[0])
        self._bound = self._bundle.session(self._bundle.step).io_binding()
        self._out = np.empty((size, self._spec.vocabulary), np.float32)
        out = self._out
        self._bound.bind_output("logits", "cpu", 0, out.dtype, out.shape, out.ctypes.data)
        # Rows that nobody uses compute too, on the first place of their own memory.
        self._inputs = {name: np.zeros(size, np.int64) for name in ("token", "position", "length")}
        (self._bind_device if self._name else self._bind_host)()

    def _bind_host(self) -> None:
        for name, array in [*self._inputs.items(), *zip(self._names, self._arrays, strict=True)]:
            self._bound.bind_cpu_input(name, array)
        for name, array in zip(self._names, self._arrays, strict=True):
            place = array.ctypes.data
            self._bound.bind_output(name.upper(), "cpu", 0, array.dtype, array.shape, place)

    def _bind_device(self) -> None:
        from onnxruntime import OrtValue

        self._device = [
            OrtValue.ortvalue_from_numpy(array, self._name, 0) for array in self._arrays
        ]
        for name, value in zip(self._names, self._device, strict=True):
            self._bound.bind_ortvalue_input(name, value)
            self._bound.bind_ortvalue_output(name.upper(), value)
        for name, array in self._inputs.items():
            self._inputs[name] = OrtValue.ortvalue_from_numpy(array, self._name, 0)
            self._bound.bind_ortvalue_input(name, self._inputs[name])

    def _put(self, name: str, value: Ids) -> None:
        held = self._inputs[name]
        if isinstance(held, np.ndarray):
            held[: self.rows] = value
        else:
            held.update_inplace(np.pad(value, (0, len(self._out) - self.rows)))
