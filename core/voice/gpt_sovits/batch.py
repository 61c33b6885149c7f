"""The rows that T2S decodes at the moment, and their cache.

A row does not attend to others and is computed identically whatever the batch, so a sentence always
sounds the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from threading import Event, main_thread
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from core.voice.gpt_sovits.bundle import Bundle
from core.voice.gpt_sovits.device_cache import DeviceCache
from core.voice.gpt_sovits.kv_cache import Cache, HostCache
from core.voice.gpt_sovits.sampling import Sampler, sample_all

Ids = NDArray[np.int64]
Float = NDArray[np.float32]
CHECK_S = 0.05
"""Seconds between two looks at whether somebody still waits for a stream."""


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


class Owner(Protocol):
    """Whose sentence a row decodes."""

    streams: bool
    is_closed: bool


@dataclass(slots=True, eq=False)
class Row:
    """A sentence that has a row of the batch, or waits for one."""

    owner: Owner
    prompt: int
    """Number of prompt tokens, which is the position of the first generated one."""
    sampler: Sampler
    hold_at: int | None
    """Number of tokens at which the row waits until it is resumed."""
    ended: Future[Sampler] = field(default_factory=Future)
    """Gets the sampler when it has all tokens."""
    prefilled: int = 0
    """Positions of the cache before the first generated token."""
    _awaited: tuple[int, Event] | None = None
    """The number of tokens that the caller waits for, and how it is told."""

    def wait(self, count: int, check: Callable[[], None] = lambda: None) -> list[int]:
        """Return the first `count` tokens, or all if the row ends with fewer. `check` is called
        every CHECK_S seconds; what it raises ends the wait."""
        tokens, reached = self.sampler.tokens, Event()
        # The caller is woken once: it would compete with the steps if it woke at every token.
        self._awaited = count, reached
        self.ended.add_done_callback(lambda _: reached.set())
        if len(tokens) < count:
            while not reached.wait(CHECK_S):
                check()
        if self.ended.done():
            self.ended.result()  # raises what failed
        return tokens[:count]

    @property
    def length(self) -> int:
        """Filled positions of the cache; the latest token comes next."""
        return self.prefilled + max(0, len(self.sampler.tokens) - 1)

    @property
    def is_over(self) -> bool:
        return self.ended.done() or self.owner.is_closed

    @property
    def is_held(self) -> bool:
        return self.hold_at is not None and len(self.sampler.tokens) >= self.hold_at

    def advance(self, error: Exception | None) -> None:
        """Tell the caller what it waits for, when a token was sampled or an error ends the row."""
        if error:
            self.ended.set_exception(error)
            return
        if self.sampler.finished:
            self.ended.set_result(self.sampler)
        awaited = self._awaited  # read once: the caller may replace it meanwhile
        if awaited and len(self.sampler.tokens) >= awaited[0]:
            awaited[1].set()


def open_cache(bundle: Bundle, device: str) -> Cache:
    """Return an empty cache in the memory of a device, or of the host if that is ""."""
    return DeviceCache(bundle, device) if device else HostCache(bundle)


class Batch:
    """The rows, used by one thread."""

    def __init__(self, bundle: Bundle, device: str, cache: Cache) -> None:
        """`device` is where the cache is."""
        self.rows: list[Row] = []
        self._bundle, self._device, self._cache = bundle, device, cache

    def add(self, row: Row, sentence: T2SInput) -> None:
        """Prefill a row and sample its first token. An error ends only this row."""
        try:
            _refuse_after_exit()
            inputs = {"phones": sentence.phones, "bert": sentence.bert, "prompt": sentence.prompt}
            outputs = ["logits", "keys", "values"]
            logits, keys, values = self._bundle.run("prefill", outputs, inputs)
            row.prefilled = keys.shape[2]
            self._cache.add_row(keys, values, _capacity([*self.rows, row]))
        except Exception as exc:
            row.ended.set_exception(exc)
            return
        self.rows.append(row)
        row.advance(*sample_all([row.sampler], logits))

    def step(self) -> int:
        """Sample the next token of each row that is not held; return their number."""
        _refuse_after_exit()
        try:
            logits = _compute(self.rows, self._cache)
        except Exception:
            if len(self.rows) == 1:
                raise
            logits = self._compute_apart()
        active = [i for i, row in enumerate(self.rows) if not row.is_held]
        errors = sample_all([self.rows[i].sampler for i in active], logits[active])
        for i, error in zip(active, errors, strict=True):
            self.rows[i].advance(error)
        return len(active)

    def remove_ended(self) -> None:
        kept = [i for i, row in enumerate(self.rows) if not row.is_over]
        if len(kept) < len(self.rows):
            self.rows = [self.rows[i] for i in kept]
            self._cache.keep_rows(kept)

    def fail(self, error: Exception) -> None:
        """End all rows with an error, and forget their cache."""
        rows, self.rows = self.rows, []
        self._cache.clear()
        for row in rows:
            if not row.ended.done():
                row.ended.set_exception(error)

    def _compute_apart(self) -> Float:
        """Compute a step that failed once more for each row by itself, and end those that fail.

        A step overwrites nothing but the position that it appends, so it can be repeated.
        """
        computed: list[Float] = []
        kept: list[tuple[Row, NDArray[np.generic], NDArray[np.generic]]] = []
        alone = open_cache(self._bundle, self._device)
        for i, row in enumerate(self.rows):
            alone.add_row(*self._cache.row(i, row.length), row.length + 1)
            try:
                computed.append(_compute([row], alone)[0])
                kept.append((row, *alone.row(0, row.length + 1)))
            except Exception as exc:
                row.ended.set_exception(exc)
            alone.clear()
        self.rows = [row for row, _, _ in kept]
        self._cache.clear()
        for _, keys, values in kept:
            self._cache.add_row(keys, values, _capacity(self.rows))
        return np.array(computed)


def _compute(rows: Sequence[Row], cache: Cache) -> Float:
    """Return the logits (rows, vocabulary) of a step. A row that is held computes its latest token
    again."""
    token = np.array([row.sampler.tokens[-1] for row in rows])
    position = np.array([row.prompt + len(row.sampler.tokens) - 1 for row in rows])
    length = np.array([row.length for row in rows])
    return cache.step(token, position, length, _capacity(rows))


def _capacity(rows: Sequence[Row]) -> int:
    return max(row.length for row in rows) + 1


def _refuse_after_exit() -> None:
    """Raise RuntimeError once the main thread has ended, which waits for all others."""
    if not main_thread().is_alive():
        raise RuntimeError("The interpreter is ending: nothing more is decoded.")
