"""The whole job, top to bottom.

    manifest -> claim -> voices (fetch, consent, decode, prepare, enrol)
             -> items (speak, watermark, read back, label, seal, put once)
             -> result.json (put once: the commit marker) -> queued for the log

A job of many items is cut into shards after its voices were enrolled; core/batch/worker.py goes on.

Safe to repeat, by anybody, at any time: every write that counts is a put-once, and whoever comes
second takes over what the first one wrote. The event is written after this, from the result alone
(`events/`).
"""

from __future__ import annotations

import msgspec

from core import dry_run
from core.batch import plan
from core.errors import JobError, Refused
from core.job import dead_letter, each_item, enrolment, reuse, waiting
from core.job.commit import (
    ReceivedManifest,
    commit_result,
    committed_result,
    part_reader,
    read_manifest,
)
from core.job.lease import Lease
from core.job.runtime import Runtime, Stopwatch
from core.job.waiting import Shared, Waiting
from core.joined import assemble
from core.manifest import resolve as jobs
from core.manifest.parse import ParsedManifest
from core.manifest.resolve import Job
from core.result import document as result
from core.result.document import Result, Status
from core.result.item_result import ItemResult, Problem
from core.storage.object_keys import SEALED_SUFFIX, job_prefix
from core.version import VERSION


def run(key: str, runtime: Runtime) -> Result:
    """Carry out the manifest at `key` of the inbox, or return the result it already has.

    Raises Waiting; Shared (the shards go on); Refused MANIFEST_GONE; Unavailable (call again),
    Misconfigured (mend, then call again). Everything else that is wrong stands in the result.
    """
    order = read_manifest(key, runtime)
    if finished := committed_result(order.job_id, runtime):
        return finished
    with Lease.acquire(
        runtime.control, order.job_id, runtime.worker, runtime.lease_seconds
    ) as lease:
        if finished := committed_result(order.job_id, runtime):
            return finished
        if lease.attempt > runtime.max_attempts and _is_lost(order, lease, runtime):
            return commit_result(
                _draft("failed", order, runtime, each_item.exhausted(runtime)), runtime
            )
        with dead_letter.remembering(order.job_id, order.manifest, lease, runtime.control):
            draft = _carry_out(order, lease, runtime)
            lease.check()
            return commit_result(draft, runtime)


def _carry_out(order: ReceivedManifest, lease: Lease, runtime: Runtime) -> Result:
    watch = Stopwatch(runtime, order.job_id)
    try:
        written = _read(order)
        job = jobs.resolve(written)
        plan.refuse_joining(written, runtime)
        kept = _kept(job, runtime)
        asked = reuse.without(job, kept)
        if job.mode == "run":
            _count(order, asked, runtime)
    except Refused as exc:
        return _draft("rejected", order, runtime, exc)
    draft = msgspec.structs.replace(
        _draft("failed", order, runtime),
        id=job.id,
        labels=job.labels,
        notices=job.notices,
        retry_of=job.retry_of,
    )
    if shards := plan.complete_shard_count(runtime.control, order.job_id, runtime.keys.verifying):
        raise Shared(order.job_id, shards)
    _wait_for_references(order, asked, runtime)
    if job.mode == "validate":
        return dry_run.rehearse(draft, job, kept, watch, runtime)
    voices, used = enrolment.of_job(asked, enrolment.enrol, runtime, watch)
    engine = enrolment.engine_of(voices, runtime)
    draft = msgspec.structs.replace(draft, engine=engine, voices=used)
    if len(written.entries) > runtime.shard_items:
        raise plan.write_shards(draft, written, kept, watch, lease, runtime)
    made = each_item.make_all(job, voices, kept, order.job_id, lease, runtime)
    totals = result.count_totals(made, {one.id: len(one.text) for one in job.items})
    joined = assemble.join(job, made, order.job_id, lease, runtime)
    return msgspec.structs.replace(
        draft,
        status=result.overall_status(totals, joined),
        totals=totals,
        items=made,
        chapters=joined,
        stages=result.stage_seconds(watch.seconds, [*made, *joined]),
    )


def _kept(job: Job, runtime: Runtime) -> dict[str, ItemResult]:
    """What the job that this one repeats has made of its items, by their ids."""
    if not job.retry_of:
        return {}
    before = committed_result(job.retry_of, runtime)
    if before is None:
        raise Refused("RETRY_UNKNOWN", pointer="/retry_of")
    return reuse.kept(job, before, part_reader(runtime), runtime)


def _draft(
    status: Status, order: ReceivedManifest, runtime: Runtime, error: JobError | None = None
) -> Result:
    return Result(
        job_id=order.job_id,
        status=status,
        manifest=order.manifest,
        processor=VERSION,
        started=result.format_timestamp(runtime.control.now()),
        finished="",
        consent_policy=runtime.consent,
        error=Problem.from_error(error) if error else None,
    )


def _read(order: ReceivedManifest) -> ParsedManifest:
    if order.refused:
        raise order.refused
    return jobs.parse_manifest(order.data, lines=order.manifest.key.endswith(".jsonl"))


def _count(order: ReceivedManifest, job: Job, runtime: Runtime) -> None:
    """Refused QUOTA_EXCEEDED if the producer has had enough for the day."""
    characters = sum(len(one.text) for one in job.items)
    runtime.quota.admit(runtime.control, order.job_id, order.manifest.key, order.stored, characters)


def _wait_for_references(order: ReceivedManifest, job: Job, runtime: Runtime) -> None:
    """Raise Waiting until the deadline; after it the voices say REF_NOT_FOUND themselves."""
    control, manifest = runtime.control, order.manifest.key
    absent = enrolment.missing(job, runtime)
    since = [waiting.mark(control, key, order.job_id, manifest) for key in absent]
    # Looked for again: what arrived before its mark was written found nobody to awaken.
    if since and (absent := enrolment.missing(job, runtime)):
        until = min(since) + job.wait_s
        if control.now() < until:
            raise Waiting(order.job_id, absent, until)


def _is_lost(order: ReceivedManifest, lease: Lease, runtime: Runtime) -> bool:
    """Attempts are used up: whether nothing of the job can be saved. Else it is carried out without
    speaking, so that what is stored counts; unless that breaks off as often again."""
    # Workers that were killed could not say how far they came; what they stored does.
    listed = runtime.results.list(job_prefix(order.job_id))
    stored = sum(info.key.endswith(SEALED_SUFFIX) for info in listed)
    lease.progress(stored)
    lease.renew()
    lease.check()
    if lease.attempt <= runtime.max_attempts:
        return False
    dead_letter.write(runtime.control, order.job_id, order.manifest, each_item.exhausted(runtime))
    lease.check()
    return not stored or lease.attempt > 2 * runtime.max_attempts
