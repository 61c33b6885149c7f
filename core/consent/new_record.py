"""A new consent record, from what a person says about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from core.consent import records, statement
from core.consent.records import Consent, Method, Scope, Subject
from core.consent.statement import Statement
from core.documents.violation import find_violation
from core.errors import ExplainedError, Refused, raising

_STATED = ("own-voice", "recorded-statement", "signed-document")
"""Methods that rest on a statement of the person."""
_TOO_LONG = "--days: the record would end after the year 9999; 0 days hold until withdrawn."


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRecord:
    """What a record is to say."""

    subject: str
    """Name or pseudonym of the person."""
    method: Method
    recordings: list[str]
    """SHA-256 of each recording."""
    controller: str = ""
    """Who makes and uses the voice; empty: the person alone, or whoever writes the record."""
    purposes: list[str] = field(default_factory=list)
    """Empty: speech synthesis, in the language of the statement."""
    languages: list[str] = field(default_factory=list)
    """That the voice may speak; empty: any."""
    statement_language: str = ""
    """Empty: the only one of `languages`, or else English."""
    days: int = 365
    """How long it is valid; 0: until it is withdrawn."""
    evidence: Mapping[str, Any] = field(default_factory=dict)
    """The field that the method requires -> its value; a statement that is missing is written."""
    protection_owner: str = ""

    def write(self, start: datetime) -> Consent:
        """Return the record, valid from `start`. Raises Refused CONSENT_INVALID."""
        self._refuse_incomplete()
        with raising(Refused("CONSENT_INVALID", _TOO_LONG, advice=""), on=OverflowError):
            end = start + timedelta(days=self.days) if self.days else None
        only = self.languages[0] if len(self.languages) == 1 else statement.FALLBACK
        language = self.statement_language or only
        purposes = self.purposes or [statement.name_synthesis(language)]
        stated = Statement(
            name=self.subject, controller=self.controller, purposes=purposes, start=start, end=end
        )
        words = {"statement_text": stated.write(language)} if self.method in _STATED else {}
        responsible = self.controller or (self.subject if self.method == "own-voice" else "me")
        try:
            return Consent(
                schema=records.SCHEMA,
                id=records.new_id(),
                subject=Subject(name=self.subject),
                controller=responsible,
                purposes=purposes,
                scope=Scope(languages=self.languages),
                valid_from=start,
                valid_until=end,
                method=self.method,
                ref_audio_sha256=self.recordings,
                protection_owner=self.protection_owner,
                created_by=responsible,
                **(words | dict(self.evidence)),
            )
        except ExplainedError as exc:
            raise Refused("CONSENT_INVALID", f"{exc}.", advice="") from exc

    def _refuse_incomplete(self) -> None:
        needed = records.REQUIRED_EVIDENCE[self.method]
        if not self.controller and self.method in ("recorded-statement", "signed-document"):
            message = "Say who makes and uses the voice: --controller. The statement names them."
            raise Refused("CONSENT_INVALID", message, advice="")
        if needed != "statement_text" and not self.evidence.get(needed):
            message = f"The method {self.method} needs {_EVIDENCE[needed]}: give it with --proof."
            raise Refused("CONSENT_INVALID", message, advice="")
        if found := find_violation({"languages": self.languages}, Scope):
            message = f"--language {found.value}: {found.message}."
            raise Refused("CONSENT_INVALID", message, advice="")


_EVIDENCE = {
    "statement_audio": "a recording of the statement",
    "evidence_sha256": "the signed document",
    "source": "the origin and licence of the recording, in words",
}
"""Required field -> what it contains."""
