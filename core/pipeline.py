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
from core.job.runtime import Stopwatch, Studio
from core.job.waiting import Shared, Waiting
from core.joined import assemble
from core.manifest import resolve as jobs
from core.manifest.parse import Draft
from core.manifest.resolve import Job
from core.result import document as result
from core.result.document import Result, Status
from core.result.item_result import ItemResult, Problem
from core.version import VERSION


def run(key: str, studio: Studio) -> Result:
    """Carry out the manifest at `key` of the inbox, or return the result it already has.

    Raises Waiting; Shared (the shards go on); Refused MANIFEST_GONE; Unavailable (call again),
    Misconfigured (mend, then call again). Everything else that is wrong stands in the result.
    """
    order = read_manifest(key, studio)
    if finished := committed_result(order.job_id, studio):
        return finished
    with Lease.acquire(studio.control, order.job_id, studio.worker, studio.lease_seconds) as lease:
        if finished := committed_result(order.job_id, studio):
            return finished
        if lease.attempt > studio.max_attempts and _is_lost(order, lease, studio):
            return commit_result(
                _draft("failed", order, studio, each_item.exhausted(studio)), studio
            )
        with dead_letter.remembering(order.job_id, order.manifest, lease, studio.control):
            draft = _carry_out(order, lease, studio)
            lease.check()
            return commit_result(draft, studio)


def _carry_out(order: ReceivedManifest, lease: Lease, studio: Studio) -> Result:
    watch = Stopwatch(studio, order.job_id)
    try:
        written = _read(order)
        job = jobs.resolve(written)
        plan.refuse_joining(written, studio)
        kept = _kept(job, studio)
        asked = reuse.without(job, kept)
        if job.mode == "run":
            _count(order, asked, studio)
    except Refused as exc:
        return _draft("rejected", order, studio, exc)
    draft = msgspec.structs.replace(
        _draft("failed", order, studio),
        id=job.id,
        labels=job.labels,
        notices=job.notices,
        retry_of=job.retry_of,
    )
    if shards := plan.planned(studio.control, order.job_id, studio.keys.verifying):
        raise Shared(order.job_id, shards)
    _wait_for_references(order, asked, studio)
    if job.mode == "validate":
        return dry_run.rehearse(draft, job, kept, watch, studio)
    voices, used = enrolment.of_job(asked, enrolment.enrol, studio, watch)
    engine = enrolment.engine_of(voices, studio)
    draft = msgspec.structs.replace(draft, engine=engine, voices=used)
    if len(written.entries) > studio.shard_items:
        raise plan.share_out(draft, written, kept, watch, lease, studio)
    made = each_item.make_all(job, voices, kept, order.job_id, lease, studio)
    totals = result.totals_of(made, {one.id: len(one.text) for one in job.items})
    joined = assemble.join(job, made, order.job_id, lease, studio)
    return msgspec.structs.replace(
        draft,
        status=result.status_of(totals, joined),
        totals=totals,
        items=made,
        chapters=joined,
        stages=result.stages_of(watch.seconds, [*made, *joined]),
    )


def _kept(job: Job, studio: Studio) -> dict[str, ItemResult]:
    """What the job that this one repeats has made of its items, by their ids."""
    if not job.retry_of:
        return {}
    before = committed_result(job.retry_of, studio)
    if before is None:
        raise Refused("RETRY_UNKNOWN", pointer="/retry_of")
    return reuse.kept(job, before, part_reader(studio), studio)


def _draft(
    status: Status, order: ReceivedManifest, studio: Studio, error: JobError | None = None
) -> Result:
    return Result(
        job_id=order.job_id,
        status=status,
        manifest=order.manifest,
        processor=VERSION,
        started=result.timestamp(studio.control.now()),
        finished="",
        consent_policy=studio.consent,
        error=Problem.of(error) if error else None,
    )


def _read(order: ReceivedManifest) -> Draft:
    if order.refused:
        raise order.refused
    return jobs.read(order.data, lines=order.manifest.key.endswith(".jsonl"))


def _count(order: ReceivedManifest, job: Job, studio: Studio) -> None:
    """Refused QUOTA_EXCEEDED if the producer has had enough for the day."""
    characters = sum(len(one.text) for one in job.items)
    studio.quota.admit(studio.control, order.job_id, order.manifest.key, order.stored, characters)


def _wait_for_references(order: ReceivedManifest, job: Job, studio: Studio) -> None:
    """Raise Waiting until the deadline; after it the voices say REF_NOT_FOUND themselves."""
    control, manifest = studio.control, order.manifest.key
    absent = enrolment.missing(job, studio)
    since = [waiting.mark(control, key, order.job_id, manifest) for key in absent]
    # Looked for again: what arrived before its mark was written found nobody to awaken.
    if since and (absent := enrolment.missing(job, studio)):
        until = min(since) + job.wait_s
        if control.now() < until:
            raise Waiting(order.job_id, absent, until)


def _is_lost(order: ReceivedManifest, lease: Lease, studio: Studio) -> bool:
    """Attempts are used up: whether nothing of the job can be saved. Else it is carried out without
    speaking, so that what is stored counts; unless that breaks off as often again."""
    # Workers that were killed could not say how far they came; what they stored does.
    listed = studio.results.list(f"out/{order.job_id}/")
    stored = sum(info.key.endswith(".sealed") for info in listed)
    lease.progress(stored)
    lease.renew()
    lease.check()
    if lease.attempt <= studio.max_attempts:
        return False
    dead_letter.write(studio.control, order.job_id, order.manifest, each_item.exhausted(studio))
    lease.check()
    return not stored or lease.attempt > 2 * studio.max_attempts
