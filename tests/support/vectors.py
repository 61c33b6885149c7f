"""Read the known-answer files under tests/vectors; unknown fields are errors."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TypeVar

import msgspec

FOLDER = Path(__file__).parent.parent / "vectors"
V = TypeVar("V", bound=msgspec.Struct)


def read(name: str, kind: type[V]) -> list[V]:
    found: list[V] = msgspec.json.decode(
        (FOLDER / name).read_bytes(),
        type=list[kind],  # type: ignore[valid-type]  # a type made at run time
    )
    return found


def stream(length: int) -> bytes:
    """Return the plaintext of long vectors: SHAKE-256 of a fixed string."""
    return hashlib.shake_256(b"voicedrop/vector").digest(length)


def sealed_size(plain: int) -> int:
    """Bytes of the body for `plain` bytes of plaintext, from the description of the format."""
    header, tag, segment = 40, 16, 1 << 20
    return header + plain + tag * max(1, -(-(plain + header) // (segment - tag)))
