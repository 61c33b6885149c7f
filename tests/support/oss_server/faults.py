"""Faults to inject: which requests they hit, and what then goes wrong."""

from __future__ import annotations

import random
import re
import threading
from dataclasses import dataclass, field
from typing import Literal

from tests.support.oss_server.messages import Request

Kind = Literal[
    "error",  # answer `status` and `code`; nothing is performed
    "hang",  # accept, stay silent for `seconds`, hang up; nothing is performed
    "reset",  # reset the connection; nothing is performed
    "slow",  # perform, answer after `seconds`
    "lost_reply",  # perform, then hang up
    "duplicate",  # perform twice, as a repeating proxy would; the second answer is sent
    "cut",  # perform, hang up in the middle of the answer's body
    "stall",  # perform, stay silent for `seconds` in the middle of the answer's body, hang up
    "corrupt",  # perform, flip one bit of the answer's body
    "wrong_crc",  # perform, send another x-oss-hash-crc64ecma
]


@dataclass
class Fault:
    kind: Kind
    method: str = ""
    """Empty: any."""
    key: str = ""
    """A regular expression that is searched in the key."""
    query: str = ""
    """A query parameter that must be there, such as `append`."""
    times: int = 1
    """How often, at most."""
    after: int = 0
    """How many matching requests pass before the first is hit."""
    chance: float = 1.0
    status: int = 503
    code: str = "ServiceUnavailable"
    seconds: float = 0.0
    fired: int = field(default=0, init=False)
    """How often it has struck."""

    def hits(self, request: Request) -> bool:
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
        """The first rule that strikes this request."""
        with self._lock:
            for rule in self._rules:
                if rule.fired >= rule.times or not rule.hits(request):
                    continue
                if rule.after > 0:
                    rule.after -= 1
                elif self._random.random() < rule.chance:
                    rule.fired += 1
                    return rule
        return None
