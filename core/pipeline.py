"""The whole job, top to bottom.

    manifest -> claim -> voices (fetch, consent, decode, prepare, enrol)
             -> items (speak, watermark, read back, label, seal, put once)
             -> result.json (put once: the commit marker) -> queued for the log

A job of many items is cut into shards after its voices were enrolled; core/batch.py goes on.

Safe to repeat, by anybody, at any time: every write that counts is a put-once, and whoever comes
second takes over what the first one wrote. The event is written after this, from the result alone
(`events/`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from core import (
    deadletter,
    earlier,
    enrolment,
    items,
    joining,
    pending,
    rehearsal,
    result,
    shard,
    sign,
)
from core import job as jobs
from core.claim import Lease
from core.draft import Draft
from core.errors import JobError, Refused, Unavailable
from core.job import Job
from core.log import Leaf, enqueue, proof_key
from core.outcome import ItemResult, Problem
from core.pending import Waiting
from core.result import ManifestRef, Result, Status
from core.shard import Shared
from core.studio import Stopwatch, Studio
from core.version import VERSION

RESULT_LIMIT = 512 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A manifest that was read: what there is to do, and under which name."""

    job_id: str
    manifest: ManifestRef
    data: bytes
    stored: float
    """When the manifest was, in Unix seconds by the store's clock."""
    refused: Refused | None = None
    """Why it was not even read."""


def run(key: str, studio: Studio) -> Result:
    """Carry out the manifest at `key` of the inbox, or return the result it already has.

    Raises Waiting; Shared (the shards go on); Refused MANIFEST_GONE; Unavailable (call again),
    Misconfigured (mend, then call again). Everything else that is wrong stands in the result.
    """
    order = read(key, studio)
    if finished := committed(order.job_id, studio):
        return finished
    with Lease.acquire(studio.control, order.job_id, studio.worker, studio.lease_seconds) as lease:
        if finished := committed(order.job_id, studio):
            return finished
        if lease.attempt > studio.max_attempts and _is_lost(order, lease, studio):
            return commit(_draft("failed", order, studio, items.exhausted(studio)), studio)
        with deadletter.remembering(order.job_id, order.manifest, lease, studio.control):
            draft = _carry_out(order, lease, studio)
            lease.check()
            return commit(draft, studio)


def read(key: str, studio: Studio) -> Order:
    """Get the manifest once; these bytes are the job, whatever lies at the key later."""
    limit = jobs.LIMITS.manifest_bytes
    refused = None
    try:
        found = studio.inbox.get(key, limit=limit)
        info, data = found.info, found.data
    except Refused as exc:
        unread = studio.inbox.head(key) if exc.code == "OBJECT_TOO_LARGE" else None
        if unread is None:
            raise Refused("MANIFEST_GONE", pointer=key) from exc
        info = unread
        refused = Refused("MANIFEST_TOO_LARGE", f"{info.size} bytes; at most {limit}.", pointer=key)
        data = b"voicedrop/unread/1 " + info.etag.encode()  # names the job in place of the content
    digest = hashlib.sha256(data).hexdigest()
    return Order(
        job_id=jobs.job_id(studio.inbox.name, key, data),
        manifest=ManifestRef(bucket=studio.inbox.name, key=key, sha256=digest, size=info.size),
        data=data,
        stored=info.modified,
        refused=refused,
    )


def committed(job_id: str, studio: Studio) -> Result | None:
    """The result of a finished job. Refused SIGNATURE_INVALID if it is not one of ours.

    A job that broke off between its result and its leaf is queued for the log here.
    """
    key = result.result_key(job_id)
    if studio.results.head(key) is None:
        return None
    data = studio.results.get(key, limit=RESULT_LIMIT).data
    sign.check(data, studio.keys.verifying)
    if studio.results.head(proof_key(job_id)) is None:
        _queue(job_id, data, studio)
    return result.parse(data)


def _queue(job_id: str, document: bytes, studio: Studio) -> None:
    digest = hashlib.sha256(document).hexdigest()
    enqueue(studio.control, Leaf(job=job_id, result_sha256=digest))


def _carry_out(order: Order, lease: Lease, studio: Studio) -> Result:
    watch = Stopwatch(studio, order.job_id)
    try:
        written = _read(order)
        job = jobs.resolve(written)
        shard.refuse_joining(written, studio)
        kept = _kept(job, studio)
        asked = earlier.without(job, kept)
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
    if shards := shard.planned(studio.control, order.job_id, studio.keys.verifying):
        raise Shared(order.job_id, shards)
    _wait_for_references(order, asked, studio)
    if job.mode == "validate":
        return rehearsal.rehearse(draft, job, kept, watch, studio)
    voices, used = enrolment.of_job(asked, enrolment.enrol, studio, watch)
    engine = enrolment.engine_of(voices, studio)
    draft = msgspec.structs.replace(draft, engine=engine, voices=used)
    if len(written.entries) > studio.shard_items:
        raise shard.share_out(draft, written, kept, watch, lease, studio)
    made = items.make_all(job, voices, kept, order.job_id, lease, studio)
    totals = result.totals_of(made, {one.id: len(one.text) for one in job.items})
    joined = joining.join(job, made, order.job_id, lease, studio)
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
    before = committed(job.retry_of, studio)
    if before is None:
        raise Refused("RETRY_UNKNOWN", pointer="/retry_of")
    return earlier.kept(job, before, fetching(studio), studio)


def fetching(studio: Studio) -> Callable[[str], bytes]:
    """How the parts of a result are read."""
    return lambda key: studio.results.get(key, limit=RESULT_LIMIT).data


def _draft(status: Status, order: Order, studio: Studio, error: JobError | None = None) -> Result:
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


def _read(order: Order) -> Draft:
    if order.refused:
        raise order.refused
    return jobs.read(order.data, lines=order.manifest.key.endswith(".jsonl"))


def _count(order: Order, job: Job, studio: Studio) -> None:
    """Refused QUOTA_EXCEEDED if the producer has had enough for the day."""
    characters = sum(len(one.text) for one in job.items)
    studio.quota.admit(studio.control, order.job_id, order.manifest.key, order.stored, characters)


def _wait_for_references(order: Order, job: Job, studio: Studio) -> None:
    """Raise Waiting until the deadline; after it the voices say REF_NOT_FOUND themselves."""
    control, manifest = studio.control, order.manifest.key
    absent = enrolment.missing(job, studio)
    since = [pending.mark(control, key, order.job_id, manifest) for key in absent]
    # Looked for again: what arrived before its mark was written found nobody to awaken.
    if since and (absent := enrolment.missing(job, studio)):
        until = min(since) + job.wait_s
        if control.now() < until:
            raise Waiting(order.job_id, absent, until)


def commit(draft: Result, studio: Studio) -> Result:
    """Write the result once; whoever comes second returns what the first one wrote."""
    finished = result.timestamp(studio.control.now())
    document = sign.sign(msgspec.structs.replace(draft, finished=finished), studio.keys.signing)
    if not studio.results.put_once(result.result_key(draft.job_id), document):
        winner = committed(draft.job_id, studio)
        if winner is None:
            raise Unavailable("STORAGE_UNAVAILABLE", "a result is there and is not there")
        return winner
    _queue(draft.job_id, document, studio)
    for voice in draft.voices.values():
        studio.control.delete(pending.mark_key(voice.reference, draft.job_id))
    return result.parse(document)


def _is_lost(order: Order, lease: Lease, studio: Studio) -> bool:
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
    deadletter.write(studio.control, order.job_id, order.manifest, items.exhausted(studio))
    lease.check()
    return not stored or lease.attempt > 2 * studio.max_attempts
