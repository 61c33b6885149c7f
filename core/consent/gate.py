"""Decide whether a voice may be used: its consent record, the policy, and withdrawals."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby

from core.consent import records, withdrawal
from core.consent.records import ConsentClaim, ConsentRef
from core.consent.withdrawal import WithdrawalNote
from core.crypto.keys import Keyring
from core.crypto.voice_key import read_voice_key
from core.errors import Notice, Refused
from core.settings import ConsentPolicy
from core.storage.cache import Cache
from core.storage.object_keys import (
    REVOKED_SUFFIX,
    UNBOUND_VOICEPRINTS,
    WITHDRAWN,
    proof_key_of,
)
from core.storage.port import Info, Object, Store
from core.text import spoken
from core.text.spoken import FrontEnd


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """Decides about one voice, once for each language in which it is to speak."""

    policy: ConsentPolicy
    record: bytes | None
    """The consent record as stored; None if the manifest names none."""
    claim: ConsentClaim
    at: datetime
    front_end: FrontEnd
    """That of the engine, which decides in which languages a text is spoken."""
    is_revoked: bool = False

    def admit(self, *languages: str) -> tuple[ConsentRef | None, list[Notice]]:
        """Return the reference to the record for the result, and notices.

        The policy `optional` waives a record that is missing, never one that was revoked or does
        not fit. Raises Refused with a code of the consent family.
        """
        is_optional = self.policy == "optional"
        notices = [Notice("CONSENT_OPTIONAL", pointer=self.claim.pointer)] if is_optional else []
        if is_optional and self.record is None and not self.is_revoked:
            return None, notices
        consent = records.check_consent(
            self.record, self.claim, languages=languages, at=self.at, revoked=self.is_revoked
        )
        records.refuse_many(consent, self.claim.pointer)
        digest = hashlib.sha256(self.record or b"").hexdigest()
        return ConsentRef(id=consent.id, sha256=digest, method=consent.method), notices

    @property
    def limits_languages(self) -> bool:
        """Whether the record allows certain languages only."""
        return bool(self._languages)

    @property
    def _languages(self) -> Collection[str]:
        if self.is_revoked or not self.record:
            return ()
        return records.parse_consent(self.record).scope.languages

    @property
    def valid_from(self) -> datetime | None:
        """When consent begins; None if there is no record."""
        return records.parse_consent(self.record).valid_from if self.record else None

    @property
    def protection_owner(self) -> str:
        """Whose protected voice the record allows to be used; empty if it says nothing."""
        return records.parse_consent(self.record).protection_owner if self.record else ""

    def spoken_languages(self, text: str, language: str) -> Collection[str]:
        """Return the languages of a text that `admit` must be asked for.

        Raises Misconfigured MODEL_MISSING.
        """
        if not (allowed := self._languages):
            return (language,)
        return spoken.spoken_languages(text, language, self.front_end, allowed)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentRegister:
    """The consent records of the inbox, and what was withdrawn."""

    inbox: Store
    results: Store
    control: Store
    caches: Sequence[Cache]
    """Where something may be kept of voices; the one with their keys first."""
    keys: Keyring
    policy: ConsentPolicy
    front_end: FrontEnd
    queue: Callable[[WithdrawalNote], None]
    """Queues a stored note for the log, unless that contains it."""

    def open_gate(self, claim: ConsentClaim) -> Gate:
        """Read the consent record, if the manifest names one, and whether it was withdrawn.

        Opening the gate again sees what was withdrawn since. Raises Refused CONSENT_INVALID,
        CONSENT_MISSING, CONSENT_REVOKED.
        """
        key = claim.key
        notes = self.find_withdrawals(claim.reference_sha256)
        record = None
        is_revoked = bool(notes)
        if key is not None:
            revoked = self.inbox.head(key + REVOKED_SUFFIX)
            stored = self._read(key, claim.pointer, is_revoked=is_revoked or revoked is not None)
            record = stored.data
            is_revoked = withdrawal.is_withdrawn(record, notes)
            if revoked:
                withdraws = _withdraws(revoked, stored)
                if not _is_noted(revoked, notes) or (withdraws and not is_revoked):
                    with suppress(Refused):  # a sweep reports what cannot be stored
                        self._withdraw_beside(revoked, stored)
                is_revoked = is_revoked or withdraws
        return Gate(
            policy=self.policy,
            record=record,
            claim=claim,
            at=datetime.fromtimestamp(self.inbox.now(), UTC),
            front_end=self.front_end,
            is_revoked=is_revoked,
        )

    def find_withdrawals(self, recording: str) -> list[WithdrawalNote]:
        return withdrawal.find_withdrawals(recording, self.results, self.keys.verifying)

    def is_withdrawn(self, claim: ConsentClaim) -> bool:
        """Return whether consent to the recording is withdrawn. A record that is missing or invalid
        is no withdrawal."""
        try:
            return self.open_gate(claim).is_revoked
        except Refused as exc:
            return exc.code == "CONSENT_REVOKED"

    def withdraw(self, record: bytes, at: float) -> list[str]:
        """Withdraw consent and destroy what is kept of the voice; return the SHA-256 of the
        recordings for which this is new.

        `at`: Unix seconds. Raises Refused CONSENT_INVALID.
        """
        consent = records.parse_consent(record)
        digest = hashlib.sha256(record).hexdigest()
        return self._note(consent.ref_audio_sha256, digest, at, consent.valid_from)

    def _note(
        self, recordings: Iterable[str], record: str, at: float, valid_from: datetime | None = None
    ) -> list[str]:
        notes = withdrawal.put_notes(
            recordings, record, at, self.results, self.keys, valid_from=valid_from
        )
        for note in notes:
            self.forget_if_withdrawn(note.recording)
        if notes:
            self._forget_unbound_voiceprints()
        for note in notes:
            self.queue(note)
        return [note.recording for note in notes]

    def forget_if_withdrawn(self, recording: str) -> None:
        """Destroy the key of a voice, its voiceprints and spoken items if consent to the recording
        is withdrawn, unless they were made under a record that is valid from a later date."""
        notes = self.find_withdrawals(recording)
        if not notes:
            return
        key = read_voice_key(recording, self.control, self.keys)
        if key and key.valid_from and withdrawal.is_new_consent(key.valid_from, notes):
            return
        for cache in self.caches:
            cache.forget(recording)

    def list_kept(self) -> set[str]:
        """Return the SHA-256 of the recordings of which something is kept."""
        return set().union(*(cache.voices() for cache in self.caches))

    def find_incomplete(self) -> list[str]:
        """Return the recordings whose withdrawal may be incomplete, because something is kept of
        the voice or a note is not in the log.

        Notes are many, and nearly all are logged. A note counts as logged if the listing shows a
        proof beside it. Whoever stores something else as a proof keeps a note out of the log until
        an audit reports it, and could as well delete the note.
        """
        kept, found = self.list_kept(), []
        for recording, infos in groupby(self.results.list(WITHDRAWN), _recording_of):
            keys = {info.key for info in infos}
            notes = (key for key in keys if key.endswith(".json"))
            if recording in kept or any(proof_key_of(key) not in keys for key in notes):
                found.append(recording)
        return found

    def complete_withdrawal(self, recording: str) -> None:
        """Destroy what is kept of a withdrawn voice, and queue the notes that are not in the log,
        in case a worker died before it had done so."""
        self.forget_if_withdrawn(recording)
        for note in self.find_withdrawals(recording):
            self.queue(note)

    def _forget_unbound_voiceprints(self) -> None:
        # Release 0.1.0 kept them without saying whose they are. They are computed again.
        for info in list(self.control.list(UNBOUND_VOICEPRINTS)):
            self.control.delete(info.key)

    def withdraw_marked(self, revoked_key: str, *, used: Collection[str] = ()) -> list[str]:
        """Withdraw what an object `<record>.revoked` of the inbox was placed beside, and the record
        that is there now unless it is valid from a later date; return what `withdraw` returns.

        `used`: recordings that were used under a record of that key before. They stand for one that
        was replaced or deleted before anybody noticed that it was withdrawn.
        """
        revoked = self.inbox.head(revoked_key)
        if revoked is None:
            return []
        stored = None
        with suppress(Refused):
            key = revoked_key.removesuffix(REVOKED_SUFFIX)
            stored = self.inbox.get(key, limit=records.MAX_BYTES)
        return self._withdraw_beside(revoked, stored, used)

    def _withdraw_beside(
        self, revoked: Info, stored: Object | None, used: Collection[str] = ()
    ) -> list[str]:
        new, covered = [], _covered(stored)
        if stored is not None and covered and _withdraws(revoked, stored):
            new = self.withdraw(stored.data, revoked.modified)
        if stored is None or stored.info.modified > revoked.modified:
            lost = {*covered, *used}
            former = [r for r in sorted(lost) if not _is_noted(revoked, self.find_withdrawals(r))]
            key = revoked.key.removesuffix(REVOKED_SUFFIX)
            new += self._note(former, hashlib.sha256(key.encode()).hexdigest(), revoked.modified)
        return new

    def withdraw_used(self, recording: str, revoked_keys: Collection[str]) -> list[str]:
        """Withdraw a voice that was first used under a record beside which one of these objects
        `<record>.revoked` is now; return what `withdraw_marked` returns."""
        key = read_voice_key(recording, self.control, self.keys)
        # Without a record there is nothing that an object `.revoked` could be beside.
        revoked_key = key.consent + REVOKED_SUFFIX if key and key.consent else ""
        if revoked_key not in revoked_keys:
            return []
        return self.withdraw_marked(revoked_key, used=[recording])

    def list_marks(self) -> Iterator[str]:
        """List the keys `<record>.revoked` of the inbox."""
        return (i.key for i in self.inbox.list("") if i.key.endswith(REVOKED_SUFFIX))

    def _read(self, key: str, pointer: str, *, is_revoked: bool) -> Object:
        try:
            return self.inbox.get(key, limit=records.MAX_BYTES)
        except Refused as exc:
            if is_revoked:
                raise Refused("CONSENT_REVOKED", pointer=pointer) from exc
            # A record that is named must be valid whatever the policy: no misspelt key opens the
            # gate.
            code = "CONSENT_INVALID" if exc.code == "OBJECT_TOO_LARGE" else "CONSENT_MISSING"
            what = exc.message
            if exc.code == "OBJECT_MISSING":
                what = (
                    "The inbox has no such record: submit it, or correct its name in the manifest."
                )
            raise Refused(code, f"{key}: {what}", pointer=pointer) from exc


def _recording_of(info: Info) -> str:
    """Return the recording in a key under `withdrawn/`."""
    return info.key.split("/")[1]


def _covered(stored: Object | None) -> list[str]:
    """Return the recordings of a record; none of what is no record, because that admits nothing."""
    with suppress(Refused):
        return records.parse_consent(stored.data).ref_audio_sha256 if stored else []
    return []


def _is_noted(revoked: Info, notes: Iterable[WithdrawalNote]) -> bool:
    """Return whether a recording is withdrawn from the time of an object `.revoked` on."""
    at = datetime.fromtimestamp(revoked.modified, UTC)
    return any(note.at >= at for note in notes)


def _withdraws(revoked: Info, stored: Object) -> bool:
    """Return whether an object `<record>.revoked` withdraws the record beside it: one that is
    uploaded later and valid from a later date is new consent."""
    at = datetime.fromtimestamp(revoked.modified, UTC)
    return stored.info.modified <= revoked.modified or not withdrawal.is_valid_later(
        stored.data, at
    )
