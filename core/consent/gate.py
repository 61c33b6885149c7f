"""Decide whether a voice may be used: check its consent record under the operator's policy."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime

from core.consent import records
from core.consent.records import ConsentRef
from core.errors import Notice, Refused
from core.settings import ConsentPolicy
from core.storage.port import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """Decides about one voice, once for each language in which it is to speak."""

    policy: ConsentPolicy
    record: bytes | None
    """The consent record as stored; None if the manifest names none."""
    reference_sha256: str
    at: datetime
    is_revoked: bool = False
    pointer: str = ""
    """JSON pointer into the manifest, for errors."""

    def admit(self, language: str) -> tuple[ConsentRef | None, list[Notice]]:
        """Return the reference to the record for the result, and notices.

        The policy `optional` waives a record that is missing, never one that was revoked or does
        not fit. Raises Refused with a code of the consent family.
        """
        is_optional = self.policy == "optional"
        notices = [Notice("CONSENT_OPTIONAL", pointer=self.pointer)] if is_optional else []
        if is_optional and self.record is None and not self.is_revoked:
            return None, notices
        consent = records.check_consent(
            self.record,
            reference_sha256=self.reference_sha256,
            language=language,
            at=self.at,
            revoked=self.is_revoked,
            pointer=self.pointer,
        )
        digest = hashlib.sha256(self.record or b"").hexdigest()
        return ConsentRef(id=consent.id, sha256=digest, method=consent.method), notices


def read_gate(
    inbox: Store, key: str | None, policy: ConsentPolicy, reference_sha256: str, pointer: str
) -> Gate:
    """Read the consent record at `key` of the inbox, if the manifest names one.

    Raises Refused CONSENT_INVALID, CONSENT_MISSING.
    """
    record, is_revoked = None, False
    if key is not None:
        try:
            record = inbox.get(key, limit=records.MAX_BYTES).data
        except Refused as exc:
            # A record that is named must be valid whatever the policy: no misspelt
            # key opens the gate.
            code = "CONSENT_INVALID" if exc.code == "OBJECT_TOO_LARGE" else "CONSENT_MISSING"
            raise Refused(code, f"{key}: {exc.message}", pointer=pointer) from exc
        is_revoked = inbox.head(key + records.REVOKED_SUFFIX) is not None
    return Gate(
        policy=policy,
        record=record,
        reference_sha256=reference_sha256,
        at=datetime.fromtimestamp(inbox.now(), UTC),
        is_revoked=is_revoked,
        pointer=pointer,
    )
