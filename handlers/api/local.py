"""Carries out the jobs of the inbox in the process of `voicedrop serve`.

A job that came over HTTP begins as soon as a thread is free. What was copied into the inbox is
found by listing it, as `voicedrop watch` does, and comes after that.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace

from core import inference
from core.batch import worker
from core.errors import JobError, Refused, Unavailable
from core.job.lanes import Concurrency, Stopped
from core.job.runtime import Finished, Runtime, Waiting
from core.job.streamed import Listener
from core.result.document import Result
from core.storage.object_keys import CLIPS, MANIFESTS, is_shard_key
from core.storage.port import Info
from events.incoming import object_kind
from handlers.jobs import carry_out, carry_out_shard, carry_out_stream, trace_clip

log = logging.getLogger("voicedrop.serve")

JOBS_AT_ONCE = 8
"""Jobs that are begun at once, or one per usable CPU if those are more, unless VOICEDROP_LANES is
set. The items of all of them share the lanes."""
MAX_WAITING = 1000
"""Jobs from callers that may wait for a thread; further requests are told to come again."""
POLL_SECONDS = 2.0
SETTLING_SECONDS = 0.5
"""A file that somebody copies into the inbox counts as complete so long after its last write."""
PAUSE_SECONDS = 2.0
"""How long a job rests that waits for a file or for another worker."""
REPEAT_SECONDS = 60.0
"""After so long, the same error of the same job is said again."""


class LocalWorker:
    """Threads that carry out what is new in the inbox. `say` gets a line about each job."""

    def __init__(self, runtime: Runtime, say: Callable[[str], None]) -> None:
        self._runtime = replace(runtime, concurrency=Concurrency())
        self._say = say
        self._changed = threading.Condition()
        self._asked: deque[str] = deque()
        """Keys from callers, which come first."""
        self._found: deque[str] = deque()
        self._active: set[str] = set()
        """Keys in one of the queues, or in progress."""
        self._done: dict[str, str] = {}
        """Key -> ETag of what was carried out."""
        self._rests: dict[str, float] = {}
        """Key -> when it may be tried again."""
        self._said: dict[str, tuple[str, float]] = {}
        self._is_stopping = threading.Event()
        count = runtime.lanes or max(JOBS_AT_ONCE, inference.usable_cpus())
        loops = [self._list_repeatedly, *[self._work] * count]
        self._threads = [threading.Thread(target=loop, daemon=True) for loop in loops]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End after the steps in progress."""
        self._is_stopping.set()
        self._runtime.concurrency.jobs.stop()
        with self._changed:
            self._changed.notify_all()
        for thread in self._threads:
            while thread.is_alive():  # so that Ctrl-C can interrupt it
                thread.join(0.2)

    def begin(self, key: str) -> None:
        """Carry out a manifest or clip that was just stored, before what was found."""
        with self._changed:
            self._rests.pop(key, None)
            self._add(key, self._asked)

    def speak(self, key: str, manifest: bytes, listener: Listener) -> Result:
        """Speak a new manifest to a listener, in the thread of the caller, beside the other jobs.
        Raises what `carry_out_stream` raises; Unavailable OVERLOADED if the process ends."""
        with self._changed:
            self._active.add(key)  # so that no other thread takes it
        try:
            result = carry_out_stream(key, manifest, listener, self._runtime)
            if info := self._runtime.inbox.head(key):
                self._done[key] = info.etag
        except Stopped:
            message = "The server is stopping; the job will be continued."
            raise Unavailable("OVERLOADED", message) from None
        finally:
            with self._changed:
                self._active.discard(key)
        self._say_finished(result)
        return result

    def is_full(self) -> bool:
        return len(self._asked) >= MAX_WAITING

    def _add(self, key: str, queue: deque[str]) -> None:
        if key not in self._active:
            self._active.add(key)
            queue.append(key)
            self._changed.notify()

    def _list_repeatedly(self) -> None:
        while not self._is_stopping.is_set():
            began = time.monotonic()
            try:
                self._find_new()
            except JobError as exc:
                self._say_once("inbox", exc.code, str(exc))
            # A large inbox is listed less often.
            self._is_stopping.wait(max(POLL_SECONDS, 10 * (time.monotonic() - began)))

    def _find_new(self) -> None:
        runtime = self._runtime
        for key in list(runtime.consents.list_marks()):
            runtime.consents.withdraw_marked(key)
        listed = [*runtime.inbox.list(MANIFESTS), *runtime.inbox.list(CLIPS)]
        for job_id, infos in list(worker.list_cut_jobs(runtime)):
            listed += worker.unfinished_shards(job_id, infos, runtime)
        now = runtime.inbox.now()
        with self._changed:
            for info in listed:
                if self._is_new(info, now):
                    self._add(info.key, self._found)

    def _is_new(self, info: Info, now: float) -> bool:
        kind = object_kind(info.key)
        is_ours = is_shard_key(info.key) or kind in ("manifest", "clip")
        is_whole = now - info.modified >= SETTLING_SECONDS
        is_due = self._rests.get(info.key, 0.0) <= time.monotonic()
        return is_ours and is_whole and is_due and self._done.get(info.key) != info.etag

    def _work(self) -> None:
        while key := self._next():
            try:
                self._carry_out(key)
            except Stopped:
                return
            except Exception:
                log.exception("failed", extra={"key": key})
                self._rest(key, REPEAT_SECONDS)
            finally:
                with self._changed:
                    self._active.discard(key)

    def _next(self) -> str:
        """Wait for a key; return an empty one at the end."""
        with self._changed:
            while not self._is_stopping.is_set():
                if self._asked or self._found:
                    return (self._asked or self._found).popleft()
                self._changed.wait()
        return ""

    def _carry_out(self, key: str) -> None:
        store = self._runtime.control if is_shard_key(key) else self._runtime.inbox
        info = store.head(key)
        self._rests.pop(key, None)
        try:
            is_over = self._make(key)
        except JobError as exc:
            self._say_once(key, exc.code, str(exc))
            is_over = isinstance(exc, Refused)
        if is_over and info:
            self._done[key] = info.etag
        else:
            self._rest(key, PAUSE_SECONDS)

    def _make(self, key: str) -> bool:
        """Make what a key stands for; return False if it is to be tried again."""
        if is_shard_key(key):
            if result := carry_out_shard(key, self._runtime):
                self._say_finished(result)
            return True
        if object_kind(key) == "clip":
            self._say(f"{key}: {trace_clip(key, self._runtime).meaning}")
            return True
        outcome = carry_out(key, self._runtime)
        if isinstance(outcome, Finished):
            self._say_finished(outcome.result)
            return True
        if isinstance(outcome, Waiting):
            missing = ", ".join(outcome.references)
            self._say_once(key, missing, f"waits for {missing}")
        return False

    def _rest(self, key: str, seconds: float) -> None:
        self._rests[key] = time.monotonic() + seconds

    def _say_finished(self, result: Result) -> None:
        totals = result.totals
        made = f"{totals.succeeded} of {totals.items} items, {totals.audio_s:.1f} s of speech"
        why = f": {result.error.message}" if result.error else ""
        self._say(f"{result.job_id[:8]}: {result.status}, {made}{why}")

    def _say_once(self, key: str, what: str, line: str) -> None:
        """Say a line about a key, unless the same was the last one within a minute."""
        said, at = self._said.get(key, ("", 0.0))
        if said != what or time.monotonic() - at > REPEAT_SECONDS:
            self._said[key] = what, time.monotonic()
            self._say(f"{key}: {line}")
