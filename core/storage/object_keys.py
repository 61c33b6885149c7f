"""What may be an object's key and metadata: the rules of OSS, checked before anything is sent."""

from __future__ import annotations

import re
from collections.abc import Mapping

from core.errors import Refused


def check_key(key: str) -> str:
    """The key itself, or Refused KEY_INVALID: the rules of OSS, and none that a folder cannot keep.

    Source: OSS documentation, "Naming conventions for objects": 1-1023 bytes of UTF-8, no leading
    slash or backslash. Empty, `.` and `..` segments would mean another file in a folder.
    """
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        raise Refused("KEY_INVALID", "The key is not valid Unicode.", pointer=ascii(key)) from None
    if not 1 <= size <= 1023:
        raise Refused("KEY_INVALID", f"A key has 1-1023 bytes, not {size}.", pointer=key)
    if key[0] in "/\\" or "\0" in key or any(part in ("", ".", "..") for part in key.split("/")):
        raise Refused("KEY_INVALID", pointer=key)
    return key


def addressable(key: str) -> bool:
    """False for what other tools leave in buckets, such as folder markers."""
    try:
        return bool(check_key(key))
    except Refused:
        return False


_NAME = re.compile(r"[a-z0-9-]+")
_VALUE = re.compile(r"([!-~]([ -~]*[!-~])?)?")


def check_metadata(metadata: Mapping[str, str] | None) -> dict[str, str]:
    """A copy; ValueError for what OSS would refuse or HTTP would change on the way."""
    plain = dict(metadata or {})
    for name, value in plain.items():
        if not (_NAME.fullmatch(name) and _VALUE.fullmatch(value)):
            raise ValueError(f"metadata {name!r} is not lower-case ASCII with a printable value")
    if sum(len(name) + len(value) for name, value in plain.items()) > 8192:
        raise ValueError("metadata exceeds the 8 KiB that OSS keeps")
    return plain
