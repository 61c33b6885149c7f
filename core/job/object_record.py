"""The signed record in the metadata of every sealed object.

With it, a worker that takes over a job adopts the objects that are stored already instead of making
them again, and refuses objects that voicedrop did not write.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Generic, Literal, TypeVar, cast

import msgspec

from core.crypto import sealing
from core.crypto.sealing import Envelope
from core.documents import base64url, canonical, signed
from core.errors import Refused, raising
from core.job.runtime import Runtime
from core.result import sealed_file
from core.result.item_result import Chapter, ItemResult, SubtitleFile
from core.result.sealed_file import SealedFile
from core.storage.object_keys import parse_output_key
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


class SignedRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The form in which a record is stored."""

    schema: Literal["voicedrop/record/1"] = "voicedrop/record/1"
    key: str
    fingerprint: str
    made: dict[str, Any]
    """The entry. It states the digest of the object."""
    envelope_sha256: str = ""
    """Of the envelope in the metadata, in canonical form. Version 0.1.0 wrote neither this nor the
    schema."""
    recordings: list[str] = []
    """SHA-256 of the recordings whose voices speak in the object, for whoever finds it without a
    result."""


def put_or_adopt(
    body: Body,
    record: ObjectRecord[T],
    envelope: Envelope,
    runtime: Runtime,
    *,
    recordings: Collection[str] = (),
    labelled: bool = False,
) -> tuple[ObjectRecord[T], Envelope]:
    """Store a sealed body with its record, or adopt the object if another worker stored it first.

    Raises what `adopt` raises.
    """
    written = SignedRecord(
        key=record.key,
        fingerprint=record.fingerprint,
        made=msgspec.to_builtins(record.entry),
        envelope_sha256=_digest_of(envelope),
        recordings=sorted(recordings),
    )
    metadata = {RECORD: base64url.encode(signed.sign(written, runtime.keys.signing))}
    metadata |= sealing.envelope_metadata(envelope) | ({SYNTHETIC: "1"} if labelled else {})
    if runtime.results.put_once(record.key, body, metadata=metadata):
        return record, envelope
    stored = adopt(record.key, type(record.entry), runtime)
    if stored is None:
        raise vanished(record.key)
    return stored


def adopt(key: str, type_: type[T], runtime: Runtime) -> tuple[ObjectRecord[T], Envelope] | None:
    """Return the record of the object at `key`, or None if there is no object.

    The object and its envelope are compared with what the record states. Raises Refused
    OUTPUT_EXISTS if they differ, or if the record is not signed by us for this key.
    """
    if runtime.results.head(key) is None:
        return None
    with tempfile.TemporaryFile() as file:
        info = runtime.results.fetch(key, file, limit=LIMIT)
        try:
            return _read(key, info, cast(BinaryIO, file), type_, runtime)
        except Refused as exc:
            message = f"{key} exists, but voicedrop did not write it: {exc.message}"
            raise Refused("OUTPUT_EXISTS", message) from exc


def recordings_of(info: Info, runtime: Runtime) -> list[str]:
    """Return the recordings whose voices speak in an object; none if we did not write it."""
    with suppress(Refused):
        return _verify(info, runtime).recordings
    return []


def _read(
    key: str, info: Info, body: BinaryIO, type_: type[T], runtime: Runtime
) -> tuple[ObjectRecord[T], Envelope]:
    record = _verify(info, runtime)
    with raising(_not_a_record(), on=msgspec.ValidationError):
        entry = msgspec.convert(record.made, type_)
    envelope = sealing.envelope_from_metadata(info.metadata)
    stated = _sealed_file(entry, envelope, parse_output_key(key))
    stated.checked_envelope()
    body.seek(0)
    digest = hashlib.file_digest(cast(Any, body), "sha256").hexdigest()
    if key != record.key or key != stated.key or digest != stated.sealed_sha256:
        raise Refused("OBJECT_CHANGED", "It differs from its record.")
    if not record.envelope_sha256:
        # Nobody signed this envelope, but only the right one opens the object to what was signed.
        body.seek(0)
        with Path(os.devnull).open("wb") as nowhere:
            sealing.open_stream(body, nowhere, envelope, runtime.keys.wrapping)
    elif record.envelope_sha256 != _digest_of(envelope):
        raise Refused("SEAL_INVALID", "The envelope differs from its record.")
    return ObjectRecord(key=key, fingerprint=record.fingerprint, entry=entry), envelope


def _verify(info: Info, runtime: Runtime) -> SignedRecord:
    with raising(Refused("SIGNATURE_INVALID", "The record is not base64url."), on=ValueError):
        data = base64url.decode(info.metadata.get(RECORD, ""))
    with raising(_not_a_record(), on=msgspec.ValidationError):
        return msgspec.convert(signed.verify(data, runtime.keys.verifying), SignedRecord)


def _sealed_file(entry: msgspec.Struct, envelope: Envelope, owner: tuple[str, str]) -> SealedFile:
    if isinstance(entry, SubtitleFile):
        return sealed_file.of_subtitle(entry, owner)
    if isinstance(entry, ItemResult | Chapter) and entry.output:
        return sealed_file.of_output(entry.output, envelope, owner)
    raise _not_a_record()


def _digest_of(envelope: Envelope) -> str:
    return hashlib.sha256(canonical.dump(envelope)).hexdigest()


def _not_a_record() -> Refused:
    return Refused("SIGNATURE_INVALID", "The record is of another kind.")
