"""How many seconds of this process each attempt is charged for."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Share:
    """The seconds of one attempt."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self.charged = 0.0

    def seconds(self) -> float:
        """Return the seconds so far."""
        self._meter.divide()
        return self.charged


class Meter:
    """Divides the time of the process among the attempts that are in progress.

    A platform bills the seconds of an instance, whatever it does in them. So attempts that are in
    progress at the same time share those seconds equally, and the seconds of all attempts together
    are those in which there was one.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._active: list[Share] = []
        self._until = 0.0
        """Up to when the time is divided."""

    @contextmanager
    def share(self) -> Iterator[Share]:
        """Charge the time of the block to an attempt."""
        share = Share(self)
        self.divide(begin=share)
        try:
            yield share
        finally:
            self.divide(end=share)

    def divide(self, *, begin: Share | None = None, end: Share | None = None) -> None:
        """Divide the time since the last call among those that were active in it."""
        with self._lock:
            now = time.monotonic()
            for share in self._active:
                share.charged += (now - self._until) / len(self._active)
            self._until = now
            if begin:
                self._active.append(begin)
            if end:
                self._active.remove(end)
