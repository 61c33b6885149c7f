"""Jobs that wait for a file: a mark in the control bucket by which its arrival awakens them.

pending/<first 32 hex digits of the SHA-256 of the reference's key>/<job_id> = manifest's key
"""

from __future__ import annotations

from contextlib import suppress
from itertools import islice

from core.errors import Refused
from core.storage.object_keys import pending_key
from core.storage.port import Store

KEY_LIMIT = 2048
"""Bytes of a manifest's key."""
AT_ONCE = 1000
"""Jobs that one arrival awakens; more are left to the sweeper."""


class Waiting(Exception):
    """References of a job have not arrived: no error, the job goes on when they do."""

    def __init__(self, job_id: str, references: list[str], until: float) -> None:
        super().__init__(f"{job_id} waits for {', '.join(references)}")
        self.job_id = job_id
        self.references = references
        self.until = until
        """Unix seconds by the store's clock."""


class Shared(Exception):
    """A job was cut into shards: no error, whoever makes the last of them commits it."""

    def __init__(self, job_id: str, shards: int) -> None:
        super().__init__(f"{job_id} was cut into {shards} shards")
        self.job_id = job_id
        self.shards = shards


def mark(control: Store, reference: str, job_id: str, manifest: str) -> float:
    """Ask to be awakened when the reference arrives; since when this job has asked."""
    key = pending_key(reference, job_id)
    control.put_once(key, manifest.encode())
    since = control.head(key)
    return since.modified if since else control.now()


def awakened(control: Store, reference: str) -> list[str]:
    """Keys of the manifests whose jobs wait for this reference."""
    manifests = []
    for info in list(islice(control.list(pending_key(reference)), AT_ONCE)):
        with suppress(Refused):  # its job has just finished and took it away
            manifests.append(control.get(info.key, limit=KEY_LIMIT).data.decode())
    return manifests
