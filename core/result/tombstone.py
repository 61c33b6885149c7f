"""The tombstone document, `voicedrop/tombstone/1`: what was erased of a job, when and why.

It is signed, stored beside the result that it is about, and logged like a result, so that a lawful
erasure can be told from a removal. The result stays as it was signed; only files that it names are
deleted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from core.crypto.sealing import Digest
from core.documents import signed
from core.documents.signed import Signature
from core.errors import Refused
from core.result.item_result import Chapter, ItemResult

SCHEMA = "voicedrop/tombstone/1"
LIMIT = 64 << 20
"""Largest tombstone, in bytes."""

Number = Annotated[int, msgspec.Meta(ge=0, le=99_999)]


class Withdrawal(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The withdrawal of consent because of which something was erased."""

    record_sha256: Digest
    """Of the consent record that was withdrawn."""
    id: str = ""
    """The `id` of the record."""
    withdrawn: str = ""
    """When it was withdrawn: RFC 3339, UTC."""


class ErasedFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    key: str
    """In the results bucket."""
    sealed_sha256: Digest
    """The digest of the sealed file, as in the result."""


class Tombstone(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was erased of one job."""

    schema: Literal["voicedrop/tombstone/1"] = "voicedrop/tombstone/1"
    job_id: str
    number: Number
    """From 0; a job has one more tombstone each time something of it is erased."""
    result_sha256: Digest
    """Of the bytes of the job's result.json."""
    items: list[str]
    """Ids of the items, and `chapters/<id>` of the joined files, whose output was erased."""
    files: list[ErasedFile]
    """The sealed files that were deleted: outputs and their subtitles."""
    reason: str
    erased: str
    """When: RFC 3339, UTC."""
    withdrawal: Withdrawal | None = None
    processor: str = ""
    """Version of voicedrop."""
    signature: Signature | None = None

    @property
    def why(self) -> str:
        """The reason, with the withdrawn record if there is one."""
        withdrawn = self.withdrawal
        named = f" (withdrawal of {withdrawn.id or withdrawn.record_sha256})" if withdrawn else ""
        return self.reason + named


def files_of(made: ItemResult | Chapter) -> list[ErasedFile]:
    """Return the sealed files of an item or joined file, as its result states them."""
    if made.output is None:
        return []
    output = ErasedFile(key=made.output.key, sealed_sha256=made.output.sealed_sha256)
    return [
        output,
        *(ErasedFile(key=s.key, sealed_sha256=s.envelope.ct_sha256) for s in made.subtitles),
    ]


def parse_tombstone(
    data: bytes, job_id: str, number: int, keys: Mapping[str, Ed25519PublicKey]
) -> Tombstone:
    """Verify and parse the tombstone that is stored as number `number` of a job.

    Raises Refused SIGNATURE_INVALID, also for a tombstone of another job or number.
    """
    tombstone = signed.read(data, Tombstone, keys)
    if (tombstone.job_id, tombstone.number) != (job_id, number):
        raise Refused("SIGNATURE_INVALID", "It is another tombstone, or that of another job.")
    return tombstone
