"""Check 11: consent to each voice at the time the job ran."""

from __future__ import annotations

import hashlib
from datetime import datetime

from core.audit.model import CONSENT, Outcome, attempt, failed, passed, skipped
from core.audit.sources import Sources, part_reader
from core.consent import records
from core.errors import Refused
from core.manifest import resolve as jobs
from core.manifest.resolve import Job
from core.result.document import Result, read_items
from core.result.item_result import VoiceUsed
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
    key = job.voices[name].consent if job and name in job.voices else None
    if job is None or sources.inbox is None or not key:
        return skipped(CONSENT, "NO_INBOX", f"voice {name}")
    with attempt(CONSENT, key) as checking:
        record = _read_record(key, sources.inbox)
        if hashlib.sha256(record).hexdigest() != used.consent.sha256:
            return failed(CONSENT, "CONSENT_REPLACED", f"voice {name}", key)
        started = datetime.fromisoformat(result.started)
        withdrawn = sources.inbox.head(key + REVOKED_SUFFIX)
        if languages := _released_languages(name, result, job, sources):
            for digest in (used.reference_sha256, *(one.reference_sha256 for one in used.aux)):
                records.check_consent(
                    record,
                    reference_sha256=digest or "",
                    languages=languages,
                    at=started,
                    revoked=withdrawn is not None and withdrawn.modified < started.timestamp(),
                    pointer=key,
                )
        checking.outcome = passed(CONSENT, f"voice {name}", key)
    return checking.outcome


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
