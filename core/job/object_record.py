"""What a stored file says of itself: a signed record in the object's metadata.

A worker that takes over a job adopts what is finished instead of making it again, and cannot be
made to adopt a stranger's.
"""

from __future__ import annotations

import base64
import hashlib
import tempfile
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec

from core.crypto import sealing
from core.crypto.sealing import Envelope
from core.documents import signed as sign
from core.errors import Refused
from core.job.runtime import Studio
from core.storage.port import Body, Info

RECORD = "vc-record"
SYNTHETIC = "vc-aigc"
"""Says of the sealed object what its label says inside, where nobody can look."""
LIMIT = (4 << 30) + (64 << 20)
"""Bytes of a sealed object: the largest WAV file, and what sealing adds."""

T = TypeVar("T", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp(Generic[T]):
    key: str
    """Where the object belongs."""
    fingerprint: str
    """Two objects with the same fingerprint were made from the same things in the same way."""
    made: T
    """What the result says of it, without what stands elsewhere."""


def put_once(
    body: Body, stamp: Stamp[Any], envelope: Envelope, studio: Studio, *, labelled: bool = False
) -> bool:
    """Store a sealed body with its stamp, unless something lies there already."""
    signed = sign.sign(
        {
            "key": stamp.key,
            "fingerprint": stamp.fingerprint,
            "made": msgspec.to_builtins(stamp.made),
        },
        studio.keys.signing,
    )
    metadata = {RECORD: base64.urlsafe_b64encode(signed).decode().rstrip("=")}
    metadata |= sealing.metadata(envelope) | ({SYNTHETIC: "1"} if labelled else {})
    return studio.results.put_once(stamp.key, body, metadata=metadata)


def adopt(key: str, type_: type[T], studio: Studio) -> tuple[Stamp[T], Envelope] | None:
    """What a worker of ours has stored there, whole. Refused OUTPUT_EXISTS if it is not ours."""
    if studio.results.head(key) is None:
        return None
    with tempfile.TemporaryFile() as file:
        info = studio.results.fetch(key, file, limit=LIMIT)
        file.seek(0)
        digest = hashlib.sha256()
        while part := file.read(1 << 20):
            digest.update(part)
    try:
        stamp, envelope = _read(info, type_, studio)
    except Refused as exc:
        raise Refused("OUTPUT_EXISTS", f"{key} was not written by us: {exc.message}") from exc
    if stamp.key != key or digest.hexdigest() != envelope.ct_sha256:
        raise Refused("OUTPUT_EXISTS", f"{key} is not the object that its record describes.")
    return stamp, envelope


def _read(info: Info, type_: type[T], studio: Studio) -> tuple[Stamp[T], Envelope]:
    text = info.metadata.get(RECORD, "")
    signed = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    body = sign.verify(signed, studio.keys.verifying)
    try:
        made = msgspec.convert(body["made"], type_)
        stamp = Stamp(key=str(body["key"]), fingerprint=str(body["fingerprint"]), made=made)
    except (KeyError, msgspec.ValidationError) as exc:
        raise Refused("SIGNATURE_INVALID", "Its record is of another kind.") from exc
    return stamp, sealing.from_metadata(info.metadata)
