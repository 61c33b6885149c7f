"""Retries with exponential backoff with full jitter, bounded in number and in time.

Source: M. Brooker, "Exponential Backoff And Jitter" (2015): of the strategies compared there, full
jitter needs the fewest calls when many clients retry at once.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Retry:
    attempts: int = 6
    first_pause: float = 0.2
    """Seconds; upper limit of the first pause, doubled for each further one."""
    longest_pause: float = 8.0
    budget: float = 60.0
    """Seconds after which no further attempt is started."""
    sleep: Callable[[float], None] = time.sleep
    uniform: Callable[[float, float], float] = random.uniform
    clock: Callable[[], float] = time.monotonic

    def run(self, action: Callable[[], T], is_retryable: Callable[[Exception], bool]) -> T:
        """Return what `action` returns. Raises its first exception that is not retryable, or its
        last one."""
        ends = self.clock() + self.budget
        for attempt in range(self.attempts - 1):
            pause = self.uniform(0, min(self.longest_pause, self.first_pause * 2**attempt))
            try:
                return action()
            except Exception as exc:
                if not is_retryable(exc) or self.clock() + pause > ends:
                    raise
            self.sleep(pause)
        return action()
