"""The key-value cache of T2S, which the step graph updates in place."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.voice.gpt_sovits.bundle import Bundle

Ids = NDArray[np.int64]
Float = NDArray[np.float32]

_CAPACITY_STEP, _CUDA_CAPACITY_STEP = 64, 512
"""The capacity is a multiple of this. On a CPU attention takes time in proportion to the capacity;
on CUDA every new shape takes time."""

_DTYPES: dict[str, type[np.number[Any]]] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(int8)": np.int8,
}


class KeyValueCache:
    """Keys and values of all layers and rows, (rows, heads, capacity, head width) each.

    The number of rows is rounded up to a power of two. With a `device`, the arrays are copied there
    for the steps, and back to the host when rows are added or removed; without, the graph works on
    the numpy arrays.
    """

    def __init__(self, bundle: Bundle, device: str = "") -> None:
        self._device = device
        self._capacity_step = _CUDA_CAPACITY_STEP if device else _CAPACITY_STEP
        self._bundle = bundle
        self._spec = bundle.spec.t2s
        self._dtype = _DTYPES[bundle.session(bundle.step_graph).get_inputs()[-1].type]
        self._names = [f"{kind}_{i}" for i in range(self._spec.layers) for kind in "kv"]
        self._arrays: list[NDArray[Any]] = []
        self._device_values: list[Any] = []
        """The arrays while they are on the device."""
        self._binding: Any = None
        self._inputs: dict[str, Any] = {}
        self._logits = np.empty((0, 0), np.float32)
        self.rows = 0

    def add_row(self, keys: NDArray[Any], values: NDArray[Any], min_capacity: int) -> None:
        """Add a row with keys and values of (layers, heads, length, head width) each."""
        self._resize(self.rows + 1, min_capacity)
        self._copy_to_host()
        for i, cache in enumerate(self._arrays):
            source = (keys, values)[i % 2][i // 2]
            cache[self.rows, :, : source.shape[1]] = source
        self.rows += 1

    def keep_rows(self, rows: list[int]) -> None:
        """Remove the other rows and move these to the front."""
        self._copy_to_host()
        for target, row in enumerate(rows):
            if target != row:
                for cache in self._arrays:
                    cache[target] = cache[row]
        self.rows = len(rows)

    def step(self, token: Ids, position: Ids, length: Ids, min_capacity: int) -> Float:
        """Append the tokens' keys and values at `length`; return logits (rows, vocabulary)."""
        self._resize(self.rows, min_capacity)
        if self._binding is None:
            self._bind()
        for name, value in (("token", token), ("position", position), ("length", length)):
            self._set_input(name, value)
        self._bundle.session(self._bundle.step_graph).run_with_iobinding(self._binding)
        return self._logits[: self.rows].copy()

    def _resize(self, rows: int, min_capacity: int) -> None:
        size = 1 << (rows - 1).bit_length()
        capacity = -(-min_capacity // self._capacity_step) * self._capacity_step
        old_size, _, old_capacity, _ = self._arrays[0].shape if self._arrays else (0, 0, 0, 0)
        if size == old_size and old_capacity - self._capacity_step <= capacity <= old_capacity:
            return
        self._copy_to_host()
        shape = (size, self._spec.heads, capacity, self._spec.head_width)
        old, self._arrays = self._arrays, [np.zeros(shape, self._dtype) for _ in self._names]
        for before, after in zip(old, self._arrays, strict=False):
            kept = min(old_capacity, capacity)
            after[: self.rows, :, :kept] = before[: self.rows, :, :kept]
        self._binding = None

    def _copy_to_host(self) -> None:
        if self._device_values:
            # For values in host memory, `numpy()` returns a view that does not keep them alive.
            self._arrays = [value.numpy().copy() for value in self._device_values]
            self._device_values, self._binding = [], None

    def _bind(self) -> None:
        size = len(self._arrays[0])
        self._binding = self._bundle.session(self._bundle.step_graph).io_binding()
        out = self._logits = np.empty((size, self._spec.vocabulary), np.float32)
        self._binding.bind_output("logits", "cpu", 0, out.dtype, out.shape, out.ctypes.data)
        # Unused rows are computed too: their inputs are 0, so they overwrite only their own memory.
        self._inputs = {name: np.zeros(size, np.int64) for name in ("token", "position", "length")}
        (self._bind_device if self._device else self._bind_host)()

    def _bind_host(self) -> None:
        for name, array in [*self._inputs.items(), *zip(self._names, self._arrays, strict=True)]:
            self._binding.bind_cpu_input(name, array)
        for name, array in zip(self._names, self._arrays, strict=True):
            address = array.ctypes.data
            self._binding.bind_output(name.upper(), "cpu", 0, array.dtype, array.shape, address)

    def _bind_device(self) -> None:
        from onnxruntime import OrtValue

        self._device_values = [
            OrtValue.ortvalue_from_numpy(array, self._device, 0) for array in self._arrays
        ]
        for name, value in zip(self._names, self._device_values, strict=True):
            self._binding.bind_ortvalue_input(name, value)
            self._binding.bind_ortvalue_output(name.upper(), value)
        for name, array in self._inputs.items():
            self._inputs[name] = OrtValue.ortvalue_from_numpy(array, self._device, 0)
            self._binding.bind_ortvalue_input(name, self._inputs[name])

    def _set_input(self, name: str, value: Ids) -> None:
        bound = self._inputs[name]
        if isinstance(bound, np.ndarray):
            bound[: self.rows] = value
        else:
            bound.update_inplace(np.pad(value, (0, len(self._logits) - self.rows)))
