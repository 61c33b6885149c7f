"""Audit a whole results bucket: every job, and the objects that belong to no job. Read-only."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from core.audit import jobs, log_snapshot
from core.audit.log_snapshot import LogSnapshot
from core.audit.model import COMPLETENESS, CheckedJob, Outcome, failed, passed
from core.audit.sources import Sources, is_in_progress
from core.storage.object_keys import OUTPUTS, RESULTS_PATTERNS, job_id_of, mark_key, result_key
from core.storage.port import Info
from core.tlog import log
from core.trace import registry

_JOBS_AT_ONCE = 256
"""Jobs that are queued for the threads at a time, to bound memory."""


@dataclass(slots=True)
class AuditedBucket:
    """The outcomes of an audit."""

    log: LogSnapshot
    jobs: list[CheckedJob] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    """Outcomes for the bucket as a whole."""
    objects: int = 0
    bytes: int = 0


def audit_bucket(
    sources: Sources,
    *,
    since: str = "",
    earlier: str = "",
    workers: int = 1,
    already_checked: Mapping[str, CheckedJob] | None = None,
    on_checked: Callable[[CheckedJob], None] = lambda job: None,
) -> AuditedBucket:
    """Check everything.

    `since`: RFC 3339; results that finished before are left out. `earlier`: a checkpoint that the
    log must continue. `already_checked`: the jobs that an interrupted audit checked; those whose
    folder has not changed are not checked again. `on_checked` is called with every job.

    Raises Unavailable and Misconfigured.
    """
    listing = _Listing()
    bucket = AuditedBucket(log_snapshot.read_log(sources, earlier))
    bucket.outcomes += bucket.log.outcomes

    def check(group: tuple[str, list[Info]]) -> CheckedJob:
        job, infos = group
        before = (already_checked or {}).get(job)
        if before is not None and before.seen == jobs.listing_digest(infos):
            return before
        return jobs.check(job, infos, sources, bucket.log, since)

    with ThreadPoolExecutor(workers) as pool:
        groups = listing.group_by_job(sources)
        while batch := list(itertools.islice(groups, _JOBS_AT_ONCE)):
            for checked in pool.map(check, batch):
                bucket.jobs.append(checked)
                on_checked(checked)
    bucket.objects, bucket.bytes = listing.objects, listing.bytes
    bucket.outcomes += _check_completeness(bucket, listing, sources)
    return bucket


@dataclass(slots=True)
class _Listing:
    """One pass over all keys. They come in order, so the objects of a job are adjacent."""

    objects: int = 0
    bytes: int = 0
    unknown: list[str] = field(default_factory=list)
    events: dict[str, str] = field(default_factory=dict)
    traces: set[str] = field(default_factory=set)
    marks: set[str] = field(default_factory=set)

    def group_by_job(self, sources: Sources) -> Iterator[tuple[str, list[Info]]]:
        """Yield each job with all objects in its folder."""
        in_folders = (info for info in sources.results.list("") if self._add(info))
        for job, infos in itertools.groupby(in_folders, key=lambda info: job_id_of(info.key)):
            yield job, list(infos)

    def _add(self, info: Info) -> bool:
        """Count an object; return True if it is in the folder of a job."""
        self.objects += 1
        self.bytes += info.size
        matches = (pattern.fullmatch(info.key) for pattern in RESULTS_PATTERNS)
        match = next(filter(None, matches), None)
        if match is None:
            self.unknown.append(info.key)
            return False
        groups = match.groupdict()
        if "event" in groups:
            self.events[groups["event"]] = info.key
        elif "trace" in groups:
            self.traces.add(groups["trace"])
        elif "mark" in groups:
            self.marks.add(groups["mark"])
        return info.key.startswith(OUTPUTS)


def _check_completeness(
    bucket: AuditedBucket, listing: _Listing, sources: Sources
) -> list[Outcome]:
    """Run check 10 on what the folder of a job does not show."""
    job_ids = {checked.job for checked in bucket.jobs}
    failures = [failed(COMPLETENESS, "OBJECT_UNCLAIMED", key=key) for key in listing.unknown]
    for name in listing.events.keys() - job_ids - listing.traces:
        failures.append(failed(COMPLETENESS, "OBJECT_UNCLAIMED", key=listing.events[name]))
    queued = set(log.list_queued(sources.control)) if sources.control else set()
    for job in sorted((bucket.log.entries.keys() | queued) - job_ids):
        failures.append(failed(COMPLETENESS, "RESULT_MISSING", key=result_key(job)))
    payloads = {payload for checked in bucket.jobs for payload in checked.marks}
    for payload in sorted(listing.marks - payloads):
        # An item that was marked and then failed keeps its payload.
        mark = registry.resolve(sources.results, int(payload, 16))
        if mark is None or not (mark.job in job_ids or is_in_progress(sources, mark.job)):
            key = mark_key(int(payload, 16))
            failures.append(failed(COMPLETENESS, "OBJECT_UNCLAIMED", key=key))
    return failures or [passed(COMPLETENESS)]
