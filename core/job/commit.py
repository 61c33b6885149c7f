"""The beginning and the end of a job: its manifest is read once, and its result is written once.

The result is the commit marker of the job: it is put once, and its presence means finished. A
worker that finds a stored result returns that one instead of its own.

A result of another job that was copied to the key is not the marker, although we signed it: the job
is made, and its own result replaces the copy.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import msgspec

from core.documents import signed
from core.errors import JobError, Notice, Refused
from core.job.lease import read_helper
from core.job.runtime import Run, Runtime, Stopwatch
from core.manifest import resolve
from core.manifest.resolve import Job
from core.result import document
from core.result.cost import Cost
from core.result.document import ManifestRef, Result, Status
from core.result.item_result import Chapter, ItemResult, Problem
from core.storage.object_keys import pending_key, result_key
from core.storage.port import put_once_or_read
from core.text.annotated import count_spoken
from core.tlog import log as tamper_log
from core.tlog.leaf import Leaf
from core.tlog.sequencer import enqueue
from core.version import VERSION

log = logging.getLogger("voicedrop.results")

RESULT_LIMIT = 512 << 20
"""Largest result document or part, in bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedManifest:
    """A manifest as it was read."""

    job_id: str
    ref: ManifestRef
    """Bucket, key, digest and size, as the result states them."""
    data: bytes
    stored: float
    """When it was stored, in Unix seconds by the store's clock."""
    refused: Refused | None = None
    """Why its content was not read; None if it was."""


def read_manifest(key: str, runtime: Runtime) -> ReceivedManifest:
    """Read a manifest from the inbox, once: these bytes are the job, even if the object is replaced
    later.

    Raises Refused MANIFEST_GONE.
    """
    limit = resolve.LIMITS.manifest_bytes
    refused = None
    try:
        stored = runtime.inbox.get(key, limit=limit)
        info, data = stored.info, stored.data
    except Refused as exc:
        unread = runtime.inbox.head(key) if exc.code == "OBJECT_TOO_LARGE" else None
        if unread is None:
            raise Refused("MANIFEST_GONE", pointer=key) from exc
        info = unread
        refused = Refused("MANIFEST_TOO_LARGE", f"{info.size} bytes; at most {limit}.", pointer=key)
        data = b"voicedrop/unread/1 " + info.etag.encode()  # the job id needs some content
    digest = hashlib.sha256(data).hexdigest()
    return ReceivedManifest(
        job_id=resolve.job_id(runtime.inbox.name, key, data),
        ref=ManifestRef(bucket=runtime.inbox.name, key=key, sha256=digest, size=info.size),
        data=data,
        stored=info.modified,
        refused=refused,
    )


def new_result(manifest: ReceivedManifest, job: Job, runtime: Runtime) -> Result:
    """The result of an accepted job before anything is made."""
    return msgspec.structs.replace(
        _empty_result("failed", manifest, runtime),
        id=job.id,
        labels=job.labels,
        notices=job.notices,
        retry_of=job.retry_of,
        lexicons=job.lexicons,
    )


def add_items(
    result: Result,
    job: Job,
    items: list[ItemResult],
    chapters: list[Chapter],
    notices: list[Notice],
    stopwatch: Stopwatch,
) -> Result:
    """The result with all items and joined files, and the status that follows from them."""
    lengths = {item.id: count_spoken(item.text) for item in job.items}
    totals = document.count_totals(items, lengths)
    return msgspec.structs.replace(
        result,
        status=document.overall_status(totals, chapters),
        totals=totals,
        error=cancellation_error(item.error.code for item in items if item.error),
        items=items,
        chapters=chapters,
        notices=[*result.notices, *notices],
        stages=document.stage_seconds(stopwatch.seconds, [*items, *chapters]),
    )


def cancellation_error(codes: Iterable[str]) -> Problem | None:
    """The error of a job of which items were cancelled. `codes`: those of its items."""
    return Problem.from_error(Refused("JOB_CANCELLED")) if "JOB_CANCELLED" in codes else None


