"""What an audit reads. It writes to none of these."""

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
"""Seconds in which what belongs together may still be arriving."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    results: Store
    keys: ReadingKeys
    control: Store | None = None
    """None: what is still queued or in progress cannot be told."""
    inbox: Store | None = None
    """None: consent records cannot be looked at."""


def part_reader(sources: Sources) -> Callable[[str], bytes]:
    """How the parts of a result are read."""
    return lambda key: sources.results.get(key, limit=parts.LIMIT).data


def is_leased(sources: Sources, job: str) -> bool:
    """Whether a worker holds the job at this moment."""
    if sources.control is None:
        return False
    try:
        record = sources.control.get(lease_key(job), limit=lease.LOG_LIMIT).data
    except Refused:
        return False
    whole = record[: len(record) // lease.RECORD * lease.RECORD]
    last = lease.Record.parse(whole[-lease.RECORD :]) if whole else None
    return last is not None and last.expires > sources.control.now()
