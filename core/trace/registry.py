"""The registry of watermark payloads: 32 bits -> job and item, as objects in the results bucket.

    marks/<payload: first two hex digits>/<payload: eight hex digits>.json
    {"item": ..., "job": ..., "payload": ..., "schema": "voicedrop/mark/2", "signature": {...}}

A payload is allocated by a conditional write of its object, so that two items cannot share one.
Candidates are derived from job and item with the watermark key, so that a repeated item gets its
payload again, and so that somebody without the key cannot give a payload to another item: a mark
counts if we signed it for its payload, or if the payload follows from its job and item. The second
is how marks of version 0.1.0 (`voicedrop/mark/1`, unsigned) are verified.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from core.crypto.keys import Keyring
from core.documents import signed
from core.documents.signed import Signature
from core.errors import Refused, Unavailable
from core.storage.object_keys import mark_key
from core.storage.port import Store

MAX_CANDIDATES = 64
_MAX_BYTES = 4096


class Mark(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The item that carries a payload."""

    item: str
    job: str
    schema: str = "voicedrop/mark/1"


class SignedMark(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The form in which a mark is stored."""

    schema: Literal["voicedrop/mark/2"] = "voicedrop/mark/2"
    item: str
    job: str
    payload: str
    """Eight hexadecimal digits."""
    signature: Signature | None = None


@dataclass(frozen=True, slots=True)
class StoredMark:
    mark: Mark
    is_signed: bool
    """True if we signed it for this payload."""
    is_altered: bool
    """True if it is of a version that signs marks, but not signed by us for this payload."""


class _Claim(msgspec.Struct, frozen=True, kw_only=True):
    item: str
    job: str
    schema: str = ""


def register(results: Store, keys: Keyring, job_id: str, item_id: str) -> int:
    """Return the payload of an item, the same on every call. Raises Unavailable."""
    mark = Mark(item=item_id, job=job_id)
    key = next(iter(keys.watermark.values()))
    for number in range(MAX_CANDIDATES):
        payload = _candidate(key, mark, number)
        written = SignedMark(item=item_id, job=job_id, payload=f"{payload:08x}")
        if results.put_once(mark_key(payload), signed.sign(written, keys.signing)):
            return payload
        if resolve(results, payload, keys.verifying, keys.watermark) == mark:
            return payload
    # With a billion payloads in use this happens once in 10^38 items: the store must be faulty.
    raise Unavailable("STORAGE_UNAVAILABLE", "no free watermark payload was found")


def resolve(
    results: Store,
    payload: int,
    verifying: Mapping[str, Ed25519PublicKey],
    watermark: Mapping[str, bytes],
) -> Mark | None:
    """Return the item that carries a payload, or None if it is not registered by us. Either the
    public keys or the watermark keys suffice for marks of this version."""
    stored = read(results, payload, verifying)
    if stored and (stored.is_signed or is_derived(stored.mark, payload, watermark.values())):
        return stored.mark
    return None


def read(
    results: Store, payload: int, verifying: Mapping[str, Ed25519PublicKey]
) -> StoredMark | None:
    """Return what is registered for a payload, by us or by somebody else; None if nothing is."""
    try:
        data = results.get(mark_key(payload), limit=_MAX_BYTES).data
        claim = msgspec.json.decode(data, type=_Claim)
    except (Refused, msgspec.DecodeError, RecursionError):
        return None
    is_signed = False
    with suppress(Refused):
        is_signed = signed.read(data, SignedMark, verifying).payload == f"{payload:08x}"
    is_altered = not is_signed and claim.schema != Mark(item="", job="").schema
    return StoredMark(Mark(item=claim.item, job=claim.job), is_signed, is_altered)


def is_derived(mark: Mark, payload: int, keys: Iterable[bytes]) -> bool:
    """Return whether a payload is one that `register` would try for this job and item."""
    numbers = range(MAX_CANDIDATES)
    return any(_candidate(key, mark, number) == payload for key in keys for number in numbers)


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
    except (msgspec.DecodeError, RecursionError) as exc:
        raise Refused("SCHEMA_TYPE", "The file is not an index of watermark payloads.") from exc


def _candidate(key: bytes, mark: Mark, number: int) -> int:
    # Keyed, so that a payload reveals nothing about its job to others who read it.
    message = b"voicedrop/payload/1\0" + f"{mark.job}\0{mark.item}\0{number}".encode()
    return int.from_bytes(hmac.digest(key, message, hashlib.sha256)[:4], "big")
