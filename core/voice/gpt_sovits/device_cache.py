"""The key-value cache of T2S in the memory of a GPU.

A step computes one of a few numbers of rows and positions, powers of two and multiples of 512, and
all of them use the same memory from its beginning. So shapes and addresses repeat: nothing is
allocated for a step, and it can be replayed as a CUDA graph.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from core import inference
from core.voice.gpt_sovits.bundle import Bundle
from core.voice.gpt_sovits.kv_cache import DTYPES, Float, Ids

if TYPE_CHECKING:
    from onnxruntime import OrtValue

_CAPACITY_STEP = 512
"""A new capacity copies the cache, and every operator sees new shapes."""


class DeviceCache:
    """Keys and values of all layers and rows; each row has a slot, the lowest that is free."""

    def __init__(self, bundle: Bundle, device: str) -> None:
        self._bundle, self._device = bundle, device
        self._spec = bundle.spec.t2s
        self._names = [f"{kind}_{i}" for i in range(self._spec.layers) for kind in "kv"]
        self.clear()

    def clear(self) -> None:
        """Remove all rows and free the memory."""
        self._slots: list[int] = []
        """The slot of each row."""
        self._memory: list[OrtValue] = []
        """One vector for each of `_names`."""
        self._positions = self._capacity = 0
        """Of all slots together, as many as the memory has; of each slot."""
        self._steps: dict[tuple[int, int], _Step] = {}
        """By number of slots and capacity."""

    @property
    def bytes(self) -> int:
        return sum(value.tensor_size_in_bytes() for value in self._memory)

    def add_row(self, keys: NDArray[Any], values: NDArray[Any], min_capacity: int) -> None:
        """Add a row with keys and values of (layers, heads, length, head width) each."""
        self._reserve(len(self._slots) + 1, min_capacity)
        slot = min(set(range(len(self._slots) + 1)).difference(self._slots))
        for i, target in enumerate(self._memory):
            source = (keys, values)[i % 2][i // 2]
            row = np.zeros((self._spec.heads, self._capacity, self._spec.head_width), source.dtype)
            row[:, : source.shape[1]] = source
            _copy(row, target, slot * row.nbytes)
        self._slots.append(slot)

    def keep_rows(self, rows: list[int]) -> None:
        """Remove the other rows; these are numbered in the order given."""
        self._slots = [self._slots[row] for row in rows]

    def row(self, number: int, length: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return the first keys and values of a row, as `add_row` takes them."""
        slot = self._slots[number]
        parts = [array[slot, :, :length] for array in self._to_host(slot + 1)]
        return np.stack(parts[::2]), np.stack(parts[1::2])

    def step(self, token: Ids, position: Ids, length: Ids, min_capacity: int) -> Float:
        """Append the tokens' keys and values at `length`; return logits (rows, vocabulary)."""
        self._reserve(len(self._slots), min_capacity)
        size = 1 << max(self._slots).bit_length()
        key = size, self._capacity
        if key not in self._steps:
            self._steps[key] = self._bind(size)
        # Unused slots are computed too: their inputs are 0, and they overwrite only themselves.
        inputs = np.zeros((3, size), np.int64)
        inputs[:, self._slots] = token, position, length
        return self._steps[key].run(inputs)[self._slots]

    def _reserve(self, rows: int, min_capacity: int) -> None:
        """Make place for so many rows of a capacity; rows move if that changes the memory."""
        capacity = -(-min_capacity // _CAPACITY_STEP) * _CAPACITY_STEP
        if self._slots:
            capacity = max(capacity, self._capacity)
        size = 1 << (rows - 1).bit_length()
        if capacity == self._capacity and size * capacity <= self._positions:
            return
        slots, kept = self._slots, min(capacity, self._capacity)
        before = self._to_host(max(slots) + 1) if slots else []
        self._capacity = capacity
        if size * capacity > self._positions:
            self._allocate(size * capacity)
        for array, target in zip(before, self._memory, strict=False):
            moved = np.zeros((len(slots), *array.shape[1:2], capacity, array.shape[3]), array.dtype)
            moved[:, :, :kept] = array[slots, :, :kept]
            _copy(moved, target, 0)
        self._slots = list(range(len(slots)))

    def _allocate(self, positions: int) -> None:
        from onnxruntime import OrtValue

        # What is too small goes first: both may not fit.
        self._steps, self._memory, self._positions = {}, [], positions
        shape = positions * self._spec.heads * self._spec.head_width
        dtype = DTYPES[self._session.get_inputs()[-1].type]
        for _ in self._names:
            zeros = np.zeros(shape, dtype)  # on a CPU, each value uses the array that it is made of
            self._memory.append(OrtValue.ortvalue_from_numpy(zeros, self._device, 0))

    def _to_host(self, size: int) -> list[NDArray[Any]]:
        """Copy the first slots of each layer: (size, heads, capacity, head width)."""
        shape = (size, self._spec.heads, self._capacity, self._spec.head_width)
        count = int(np.prod(shape))
        return [value.numpy()[:count].reshape(shape).copy() for value in self._memory]

    @property
    def _session(self) -> Any:
        return self._bundle.session(self._bundle.step_graph)

    def _bind(self, size: int) -> _Step:
        shape = (size, self._spec.heads, self._capacity, self._spec.head_width)
        step = _Step(self._bundle, self._device, size)
        for name, value in zip(self._names, self._memory, strict=True):
            dtype = DTYPES[value.data_type()]
            place = (self._device, 0, dtype, shape, value.data_ptr())
            step.binding.bind_input(name, *place)
            step.binding.bind_output(name.upper(), *place)
        return step


class _Step:
    """A step of some number of slots, bound to fixed memory."""

    def __init__(self, bundle: Bundle, device: str, size: int) -> None:
        from onnxruntime import OrtValue

        self._session = bundle.session(bundle.step_graph)
        self._options = inference.graph_run(bundle.next_graph()) if bundle.cuda_graphs else None
        self.binding = self._session.io_binding()
        # One copy to the device for all three.
        zeros = np.zeros(3 * size, np.int64)
        self._inputs = OrtValue.ortvalue_from_numpy(zeros, device, 0)
        for i, name in enumerate(("token", "position", "length")):
            address = self._inputs.data_ptr() + i * zeros.nbytes // 3
            self.binding.bind_input(name, device, 0, np.int64, (size,), address)
        logits = np.zeros((size, bundle.spec.t2s.vocabulary), np.float32)
        self._logits = OrtValue.ortvalue_from_numpy(logits, device, 0)
        self.binding.bind_ortvalue_output("logits", self._logits)

    def run(self, inputs: Ids) -> Float:
        """Return logits (slots, vocabulary), given token, position and length (3, slots)."""
        self._inputs.update_inplace(inputs.reshape(-1))
        self._session.run_with_iobinding(self.binding, self._options)
        return np.asarray(self._logits.numpy())


def _copy(source: NDArray[Any], target: OrtValue, offset: int) -> None:
    """Copy an array into a tensor at an offset in bytes, for which ONNX Runtime has no function."""
    device = target.device_name()
    session = _identity(source.dtype.name, device)
    binding, address = session.io_binding(), target.data_ptr() + offset
    binding.bind_cpu_input("x", source.reshape(-1))
    binding.bind_output("y", device, 0, source.dtype, (source.size,), address)
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
