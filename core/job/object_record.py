"""What a stored file says of itself: a signed record in the object's metadata.

A worker that takes over a job adopts what is finished instead of making it again, and cannot be
made to adopt a stranger's.
"""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass
from typing import Generic, TypeVar

import msgspec

from core.crypto import sealing
from core.crypto.sealing import Envelope
from core.documents import base64url
from core.documents import signed as sign
from core.errors import Refused, raising
from core.job.runtime import Runtime
from core.storage.port import Body, Info, vanished

RECORD = "vc-record"
SYNTHETIC = "vc-aigc"
"""Says of the sealed object what its label says inside, where nobody can look."""
LIMIT = (4 << 30) + (64 << 20)
"""Bytes of a sealed object: the largest WAV file, and what sealing adds."""

T = TypeVar("T", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectRecord(Generic[T]):
    key: str
    """Where the object belongs."""
    fingerprint: str
    """Two objects with the same fingerprint were made from the same things in the same way."""
    made: T
    """What the result says of it, without what stands elsewhere."""


def put_or_adopt(
    body: Body,
    record: ObjectRecord[T],
    envelope: Envelope,
    runtime: Runtime,
    *,
    labelled: bool = False,
) -> tuple[ObjectRecord[T], Envelope]:
    """Store a sealed body with its record; what is stored there, if another worker was first.

    Raises what `adopt` raises.
    """
    signed = sign.sign(
        {
            "key": record.key,
            "fingerprint": record.fingerprint,
            "made": msgspec.to_builtins(record.made),
        },
        runtime.keys.signing,
    )
    metadata = {RECORD: base64url.encode(signed)}
    metadata |= sealing.envelope_metadata(envelope) | ({SYNTHETIC: "1"} if labelled else {})
    if runtime.results.put_once(record.key, body, metadata=metadata):
        return record, envelope
    found = adopt(record.key, type(record.made), runtime)
    if found is None:
        raise vanished(record.key)
    return found


def adopt(key: str, type_: type[T], runtime: Runtime) -> tuple[ObjectRecord[T], Envelope] | None:
    """What a worker of ours has stored there, whole. Refused OUTPUT_EXISTS if it is not ours."""
    if runtime.results.head(key) is None:
        return None
    with tempfile.TemporaryFile() as file:
        info = runtime.results.fetch(key, file, limit=LIMIT)
        file.seek(0)
        digest = hashlib.sha256()
        while part := file.read(1 << 20):
            digest.update(part)
    try:
        record, envelope = _read(info, type_, runtime)
    except Refused as exc:
        raise Refused("OUTPUT_EXISTS", f"{key} was not written by us: {exc.message}") from exc
    if record.key != key or digest.hexdigest() != envelope.ct_sha256:
        raise Refused("OUTPUT_EXISTS", f"{key} is not the object that its record describes.")
    return record, envelope


def _read(info: Info, type_: type[T], runtime: Runtime) -> tuple[ObjectRecord[T], Envelope]:
    with raising(Refused("SIGNATURE_INVALID", "Its record is not base64url."), on=ValueError):
        signed = base64url.decode(info.metadata.get(RECORD, ""))
    body = sign.verify(signed, runtime.keys.verifying)
    try:
        made = msgspec.convert(body["made"], type_)
        record = ObjectRecord(key=str(body["key"]), fingerprint=str(body["fingerprint"]), made=made)
    except (KeyError, msgspec.ValidationError) as exc:
        raise Refused("SIGNATURE_INVALID", "Its record is of another kind.") from exc
    return record, sealing.envelope_from_metadata(info.metadata)
