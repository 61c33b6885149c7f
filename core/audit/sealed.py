"""Checks 2 to 4 on one sealed object: it exists, is unchanged, and opens to the stated audio."""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass
from typing import BinaryIO

from core.audit.model import ENVELOPE, OBJECT, PLAINTEXT, Outcome, attempt, skipped
from core.audit.sources import Sources
from core.crypto import sealing
from core.crypto.sealing import Envelope
from core.errors import Refused
from core.job import object_record
from core.result.item_result import Output, SubtitleFile


@dataclass(frozen=True, slots=True)
class SealedObject:
    """A sealed object as a genuine result describes it."""

    key: str
    size: int
    sealed_sha256: str
    plain_sha256: str
    envelope: Envelope | None
    owner: tuple[str, str]
    """The job and item that it is sealed for."""


def of_output(output: Output, envelope: Envelope | None, owner: tuple[str, str]) -> SealedObject:
    return SealedObject(
        output.key, output.bytes, output.sealed_sha256, output.plain_sha256, envelope, owner
    )


def of_subtitle(subtitle: SubtitleFile, owner: tuple[str, str]) -> SealedObject:
    e = subtitle.envelope
    return SealedObject(subtitle.key, e.ct_len, e.ct_sha256, e.pt_sha256, e, owner)


def check(stated: SealedObject, sources: Sources, plain: BinaryIO) -> tuple[list[Outcome], bool]:
    """Run checks 2 to 4 and decrypt the object into `plain`, an empty file.

    Returns the outcomes, and whether `plain` holds the complete plaintext.
    """
    with tempfile.TemporaryFile() as body:
        was_fetched = False
        with attempt(OBJECT, stated.key) as checking:
            sources.results.fetch(stated.key, body, limit=object_record.LIMIT)
            was_fetched = True
            body.seek(0)
            digest = hashlib.file_digest(body, "sha256").hexdigest()
            if (body.tell(), digest) != (stated.size, stated.sealed_sha256):
                message = "Its digest is not the one that the result states."
                raise Refused("OBJECT_CHANGED", message)
        outcomes, is_complete = _open(stated, body if was_fetched else None, sources, plain)
    return [checking.outcome, *outcomes], is_complete


def _open(
    stated: SealedObject, body: BinaryIO | None, sources: Sources, plain: BinaryIO
) -> tuple[list[Outcome], bool]:
    wrapping, envelope = sources.keys.wrapping, stated.envelope
    if wrapping is None:
        return [skipped(ENVELOPE, "NO_KEY"), skipped(PLAINTEXT, "NO_KEY")], False
    with attempt(ENVELOPE, stated.key) as opening:
        if envelope is None or (envelope.ctx.job, envelope.ctx.item) != stated.owner:
            raise Refused("SEAL_INVALID", "The envelope belongs to another item.")
        sealing.unwrap_data_key(envelope, wrapping)
    if opening.outcome.verdict != "pass" or body is None:
        return [opening.outcome, skipped(PLAINTEXT, "NOT_OPENED")], False
    with attempt(PLAINTEXT, stated.key) as reading:
        body.seek(0)
        sealing.open_stream(body, plain, envelope, wrapping)
        if envelope.pt_sha256 != stated.plain_sha256:
            raise Refused("SEAL_INVALID", "The plaintext is not the one that the result states.")
    return [opening.outcome, reading.outcome], reading.outcome.verdict == "pass"
