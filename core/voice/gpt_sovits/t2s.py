"""Decodes semantic tokens with T2S for all who speak, a batch of rows at a time.

Batching is continuous: when a row ends, the next waiting sentence takes its place, whoever it
belongs to.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from threading import Condition, Thread
from typing import Any

from core.voice.gpt_sovits.batch import Batch, Owner, Row, T2SInput, open_cache
from core.voice.gpt_sovits.bundle import Bundle
from core.voice.gpt_sovits.sampling import Sampler


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
    between two utterances for as long as they like. The thread, and a cache in the memory of the
    host, exist while there is work. The thread is no daemon: a process that exits while a daemon is
    inside ONNX Runtime is aborted.
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
        self._device_cache = open_cache(bundle, self._device) if self._device else None
        """Kept when there is no work, so that its addresses stay the same."""
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
        cache = self._device_cache or open_cache(self._bundle, "")
        batch = Batch(self._bundle, self._device, cache)
        while True:
            try:
                if not self._fill(batch):
                    return
                self.steps += 1
                self.tokens += batch.step()
            except Exception as exc:
                batch.fail(exc)

    def _fill(self, batch: Batch) -> bool:
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

    def _gives_way(self, batch: Batch) -> bool:
        served: set[Owner] = {row.owner for row in batch.rows}
        served.update(caller for caller in self._callers if caller.waiting)
        is_busy = len(self._syntheses) >= self._bundle.threads
        return (
            is_busy
            and bool(self._open.difference(served))
            and not any(one.streams for one in served)
        )

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
