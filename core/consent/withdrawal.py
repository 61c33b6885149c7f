"""Withdrawn consent, kept as signed notes for good.

    results  withdrawn/<recording>/<record>.json          both are SHA-256, 64 hexadecimal digits
             withdrawn/<recording>/<record>.<time>.json   the same record, withdrawn again later
             withdrawn/<recording>/<...>.tlog-proof       written by the sequencer

A note is written for every recording that the withdrawn record covers. From then on the recording
may not be used under any record that was valid already when consent was withdrawn, whatever the
keys of the objects; a record that is valid from a later date admits it again. A record that is
withdrawn before it begins must not begin in another form, so no record that begins at the same
moment counts either. Everything between the two is left to new consent: a withdrawn record of the
year 9999 blocks nobody.

The notes are in the results bucket because they must outlast the record, the object that
withdrew it and the control bucket, and because whoever uses the results should see them. They are
logged, so that none can be removed unnoticed (core/tlog).

Source: withdrawal must be possible and as easy as consent (PIPL, Art. 15; GDPR, Art. 7(3)).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
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
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class WithdrawalNote(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Consent to the use of one recording, given by one record, was withdrawn."""

    schema: Literal["voicedrop/withdrawal/1"] = "voicedrop/withdrawal/1"
    recording: Digest
    record: Digest
    """SHA-256 of the record's bytes; of its key in the inbox if it was replaced or deleted before
    the withdrawal was noticed."""
    at: Timestamp
    valid_from: Timestamp | None = None
    """When the withdrawn record begins; null if that is not known."""
    again: int = 0
    """0 for the first withdrawal of the record. Of a later one, the time `at` in microseconds since
    1970, which is part of the key."""
    signature: Signature | None = None

    @property
    def key(self) -> str:
        return withdrawal_key(self.recording, self.record, self.again)


def put_notes(
    recordings: Iterable[str],
    record: str,
    at: float,
    results: Store,
    keys: Keyring,
    *,
    valid_from: datetime | None = None,
) -> list[WithdrawalNote]:
    """Write a note for each recording of a withdrawn record; return the notes that are new.

    `record`: see `WithdrawalNote`. `at`: Unix seconds. A withdrawal that is noted is not noted
    twice; a later one of the same record has a note of its own, because another record may have
    admitted the voice in between.
    """
    withdrawn = datetime.fromtimestamp(at, UTC)
    first = (
        WithdrawalNote(recording=recording, record=record, at=withdrawn, valid_from=valid_from)
        for recording in dict.fromkeys(recordings)
    )
    return [note for one in first if (note := _put(one, results, keys))]


def _put(note: WithdrawalNote, results: Store, keys: Keyring) -> WithdrawalNote | None:
    """Return the note if this withdrawal was not noted yet."""
    stored = _put_or_read(note, results, keys)
    return note if stored is None else _put_again(note, stored, results, keys)


def _put_again(
    note: WithdrawalNote, stored: WithdrawalNote, results: Store, keys: Keyring
) -> WithdrawalNote | None:
    """Note a later withdrawal of a record whose first withdrawal is `stored`."""
    if stored.at >= note.at:
        return None
    microseconds = (note.at - _EPOCH) // timedelta(microseconds=1)
    again = msgspec.structs.replace(note, again=microseconds)
    return again if _put_or_read(again, results, keys) is None else None


def _put_or_read(note: WithdrawalNote, results: Store, keys: Keyring) -> WithdrawalNote | None:
    """Store a note; return the one that is stored under its key already."""
    data = signed.sign(note, keys.signing)
    if results.put_once(note.key, data):
        return None
    stored = _read(results, note.key, keys.verifying)
    if stored is None:
        results.put(note.key, data)  # what somebody else stored there must not stand for it
    return stored


def find_withdrawals(
    recording: str, results: Store, keys: Mapping[str, Ed25519PublicKey]
) -> list[WithdrawalNote]:
    """Return the notes about a recording. One that is not signed by us for this key is ignored."""
    listed = (info.key for info in results.list(withdrawals_prefix(recording)))
    found = (_read(results, key, keys) for key in listed if key.endswith(".json"))
    return [note for note in found if note]


def is_withdrawn(record: bytes | None, notes: Sequence[WithdrawalNote]) -> bool:
    """Return whether the recording of these notes is withdrawn for somebody who cites `record`."""
    if record is None or not notes:
        return bool(notes)
    digest = hashlib.sha256(record).hexdigest()
    try:
        valid_from = parse_consent(record).valid_from
    except Refused:
        return True
    return any(note.record == digest for note in notes) or not is_new_consent(valid_from, notes)


def is_new_consent(valid_from: datetime, notes: Iterable[WithdrawalNote]) -> bool:
    """Return whether consent that begins then is given after all these withdrawals."""
    return all(valid_from > note.at and valid_from != note.valid_from for note in notes)


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
