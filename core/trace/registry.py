"""What a watermark payload means: 32 bits -> job and item, as objects in the results bucket.

    marks/<payload: first two hex digits>/<payload: eight hex digits>.json
    {"item": ..., "job": ..., "schema": "voicedrop/mark/1"}

A number is taken by writing its object once, so no two items can share one; an item that is
repeated finds its own number again, because candidates come in an order fixed by job and item.
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
    """The payload of this item; the same on every call."""
    mark = Mark(item=item_id, job=job_id)
    for number in range(MAX_CANDIDATES):
        payload = _candidate(key, mark, number)
        if results.put_once(mark_key(payload), msgspec.json.encode(mark)):
            return payload
        if resolve(results, payload) == mark:
            return payload
    # With a billion numbers taken this happens once in 10^38 items: the store lied to us.
    raise Unavailable("STORAGE_UNAVAILABLE", "no free watermark number was found")


def resolve(results: Store, payload: int) -> Mark | None:
    """The item that carries this payload, if the bucket knows it."""
    try:
        data = results.get(mark_key(payload), limit=4096).data
        return msgspec.json.decode(data, type=Mark)
    except (Refused, msgspec.DecodeError):
        return None


class Index(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A registry to carry along: with it and the watermark key, clips are traced offline."""

    schema: Literal["voicedrop/index/1"] = "voicedrop/index/1"
    bucket: str
    marks: dict[str, Mark]
    """Payload, eight hexadecimal digits -> whose it is."""

    def resolve(self, payload: int) -> Mark | None:
        return self.marks.get(f"{payload:08x}")


def read_index(data: bytes) -> Index:
    """Raises Refused SCHEMA_TYPE."""
    try:
        return msgspec.json.decode(data, type=Index)
    except msgspec.DecodeError as exc:
        raise Refused("SCHEMA_TYPE", "Not an index of marks.") from exc


def _candidate(key: bytes, mark: Mark, number: int) -> int:
    # Keyed, so that payloads tell nothing about jobs to those who read them elsewhere.
    message = b"voicedrop/payload/1\0" + f"{mark.job}\0{mark.item}\0{number}".encode()
    return int.from_bytes(hmac.digest(key, message, hashlib.sha256)[:4], "big")
