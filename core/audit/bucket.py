"""The walk over a whole bucket: every job, and what belongs to none. Reads, never writes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from core.audit import jobs, log_snapshot
from core.audit.log_snapshot import LogSnapshot
from core.audit.model import COMPLETENESS, CheckedJob, Outcome, failed, passed
from core.audit.sources import Sources, is_leased
from core.storage.object_keys import OUTPUTS, RESULTS_PATTERNS, job_id_of, mark_key, result_key
from core.storage.port import Info
from core.tlog import log
from core.trace import registry

_JOBS_AT_ONCE = 256
"""Jobs handed out at a time: what bounds memory."""


@dataclass(slots=True)
class AuditedBucket:
    """What an audit found."""

    book: LogSnapshot
    jobs: list[CheckedJob] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    """Of the bucket as a whole."""
    objects: int = 0
    bytes: int = 0


def audit_bucket(
    sources: Sources,
    *,
    since: str = "",
    earlier: str = "",
    workers: int = 1,
    known: Mapping[str, CheckedJob] | None = None,
    done: Callable[[CheckedJob], None] = lambda job: None,
) -> AuditedBucket:
    """Check everything. `known`: what an audit that broke off had looked at already; `done` is
    told of every job. Raises Unavailable, Misconfigured."""
    listing = _Listing()
    bucket = AuditedBucket(log_snapshot.read_log(sources, earlier))
    bucket.outcomes += bucket.book.outcomes

    def look(group: tuple[str, list[Info]]) -> CheckedJob:
        job, infos = group
        before = (known or {}).get(job)
        if before is not None and before.seen == jobs.listing_digest(infos):
            return before
        return jobs.check(job, infos, sources, bucket.book, since)

    with ThreadPoolExecutor(workers) as pool:
        groups = listing.groups(sources)
        while some := list(itertools.islice(groups, _JOBS_AT_ONCE)):
            for checked in pool.map(look, some):
                bucket.jobs.append(checked)
                done(checked)
    bucket.objects, bucket.bytes = listing.objects, listing.bytes
    bucket.outcomes += _check_completeness(bucket, listing, sources)
    return bucket


@dataclass(slots=True)
class _Listing:
    """One pass over all keys, in their order, so that the objects of a job stand together."""

    objects: int = 0
    bytes: int = 0
    foreign: list[str] = field(default_factory=list)
    events: dict[str, str] = field(default_factory=dict)
    traces: set[str] = field(default_factory=set)
    marks: set[str] = field(default_factory=set)

    def groups(self, sources: Sources) -> Iterator[tuple[str, list[Info]]]:
        """Job -> everything in its folder."""
        ours = (info for info in sources.results.list("") if self._note(info))
        for job, infos in itertools.groupby(ours, key=lambda info: job_id_of(info.key)):
            yield job, list(infos)

    def _note(self, info: Info) -> bool:
        """Whether it lies in the folder of a job."""
        self.objects += 1
        self.bytes += info.size
        match = next(
            (m for m in (form.fullmatch(info.key) for form in RESULTS_PATTERNS) if m), None
        )
        if match is None:
            self.foreign.append(info.key)
            return False
        named = match.groupdict()
        if "event" in named:
            self.events[named["event"]] = info.key
        elif "trace" in named:
            self.traces.add(named["trace"])
        elif "mark" in named:
            self.marks.add(named["mark"])
        return info.key.startswith(OUTPUTS)


def _check_completeness(
    bucket: AuditedBucket, listing: _Listing, sources: Sources
) -> list[Outcome]:
    """Check 10, for what no job's folder shows."""
    seen = {checked.job for checked in bucket.jobs}
    bad = [failed(COMPLETENESS, "OBJECT_UNCLAIMED", key=key) for key in listing.foreign]
    for name in listing.events.keys() - seen - listing.traces:
        bad.append(failed(COMPLETENESS, "OBJECT_UNCLAIMED", key=listing.events[name]))
    queued = set(log.list_queued(sources.control)) if sources.control else set()
    for job in sorted((bucket.book.leaves.keys() | queued) - seen):
        bad.append(failed(COMPLETENESS, "RESULT_MISSING", key=result_key(job)))
    used = {payload for checked in bucket.jobs for payload in checked.marks}
    for payload in sorted(listing.marks - used):
        # An item that was marked and then not released keeps its number.
        mark = registry.resolve(sources.results, int(payload, 16))
        if mark is None or not (mark.job in seen or is_leased(sources, mark.job)):
            key = mark_key(int(payload, 16))
            bad.append(failed(COMPLETENESS, "OBJECT_UNCLAIMED", key=key))
    return bad or [passed(COMPLETENESS)]
