"""Decoding semantic tokens: a batch of rows on caches that are written in place.

Rows come and go (continuous batching): when one ends, the next waiting sentence takes its place.
A row never sees its neighbours, and every row is computed by the same arithmetic whatever the
batch, so a sentence sounds the same alone and in company.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.voice.gpt_sovits.bundle import Bundle
from core.voice.gpt_sovits.sampling import Chooser

Ids = NDArray[np.int64]
Float = NDArray[np.float32]

BUCKET = 64
"""Caches grow by this many places: attention costs as much as the cache is long."""


@dataclass(frozen=True, slots=True)
class Sentence:
    """What T2S is told to say, and who chooses."""

    phones: Ids
    """(T,): of the prompt, if there is one, and of the sentence."""
    bert: Float
    """(T, features): zeros where the language has none."""
    prompt: Ids
    """Semantic tokens of the reference, (P,); empty to speak without one."""
    chooser: Chooser


@dataclass(slots=True)
class _Row:
    index: int
    chooser: Chooser
    prompt: int
    """Tokens of the prompt: where positions of generated tokens begin."""
    length: int
    """Filled places of the cache."""
    logits: Float | None
    """Of the next token; none while the step that makes them is still to come."""


class Decoder:
    """Rows in flight. Not for several threads at once; make one a thread, they share weights."""

    def __init__(self, bundle: Bundle, *, rows: int = 8) -> None:
        self._bundle = bundle
        self._most = rows
        self._rows: list[_Row] = []
        self._caches = _Caches(bundle)

    def decode(self, waiting: deque[tuple[int, Sentence]]) -> Iterator[tuple[int, Chooser]]:
        """(index, its choices) of every sentence as it ends; `waiting` may grow meanwhile."""
        for index, chooser in self.steps(waiting):
            if chooser.finished:
                yield index, chooser

    def steps(self, waiting: deque[tuple[int, Sentence]]) -> Iterator[tuple[int, Chooser]]:
        """Every row after every choice, so that a caller can speak while T2S goes on."""
        while self._rows or waiting:
            while len(self._rows) < self._most and waiting:
                self._admit(*waiting.popleft())
            for row in self._rows:
                if row.logits is not None:
                    row.chooser.choose(row.logits)
                    row.logits = None
                    yield row.index, row.chooser
            self._retire()
            # Free places are filled before the next step, which costs much the same for any number.
            if self._rows and not (waiting and len(self._rows) < self._most):
                self._step()

    def _admit(self, index: int, sentence: Sentence) -> None:
        outputs = ["logits", "keys", "values"]
        inputs = {"phones": sentence.phones, "bert": sentence.bert, "prompt": sentence.prompt}
        logits, keys, values = self._bundle.run("prefill", outputs, inputs)
        prompt, length = len(sentence.prompt), keys.shape[2]
        self._rows.append(_Row(index, sentence.chooser, prompt, length, logits[0]))
        self._caches.add(keys, values, self._places())

    def _places(self) -> int:
        return max(row.length for row in self._rows) + 1

    def _retire(self) -> None:
        kept = [i for i, row in enumerate(self._rows) if not row.chooser.finished]
        if len(kept) < len(self._rows):
            self._rows = [self._rows[i] for i in kept]
            self._caches.keep(kept)

    def _step(self) -> None:
        rows = self._rows
        token = np.array([row.chooser.tokens[-1] for row in rows])
        position = np.array([row.prompt + len(row.chooser.tokens) - 1 for row in rows])
        length = np.array([row.length for row in rows])
        logits = self._caches.step(token, position, length, self._places())
        for row, scores in zip(rows, logits, strict=True):
            row.logits = scores
            row.length += 1


class _Caches:
    """Keys and values of all layers, in memory that the step graph reads and writes."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._spec = bundle.spec.t2s
        self._names = [f"{kind}_{i}" for i in range(self._spec.layers) for kind in "kv"]
        self._kind = np.float16 if bundle.spec.precision == "fp16" else np.float32
        self._arrays: list[NDArray[Any]] = []
        self._bound: Any = None
        self._inputs: dict[str, Ids] = {}
        self._out = np.empty((0, 0), np.float32)
        self.rows = 0

    def add(self, keys: NDArray[Any], values: NDArray[Any], places: int) -> None:
        """A row more: (layers, heads, length, head width) each."""
        self._resize(self.rows + 1, places)
        for i, cache in enumerate(self._arrays):
            source = (keys, values)[i % 2][i // 2]
            cache[self.rows, :, : source.shape[1]] = source
        self.rows += 1

    def keep(self, rows: list[int]) -> None:
        """Drop the others and move the kept ones to the front."""
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
            self._inputs[name][: self.rows] = value
        self._bundle.session("step").run_with_iobinding(self._bound)
        return self._out[: self.rows].copy()

    def _resize(self, rows: int, places: int) -> None:
        """Room for a power of two of rows and a multiple of `BUCKET` places."""
        size = 1 << (rows - 1).bit_length()
        capacity = -(-places // BUCKET) * BUCKET
        held_size, _, held, _ = self._arrays[0].shape if self._arrays else (0, 0, 0, 0)
        if size == held_size and held - BUCKET <= capacity <= held:
            return
        shape = (size, self._spec.heads, capacity, self._spec.head_width)
        old, self._arrays = self._arrays, [np.zeros(shape, self._kind) for _ in self._names]
        for before, after in zip(old, self._arrays, strict=False):
            kept = min(held, capacity)
            after[: self.rows, :, :kept] = before[: self.rows, :, :kept]
        self._bound = None

    def _bind(self) -> None:
        size = len(self._arrays[0])
        session = self._bundle.session("step")
        self._bound = session.io_binding()
        # Rows that nobody uses compute too, on the first place of their own memory.
        self._inputs = {name: np.zeros(size, np.int64) for name in ("token", "position", "length")}
        self._out = np.empty((size, self._spec.vocabulary), np.float32)
        for name, array in [*self._inputs.items(), *zip(self._names, self._arrays, strict=True)]:
            self._bound.bind_cpu_input(name, array)
        outputs = [(name.upper(), a) for name, a in zip(self._names, self._arrays, strict=True)]
        for name, array in [("logits", self._out), *outputs]:
            self._bound.bind_output(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
