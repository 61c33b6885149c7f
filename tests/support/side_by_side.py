"""A voice that shows how many of its calls run at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from core.voice import SpeechChunk, Voiceprint
from tests.support.runtime import BuzzVoice

SECONDS = 20
"""So long calls wait for one another."""


@dataclass
class Together(BuzzVoice):
    """A voice whose first calls wait for one another, which shows that they run at once."""

    callers: int = 3
    expected: int = 3
    """Calls that wait for one another."""
    then: Callable[[str], object] = lambda text: None
    """Called with a text when all of these calls have begun, before it is spoken."""
    most: int = 0
    """Calls that ran at once."""

    def __post_init__(self) -> None:
        self._barrier = threading.Barrier(self.expected)
        self._lock, self._now, self._begun = threading.Lock(), 0, 0

    def speak(self, text: str, voiceprint: Voiceprint, **how: Any) -> Iterator[SpeechChunk]:
        with self._lock:
            self._now, self._begun = self._now + 1, self._begun + 1
            self.most, is_first = max(self.most, self._now), self._begun <= self.expected
        try:
            if is_first:
                self._barrier.wait(SECONDS)
            self.then(text)
            yield from super().speak(text, voiceprint, **how)
        finally:
            with self._lock:
                self._now -= 1
