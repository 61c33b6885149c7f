"""Jobs that wait for a reference: a mark through which its arrival resumes them.

pending/<first 32 hex digits of the SHA-256 of the reference's key>/<job_id> = manifest's key
"""

from __future__ import annotations

from contextlib import suppress
from itertools import islice

from core.errors import Refused
from core.storage.object_keys import pending_key
from core.storage.port import Store

KEY_LIMIT = 2048
"""Longest key of a manifest, in bytes."""
AT_ONCE = 1000
"""Most jobs that one arrival resumes; a sweep resumes the others."""


def put_mark(control: Store, reference: str, job_id: str, manifest: str) -> float:
    """Mark a job as waiting for a reference; return since when it waits, in Unix seconds."""
    key = pending_key(reference, job_id)
    control.put_once(key, manifest.encode())
    stored = control.head(key)
    return stored.modified if stored else control.now()


def list_manifests(control: Store, reference: str) -> list[str]:
    """List the keys of the manifests whose jobs wait for a reference."""
    manifests = []
    for info in list(islice(control.list(pending_key(reference)), AT_ONCE)):
        with suppress(Refused):  # the job finished at this moment and removed its mark
            manifests.append(control.get(info.key, limit=KEY_LIMIT).data.decode())
    return manifests
