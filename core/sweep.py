"""Find what lost notifications, killed workers, and deleted or replaced manifests leave behind.

Results do not depend on the sweeper. It makes sure that every manifest gets a result, and that
every object which does not belong to one is reported.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from typing import Literal

import msgspec

from core.errors import Refused
from core.job import commit, lease, waiting
from core.job.runtime import Runtime
from core.result.document import Result, read_items, sealed_keys
from core.storage.object_keys import (
    LEASES,
    OUTPUTS,
    PENDING,
    SEALED_SUFFIX,
    SHARDS,
    job_id_of,
    parse_shard_key,
    result_key,
    shard_name,
)
from core.storage.port import Info, Store

_JOB_ID = re.compile("[0-9a-f]{32}(?![0-9a-f])")

Kind = Literal[
    "unfinished",  # a manifest or shard that is not finished, on which no worker works
    "running",  # a worker has the lease
    "fresh",  # a new manifest, whose notification may still arrive
    "waiting",  # for a file, until its deadline
    "unannounced",  # a result without event
    "undelivered",  # an event that the operator's web server has not accepted
    "stale-work",  # shards of a job that has a result or cannot get one
    "stale-pending",  # the mark of a waiting job that does not wait any more
    "unerased",  # files that exist although a tombstone says that they were erased
    "orphans",  # outputs that the result does not name
    "abandoned",  # outputs of a job whose manifest was deleted or replaced
    "expired",  # spoken items that were kept, and whose lifetime is over
    "withdrawn",  # consent whose withdrawal was not noticed before
    "foreign",  # an object that voicedrop did not write, under a key that it reserves
]


class SweepFinding(msgspec.Struct, frozen=True, kw_only=True):
    kind: Kind
    job: str = ""
    manifest: str = ""
    detail: str = ""
    """The reason, as a sentence."""
    keys: list[str] = []
    """Keys of the objects that it concerns."""
    action: str = ""
    """What the sweeper did about it; empty: nothing."""
    error: str = ""
    """Code of the error that prevented it."""

    @property
    def is_open(self) -> bool:
        """True if the job has no result or no event yet."""
        kinds = ("unfinished", "running", "fresh", "waiting", "unannounced")
        return self.kind in kinds and not self.action


def inspect_manifest(info: Info, job_id: str, runtime: Runtime, grace: float) -> SweepFinding:
    """Report whether a worker works on a manifest without result, and if not, since when."""
    finding = _inspect_lease(job_id, runtime.inbox.now() - info.modified, runtime, grace)
    return msgspec.structs.replace(finding, job=job_id, manifest=info.key)


def _inspect_lease(name: str, age: float, runtime: Runtime, grace: float) -> SweepFinding:
    now = runtime.control.now()
    last = lease.read_last_record(runtime.control, name, runtime.keys.verifying)
    kind: Kind = "unfinished"
    if last is None:
        kind = "fresh" if age < grace else kind
        detail = f"It arrived {age:.0f} s ago and no worker has started."
    elif last.expires > now:
        kind = "running"
        detail = lease.describe_holder(last, now)
    elif last.expires:
        ago = now - last.expires
        detail = f"The lease of worker {last.worker} expired {ago:.0f} s ago, {_number(last)}."
    else:
        detail = f"The worker {last.worker} did not finish it, {_number(last)}."
    return SweepFinding(kind=kind, detail=detail)


def _number(last: lease.LeaseRecord) -> str:
    return f"attempt {last.attempt}" if last.attempt else "which is not counted as an attempt"


def inspect_shard(info: Info, job_id: str, runtime: Runtime, grace: float) -> SweepFinding:
    """Report whether a worker works on a shard without part, and if not, since when."""
    name = shard_name(job_id, parse_shard_key(info.key).number)
    finding = _inspect_lease(name, runtime.control.now() - info.modified, runtime, grace)
    return msgspec.structs.replace(finding, job=job_id, keys=[info.key])


def group_outputs_by_job(runtime: Runtime) -> Iterator[tuple[str, list[Info]]]:
    """Yield each job that has objects in the results bucket, with those objects."""
    for job_id, infos in groupby(runtime.results.list(OUTPUTS), lambda i: job_id_of(i.key)):
        yield job_id, list(infos)


def find_jobs_without_result(runtime: Runtime, before: float) -> dict[str, list[str]]:
    """Return job id -> keys of its objects, for jobs without result to which no worker has written
    since `before` (Unix seconds).

    The listings are merged as they are read, because all three are ordered by job: memory is
    needed for the returned keys alone.
    """
    listings = (
        _list_with_job_ids(runtime.results, OUTPUTS),
        _list_with_job_ids(runtime.control, LEASES),
        _list_with_job_ids(runtime.control, SHARDS),
    )
    jobs = {}
    for job_id, pairs in groupby(heapq.merge(*listings, key=itemgetter(0)), itemgetter(0)):
        infos = [info for _, info in pairs]
        has_result = any(info.key == result_key(job_id) for info in infos)
        if not has_result and all(info.modified < before for info in infos):
            outputs = [info.key for info in infos if info.key.startswith(OUTPUTS)]
            jobs[job_id] = outputs or [info.key for info in infos]
    return jobs


def _list_with_job_ids(store: Store, prefix: str) -> Iterator[tuple[str, Info]]:
    for info in store.list(prefix):
        if match := _JOB_ID.match(info.key, len(prefix)):
            yield match[0], info


def find_orphans(
    job_id: str, infos: list[Info], result: Result, runtime: Runtime
) -> SweepFinding | None:
    """Report the outputs of a finished job that its result does not name."""
    items = read_items(result, commit.part_reader(runtime))
    named = {*sealed_keys(items), *sealed_keys(result.chapters)}
    keys = [i.key for i in infos if i.key.endswith(SEALED_SUFFIX) and i.key not in named]
    if not keys:
        return None
    is_exhausted = result.error and result.error.code == "RETRIES_EXHAUSTED"
    detail = "They were made before the job was given up." if is_exhausted else "Not in the result."
    return SweepFinding(
        kind="orphans", job=job_id, manifest=result.manifest.key, keys=keys, detail=detail
    )


def find_stale_marks(runtime: Runtime) -> Iterator[SweepFinding]:
    """Yield the marks of waiting jobs that have a result, or whose manifest was deleted or
    replaced."""
    for info in runtime.control.list(PENDING):
        job_id = info.key.rpartition("/")[2]
        try:
            manifest = waiting.read_manifest_key(runtime.control, info.key)
        except Refused as exc:
            if exc.code == "OBJECT_MISSING":
                continue  # its job has just finished
            manifest = ""
        if runtime.results.head(result_key(job_id)):
            detail = "Its job has a result."
        elif not manifest or not _is_manifest_of(job_id, manifest, runtime):
            detail = "Its manifest was deleted or replaced."
        else:
            continue
        yield SweepFinding(
            kind="stale-pending", job=job_id, manifest=manifest, keys=[info.key], detail=detail
        )


def _is_manifest_of(job_id: str, key: str, runtime: Runtime) -> bool:
    try:
        return commit.read_manifest(key, runtime).job_id == job_id
    except Refused:
        return False
