"""The eleven checks of an audit, their verdicts, and the codes of `fail` and `skip`.

Codes are stable. A `fail` is a finding; a `skip` names the reason why the check could not run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import msgspec

from core.errors import FAILED, MISCONFIGURED, REFUSED, Failed, Misconfigured, Refused, Unavailable
from core.result.tombstone import Tombstone

Verdict = Literal["pass", "fail", "skip"]

SIGNATURE, OBJECT, ENVELOPE, PLAINTEXT, LABEL, C2PA = 1, 2, 3, 4, 5, 6
WATERMARK, INCLUSION, CONSISTENCY, COMPLETENESS, CONSENT = 7, 8, 9, 10, 11

CHECKS: Mapping[int, tuple[str, str]] = {
    SIGNATURE: ("signature", "The result is signed by a known key and is the result of this job"),
    OBJECT: ("object", "The sealed object exists and has the digest that the result states"),
    ENVELOPE: ("envelope", "The envelope can be opened and commits to its key"),
    PLAINTEXT: ("plaintext", "The opened audio has the digest that the result states"),
    LABEL: ("label", "The audio carries the AIGC label that the result states, and no other"),
    C2PA: ("c2pa", "The audio carries a valid C2PA manifest"),
    WATERMARK: ("watermark", "The watermark is detected in the audio and is in the registry"),
    INCLUSION: ("inclusion", "The result is in the log, unchanged, and its proof is valid"),
    CONSISTENCY: ("consistency", "The log is consistent and continues the earlier checkpoint"),
    COMPLETENESS: ("completeness", "The bucket has every object it should have, and no others"),
    CONSENT: ("consent", "Consent to each voice is on record and was valid when the job ran"),
}
"""Number -> name and the meaning of `pass`."""

CODES: dict[str, str] = {
    # Findings that only an audit can have.
    "RESULT_MISPLACED": "The folder of this job contains a genuine result of another job.",
    "RESULT_MISSING": "This job is in the log or its queue, but its result does not exist.",
    "OBJECT_UNCLAIMED": "No result names this object: foreign, or left by an unfinished job.",
    "MARK_UNREGISTERED": "The registry does not assign this payload to this item.",
    "EVENT_MISMATCH": "The event of this job says something else than its result.",
    "LABEL_MISMATCH": "The label is not the one that the result states.",
    "NOT_LOGGED": "This document is neither in the log nor in its queue.",
    "LOG_MISMATCH": "The log has this document with another digest: it was changed after logging.",
    "PROOF_MISSING": "The proof of inclusion does not exist.",
    "LEAF_REFUSED": "The sequencer did not log this object of its queue: see docs/log.md.",
    "TOMBSTONE_MISSING": "The log has this tombstone, but it does not exist.",
    "WITHDRAWAL_MISSING": "The log or its queue has this withdrawal, but its note does not exist.",
    "NOT_ERASED": "A tombstone says that this file was erased, but it exists: `voicedrop sweep`.",
    # Reasons to skip a check.
    "NO_KEY": "The audit does not have the key for this check.",
    "NO_OUTPUT": "The item failed and has no output.",
    "NOT_OPENED": "The audio could not be opened: see the earlier checks.",
    "NOT_SIGNED": "A report of version 0.1.0, which did not sign them: trace the clip again.",
    "NOT_MADE": "This version does not write it.",
    "WAIVED": "The producer or the operator waived it, as the result states.",
    "NO_LOG": REFUSED["LOG_MISSING"],
    "ERASED": "The output was erased, as a tombstone says.",
    "NOT_LOGGED_YET": "The next `voicedrop log integrate` will log it.",
    "IN_PROGRESS": "The job is not finished: a worker has its lease, or shards are left.",
    "NO_INBOX": "The inbox or the job's manifest is not available.",
    "NO_VOICE": "No voice was used.",
    "CONSENT_REPLACED": "Another consent record has the key of the one that the result cites.",
}

_MEANINGS: Mapping[str, str] = {
    "OBJECT_MISSING": "It does not exist: it was deleted, or this copy of the bucket lacks it.",
    "OBJECT_CHANGED": "It was changed or replaced after the result was signed.",
    "WATERMARK_VERIFY_FAILED": "The audio does not carry the watermark that it should carry.",
    "LABEL_VERIFY_FAILED": "The label of the audio cannot be read.",
    "CONSENT_MISSING": "The result cites no consent record, or the record is no longer there.",
    "CONSENT_INVALID": "The consent record is not a valid voicedrop/consent/1 document.",
    "CONSENT_SCOPE": "The consent record does not cover what the job made of the voice.",
    "CONSENT_EXPIRED": "The consent record was not valid when the job ran.",
    "CONSENT_REVOKED": "Consent was withdrawn before the job ran.",
}
"""Meanings in an audit of codes whose text in core/errors.py is about the running of a job."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The outcome of one check on one object or job."""

    check: int
    verdict: Verdict
    code: str = ""
    message: str = ""
    key: str = ""
    """The object concerned."""


