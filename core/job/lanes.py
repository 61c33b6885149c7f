"""Lanes: the threads in which a job makes several items at once, and a process several jobs."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from functools import partial


class Stopped(BaseException):
    """Ends a lane because the job is left. Not an Exception, so that it is no error of an item."""


class Lanes:
    """The lanes of one attempt at a job, or those in which a process carries out jobs."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        """Protects what the lanes share."""
        self._error: BaseException | None = None

    def check(self) -> None:
        """Raises Stopped if another lane has failed."""
        if self._error:
            raise Stopped

    def stop(self) -> None:
        """Let the lanes end at their next `check`."""
        self._stop(Stopped())

    def repeat(
        self, step: Callable[[], bool], count: int, on_wait: Callable[[], None] = lambda: None
    ) -> None:
        """Call `step` in `count` threads, of which this is one, until it returns False in each.

        The first exception ends the other lanes at their next `check`. It is raised when all of
        them have ended, so that none is still at work when the job is left; `on_wait` is called
        before that is waited for.
        """
        ends: list[threading.Event] = []

        def wait() -> None:
            if self._error and not all(end.is_set() for end in ends):
                on_wait()
            # Not with Thread.join: before Python 3.13, when Ctrl-C interrupts it, it takes a thread
            # for ended that is not (python/cpython#90882).
            for end in ends:
                end.wait()

        try:
            for number in range(1, count):
                end = threading.Event()
                work = partial(copy_context().run, self._work, step, end)
                threading.Thread(target=work, name=f"lane {number}", daemon=True).start()
                ends.append(end)
            self._work(step, threading.Event())
            wait()
        except BaseException as exc:  # Ctrl-C while this thread waits for the others
            self._stop(exc)
            wait()
        if self._error:
            raise self._error

    def _work(self, step: Callable[[], bool], end: threading.Event) -> None:
        try:
            while step():
                self.check()
        except BaseException as exc:
            self._stop(exc)
        finally:
            end.set()

    def _stop(self, error: BaseException) -> None:
        self._error = self._error or error


class Places:
    """Limits the items that all jobs of a process make at one time. Who waits longest is next, so
    that a job of one item need not wait for the end of a long one."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._held = 0
        self._waiting: deque[object] = deque()

    @contextmanager
    def hold(self, most: int) -> Iterator[None]:
        """Hold a place while the block runs. `most`: places that there are."""
        turn = object()
        with self._changed:
            self._waiting.append(turn)
            try:
                while self._waiting[0] is not turn or self._held >= most:
                    self._changed.wait()
                self._held += 1
            finally:
                self._waiting.remove(turn)
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._held -= 1
                self._changed.notify_all()


class Concurrency:
    """What the jobs share that a process carries out at once."""

    def __init__(self) -> None:
        self.jobs = Lanes()
        self.places = Places()
        self.tracing = threading.Lock()
        """Held while a clip is traced, because a long one takes much memory."""
        self._learning = threading.Lock()

    @contextmanager
    def learning(self) -> Iterator[None]:
        """Let one job at a time prepare a recording and learn a voice, which takes much memory. The
        next one may need the same voice. Raises Stopped if the jobs end meanwhile."""
        with self._learning:
            self.jobs.check()
            yield
