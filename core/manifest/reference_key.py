"""Keys that a manifest may name: objects of the inbox bucket itself, and nothing beyond.

A key is taken literally, never decoded or normalised: `%2f` and a full-width dot are characters of
a name. What would become a traversal in a program that does decode is refused all the same.
"""

from __future__ import annotations

import re
import unicodedata
from urllib.parse import unquote

from core.errors import Refused
from core.manifest.clean_text import INVISIBLE
from core.storage.object_keys import check_key

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|(data|acs|arn|file|oss):", re.IGNORECASE)


def check(key: str, pointer: str) -> str:
    """The key itself. Raises Refused REF_FORBIDDEN for URLs and other buckets, KEY_INVALID."""
    if _URL.match(key):
        raise Refused("REF_FORBIDDEN", pointer=pointer)
    if key.startswith("/") or key.endswith("/"):
        raise Refused("KEY_INVALID", "A key neither begins nor ends with a slash.", pointer=pointer)
    for c in key:
        if c == "\\" or c in INVISIBLE or unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp"):
            message = f"A key may not hold the character U+{ord(c):04X}."
            raise Refused("KEY_INVALID", message, pointer=pointer)
    try:
        check_key(key)
    except Refused as exc:
        raise Refused("KEY_INVALID", exc.message, pointer=pointer) from None
    decoded = unquote(unquote(key))
    if any(_has_dot_segment(unicodedata.normalize("NFKC", name)) for name in (key, decoded)):
        message = "A program that decodes this key would climb out of the bucket."
        raise Refused("KEY_INVALID", message, pointer=pointer)
    return key


def _has_dot_segment(name: str) -> bool:
    return any(part in (".", "..") for part in re.split(r"[/\\]", name))
