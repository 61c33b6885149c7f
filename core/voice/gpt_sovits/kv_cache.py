"""The key-value cache of T2S, which the step graph updates in place."""

from __future__ import annotations

from typing import Any, Protocol

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
_CAPACITY_STEP = 64
"""The capacity is a multiple of this: attention takes time in proportion to it."""

DTYPES: dict[str, type[np.number[Any]]] = {
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
    return rows_that_fit(inference.gpu_memory(), row)


def rows_that_fit(memory: int, row: int) -> int:
    """Return a number of rows for a GPU, given its memory and that of a row in bytes."""
    fitting = memory // _MEMORY_SHARE // row
    return max(_CPU_ROWS, min(_MAX_ROWS, 1 << fitting.bit_length() >> 1))


class Cache(Protocol):
    """What a batch needs of a cache, in the memory of the host or of a device."""

    def add_row(self, keys: NDArray[Any], values: NDArray[Any], min_capacity: int) -> None:
        """Add a row with keys and values of (layers, heads, length, head width) each."""

    def keep_rows(self, rows: list[int]) -> None:
        """Remove the other rows; these are numbered in the order given."""

    def row(self, number: int, length: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return the first keys and values of a row, as `add_row` takes them."""

    def step(self, token: Ids, position: Ids, length: Ids, min_capacity: int) -> Float:
        """Append the tokens' keys and values at `length`; return logits (rows, vocabulary)."""

    def clear(self) -> None:
        """Remove all rows and free the memory."""


class HostCache:
    """A cache in numpy arrays of (slots, heads, capacity, head width), one for the keys and one for
    the values of each layer. Each row has a slot; their number is a power of two."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._spec = bundle.spec.t2s
        self._names = [f"{kind}_{i}" for i in range(self._spec.layers) for kind in "kv"]
        self.clear()

    def clear(self) -> None:
        self._slots: list[int] = []
        """The slot of each row."""
        self._shape = (0, self._spec.heads, 0, self._spec.head_width)
        self._arrays: list[NDArray[Any]] = []
        self._binding: Any = None
        self._inputs: dict[str, Ids] = {}
        self._logits = np.empty((0, 0), np.float32)

    @property
    def _session(self) -> Any:
        return self._bundle.session(self._bundle.step_graph)

    def add_row(self, keys: NDArray[Any], values: NDArray[Any], min_capacity: int) -> None:
        self._resize(len(self._slots) + 1, min_capacity)
        slot = min(set(range(self._shape[0])).difference(self._slots))
        for i, array in enumerate(self._arrays):
            source = (keys, values)[i % 2][i // 2]
            array[slot] = 0
            array[slot, :, : source.shape[1]] = source
        self._slots.append(slot)

    def keep_rows(self, rows: list[int]) -> None:
        self._slots = [self._slots[row] for row in rows]

    def row(self, number: int, length: int) -> tuple[NDArray[Any], NDArray[Any]]:
        parts = [array[self._slots[number], :, :length] for array in self._arrays]
        return np.stack(parts[::2]), np.stack(parts[1::2])

    def step(self, token: Ids, position: Ids, length: Ids, min_capacity: int) -> Float:
        self._resize(len(self._slots), min_capacity)
        if self._binding is None:
            self._bind()
        for name, value in (("token", token), ("position", position), ("length", length)):
            # Unused slots are computed too: their inputs are 0, and they overwrite only themselves.
            self._inputs[name][:] = 0
            self._inputs[name][self._slots] = value
        self._session.run_with_iobinding(self._binding)
        return self._logits[self._slots]

    def _resize(self, rows: int, min_capacity: int) -> None:
        size = 1 << (rows - 1).bit_length()
        capacity = -(-min_capacity // _CAPACITY_STEP) * _CAPACITY_STEP
        old_size, _, old_capacity, _ = self._shape
        if size == old_size and old_capacity - _CAPACITY_STEP <= capacity <= old_capacity:
            return
        dtype = DTYPES[self._session.get_inputs()[-1].type]
        shape = (size, self._spec.heads, capacity, self._spec.head_width)
        resized = [np.zeros(shape, dtype) for _ in self._names]
        rows, kept = len(self._slots), min(old_capacity, capacity)
        for old, new in zip(self._arrays, resized, strict=False):
            new[:rows, :, :kept] = old[self._slots, :, :kept]
        self._shape, self._arrays, self._slots = shape, resized, list(range(rows))
        self._binding = None

    def _bind(self) -> None:
        size = self._shape[0]
        self._binding = self._session.io_binding()
        out = self._logits = np.empty((size, self._spec.vocabulary), np.float32)
        self._binding.bind_output("logits", "cpu", 0, out.dtype, out.shape, out.ctypes.data)
        self._inputs = {name: np.zeros(size, np.int64) for name in ("token", "position", "length")}
        for name, array in [*self._inputs.items(), *zip(self._names, self._arrays, strict=True)]:
            self._binding.bind_cpu_input(name, array)
        for name, array in zip(self._names, self._arrays, strict=True):
            address = array.ctypes.data
            self._binding.bind_output(name.upper(), "cpu", 0, array.dtype, array.shape, address)
