"""Why a job broke off, kept for people: the last reason beside its lease, the final one in `dead/`.

lease/<job_id>.reason, dead/<job_id>.json = {"manifest": ..., "error": ...}
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import msgspec

from core.errors import JobError, Misconfigured, Refused, Unavailable
from core.job.lease import Lease
from core.job.waiting import Shared, Waiting
from core.result.document import ManifestRef
from core.result.item_result import Problem
from core.storage.object_keys import dead_letter_key, reason_key
from core.storage.port import Store

LIMIT = 1 << 20


@contextmanager
def remembering(name: str, manifest: ManifestRef, lease: Lease, control: Store) -> Iterator[None]:
    """Keep the last reason why an attempt broke off, for the dead letter of `name`. Waiting for a
    file or for the operator is no fault of the job and uses up no attempt."""
    try:
        yield
    except (Waiting, Shared):
        lease.forgive()
        raise
    except (Unavailable, Misconfigured) as exc:
        if isinstance(exc, Misconfigured):
            lease.forgive()
        note(control, name, manifest, exc)
        raise


def note(control: Store, job_id: str, manifest: ManifestRef, error: JobError) -> None:
    """Keep why this attempt broke off. Raises nothing: there is a greater worry."""
    with suppress(JobError):
        control.put(reason_key(job_id), _letter(manifest, error))


def write(control: Store, job_id: str, manifest: ManifestRef, error: JobError) -> None:
    """The job is given up: the last reason that was noted, or `error` if every worker was killed
    before it could note any."""
    try:
        letter = control.get(reason_key(job_id), limit=LIMIT).data
    except Refused:
        letter = _letter(manifest, error)
    control.put(dead_letter_key(job_id), letter)


def _letter(manifest: ManifestRef, error: JobError) -> bytes:
    return msgspec.json.encode({"manifest": manifest, "error": Problem.from_error(error)})
