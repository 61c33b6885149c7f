"""Audit a whole results bucket: every job, and the objects that belong to no job. Read-only."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from core.audit import jobs, log_snapshot, withdrawals
from core.audit.log_snapshot import LogSnapshot
from core.audit.model import (
    COMPLETENESS,
    SIGNATURE,
    CheckedJob,
    Outcome,
    attempt,
    failed,
    passed,
    skipped,
)
from core.audit.sources import Sources, is_in_progress
from core.consent.withdrawal import WithdrawalNote
from core.errors import Refused
from core.storage.object_keys import (
    OUTPUTS,
    RESULTS_PATTERNS,
    WITHDRAWN,
    event_key,
    job_id_of,
    mark_key,
    result_key,
    trace_key,
)
from core.storage.port import Info
from core.tlog import log
from core.tlog.leaf import document_key_of
from core.trace import registry, trace

_JOBS_AT_ONCE = 256
"""Jobs that are queued for the threads at a time, to bound memory."""


@dataclass(slots=True)
class AuditedBucket:
    """The outcomes of an audit."""

    log: LogSnapshot
    jobs: list[CheckedJob] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    """Outcomes for the bucket as a whole."""
    withdrawals: list[WithdrawalNote] = field(default_factory=list)
    """Every genuine note that consent was withdrawn, without its signature."""
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
    bucket.outcomes += log_snapshot.find_refused_leaves(sources, bucket.log)

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
    queued = log.list_queued(sources.control) if sources.control else ()
    logged = set(map(document_key_of, [*bucket.log.entries, *queued]))
    bucket.withdrawals, outcomes = withdrawals.check(
        listing.withdrawals,
        {key for key in logged if key.startswith(WITHDRAWN)},
        sources,
        bucket.log,
    )
    bucket.outcomes += outcomes
    bucket.outcomes += _check_completeness(bucket, listing, logged, sources)
    bucket.outcomes += _check_traces(listing, sources)
    return bucket


@dataclass(slots=True)
class _Listing:
    """One pass over all keys. They come in order, so the objects of a job are adjacent."""

    objects: int = 0
    bytes: int = 0
    unknown: list[str] = field(default_factory=list)
    events: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """Name of a job or trace -> keys of its events."""
    traces: set[str] = field(default_factory=set)
    marks: set[str] = field(default_factory=set)
    withdrawals: dict[str, Info] = field(default_factory=dict)
    """Every object under `withdrawn/`."""

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
            self.events[groups["event"]].append(info.key)
        elif "trace" in groups:
            self.traces.add(groups["trace"])
        elif "mark" in groups:
            self.marks.add(groups["mark"])
        elif info.key.startswith(WITHDRAWN):
            self.withdrawals[info.key] = info
        return info.key.startswith(OUTPUTS)


def _check_completeness(
    bucket: AuditedBucket, listing: _Listing, logged: set[str], sources: Sources
) -> list[Outcome]:
    """Run check 10 on what the folder of a job does not show. `logged`: keys of the documents that
    are logged or queued."""
    job_ids = {checked.job for checked in bucket.jobs}
    failures = [failed(COMPLETENESS, "OBJECT_UNCLAIMED", key=key) for key in listing.unknown]
    for key in _find_unexplained_events(bucket, listing):
        failures.append(failed(COMPLETENESS, "OBJECT_UNCLAIMED", key=key))
    for job in sorted({job_id_of(key) for key in logged if key.startswith(OUTPUTS)} - job_ids):
        failures.append(failed(COMPLETENESS, "RESULT_MISSING", key=result_key(job)))
    payloads = {payload for checked in bucket.jobs for payload in checked.marks}
    for payload in sorted(listing.marks - payloads):
        if not _is_of_a_failed_item(int(payload, 16), job_ids, sources):
            key = mark_key(int(payload, 16))
            failures.append(failed(COMPLETENESS, "OBJECT_UNCLAIMED", key=key))
    return failures or [passed(COMPLETENESS)]


def _find_unexplained_events(bucket: AuditedBucket, listing: _Listing) -> Iterator[str]:
    """Yield the keys of events that are not those of a job or trace in the bucket."""
    finished = {checked.job: checked.finished for checked in bucket.jobs}
    for name, keys in sorted(listing.events.items()):
        if name in listing.traces:
            continue
        for key in keys:
            # The time is unknown of a job without a genuine result, which is a finding by itself.
            if name not in finished or (finished[name] and key != event_key(name, finished[name])):
                yield key


def _check_traces(listing: _Listing, sources: Sources) -> Iterator[Outcome]:
    """Run check 1 on the reports of traces."""
    for trace_id in sorted(listing.traces):
        key = trace_key(trace_id)
        with attempt(SIGNATURE, key) as checking:
            data = sources.results.get(key, limit=trace.MAX_BYTES).data
            if trace.is_unsigned(data):
                checking.outcome = skipped(SIGNATURE, "NOT_SIGNED", key=key)
            elif trace.read_report(data, trace_id, sources.keys.verifying) is None:
                raise Refused("SIGNATURE_INVALID", "It is not the report of this trace.")
        if checking.outcome.verdict != "pass":
            yield checking.outcome


def _is_of_a_failed_item(payload: int, job_ids: set[str], sources: Sources) -> bool:
    """Return whether a mark that no result names is explained: an item that was marked and then
    failed keeps its payload. Without the watermark key, a mark of version 0.1.0 is taken for one.
    """
    keys = sources.keys
    stored = registry.read(sources.results, payload, keys.verifying)
    if stored is None:
        return False
    mark, marks = stored.mark, keys.watermark.values()
    if not stored.is_signed and marks and not registry.is_derived(mark, payload, marks):
        return False
    return mark.job in job_ids or is_in_progress(sources, mark.job)
