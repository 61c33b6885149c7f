"""The buckets and keys that an audit reads. It writes to none of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from core.batch import parts
from core.crypto.keys import ReadingKeys
from core.errors import Refused
from core.job import lease
from core.storage.object_keys import lease_key
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
    return lambda key: sources.results.get(key, limit=parts.LIMIT).data


def is_leased(sources: Sources, job: str) -> bool:
    """Return whether a worker has the lease of the job now."""
    if sources.control is None:
        return False
    try:
        data = sources.control.get(lease_key(job), limit=lease.LOG_LIMIT).data
    except Refused:
        return False
    # The last record may be incomplete.
    records = data[: len(data) // lease.RECORD * lease.RECORD]
    last = lease.Record.parse(records[-lease.RECORD :]) if records else None
    return last is not None and last.expires > sources.control.now()
