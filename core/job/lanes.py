"""Lanes: the threads in which a job makes several items at once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial


class Stopped(BaseException):
    """Ends a lane because the job is left. Not an Exception, so that it is no error of an item."""


class Lanes:
    """The lanes of one attempt at a job."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        """Protects what the lanes share."""
        self._error: BaseException | None = None

    def check(self) -> None:
        """Raises Stopped if another lane has failed."""
        if self._error:
            raise Stopped

    def repeat(self, step: Callable[[], bool], count: int) -> None:
        """Call `step` in `count` threads, of which this is one, until it returns False in each.

        The first exception ends the other lanes at their next `check`. It is raised when all of
        them have ended, so that none is still at work when the job is left.
        """
        helpers: list[threading.Thread] = []
        try:
            for number in range(1, count):
                work = partial(self._work, step)
                helper = threading.Thread(target=work, name=f"lane {number}", daemon=True)
                helper.start()
                helpers.append(helper)
            self._work(step)
            for helper in helpers:
                helper.join()
        except BaseException as exc:  # Ctrl-C while this thread waits for the others
            self._stop(exc)
            for helper in helpers:
                helper.join()
        if self._error:
            raise self._error

    def _work(self, step: Callable[[], bool]) -> None:
        try:
            while step():
                self.check()
        except BaseException as exc:
            self._stop(exc)

    def _stop(self, error: BaseException) -> None:
        self._error = self._error or error
