"""Checks 2 to 4 on one sealed object: it exists, is unchanged, and opens to the stated audio."""

from __future__ import annotations

import hashlib
import tempfile
from typing import BinaryIO

from core.audit.model import ENVELOPE, OBJECT, PLAINTEXT, Outcome, attempt, skipped
from core.audit.sources import Sources
from core.crypto import sealing
from core.errors import Refused
from core.job import object_record
from core.result.sealed_file import SealedFile


def check(stated: SealedFile, sources: Sources, plain: BinaryIO) -> tuple[list[Outcome], bool]:
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
    stated: SealedFile, body: BinaryIO | None, sources: Sources, plain: BinaryIO
) -> tuple[list[Outcome], bool]:
    wrapping = sources.keys.wrapping
    with attempt(ENVELOPE, stated.key) as opening:
        envelope = stated.checked_envelope()
        if wrapping is None:
            opening.outcome = skipped(ENVELOPE, "NO_KEY")
        else:
            sealing.unwrap_data_key(envelope, wrapping)
    if opening.outcome.verdict != "pass" or body is None or wrapping is None:
        code = "NO_KEY" if wrapping is None else "NOT_OPENED"
        return [opening.outcome, skipped(PLAINTEXT, code)], False
    with attempt(PLAINTEXT, stated.key) as reading:
        body.seek(0)
        sealing.open_stream(body, plain, envelope, wrapping)
    return [opening.outcome, reading.outcome], reading.outcome.verdict == "pass"
