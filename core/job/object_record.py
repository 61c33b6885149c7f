"""The signed record in the metadata of every sealed object.

With it, a worker that takes over a job adopts the objects that are stored already instead of making
them again, and refuses objects that voicedrop did not write.
"""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass
from typing import Generic, TypeVar

import msgspec

from core.crypto import sealing
from core.crypto.sealing import Envelope
from core.documents import base64url, signed
from core.errors import Refused, raising
from core.job.runtime import Runtime
from core.storage.port import Body, Info, vanished

RECORD = "vc-record"
SYNTHETIC = "vc-aigc"
"""Marks the object as synthetic, because the label in its audio is sealed."""
LIMIT = (4 << 30) + (64 << 20)
"""Largest sealed object, in bytes: the largest WAV file, and what sealing adds."""

T = TypeVar("T", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectRecord(Generic[T]):
    key: str
    """Key of the object."""
    fingerprint: str
    """Equal for objects that were made from the same inputs in the same way."""
    entry: T
    """Its entry in the result, without the envelope and what the manifest contains."""


def put_or_adopt(
    body: Body,
    record: ObjectRecord[T],
    envelope: Envelope,
    runtime: Runtime,
    *,
    labelled: bool = False,
) -> tuple[ObjectRecord[T], Envelope]:
    """Store a sealed body with its record, or adopt the object if another worker stored it first.

    Raises what `adopt` raises.
    """
    entry = msgspec.to_builtins(record.entry)
    fields = {"key": record.key, "fingerprint": record.fingerprint, "made": entry}
    metadata = {RECORD: base64url.encode(signed.sign(fields, runtime.keys.signing))}
    metadata |= sealing.envelope_metadata(envelope) | ({SYNTHETIC: "1"} if labelled else {})
    if runtime.results.put_once(record.key, body, metadata=metadata):
        return record, envelope
    stored = adopt(record.key, type(record.entry), runtime)
    if stored is None:
        raise vanished(record.key)
    return stored


def adopt(key: str, type_: type[T], runtime: Runtime) -> tuple[ObjectRecord[T], Envelope] | None:
    """Return the record of the object at `key`, or None if there is no object.

    The object is read and compared with its record. Raises Refused OUTPUT_EXISTS if it differs, or
    if the record is not signed by us.
    """
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
        message = f"{key} exists, but voicedrop did not write it: {exc.message}"
        raise Refused("OUTPUT_EXISTS", message) from exc
    if record.key != key or digest.hexdigest() != envelope.ct_sha256:
        raise Refused("OUTPUT_EXISTS", f"{key} differs from its record.")
    return record, envelope


def _read(info: Info, type_: type[T], runtime: Runtime) -> tuple[ObjectRecord[T], Envelope]:
    with raising(Refused("SIGNATURE_INVALID", "The record is not base64url."), on=ValueError):
        data = base64url.decode(info.metadata.get(RECORD, ""))
    body = signed.verify(data, runtime.keys.verifying)
    try:
        entry = msgspec.convert(body["made"], type_)
        fingerprint = str(body["fingerprint"])
        record = ObjectRecord(key=str(body["key"]), fingerprint=fingerprint, entry=entry)
    except (KeyError, msgspec.ValidationError) as exc:
        raise Refused("SIGNATURE_INVALID", "The record is of another kind.") from exc
    return record, sealing.envelope_from_metadata(info.metadata)
