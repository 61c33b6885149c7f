"""Why a job broke off, kept for people: the last reason beside its lease, the final one in `dead/`.

lease/<job_id>.reason, dead/<job_id>.json = {"manifest": ..., "error": ...}
"""

from __future__ import annotations

from contextlib import suppress

import msgspec

from core.errors import JobError, Refused
from core.result import ManifestRef, Problem
from core.storage import Store

LIMIT = 1 << 20


def note(control: Store, job_id: str, manifest: ManifestRef, error: JobError) -> None:
    """Keep why this attempt broke off. Raises nothing: there is a greater worry."""
    with suppress(JobError):
        control.put(_reason_key(job_id), _letter(manifest, error))


def write(control: Store, job_id: str, manifest: ManifestRef, error: JobError) -> None:
    """The job is given up: the last reason that was noted, or `error` if every worker was killed
    before it could note any."""
    try:
        letter = control.get(_reason_key(job_id), limit=LIMIT).data
    except Refused:
        letter = _letter(manifest, error)
    control.put(f"dead/{job_id}.json", letter)


def _reason_key(job_id: str) -> str:
    return f"lease/{job_id}.reason"


def _letter(manifest: ManifestRef, error: JobError) -> bytes:
    return msgspec.json.encode({"manifest": manifest, "error": Problem.of(error)})
