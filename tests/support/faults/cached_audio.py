"""The real sound processing, but each distinct input computed once.

Watermark, detector, codec and preparation are pure functions of their arguments; what histories
vary is the order of store calls around them. So their answers are remembered, and what is sealed,
signed and stored is what the real functions gave.
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

PURE: list[tuple[Any, str]] = [
    (runtime, "synthetic_speech"),
    *((watermark, name) for name in ("embed", "detect", "detect_any", "verify")),
    (encoding, "encode"),
    (decoding, "decode_trusted"),
    (loudness, "normalise_loudness"),
    (reference, "prepare"),
    (speaker_change, "has_several_speakers"),
]
_ANSWERS: dict[bytes, Any] = {}


@contextmanager
def remembered() -> Iterator[None]:
    with ExitStack() as stack:
        for owner, name in PURE:
            stack.enter_context(mock.patch.object(owner, name, _once(getattr(owner, name))))
        yield


def _once(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def answer(*args: Any, **kwargs: Any) -> Any:
        asked = pickle.dumps((function.__module__, function.__qualname__, args, kwargs))
        key = hashlib.blake2b(asked, digest_size=16).digest()
        if key not in _ANSWERS:
            _ANSWERS[key] = function(*args, **kwargs)
        return _ANSWERS[key]

    return answer
