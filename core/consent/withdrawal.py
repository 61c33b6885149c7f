"""Withdrawn consent, kept as signed notes for good.

    results  withdrawn/<recording>/<record>.json          both are SHA-256, 64 hexadecimal digits
             withdrawn/<recording>/<record>.tlog-proof    written by the sequencer

A note is written for every recording that the withdrawn record covers. From then on the recording
may not be used under that record, nor under any other that was valid already when consent was
withdrawn, whatever the keys of the objects; a record that is valid from a later date admits it
again. The notes are in the results bucket because they must outlast the record, the object that
withdrew it and the control bucket, and because whoever uses the results should see them. They are
logged, so that none can be removed unnoticed (core/tlog).

Source: withdrawal must be possible and as easy as consent (PIPL, Art. 15; GDPR, Art. 7(3)).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Literal

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from core.consent.records import Digest, Timestamp, parse_consent
from core.crypto.keys import Keyring
from core.documents import signed
from core.documents.signed import Signature
from core.errors import Refused
from core.storage.object_keys import withdrawal_key, withdrawals_prefix
from core.storage.port import Store

_MAX_BYTES = 4096


class WithdrawalNote(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Consent to the use of one recording, given by one record, was withdrawn."""

    schema: Literal["voicedrop/withdrawal/1"] = "voicedrop/withdrawal/1"
    recording: Digest
    record: Digest
    """SHA-256 of the record's bytes."""
    at: Timestamp
    signature: Signature | None = None

    @property
    def key(self) -> str:
        return withdrawal_key(self.recording, self.record)


def withdraw(record: bytes, at: float, results: Store, keys: Keyring) -> list[WithdrawalNote]:
    """Write a note for every recording that the record covers; return the notes that are new.

    A note that exists is kept. `at`: Unix seconds. Raises Refused CONSENT_INVALID.
    """
    notes = [
        WithdrawalNote(
            recording=recording,
            record=hashlib.sha256(record).hexdigest(),
            at=datetime.fromtimestamp(at, UTC),
        )
        for recording in dict.fromkeys(parse_consent(record).ref_audio_sha256)
    ]
    return [note for note in notes if _put(note, results, keys)]


def _put(note: WithdrawalNote, results: Store, keys: Keyring) -> bool:
    data = signed.sign(note, keys.signing)
    if results.put_once(note.key, data):
        return True
    if _read(results, note.key, keys.verifying):
        return False
    results.put(note.key, data)  # what somebody else stored there must not stand for it
    return True


def find_withdrawals(
    recording: str, results: Store, keys: Mapping[str, Ed25519PublicKey]
) -> list[WithdrawalNote]:
    """Return the notes about a recording. One that is not signed by us for this key is ignored."""
    listed = (info.key for info in results.list(withdrawals_prefix(recording)))
    found = (_read(results, key, keys) for key in listed if key.endswith(".json"))
    return [note for note in found if note]


def is_withdrawn(record: bytes | None, notes: Sequence[WithdrawalNote]) -> bool:
    """Return whether the recording of these notes is withdrawn for somebody who cites `record`."""
    if record is None or hashlib.sha256(record).hexdigest() in {note.record for note in notes}:
        return bool(notes)
    return bool(notes) and not is_valid_later(record, max(note.at for note in notes))


def is_valid_later(record: bytes, at: datetime) -> bool:
    """Return whether the record is valid from a later date only. What is no record never is."""
    try:
        return parse_consent(record).valid_from > at
    except Refused:
        return False


def _read(results: Store, key: str, keys: Mapping[str, Ed25519PublicKey]) -> WithdrawalNote | None:
    try:
        data = results.get(key, limit=_MAX_BYTES).data
        note = signed.read(data, WithdrawalNote, keys)
    except Refused:
        return None
    return note if note.key == key else None
