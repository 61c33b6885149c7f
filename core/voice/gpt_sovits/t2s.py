"""Decoding semantic tokens: a batch of rows on caches that are written in place.

Rows come and go (continuous batching): when one ends, the next waiting sentence takes its place.
A row never sees its neighbours, and every row is computed by the same arithmetic whatever the
batch, so a sentence sounds the same alone and in company.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.voice.gpt_sovits.bundle import Bundle
from core.voice.gpt_sovits.caches import Caches
from core.voice.gpt_sovits.sampling import Chooser

Ids = NDArray[np.int64]
Float = NDArray[np.float32]


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

    def __init__(self, bundle: Bundle, *, rows: int = 8, device: str | None = None) -> None:
        """`device` holds the caches: CUDA's if the bundle runs there, unless told otherwise."""
        self._bundle = bundle
        self._most = rows
        self._rows: list[_Row] = []
        where = "cuda" if bundle.on_cuda(bundle.step) else ""
        self._caches = Caches(bundle, where if device is None else device)

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
