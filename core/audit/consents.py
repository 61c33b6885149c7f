"""Check 11: consent to each voice at the time the job ran."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from core.audit.model import CONSENT, Outcome, attempt, failed, passed, skipped
from core.audit.sources import Sources, part_reader
from core.consent import records
from core.consent.withdrawal import (
    WithdrawalNote,
    find_withdrawals,
    is_valid_later,
    is_withdrawn,
)
from core.errors import Refused
from core.manifest import resolve as jobs
from core.manifest.resolve import Job
from core.result.document import Result, read_items
from core.result.item_result import VoiceUsed
from core.result.withdrawn_voices import recordings_of
from core.storage.object_keys import REVOKED_SUFFIX
from core.storage.port import Store


def check(result: Result, sources: Sources) -> list[Outcome]:
    """Return one outcome for each voice that was used."""
    used = {name: voice for name, voice in result.voices.items() if voice.error is None}
    if not used:
        return [skipped(CONSENT, "NO_VOICE")]
    job = _read_manifest(result, sources)
    return [_check_voice(name, voice, result, job, sources) for name, voice in used.items()]


def _read_manifest(result: Result, sources: Sources) -> Job | None:
    """Return the job's manifest, or None if it is no longer in the inbox or has changed."""
    if sources.inbox is None:
        return None
    manifest = result.manifest
    try:
        data = sources.inbox.get(manifest.key, limit=jobs.LIMITS.manifest_bytes).data
        if hashlib.sha256(data).hexdigest() != manifest.sha256:
            return None
        return jobs.parse_job(data, lines=manifest.key.endswith(".jsonl"))
    except Refused:
        return None


def _check_voice(
    name: str, used: VoiceUsed, result: Result, job: Job | None, sources: Sources
) -> Outcome:
    if used.consent is None:
        if result.consent_policy == "optional":
            return skipped(CONSENT, "WAIVED", f"voice {name}")
        return failed(CONSENT, "CONSENT_MISSING", f"The result cites none for voice {name}.")
    started = datetime.fromisoformat(result.started)
    notes = [note for note in _find_withdrawals(used, sources) if note.at < started]
    if used.consent.sha256 in {note.record for note in notes}:
        return failed(CONSENT, "CONSENT_REVOKED", f"voice {name}", notes[0].key)
    key = job.voices[name].consent if job and name in job.voices else None
    if job is None or sources.inbox is None or not key:
        return skipped(CONSENT, "NO_INBOX", f"voice {name}")
    with attempt(CONSENT, key) as checking:
        record = _read_record(key, sources.inbox)
        if hashlib.sha256(record).hexdigest() != used.consent.sha256:
            records.parse_consent(record, pointer=key)
            message = f"voice {name}: the record of SHA-256 {used.consent.sha256} allowed it"
            return skipped(CONSENT, "CONSENT_REPLACED", message, key)
        is_revoked = is_withdrawn(record, notes)
        revoked = sources.inbox.head(key + REVOKED_SUFFIX)
        if revoked and revoked.modified < started.timestamp():
            at = datetime.fromtimestamp(revoked.modified, UTC)
            is_revoked = is_revoked or not is_valid_later(record, at)
        _check_record(
            record,
            used,
            languages=_released_languages(name, result, job, sources),
            at=started,
            revoked=is_revoked,
            key=key,
        )
        checking.outcome = passed(CONSENT, f"voice {name}", key)
    return checking.outcome


def _check_record(
    record: bytes, used: VoiceUsed, *, key: str, languages: list[str], **fields: Any
) -> None:
    """Check the record for each recording of the voice. Without languages nothing was made."""
    for recording in recordings_of(used) if languages else ():
        claim = records.ConsentClaim(key, recording, key)
        records.check_consent(record, claim, languages=languages, **fields)


def _find_withdrawals(used: VoiceUsed, sources: Sources) -> Iterator[WithdrawalNote]:
    for recording in recordings_of(used):
        yield from find_withdrawals(recording, sources.results, sources.keys.verifying)


def _released_languages(name: str, result: Result, job: Job, sources: Sources) -> list[str]:
    """Return the languages of the items that were released. Items that the consent did not cover
    were refused."""
    items = read_items(result, part_reader(sources))
    released = {item.id for item in items if item.output and not item.kept_from}
    return sorted({i.language for i in job.items if i.voice == name and i.id in released})


def _read_record(key: str, inbox: Store) -> bytes:
    try:
        return inbox.get(key, limit=records.MAX_BYTES).data
    except Refused as exc:
        raise Refused("CONSENT_MISSING", exc.message, pointer=key) from exc
