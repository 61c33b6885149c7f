"""What an audit says: eleven checks, their verdicts, and the codes of verdicts that are not `pass`.

Codes are stable. `fail` is a finding; `skip` says why nothing could be said.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import msgspec

from core.errors import FAILED, MISCONFIGURED, REFUSED, Failed, Misconfigured, Refused

Verdict = Literal["pass", "fail", "skip"]

SIGNATURE, OBJECT, ENVELOPE, PLAINTEXT, LABEL, C2PA = 1, 2, 3, 4, 5, 6
WATERMARK, INCLUSION, CONSISTENCY, COMPLETENESS, CONSENT = 7, 8, 9, 10, 11

CHECKS: Mapping[int, tuple[str, str]] = {
    SIGNATURE: ("signature", "The result is signed by a key we know, for this job"),
    OBJECT: ("object", "The sealed object is there and has the digest that the result states"),
    ENVELOPE: ("envelope", "The envelope opens, and commits to the key it carries"),
    PLAINTEXT: ("plaintext", "The opened audio has the digest that the result states"),
    LABEL: ("label", "The audio carries the AIGC label that the result states, and no other"),
    C2PA: ("c2pa", "The audio carries a valid C2PA manifest"),
    WATERMARK: ("watermark", "The mark reads in the audio, and the registry knows it"),
    INCLUSION: ("inclusion", "The result is in the log, unchanged, and its proof holds"),
    CONSISTENCY: ("consistency", "The log agrees with itself and with an earlier checkpoint"),
    COMPLETENESS: ("completeness", "Nothing is missing from the bucket, nothing is foreign to it"),
    CONSENT: ("consent", "Consent to each voice is on record and held when the job ran"),
}
"""Number -> name and what `pass` means."""

CODES: dict[str, str] = {
    # findings that no other part of voicedrop has a code for
    "RESULT_MISPLACED": "A genuine result of another job lies in this job's place.",
    "RESULT_MISSING": "The log or its queue knows this job, but its result is gone.",
    "OBJECT_UNCLAIMED": "No result names this object: foreign, or left by an unfinished job.",
    "MARK_UNREGISTERED": "The registry does not give this payload to this item.",
    "LABEL_MISMATCH": "The label is not the one that the result states.",
    "NOT_LOGGED": "The result is neither in the log nor waiting for it.",
    "LOG_MISMATCH": "The log holds another result of this job: it was changed after logging.",
    "PROOF_MISSING": "The proof of inclusion is gone.",
    "CONSENT_REPLACED": "The consent record that the result cites is no longer there.",
    # reasons to skip
    "NO_KEY": "The key for this is not here.",
    "NO_OUTPUT": "The item failed: there is nothing to look at.",
    "NOT_OPENED": "The audio could not be opened: see the checks before.",
    "RESULT_INVALID": "The result is not genuine, so what it says was not looked at.",
    "NOT_MADE": "This version does not make it.",
    "WAIVED": "The producer or the operator waived it, and the result says so.",
    "NO_LOG": "This bucket has no log.",
    "NOT_LOGGED_YET": "It waits for the next `voicedrop log integrate`.",
    "IN_PROGRESS": "A worker holds this job.",
    "NO_INBOX": "The inbox, or the manifest in it, is not here.",
    "NO_VOICE": "No voice was used.",
}


class Outcome(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One check of one thing."""

    check: int
    verdict: Verdict
    code: str = ""
    message: str = ""
    key: str = ""
    """The object concerned."""


class CheckedItem(msgspec.Struct, frozen=True, kw_only=True):
    item: str
    """Empty where the manifest gave no valid id; of a joined file `chapters/<id>`."""
    index: int
    """-1 of a joined file."""
    status: str
    duration_s: float = 0.0
    bytes: int = 0
    media_type: str = ""
    payload: str = ""
    score: float | None = None
    """Of the mark: as measured now, or as the result states where the audio was not opened."""
    outcomes: list[Outcome] = []


class CheckedJob(msgspec.Struct, frozen=True, kw_only=True):
    """All that was found in the folder of one job."""

    job: str
    seen: str
    """Digest of the folder's listing: whether it is still what was looked at."""
    finished: str = ""
    """Empty without a genuine result."""
    status: str = "unknown"
    outcomes: list[Outcome] = []
    """Of the job as a whole."""
    items: list[CheckedItem] = []
    joined: list[CheckedItem] = []
    """Chapters, or the book."""
    marks: list[str] = []
    """Payloads of all its items."""
    early: bool = False
    """It finished before the time that was asked for, and was not looked at."""


def passed(check: int, message: str = "", key: str = "") -> Outcome:
    return Outcome(check=check, verdict="pass", message=message, key=key)


def failed(check: int, code: str, message: str = "", key: str = "") -> Outcome:
    return Outcome(check=check, verdict="fail", code=code, message=message, key=key)


def skipped(check: int, code: str, message: str = "", key: str = "") -> Outcome:
    return Outcome(check=check, verdict="skip", code=code, message=message, key=key)


@dataclass(slots=True)
class Attempt:
    """What came of a check that errors may end."""

    outcome: Outcome


@contextmanager
def attempt(check: int, key: str = "") -> Iterator[Attempt]:
    """Pass unless something is refused; a key that is gone or disabled is no finding: skip."""
    made = Attempt(passed(check, key=key))
    try:
        yield made
    except (Refused, Failed) as exc:
        made.outcome = failed(check, exc.code, exc.message, exc.pointer or key)
    except Misconfigured as exc:
        if not exc.code.startswith("KEY_"):
            raise
        made.outcome = skipped(check, exc.code, exc.message, key)


def explain(code: str) -> str:
    """What a code means."""
    return {**CODES, **REFUSED, **FAILED, **MISCONFIGURED}[code]
