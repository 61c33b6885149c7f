"""Faults to inject: which requests they affect, and how."""

from __future__ import annotations

import random
import re
import threading
from dataclasses import dataclass, field
from typing import Literal

from tests.support.oss_server.messages import Request

Kind = Literal[
    "error",  # respond with `status` and `code`; nothing is performed
    "hang",  # accept, wait for `seconds`, close the connection; nothing is performed
    "reset",  # reset the connection; nothing is performed
    "slow",  # perform, respond after `seconds`
    "lost_reply",  # perform, close the connection without a response
    "duplicate",  # perform twice, as a retrying proxy would; the second response is sent
    "cut",  # perform, close the connection in the middle of the response's body
    "stall",  # as `cut`, but wait for `seconds` before closing the connection
    "corrupt",  # perform, flip one bit of the response's body
    "wrong_crc",  # perform, send a wrong x-oss-hash-crc64ecma
]


@dataclass
class Fault:
    kind: Kind
    method: str = ""
    """Empty: any method."""
    key: str = ""
    """A regular expression that must match somewhere in the key."""
    query: str = ""
    """A query parameter that must be present, such as `append`."""
    times: int = 1
    """Maximum number of requests affected."""
    after: int = 0
    """Number of matching requests before the first one affected."""
    chance: float = 1.0
    status: int = 503
    code: str = "ServiceUnavailable"
    seconds: float = 0.0
    fired: int = field(default=0, init=False)
    """Number of requests affected so far."""

    def matches(self, request: Request) -> bool:
        return (
            self.method in ("", request.method)
            and re.search(self.key, request.key) is not None
            and (not self.query or self.query in request.query)
        )


class Faults:
    def __init__(self, seed: int = 0) -> None:
        self._lock = threading.Lock()
        self._random = random.Random(seed)
        self._rules: list[Fault] = []

    def add(self, fault: Fault) -> Fault:
        with self._lock:
            self._rules.append(fault)
        return fault

    def counts(self) -> list[int]:
        with self._lock:
            return [rule.fired for rule in self._rules]

    def clear(self) -> None:
        with self._lock:
            self._rules.clear()

    def pick(self, request: Request) -> Fault | None:
        """Return the first fault that applies to this request, and count it."""
        with self._lock:
            for rule in self._rules:
                if rule.fired >= rule.times or not rule.matches(request):
                    continue
                if rule.after > 0:
                    rule.after -= 1
                elif self._random.random() < rule.chance:
                    rule.fired += 1
                    return rule
        return None
