"""Decodes semantic tokens with T2S, a batch of rows at a time.

Batching is continuous: when a row ends, the next waiting sentence takes its place. A row does not
attend to others and is computed identically whatever the batch, so a sentence always sounds the
same.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.voice.gpt_sovits.bundle import Bundle
from core.voice.gpt_sovits.kv_cache import KeyValueCache
from core.voice.gpt_sovits.sampling import Sampler

Ids = NDArray[np.int64]
Float = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class T2SInput:
    """A sentence to decode, and the sampler of its tokens."""

    phones: Ids
    """(T,): phoneme ids of the prompt, if any, and of the sentence."""
    bert: Float
    """(T, features): zeros for languages without BERT features."""
    prompt: Ids
    """(P,): semantic tokens of the reference; empty without a prompt."""
    sampler: Sampler


@dataclass(slots=True)
class _Row:
    index: int
    sampler: Sampler
    prompt: int
    """Number of prompt tokens, which is the position of the first generated one."""
    length: int
    """Filled positions of the cache."""
    logits: Float | None
    """Logits of the next token; None until they are computed."""


class Decoder:
    """Decodes several rows at once. Use one per thread; decoders of a bundle share its weights."""

    def __init__(self, bundle: Bundle, *, rows: int = 8, device: str | None = None) -> None:
        """`device` stores the cache: by default CUDA if the bundle runs there."""
        self._bundle = bundle
        self._max_rows = rows
        self._rows: list[_Row] = []
        default = "cuda" if bundle.runs_on_cuda(bundle.step_graph) else ""
        self._cache = KeyValueCache(bundle, default if device is None else device)

    def decode(self, waiting: deque[tuple[int, T2SInput]]) -> Iterator[tuple[int, Sampler]]:
        """Yield (index, sampler) of each sentence when it ends; `waiting` may grow meanwhile."""
        for index, sampler in self.steps(waiting):
            if sampler.finished:
                yield index, sampler

    def steps(self, waiting: deque[tuple[int, T2SInput]]) -> Iterator[tuple[int, Sampler]]:
        """Yield (index, sampler) of each row after each of its tokens, for streaming."""
        while self._rows or waiting:
            while len(self._rows) < self._max_rows and waiting:
                self._add_row(*waiting.popleft())
            for row in self._rows:
                if row.logits is not None:
                    row.sampler.sample(row.logits)
                    row.logits = None
                    yield row.index, row.sampler
            self._remove_finished_rows()
            # Free rows are filled first: a step takes less time per row in a larger batch.
            if self._rows and not (waiting and len(self._rows) < self._max_rows):
                self._step()

    def _add_row(self, index: int, sentence: T2SInput) -> None:
        outputs = ["logits", "keys", "values"]
        inputs = {"phones": sentence.phones, "bert": sentence.bert, "prompt": sentence.prompt}
        logits, keys, values = self._bundle.run("prefill", outputs, inputs)
        prompt, length = len(sentence.prompt), keys.shape[2]
        self._rows.append(_Row(index, sentence.sampler, prompt, length, logits[0]))
        self._cache.add_row(keys, values, self._min_capacity())

    def _min_capacity(self) -> int:
        return max(row.length for row in self._rows) + 1

    def _remove_finished_rows(self) -> None:
        kept = [i for i, row in enumerate(self._rows) if not row.sampler.finished]
        if len(kept) < len(self._rows):
            self._rows = [self._rows[i] for i in kept]
            self._cache.keep_rows(kept)

    def _step(self) -> None:
        rows = self._rows
        token = np.array([row.sampler.tokens[-1] for row in rows])
        position = np.array([row.prompt + len(row.sampler.tokens) - 1 for row in rows])
        length = np.array([row.length for row in rows])
        logits = self._cache.step(token, position, length, self._min_capacity())
        for row, scores in zip(rows, logits, strict=True):
            row.logits = scores
            row.length += 1
