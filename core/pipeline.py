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
import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

import msgspec

from core import (
    deadletter,
    enrolment,
    item,
    joining,
    parts,
    pending,
    rehearsal,
    result,
    shard,
    sign,
)
from core import job as jobs
from core.claim import Lease
from core.draft import Draft
from core.enrolment import Enrolled
from core.errors import Failed, JobError, Misconfigured, Refused, Unavailable
from core.job import Item, Job
from core.log import Leaf, enqueue, proof_key
from core.pending import Waiting
from core.result import Engine, ItemResult, ManifestRef, Part, Problem, Result, Status, VoiceUsed
from core.shard import Plan, Shared
from core.studio import Stopwatch, Studio
from core.version import VERSION

RESULT_LIMIT = 512 << 20

log = logging.getLogger("voicedrop.pipeline")


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
        if lease.attempt > studio.max_attempts:
            _count_outputs(order.job_id, lease, studio)
        if lease.attempt > studio.max_attempts:
            return _give_up(order, lease, studio)
        with remembering_why(order.job_id, order.manifest, lease, studio):
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
    sign.verify(data, studio.keys.verifying)
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
        _refuse_joining_shards(written, studio)
        kept = _kept(job, studio)
        if job.mode == "run":
            _count(order, without(job, kept), studio)
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
    asked = without(job, kept)
    _wait_for_references(order, asked, studio)
    if job.mode == "validate":
        return _rehearse(draft, job, kept, watch, studio)
    voices, used = enrol(asked, studio, watch)
    draft = msgspec.structs.replace(draft, engine=engine_of(voices, studio), voices=used)
    if len(written.entries) > studio.shard_items:
        raise _share_out(draft, written, kept, watch, lease, studio)
    items = make(job, voices, kept, order.job_id, lease, studio)
    totals = result.totals_of(items, {item.id: len(item.text) for item in job.items})
    joined = joining.join(job, items, order.job_id, lease, studio)
    return msgspec.structs.replace(
        draft,
        status=result.status_of(totals, joined),
        totals=totals,
        items=items,
        chapters=joined,
        stages=result.stages_of(watch.seconds, [*items, *joined]),
    )


def _refuse_joining_shards(written: Draft, studio: Studio) -> None:
    """Nobody sees all items of a job that is cut, with their texts, at once."""
    count, most = len(written.entries), studio.shard_items
    if written.header.output.concatenate != "none" and count > most:
        message = f"At most {most} items can be joined here, not {count}: split the job."
        raise Refused("FIELD_UNSUPPORTED", message, pointer="/output/concatenate")


