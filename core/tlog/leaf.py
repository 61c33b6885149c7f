"""The entries of the log. Each names one signed document by its digest.

A document has one leaf, the first: a later leaf with another digest is never a replacement, it
shows that the document was changed after it was logged.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import Annotated, Literal

import msgspec

from core.consent.withdrawal import WithdrawalNote
from core.documents import canonical
from core.errors import Refused
from core.result.tombstone import Number
from core.storage.object_keys import (
    result_key,
    tombstone_key,
    tombstone_name,
    withdrawal_key,
    withdrawal_name,
)

_TOMBSTONE = re.compile("([0-9a-f]{32})\\.([0-9]{5})")
_WITHDRAWAL = re.compile("([0-9a-f]{64})\\.([0-9a-f]{64})(?:\\.([0-9]{16,18}))?")
LEAF_LIMIT = 4096
"""Largest leaf, in bytes."""

Job = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}\Z")]
Digest = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]


class Leaf(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="schema",
    tag="voicedrop/leaf/1",
):
    """The log entry of one finished job. Its result names everything else by digest."""

    job: Job
    result_sha256: Digest
    """Digest of the bytes of result.json."""

    def dump(self) -> bytes:
        return canonical.dump(self)

    @property
    def name(self) -> str:
        """The name of the document; it has one leaf in the log."""
        return self.job

    @property
    def document_key(self) -> str:
        return result_key(self.job)

    @property
    def digest(self) -> str:
        return self.result_sha256


class TombstoneLeaf(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="schema",
    tag="voicedrop/leaf/2",
):
    """The log entry of one tombstone."""

    job: Job
    kind: Literal["tombstone"] = "tombstone"
    number: Number
    sha256: Digest
    """Digest of the bytes of the tombstone."""

    def dump(self) -> bytes:
        return canonical.dump(self)

    @property
    def name(self) -> str:
        return tombstone_name(self.job, self.number)

    @property
    def document_key(self) -> str:
        return tombstone_key(self.job, self.number)

    @property
    def digest(self) -> str:
        return self.sha256


class WithdrawalLeaf(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
    tag_field="schema",
    tag="voicedrop/leaf/3",
):
    """The log entry of one note that consent was withdrawn."""

    recording: Digest
    record: Digest
    again: Annotated[int, msgspec.Meta(ge=0, lt=10**18)] = 0
    """As in the note: 0 for the first withdrawal of the record."""
    sha256: Digest
    """Digest of the bytes of the note."""

    @staticmethod
    def of(note: WithdrawalNote, data: bytes) -> WithdrawalLeaf:
        """Return the leaf of a note. `data`: its bytes."""
        digest = hashlib.sha256(data).hexdigest()
        return WithdrawalLeaf(
            recording=note.recording, record=note.record, again=note.again, sha256=digest
        )

    def dump(self) -> bytes:
        return canonical.dump(self)

    @property
    def name(self) -> str:
        return withdrawal_name(self.recording, self.record, self.again)

    @property
    def document_key(self) -> str:
        return withdrawal_key(self.recording, self.record, self.again)

    @property
    def digest(self) -> str:
        return self.sha256


AnyLeaf = Leaf | TombstoneLeaf | WithdrawalLeaf

_DECODER: msgspec.json.Decoder[AnyLeaf] = msgspec.json.Decoder(AnyLeaf)


def parse_leaf(entry: bytes) -> AnyLeaf | None:
    """Return None for what is not a leaf. It names no document, so it vouches for nothing; an
    earlier version logged such entries if somebody planted them in the queue."""
    try:
        return _DECODER.decode(entry)
    except (msgspec.DecodeError, RecursionError):
        return None


def document_key_of(name: str) -> str:
    """Return the key of the document that a leaf of this name is about. For any other name, it is
    that of a result which cannot exist."""
    if match := _WITHDRAWAL.fullmatch(name):
        return withdrawal_key(match[1], match[2], int(match[3] or 0))
    if match := _TOMBSTONE.fullmatch(name):
        return tombstone_key(match[1], int(match[2]))
    return result_key(name.partition(".")[0])


class LeafIndex(dict[str, tuple[int, str]]):
    """Name of a document -> index of its first leaf, and the digest in it."""

    def __init__(self, entries: Iterable[bytes] = ()) -> None:
        super().__init__()
        self.size = 0
        """Number of entries that were added."""
        self.conflicts: list[str] = []
        """Later leaves with another digest, as sentences."""
        for entry in entries:
            self.add(entry)

    def add(self, entry: bytes) -> None:
        """Add the next entry of the log."""
        leaf, position = parse_leaf(entry), self.size
        self.size += 1
        if leaf is None:
            return
        _, digest = self.setdefault(leaf.name, (position, leaf.digest))
        if digest != leaf.digest:
            self.conflicts.append(f"Entry {position} is a second, different leaf of {leaf.name}.")

    def refuse_conflicts(self) -> None:
        """Raises Refused LOG_INVALID if a document has two different leaves."""
        if self.conflicts:
            more = f" There are {len(self.conflicts) - 1} more." if self.conflicts[1:] else ""
            raise Refused("LOG_INVALID", self.conflicts[0] + more)
