"""Memoises the real audio processing, so that each distinct input is computed once.

Watermark, detector, codec and preparation are pure functions of their arguments; histories vary
only the order of the store calls around them. What is sealed, signed and stored is what the real
functions returned.
"""

from __future__ import annotations

import functools
import hashlib
import pickle
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import watermark
from core.audio import decoding, encoding, loudness
from core.speech import reference, speaker_change
from tests.support import runtime

PURE_FUNCTIONS: list[tuple[Any, str]] = [
    (runtime, "synthetic_speech"),
    *((watermark, name) for name in ("embed", "detect", "detect_any", "verify")),
    (encoding, "encode"),
    (decoding, "decode_trusted"),
    (loudness, "find_gain"),
    (reference, "prepare"),
    (speaker_change, "has_several_speakers"),
]
_CACHE: dict[bytes, Any] = {}


@contextmanager
def memoised() -> Iterator[None]:
    with ExitStack() as stack:
        for owner, name in PURE_FUNCTIONS:
            stack.enter_context(mock.patch.object(owner, name, _memoise(getattr(owner, name))))
        yield


def _memoise(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def answer(*args: Any, **kwargs: Any) -> Any:
        call = pickle.dumps((function.__module__, function.__qualname__, args, kwargs))
        key = hashlib.blake2b(call, digest_size=16).digest()
        if key not in _CACHE:
            _CACHE[key] = function(*args, **kwargs)
        return _CACHE[key]

    return answer