def _rehearse(
    draft: Result, job: Job, kept: Collection[str], watch: Stopwatch, studio: Studio
) -> Result:
    """A dry run. Many items go into parts, for they are too many for one document."""
    done = rehearsal.rehearse(job, kept, studio, watch)
    totals = result.totals_of(done.items, {})
    draft = msgspec.structs.replace(
        draft,
        status=result.status_of(totals, dry=True),
        totals=totals,
        voices=done.voices,
        estimate=done.estimate,
        stages=watch.seconds,
    )
    if len(done.items) <= studio.shard_items:
        return msgspec.structs.replace(draft, items=done.items)
    # Nobody waits for a part of a dry run, and every file costs.
    fit = 10 * studio.shard_items
    count = parts.count(draft.job_id, studio) or -(-len(done.items) // fit)
    for number in range(count):
        items = done.items[slice(*(n * len(done.items) // count for n in (number, number + 1)))]
        totals = result.totals_of(items, {})
        part = Part(job_id=draft.job_id, number=number, of=count, totals=totals, items=items)
        parts.put(part, studio)
    found, attachments = parts.gather(draft.job_id, count, studio)
    return msgspec.structs.replace(
        draft,
        status=result.status_of(found.totals, dry=True),
        totals=found.totals,
        parts=found.refs,
        attachments=attachments,
    )


def _share_out(
    draft: Result,
    written: Draft,
    kept: Mapping[str, ItemResult],
    watch: Stopwatch,
    lease: Lease,
    studio: Studio,
) -> Shared:
    """Put the plan and then the shards, each of which starts a worker by its arrival."""
    plan = Plan(
        job_id=draft.job_id,
        manifest=draft.manifest,
        header=written.header,
        lines=isinstance(written.source, bytes),
        items=len(written.entries),
        shards=-(-len(written.entries) // studio.shard_items),
        started=draft.started,
        engine=draft.engine,
        voices=draft.voices,
        notices=draft.notices,
        stages=watch.seconds,
    )
    plan = shard.settle(studio.control, plan, studio.keys)
    for key, data in shard.cut(plan, written, kept, studio.keys.signing):
        lease.check()
        studio.control.put_once(key, data)
    return Shared(plan.job_id, plan.shards)


def _kept(job: Job, studio: Studio) -> dict[str, ItemResult]:
    """What the job that this one repeats has made of its items, by their ids."""
    if not job.retry_of:
        return {}
    earlier = committed(job.retry_of, studio)
    if earlier is None:
        raise Refused("RETRY_UNKNOWN", pointer="/retry_of")
    wanted = {wanted.id: wanted for wanted in job.items}
    made = [
        msgspec.structs.replace(one, kept_from=one.kept_from or job.retry_of)
        for one in result.items_of(earlier, fetching(studio))
        if one.output and one.id in wanted and _has_subtitles(one, wanted[one.id], job)
    ]
    sources = {one.kept_from for one in made}
    there = {i.key for source in sources for i in studio.results.list(f"out/{source}/")}
    return {one.id: one for one in made if one.output and one.output.key in there}


def _has_subtitles(earlier: ItemResult, wanted: Item, job: Job) -> bool:
    """Those that are asked for; of a joined file they are made from the times of the sentences."""
    if job.output.concatenate != "none":
        return bool(earlier.sentences) or not job.subtitle
    return set(wanted.subtitle) <= {one.format for one in earlier.subtitles}


def without(job: Job, kept: Collection[str]) -> Job:
    """The job less the items that need not be made."""
    return replace(job, items=[item for item in job.items if item.id not in kept])


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
    characters = sum(len(item.text) for item in job.items)
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


def enrol(
    job: Job, studio: Studio, watch: Stopwatch
) -> tuple[dict[str, Enrolled | JobError], dict[str, VoiceUsed]]:
    """The voices that have something to say, and what the result says of them."""
    voices: dict[str, Enrolled | JobError] = {}
    used: dict[str, VoiceUsed] = {}
    for name, spec in job.voices.items():
        languages = sorted({item.language for item in job.items if item.voice == name})
        if not languages:
            continue  # A voice that says nothing needs neither consent nor half a minute.
        try:
            voice = enrolment.enrol(name, spec, languages, studio, watch)
        except (Refused, Failed) as exc:
            voices[name] = exc
            used[name] = VoiceUsed(reference=spec.reference, error=Problem.of(exc))
            continue
        voices[name] = voice
        used[name] = VoiceUsed(
            reference=voice.reference,
            reference_sha256=voice.sha256,
            consent=voice.consent,
            match=voice.voiceprint.match,
            notices=list(voice.notices),
        )
    return voices, used


def make(
    job: Job,
    voices: Mapping[str, Enrolled | JobError],
    kept: Mapping[str, ItemResult],
    job_id: str,
    lease: Lease,
    studio: Studio,
) -> list[ItemResult]:
    """Every item of a job or of one of its shards, in the order of the manifest."""
    results = [failed(e.id, e.index, e.error) for e in job.errors]
    made = 0
    for wanted in job.items:
        lease.check()
        try:
            if earlier := kept.get(wanted.id):
                results.append(_keep(wanted, earlier))
            else:
                results.append(_make_one(wanted, voices[wanted.voice], job, job_id, studio))
            made += 1
        except (Refused, Failed) as exc:
            results.append(failed(wanted.id, wanted.index, exc, wanted))
        lease.progress(made)
    return sorted(results, key=lambda r: r.index)


def _keep(wanted: Item, earlier: ItemResult) -> ItemResult:
    return msgspec.structs.replace(earlier, index=wanted.index, meta=wanted.meta, timings={})


def _make_one(
    wanted: Item, voice: Enrolled | JobError, job: Job, job_id: str, studio: Studio
) -> ItemResult:
    if isinstance(voice, JobError):
        raise voice
    if wanted.language not in studio.voice.languages:
        spoken = ", ".join(sorted(studio.voice.languages))
        message = f"{studio.voice.name} speaks {spoken}, not {wanted.language}."
        raise Refused("LANGUAGE_UNSUPPORTED", message, pointer=f"{wanted.pointer}/language")
    try:
        return item.make(wanted, voice, job, job_id, studio)
    except (JobError, MemoryError):
        raise
    except Exception as exc:
        # One item that trips over a bug of ours must not cost the other ten thousand.
        log.exception("item failed", extra={"job": job_id, "item": wanted.id})
        raise Failed("INTERNAL", type(exc).__name__, pointer=wanted.pointer) from exc


def failed(id_: str, index: int, error: JobError, wanted: Item | None = None) -> ItemResult:
    return ItemResult(
        id=id_,
        index=index,
        status="failed",
        error=Problem.of(error),
        voice=wanted.voice if wanted else "",
        notices=list(wanted.notices) if wanted else [],
        meta=wanted.meta if wanted else None,
    )


def engine_of(voices: Mapping[str, Enrolled | JobError], studio: Studio) -> Engine | None:
    """None if no voice got as far as the engine: it need not be there to refuse a job."""
    if not any(isinstance(voice, Enrolled) for voice in voices.values()):
        return None
    return Engine(name=studio.voice.name, fingerprint=studio.voice.fingerprint)


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


def _count_outputs(job_id: str, lease: Lease, studio: Studio) -> None:
    """Workers that were killed could not say how far they came; what they stored does."""
    stored = studio.results.list(f"out/{job_id}/")
    lease.progress(sum(info.key.endswith(".sealed") for info in stored))
    lease.renew()
    lease.check()


def _give_up(order: Order, lease: Lease, studio: Studio) -> Result:
    """Attempts without progress are used up: say so for good, and keep the reasons for people."""
    error = Failed("RETRIES_EXHAUSTED", f"{studio.max_attempts} attempts made no progress.")
    deadletter.write(studio.control, order.job_id, order.manifest, error)
    lease.check()
    return commit(_draft("failed", order, studio, error), studio)


@contextmanager
def remembering_why(
    name: str, manifest: ManifestRef, lease: Lease, studio: Studio
) -> Iterator[None]:
    """Keep the last reason why an attempt broke off, for the dead letter of `name`. Waiting for a
    file or for the operator is no fault of the job and uses up no attempt."""
    try:
        yield
    except (Waiting, Shared):
        lease.forgive()
        raise
    except (Unavailable, Misconfigured) as exc:
        if isinstance(exc, Misconfigured):
            lease.forgive()
        deadletter.note(studio.control, name, manifest, exc)
        raise
