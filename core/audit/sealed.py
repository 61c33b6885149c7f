"""Checks 2 to 4 of one sealed object: there, unchanged, and what the result says when opened."""

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
from core.result.item_result import Output, Subtitled


@dataclass(frozen=True, slots=True)
class SealedObject:
    """A sealed object, as a genuine result describes it."""

    key: str
    size: int
    sealed_sha256: str
    plain_sha256: str
    envelope: Envelope | None
    owner: tuple[str, str]
    """Job and item that it is sealed for."""


def of_output(made: Output, envelope: Envelope | None, owner: tuple[str, str]) -> SealedObject:
    return SealedObject(
        made.key, made.bytes, made.sealed_sha256, made.plain_sha256, envelope, owner
    )


def of_subtitle(made: Subtitled, owner: tuple[str, str]) -> SealedObject:
    sealed = made.envelope
    return SealedObject(made.key, sealed.ct_len, sealed.ct_sha256, sealed.pt_sha256, sealed, owner)


def check(stated: SealedObject, sources: Sources, plain: BinaryIO) -> tuple[list[Outcome], bool]:
    """The outcomes, and whether all of the plaintext is now in `plain`, an empty file."""
    with tempfile.TemporaryFile() as body:
        there = False
        with attempt(OBJECT, stated.key) as stored:
            sources.results.fetch(stated.key, body, limit=object_record.LIMIT)
            there = True
            body.seek(0)
            digest = hashlib.file_digest(body, "sha256").hexdigest()
            if (body.tell(), digest) != (stated.size, stated.sealed_sha256):
                message = "Its digest is not the one that the result states."
                raise Refused("OBJECT_CHANGED", message)
        opened, whole = _open(stated, body if there else None, sources, plain)
    return [stored.outcome, *opened], whole


def _open(
    stated: SealedObject, body: BinaryIO | None, sources: Sources, plain: BinaryIO
) -> tuple[list[Outcome], bool]:
    wrapping, envelope = sources.keys.wrapping, stated.envelope
    if wrapping is None:
        return [skipped(ENVELOPE, "NO_KEY"), skipped(PLAINTEXT, "NO_KEY")], False
    with attempt(ENVELOPE, stated.key) as opening:
        if envelope is None or (envelope.ctx.job, envelope.ctx.item) != stated.owner:
            raise Refused("SEAL_INVALID", "The envelope is of another item.")
        sealing.data_key(envelope, wrapping)
    if opening.outcome.verdict != "pass" or body is None:
        return [opening.outcome, skipped(PLAINTEXT, "NOT_OPENED")], False
    with attempt(PLAINTEXT, stated.key) as reading:
        body.seek(0)
        sealing.open_stream(body, plain, envelope, wrapping)
        if envelope.pt_sha256 != stated.plain_sha256:
            raise Refused("SEAL_INVALID", "The plaintext is not the one that the result states.")
    return [opening.outcome, reading.outcome], reading.outcome.verdict == "pass"
