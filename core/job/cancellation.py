"""A job is cancelled by an object beside its manifest.

    inbox  <key of the manifest>.cancelled   the id of the job, or several, one per line

Whoever may write manifests to a folder may thus cancel those in it, and nobody else; the id keeps
an old object from cancelling a later manifest at the same key. A worker looks for it before an item
is begun. What is finished by then stays; every other item fails with JOB_CANCELLED, and the result
says so.
"""

from __future__ import annotations

from contextlib import suppress

from core.errors import Refused
from core.storage.object_keys import cancellation_key
from core.storage.port import Store

LIMIT = 64 * 1024


def cancel(inbox: Store, manifest: str, job_id: str) -> None:
    """Cancel the job of the manifest at this key."""
    inbox.put(cancellation_key(manifest), f"{job_id}\n".encode())


def is_cancelled(inbox: Store, manifest: str, job_id: str) -> bool:
    with suppress(Refused):  # there is none, or it is too large to be one
        stored = inbox.get(cancellation_key(manifest), limit=LIMIT).data
        return job_id.encode() in stored.split()
    return False


class Cancellation:
    """Whether a job that is being carried out was cancelled. Once it was, it stays so."""

    def __init__(self, inbox: Store, manifest: str, job_id: str) -> None:
        """`manifest`: empty if it is not known, so that nobody can cancel the job."""
        self._inbox, self._manifest, self._job_id = inbox, manifest, job_id
        self._is_cancelled = False

    def __bool__(self) -> bool:
        if self._manifest and not self._is_cancelled:
            self._is_cancelled = is_cancelled(self._inbox, self._manifest, self._job_id)
        return self._is_cancelled

    def check(self, pointer: str = "") -> None:
        """Raises Refused JOB_CANCELLED."""
        if self:
            raise Refused("JOB_CANCELLED", pointer=pointer)