class CheckedItem(msgspec.Struct, frozen=True, kw_only=True):
    item: str
    """Item id, empty if the manifest has no valid one; `chapters/<id>` for a joined file."""
    index: int
    """Position in the manifest; -1 for a joined file."""
    status: str
    duration_s: float = 0.0
    bytes: int = 0
    media_type: str = ""
    payload: str = ""
    withdrawn: str = ""
    """When consent to its voice was withdrawn since, RFC 3339; empty: not withdrawn."""
    score: float | None = None
    """Watermark score: measured by the audit, or the one in the result if the audio was not
    opened."""
    outcomes: list[Outcome] = []


class CheckedJob(msgspec.Struct, frozen=True, kw_only=True):
    """The outcomes for one job."""

    job: str
    seen: str
    """Digest of the folder's listing, which tells whether the folder has changed since."""
    finished: str = ""
    """RFC 3339; empty if there is no genuine result."""
    status: str = "unknown"
    outcomes: list[Outcome] = []
    """Outcomes for the job as a whole."""
    items: list[CheckedItem] = []
    joined: list[CheckedItem] = []
    """The chapters, or the book."""
    marks: list[str] = []
    """Watermark payloads of all items."""
    erasures: list[Tombstone] = []
    """The genuine tombstones, without their signatures."""
    early: bool = False
    """It finished before `since` and was not checked."""


def passed(check: int, message: str = "", key: str = "") -> Outcome:
    return Outcome(check=check, verdict="pass", message=message, key=key)


def failed(check: int, code: str, message: str = "", key: str = "") -> Outcome:
    return Outcome(check=check, verdict="fail", code=code, message=message, key=key)


def skipped(check: int, code: str, message: str = "", key: str = "") -> Outcome:
    return Outcome(check=check, verdict="skip", code=code, message=message, key=key)


@dataclass(slots=True)
class Attempt:
    """A running check. Its body may replace the outcome."""

    outcome: Outcome


@contextmanager
def attempt(check: int, key: str = "") -> Iterator[Attempt]:
    """Run a check: it passes unless its body raises Refused or Failed. A key that was destroyed or
    disabled is not a finding, so the check is skipped."""
    checking = Attempt(passed(check, key=key))
    try:
        yield checking
    except (Refused, Failed) as exc:
        message = explain(exc.code) if exc.message in exc.codes.values() else exc.message
        checking.outcome = failed(check, exc.code, message, exc.pointer or key)
    except Unavailable as exc:
        if exc.code != "FORMAT_NEWER":
            raise
        checking.outcome = failed(check, exc.code, exc.message, key)
    except Misconfigured as exc:
        if not exc.code.startswith("KEY_"):
            raise
        checking.outcome = skipped(check, exc.code, exc.message, key)


def explain(code: str) -> str:
    """Return the meaning of a code in an audit."""
    if code.startswith("AUDIO_"):
        return "The audio cannot be decoded."
    return {**REFUSED, **FAILED, **MISCONFIGURED, **CODES, **_MEANINGS}[code]