def read_result(job_id: str, runtime: Runtime) -> Result | None:
    """Return the result of a finished job; None if the job is not finished.

    Raises Refused SIGNATURE_INVALID if the object is not a result signed with one of our keys.
    """
    key = result_key(job_id)
    if runtime.results.head(key) is None:
        return None
    return _verify_result(job_id, runtime.results.get(key, limit=RESULT_LIMIT).data, runtime)


def commit_run(result: Result, run: Run) -> Result:
    """Commit the result of a job that this worker has carried out, with what it cost.

    Raises Unavailable LEASE_LOST.
    """
    run.lease.check()
    return commit_result(msgspec.structs.replace(result, cost=_cost(run)), run.runtime)


def _cost(run: Run) -> Cost | None:
    """What all attempts that are known have cost so far, those of a helper included; None without a
    price table."""
    prices, lease = run.runtime.prices, run.lease
    if prices is None:
        return None
    helper = read_helper(run.runtime.control, run.job_id, run.runtime.keys)
    seconds, calls = (helper.seconds, helper.calls) if helper else (0.0, 0)
    return prices.cost(lease.seconds + seconds, lease.calls + calls)


def commit_result(result: Result, runtime: Runtime) -> Result:
    """Sign and store the result, unless another worker has; return the one that is stored.

    If it is this one, the outputs that it says are removed are deleted.
    """
    finished = document.format_timestamp(runtime.control.now())
    data = signed.sign(msgspec.structs.replace(result, finished=finished), runtime.keys.signing)
    key = result_key(result.job_id)
    stored = put_once_or_read(runtime.results, key, data, limit=RESULT_LIMIT)
    if stored != data:
        if earlier := _verify_result(result.job_id, stored, runtime):
            return earlier
        runtime.results.put(key, data)
    enqueue(runtime.control, _leaf_of(result.job_id, data))
    for removed in document.removed_keys(result.items, result.notices):
        runtime.results.delete(removed)
    for voice in result.voices.values():
        for key in (voice.reference, *(one.reference for one in voice.aux)):
            runtime.control.delete(pending_key(key, result.job_id))
    return document.parse_result(data)


def commit_failure(
    status: Literal["rejected", "failed"], manifest: ReceivedManifest, error: JobError, run: Run
) -> Result:
    """Commit a job of which nothing was made: refused as a whole, or given up."""
    return commit_run(failed_result(status, manifest, error, run.runtime), run)


def failed_result(
    status: Literal["rejected", "failed"],
    manifest: ReceivedManifest,
    error: JobError,
    runtime: Runtime,
) -> Result:
    """The result of a job of which nothing was made."""
    empty = _empty_result(status, manifest, runtime)
    return msgspec.structs.replace(empty, error=Problem.from_error(error))


def part_reader(runtime: Runtime) -> Callable[[str], bytes]:
    """A function that reads the parts of a result, for `document.read_items`."""
    return lambda key: runtime.results.get(key, limit=RESULT_LIMIT).data


def _verify_result(job_id: str, data: bytes, runtime: Runtime) -> Result | None:
    """Verify and parse a stored result; queue it for the log, unless it is in the log already.
    Return None for the result of another job."""
    try:
        result = signed.read(data, Result, runtime.keys.verifying)
    except Refused as exc:
        raise Refused(exc.code, exc.message, pointer=result_key(job_id)) from exc
    if result.job_id != job_id:
        extra = {"key": result_key(job_id), "job": result.job_id}
        log.warning("The result of another job is stored here.", extra=extra)
        return None
    leaf = _leaf_of(job_id, data)
    if not tamper_log.has_proof(runtime.results, leaf, runtime.keys.verifying.values()):
        enqueue(runtime.control, leaf)
    return result


def _leaf_of(job_id: str, data: bytes) -> Leaf:
    return Leaf(job=job_id, result_sha256=hashlib.sha256(data).hexdigest())


def _empty_result(status: Status, manifest: ReceivedManifest, runtime: Runtime) -> Result:
    return Result(
        job_id=manifest.job_id,
        status=status,
        manifest=manifest.ref,
        processor=VERSION,
        started=document.format_timestamp(runtime.control.now()),
        finished="",
        consent_policy=runtime.consent,
    )
