"""The buckets and keys that an audit reads. It writes to none of them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from core.batch import parts
from core.batch.plan import read_plan
from core.crypto.keys import ReadingKeys
from core.errors import Refused
from core.job import lease
from core.storage.port import Store

SETTLING_SECONDS = 60.0
"""Objects younger than this, in seconds, may belong to a job that is still being written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    results: Store
    keys: ReadingKeys
    control: Store | None = None
    """If None, the audit cannot tell which jobs are queued or in progress."""
    inbox: Store | None = None
    """If None, consent records are not checked."""


def part_reader(sources: Sources) -> Callable[[str], bytes]:
    """Return a function that reads a part of a result by its key."""
    return lambda key: sources.results.get(key, limit=parts.MAX_BYTES).data


def is_in_progress(sources: Sources, job: str) -> bool:
    """Return whether a worker has the lease of the job now, or the job was cut into shards, whose
    plan is removed when the job has finished.

    Only a lease or plan that we signed for this job counts: other objects could be stored by
    anybody who wants to hide an output from the audit.
    """
    if sources.control is None:
        return False
    with suppress(Refused):
        read_plan(sources.control, job, sources.keys.verifying)
        return True
    with suppress(Refused):
        record = lease.read_last_record(sources.control, job, sources.keys.verifying)
        return record is not None and record.expires > sources.control.now()
    return False
