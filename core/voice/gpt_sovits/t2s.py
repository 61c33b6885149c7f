"""Decodes semantic tokens with T2S for all who speak, a batch of rows at a time.

Batching is continuous: when a row ends, the next waiting sentence takes its place, whoever it
belongs to. A row does not attend to others and is computed identically whatever the batch, so a
sentence always sounds the same.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Condition, Event, Thread, main_thread
from typing import Any

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


@dataclass(slots=True, eq=False)
class Row:
    """A sentence that has a row of the batch, or waits for one."""

    caller: Caller
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

    def wait(self, count: int) -> list[int]:
        """Return the first `count` tokens, or all if the row ends with fewer."""
        tokens, reached = self.sampler.tokens, Event()
        # The caller is woken once: it would compete with the steps if it woke at every token.
        self._awaited = count, reached
        self.ended.add_done_callback(lambda _: reached.set())
        if len(tokens) < count:
            reached.wait()
        if self.ended.done():
            self.ended.result()  # raises what failed
        return tokens[:count]

    @property
    def length(self) -> int:
        """Filled positions of the cache; the latest token comes next."""
        return self.prefilled + max(0, len(self.sampler.tokens) - 1)

    @property
    def is_over(self) -> bool:
        return self.ended.done() or self.caller.is_closed

    @property
    def is_held(self) -> bool:
        return self.hold_at is not None and len(self.sampler.tokens) >= self.hold_at

    def sample(self, logits: Float) -> None:
        """Sample the next token. An error ends only this row."""
        try:
            self.sampler.sample(logits)
        except Exception as exc:
            self.ended.set_exception(exc)
            return
        if self.sampler.finished:
            self.ended.set_result(self.sampler)
        awaited = self._awaited  # read once: the caller may replace it meanwhile
        if awaited and len(self.sampler.tokens) >= awaited[0]:
            awaited[1].set()


class Caller:
    """A text or a stream, whose sentences share the rows of a decoder with those of others."""

    def __init__(self, decoder: Decoder, *, streams: bool) -> None:
        self.streams = streams
        self.is_closed = False
        self.waiting: deque[tuple[Row, T2SInput]] = deque()
        self._decoder = decoder

    def submit(self, sentence: T2SInput, *, first: bool = False, hold_at: int | None = None) -> Row:
        """Decode a sentence after those of this caller that wait, or as the `first` of them."""
        row = Row(self, len(sentence.prompt), sentence.sampler, hold_at)
        with self._decoder.changed:
            add = self.waiting.appendleft if first else self.waiting.append
            add((row, sentence))
            self._decoder.serve(self)
        return row

    def resume(self, row: Row) -> None:
        with self._decoder.changed:
            row.hold_at = None
            self._decoder.changed.notify()

    def close(self) -> None:
        """Drop the sentences that have not ended: `ended` of their rows stays undone."""
        with self._decoder.changed:
            # A garbage collection may run this while the decoder's thread takes from `waiting`.
            self.is_closed, self.waiting = True, deque()
            self._decoder.changed.notify()


class Decoder:
    """Decodes the sentences of all callers in one batch of rows.

    Callers take turns in getting free rows, so that a long text does not keep a short one waiting.
    What waits is bounded by the texts in progress, and the cache by the number of rows.

    The steps are computed by a thread of the decoder, not by one of the callers, who may pause
    between two utterances for as long as they like. The thread and the cache exist while there is
    work. The thread is no daemon: a process that exits while a daemon is inside ONNX Runtime is
    aborted.
    """

    def __init__(self, bundle: Bundle, *, rows: int = 8, device: str | None = None) -> None:
        """`device` stores the cache: by default CUDA if the bundle runs there."""
        self.rows = rows
        self.steps = self.tokens = 0
        """Computed so far; the mean number of rows is their ratio."""
        self.changed = Condition()
        """Notified when the thread may have something to do."""
        self._bundle = bundle
        default = "cuda" if bundle.runs_on_cuda(bundle.step_graph) else ""
        self._device = default if device is None else device
        self._callers: deque[Caller] = deque()
        """Those with waiting sentences, in the order in which they get rows."""
        self._thread: Thread | None = None
        # Sets, because the garbage collector may close callers within any statement.
        self._open: set[Caller] = set()
        self._syntheses: set[Future[Any]] = set()

    @contextmanager
    def caller(self, *, streams: bool = False) -> Iterator[Caller]:
        """Open a caller; what has not ended at the end of the block is dropped."""
        caller = Caller(self, streams=streams)
        self._open.add(caller)
        try:
            yield caller
        finally:
            self._open.discard(caller)
            caller.close()

    def decode(self, sentences: Iterable[T2SInput]) -> list[Sampler]:
        """Decode some sentences and return their samplers when all have ended."""
        with self.caller() as caller:
            rows = [caller.submit(sentence) for sentence in sentences]
            return [row.ended.result() for row in rows]

    def serve(self, caller: Caller) -> None:
        """Give rows to a caller whose sentences wait."""
        with self.changed:
            if caller not in self._callers:
                self._callers.append(caller)
            if self._thread is None:
                thread = Thread(target=self._work, name="t2s")
                thread.start()
                self._thread = thread
            self.changed.notify()

    def give_way_to(self, synthesis: Future[Any]) -> None:
        """Count a synthesis: while there are as many as threads, they occupy all processors.

        Then no steps are computed if callers wait for a synthesis and for no row. They will come
        back with new sentences, and a step takes less time per row in a larger batch. Streams,
        which are heard while they are made, do not give way.
        """
        self._syntheses.add(synthesis)
        synthesis.add_done_callback(self._end_synthesis)

    def _end_synthesis(self, synthesis: Future[Any]) -> None:
        with self.changed:
            self._syntheses.discard(synthesis)
            self.changed.notify()

    def _work(self) -> None:
        batch = _Batch(self._bundle, self._device)
        while True:
            try:
                if not self._fill(batch):
                    return
                self.steps += 1
                self.tokens += batch.step()
            except Exception as exc:
                batch.fail(exc)

    def _fill(self, batch: _Batch) -> bool:
        """Fill free rows until a step can be computed; return False if there is no work left."""
        while True:
            with self.changed:
                batch.remove_ended()
                if self._gives_way(batch):
                    self.changed.wait()
                    continue
                taken = self._take() if len(batch.rows) < self.rows else None
                if taken is None and not batch.rows:
                    self._thread = None
                    return False
                if taken is None and all(row.is_held for row in batch.rows):
                    self.changed.wait()
                    continue
            if taken is None:
                return True
            # Free rows are filled first: a step takes less time per row in a larger batch.
            batch.add(*taken)

    def _gives_way(self, batch: _Batch) -> bool:
        served = {row.caller for row in batch.rows}
        served.update(caller for caller in self._callers if caller.waiting)
        is_busy = len(self._syntheses) >= self._bundle.threads
        return is_busy and bool(self._open - served) and not any(one.streams for one in served)

    def _take(self) -> tuple[Row, T2SInput] | None:
        """Return the next sentence of the caller whose turn it is."""
        while self._callers:
            caller = self._callers.popleft()
            if waiting := caller.waiting:
                taken = waiting.popleft()
                if waiting:
                    self._callers.append(caller)
                return taken
        return None


class _Batch:
    """The rows that are decoded now, and their cache. Used by one thread."""

    def __init__(self, bundle: Bundle, device: str) -> None:
        self.rows: list[Row] = []
        self._bundle = bundle
        self._device = device
        self._cache = KeyValueCache(bundle, device)

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
        row.sample(logits[0])

    def step(self) -> int:
        """Sample the next token of each row that is not held; return their number."""
        _refuse_after_exit()
        # A row that is held computes its latest token again.
        token = np.array([row.sampler.tokens[-1] for row in self.rows])
        position = np.array([row.prompt + len(row.sampler.tokens) - 1 for row in self.rows])
        length = np.array([row.length for row in self.rows])
        logits = self._cache.step(token, position, length, _capacity(self.rows))
        active = [i for i, row in enumerate(self.rows) if not row.is_held]
        for i in active:
            self.rows[i].sample(logits[i])
        return len(active)

    def remove_ended(self) -> None:
        kept = [i for i, row in enumerate(self.rows) if not row.is_over]
        if len(kept) < len(self.rows):
            self.rows = [self.rows[i] for i in kept]
            self._cache.keep_rows(kept)

    def fail(self, error: Exception) -> None:
        """End all rows with an error of the step that they share, and forget their cache."""
        rows, self.rows = self.rows, []
        self._cache = KeyValueCache(self._bundle, self._device)
        for row in rows:
            if not row.ended.done():
                row.ended.set_exception(error)


def _capacity(rows: list[Row]) -> int:
    return max(row.length for row in rows) + 1


def _refuse_after_exit() -> None:
    """Raise RuntimeError once the main thread has ended, which waits for all others."""
    if not main_thread().is_alive():
        raise RuntimeError("The interpreter is ending: nothing more is decoded.")
