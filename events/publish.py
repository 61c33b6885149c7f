"""The Publish port: where events go. By default an object in the results bucket, written once.

A bus needs no code here: a rule on the results bucket tells its subscribers of every new object
under `events/` (docs/events.md), and repeats and dead letters are the bus's own.
"""

from __future__ import annotations

from typing import Protocol

from core.storage.port import Store


class Publish(Protocol):
    def publish(self, key: str, event: bytes) -> bool:
        """Announce; say whether it was new. Publishing the same event again changes nothing.

        Raises Unavailable: the caller's job is repeated, and with it the event.
        """
        ...


class ResultsBucket:
    """One object an event: pollers list a day, triggers fire once."""

    def __init__(self, results: Store) -> None:
        self._results = results

    def publish(self, key: str, event: bytes) -> bool:
        return self._results.put_once(key, event)
