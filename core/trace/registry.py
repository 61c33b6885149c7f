"""The registry of watermark payloads: 32 bits -> job and item, as objects in the results bucket.

    marks/<payload: first two hex digits>/<payload: eight hex digits>.json
    {"item": ..., "job": ..., "schema": "voicedrop/mark/1"}

A payload is allocated by a conditional write of its object, so that two items cannot share one.
Candidates are derived from job and item, so that a repeated item gets its payload again.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Literal

import msgspec

from core.errors import Refused, Unavailable
from core.storage.object_keys import mark_key
from core.storage.port import Store

MAX_CANDIDATES = 64


class Mark(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    item: str
    job: str
    schema: str = "voicedrop/mark/1"


def register(results: Store, key: bytes, job_id: str, item_id: str) -> int:
    """Return the payload of an item, the same on every call. Raises Unavailable."""
    mark = Mark(item=item_id, job=job_id)
    for number in range(MAX_CANDIDATES):
        payload = _candidate(key, mark, number)
        if results.put_once(mark_key(payload), msgspec.json.encode(mark)):
            return payload
        if resolve(results, payload) == mark:
            return payload
    # With a billion payloads in use this happens once in 10^38 items: the store must be faulty.
    raise Unavailable("STORAGE_UNAVAILABLE", "no free watermark payload was found")


def resolve(results: Store, payload: int) -> Mark | None:
    """Return the item that carries a payload, or None if it is not registered."""
    try:
        data = results.get(mark_key(payload), limit=4096).data
        return msgspec.json.decode(data, type=Mark)
    except (Refused, msgspec.DecodeError):
        return None


class Index(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A copy of the registry in one file, for tracing offline with the watermark key."""

    schema: Literal["voicedrop/index/1"] = "voicedrop/index/1"
    bucket: str
    marks: dict[str, Mark]
    """Item by payload, eight hexadecimal digits."""

    def resolve(self, payload: int) -> Mark | None:
        return self.marks.get(f"{payload:08x}")


def read_index(data: bytes) -> Index:
    """Parse the file of an `Index`. Raises Refused SCHEMA_TYPE."""
    try:
        return msgspec.json.decode(data, type=Index)
    except msgspec.DecodeError as exc:
        raise Refused("SCHEMA_TYPE", "The file is not an index of watermark payloads.") from exc


def _candidate(key: bytes, mark: Mark, number: int) -> int:
    # Keyed, so that a payload reveals nothing about its job to others who read it.
    message = b"voicedrop/payload/1\0" + f"{mark.job}\0{mark.item}\0{number}".encode()
    return int.from_bytes(hmac.digest(key, message, hashlib.sha256)[:4], "big")
