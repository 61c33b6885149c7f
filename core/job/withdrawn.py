"""Voices whose consent was withdrawn while a job ran.

Consent is read again before every output is stored and before a result or part is signed. A
document that was signed before the withdrawal stands. Whatever no signed document names by then is
removed: the document says so (OUTPUT_REMOVED), and when it is stored, the worker that stored it
deletes what it names. Deleting it earlier could take files from a slower worker whose document
is stored first. What a worker leaves that dies between the two is deleted by a sweep.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import msgspec

from core.consent.records import ConsentClaim
from core.errors import JobError, Notice, Refused
from core.job import object_record
from core.job.admission import Admitted
from core.job.each_item import failed_item
from core.job.runtime import Run, Runtime
from core.manifest.resolve import Item, Job
from core.result.item_result import Chapter, ItemResult
from core.storage.object_keys import job_prefix, output_key

REFUSED_BY_CONSENT = frozenset(
    {
        "CONSENT_EXPIRED",
        "CONSENT_INVALID",
        "CONSENT_MISSING",
        "CONSENT_REVOKED",
        "CONSENT_SCOPE",
        "CONSENT_UNVERIFIED",
        "VOICE_PROTECTED",
    }
)
"""Codes of the items that consent does not cover."""
Claims = Mapping[str, Iterable[ConsentClaim]]
"""Voice name -> its recordings, with the records that are named for them."""


def claims_of(voices: Mapping[str, Admitted | JobError]) -> dict[str, list[ConsentClaim]]:
    """The claims of the voices that were admitted."""
    return {name: v.claims for name, v in voices.items() if isinstance(v, Admitted)}


def find_withdrawn(
    voices: Mapping[str, Admitted | JobError], claims: Claims, runtime: Runtime
) -> dict[str, JobError]:
    """Voice name -> CONSENT_REVOKED, for the voices whose consent is withdrawn by now."""
    found = {
        name: error
        for name, error in voices.items()
        if isinstance(error, JobError) and error.code == "CONSENT_REVOKED"
    }
    for name, made_from in claims.items():
        for claim in made_from:
            if runtime.consents.is_withdrawn(claim):
                found[name] = Refused("CONSENT_REVOKED", pointer=claim.pointer)
    return found


def remove_outputs(
    items: list[ItemResult], job: Job, errors: Mapping[str, JobError], run: Run
) -> list[ItemResult]:
    """Fail the items of withdrawn voices, and name what is stored of them and of items to which
    consent was refused: a worker may have stored their outputs while there was consent, and died.

    `errors`: what `find_withdrawn` returned. An output that was kept from an earlier job is not
    removed, because the result of that job names it.
    """
    wanted = {item.index: item for item in job.items}
    refused = {
        result.index: errors.get(item.voice)
        for result in items
        if (item := wanted.get(result.index)) and (item.voice in errors or lacks_consent(result))
    }
    if not refused:
        return items
    stored = {info.key for info in run.runtime.results.list(job_prefix(run.job_id))}
    return [
        _removed(result, wanted[result.index], refused[result.index], run.job_id, stored)
        if result.index in refused
        else result
        for result in items
    ]


def lacks_consent(result: ItemResult | Chapter) -> bool:
    """Return whether consent does not cover an item or joined file."""
    return result.error is not None and result.error.code in REFUSED_BY_CONSENT


def _removed(
    result: ItemResult, item: Item, error: JobError | None, job_id: str, stored: Collection[str]
) -> ItemResult:
    failed = failed_item(item.id, item.index, error, item) if error and not result.error else result
    if result.kept_from or any(notice.code == "OUTPUT_REMOVED" for notice in failed.notices):
        return failed
    keys = [output_key(job_id, item.id, form) for form in (item.format, *item.subtitle)]
    notices = [removal(key) for key in keys if key in stored]
    return msgspec.structs.replace(failed, notices=[*failed.notices, *notices])


def removal(key: str) -> Notice:
    """The notice that names an output which is removed."""
    return Notice("OUTPUT_REMOVED", pointer=key)


def remove_unclaimed(keys: Iterable[str], runtime: Runtime) -> list[str]:
    """Delete outputs that no result names and in which a withdrawn voice speaks: those of workers
    that were slower than the withdrawal, or died. Returns their keys."""
    removed = []
    for key in keys:
        stored = runtime.results.head(key)
        recordings = object_record.recordings_of(stored, runtime) if stored else []
        if any(map(runtime.consents.find_withdrawals, recordings)):
            runtime.results.delete(key)
            removed.append(key)
    return removed
