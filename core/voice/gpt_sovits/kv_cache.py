"""The key-value cache of T2S, which the step graph updates in place."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core import inference
from core.voice.gpt_sovits.bundle import Bundle

Ids = NDArray[np.int64]
Float = NDArray[np.float32]

_CPU_ROWS, _MAX_ROWS = 8, 64
_LONGEST = 2048
"""Positions of the longest rows that are common: 60 s of speech and their phonemes."""
_MEMORY_SHARE = 4
"""The cache on a GPU takes at most one of so many parts of its memory."""
_CAPACITY_STEP, _CUDA_CAPACITY_STEP = 64, 512
"""The capacity is a multiple of this. On a CPU attention takes time in proportion to the capacity;
on CUDA every new shape takes time."""

_DTYPES: dict[str, type[np.number[Any]]] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(int8)": np.int8,
}


def rows_for(bundle: Bundle) -> int:
    """Return how many rows to decode at once.

    More than 8 rows save no time on a CPU. On a GPU, where a step of few rows takes as long as its
    kernels take to start, it is a power of two up to 64 whose cache fits into the memory.
    """
    if not bundle.runs_on_cuda(bundle.step_graph):
        return _CPU_ROWS
    spec = bundle.spec.t2s
    width = 2 if bundle.spec.precision == "fp16" else 4
    row = 2 * spec.layers * spec.heads * spec.head_width * _LONGEST * width
    fitting = inference.gpu_memory() // _MEMORY_SHARE // row
    return max(_CPU_ROWS, min(_MAX_ROWS, 1 << fitting.bit_length() >> 1))


class KeyValueCache:
    """Keys and values of all layers and rows, (slots, heads, capacity, head width) each.

    Each row has a slot; their number is a power of two. With a `device`, the arrays are copied
    there for the steps, and a row that is added then is copied into its slot; without, the graph
    works on the numpy arrays.
    """

    def __init__(self, bundle: Bundle, device: str = "") -> None:
        self._device = device
        self._capacity_step = _CUDA_CAPACITY_STEP if device else _CAPACITY_STEP
        self._bundle = bundle
        self._spec = bundle.spec.t2s
        self._names = [f"{kind}_{i}" for i in range(self._spec.layers) for kind in "kv"]
        self._slots: list[int] = []
        """The slot of each row."""
        self._shape = (0, self._spec.heads, 0, self._spec.head_width)
        self._arrays: list[NDArray[Any]] = []
        self._device_values: list[Any] = []
        """The arrays while they are on the device; `_arrays` is empty then."""
        self._binding: Any = None
        self._inputs: dict[str, Any] = {}
        self._logits = np.empty((0, 0), np.float32)

    @property
    def _session(self) -> Any:
        return self._bundle.session(self._bundle.step_graph)

    def add_row(self, keys: NDArray[Any], values: NDArray[Any], min_capacity: int) -> None:
        """Add a row with keys and values of (layers, heads, length, head width) each."""
        self._resize(len(self._slots) + 1, min_capacity)
        slot = min(set(range(self._shape[0])).difference(self._slots))
        for i in range(len(self._names)):
            source = (keys, values)[i % 2][i // 2]
            row = np.zeros(self._shape[1:], source.dtype)
            row[:, : source.shape[1]] = source
            if self._device_values:
                _copy_row(row, self._device_values[i], slot)
            else:
                self._arrays[i][slot] = row
        self._slots.append(slot)

    def keep_rows(self, rows: list[int]) -> None:
        """Remove the other rows; these are numbered in the order given."""
        self._slots = [self._slots[row] for row in rows]

    def step(self, token: Ids, position: Ids, length: Ids, min_capacity: int) -> Float:
        """Append the tokens' keys and values at `length`; return logits (rows, vocabulary)."""
        self._resize(len(self._slots), min_capacity)
        if self._binding is None:
            self._bind()
        for name, value in (("token", token), ("position", position), ("length", length)):
            self._set_input(name, value)
        self._session.run_with_iobinding(self._binding)
        return self._logits[self._slots]

    def _resize(self, rows: int, min_capacity: int) -> None:
        size = 1 << (rows - 1).bit_length()
        capacity = -(-min_capacity // self._capacity_step) * self._capacity_step
        old_size, _, old_capacity, _ = self._shape
        if self._device:  # a smaller cache would save less time than it takes to copy it
            size, capacity = max(size, old_size), max(capacity, old_capacity)
        if size == old_size and old_capacity - self._capacity_step <= capacity <= old_capacity:
            return
        dtype = _DTYPES[self._session.get_inputs()[-1].type]
        shape = (size, self._spec.heads, capacity, self._spec.head_width)
        resized = [np.zeros(shape, dtype) for _ in self._names]
        rows, kept = len(self._slots), min(old_capacity, capacity)
        before = [value.numpy() for value in self._device_values] or self._arrays
        for old, new in zip(before, resized, strict=False):
            new[:rows, :, :kept] = old[self._slots, :, :kept]
        self._shape, self._arrays, self._slots = shape, resized, list(range(rows))
        self._device_values, self._binding = [], None

    def _bind(self) -> None:
        size = self._shape[0]
        self._binding = self._session.io_binding()
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
        self._arrays = []
        for name, array in self._inputs.items():
            self._inputs[name] = OrtValue.ortvalue_from_numpy(array, self._device, 0)
            self._binding.bind_ortvalue_input(name, self._inputs[name])

    def _set_input(self, name: str, value: Ids) -> None:
        bound, slots = self._inputs[name], np.zeros(self._shape[0], np.int64)
        slots[self._slots] = value
        if isinstance(bound, np.ndarray):
            bound[:] = slots
        else:
            bound.update_inplace(slots)


def _copy_row(row: NDArray[Any], target: Any, slot: int) -> None:
    """Copy a row into a tensor on a device, for which ONNX Runtime has no function."""
    session, device = _identity(row.dtype.name, target.device_name()), target.device_name()
    binding, address = session.io_binding(), target.data_ptr() + slot * row.nbytes
    binding.bind_cpu_input("x", row.reshape(-1))
    binding.bind_output("y", device, 0, row.dtype, (row.size,), address)
    session.run_with_iobinding(binding)


@cache
def _identity(dtype: str, device: str) -> Any:
    """Open a graph that copies an array to the device."""
    from onnx import helper

    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    x, y = (helper.make_tensor_value_info(name, kind, ["n"]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "copy", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return inference.open_session(model.SerializeToString(), threads=1, cpu_only=device == "cpu")
