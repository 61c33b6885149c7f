"""Check the keys that a manifest may name: objects of the inbox bucket, and nothing else.

A key is taken literally and never decoded or normalised: `%2f` and a full-width dot are ordinary
characters. A key that would be a path traversal in a program that decodes it is still refused.
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
    """Return the key. Raises Refused REF_FORBIDDEN for URLs and other buckets, KEY_INVALID."""
    if _URL.match(key):
        raise Refused("REF_FORBIDDEN", pointer=pointer)
    if key.startswith("/") or key.endswith("/"):
        message = (
            f"{key[:80]!r} is no key: name an object of the inbox, such as `refs/alice.wav`, "
            "without a slash at the beginning or end."
        )
        raise Refused("KEY_INVALID", message, pointer=pointer)
    for c in key:
        if c == "\\" or c in INVISIBLE or unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp"):
            name = "a backslash: use /" if c == "\\" else f"the character U+{ord(c):04X}"
            message = f"A key may not contain {name}."
            raise Refused("KEY_INVALID", message, pointer=pointer)
    try:
        check_key(key)
    except Refused as exc:
        raise Refused("KEY_INVALID", exc.message, pointer=pointer) from None
    decoded = unquote(unquote(key))
    if any(_has_dot_segment(unicodedata.normalize("NFKC", name)) for name in (key, decoded)):
        message = "Decoded, this key would be a path traversal out of the bucket."
        raise Refused("KEY_INVALID", message, pointer=pointer)
    return key


def _has_dot_segment(name: str) -> bool:
    return any(part in (".", "..") for part in re.split(r"[/\\]", name))
