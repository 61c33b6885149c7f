"""A job that was cut into shards: each is made alone, and whoever sees the last part commits.

    shard -> claim of its own -> voices (their voiceprints are kept) -> items -> part (put once)
          -> all parts there? -> tables -> result.json (put once) -> nothing of it is left to do

Nobody coordinates: a worker that has put its part looks whether it was the last. Two may see that
at once, and then the first result stands.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from itertools import groupby

import msgspec

from core.batch import parts
from core.batch import plan as shard
from core.batch.plan import Plan, Shard
from core.errors import Notice, Refused
from core.job import commit, dead_letter, each_item, enrolment, item, subtitles
from core.job.lease import Lease
from core.job.reuse import without
from core.job.runtime import Runtime, Stopwatch
from core.manifest.resolve import Item
from core.result import document
from core.result.document import Part, Result
from core.result.item_result import ItemResult
from core.storage.object_keys import (
    SHARD_SUFFIX,
    SHARDS,
    job_id_of,
    output_key,
    parse_shard_key,
    part_key,
    plan_key,
    shard_leases_prefix,
    shards_prefix,
)
from core.storage.port import Info
from core.version import VERSION


def work(key: str, runtime: Runtime) -> Result | None:
    """Make the shard at `key` of the control bucket; the result, if with it the job is finished.

    Raises Refused OBJECT_MISSING if it is gone and its job has no result, SIGNATURE_INVALID;
    Unavailable, Misconfigured as `pipeline.run`.
    """
    job_id = parse_shard_key(key).job_id
    if finished := commit.committed_result(job_id, runtime):
        return finished
    found = shard.read(runtime.control, key, runtime.keys.verifying)
    _make(found, runtime)
    return commit_if_complete(found.plan, runtime)


def commit_if_complete(plan: Plan, runtime: Runtime) -> Result | None:
    """The result, if every part is there."""
    if len(parts.written_part_numbers(plan.job_id, runtime)) < plan.shards:
        return None
    found, attachments = parts.gather(plan.job_id, plan.shards, runtime)
    return commit.commit_result(
        Result(
            job_id=plan.job_id,
            status=document.overall_status(found.totals),
            manifest=plan.manifest,
            processor=VERSION,
            started=plan.started,
            finished="",
            consent_policy=runtime.consent,
            engine=found.engine,
            id=plan.header.id or "",
            labels=plan.header.labels,
            totals=found.totals,
            voices=found.voices,
            parts=found.refs,
            attachments=attachments,
            retry_of=plan.header.retry_of or "",
            stages=document.sum_stages(plan.stages, found.stages),
            notices=[*plan.notices, *([Notice("ENGINE_CHANGED")] if found.changed else [])],
        ),
        runtime,
    )


def clear(job_id: str, runtime: Runtime) -> int:
    """Remove what was there to be worked on; the plan last, so that what is left can be told.
    Says how many objects that were."""
    keys = [info.key for info in runtime.control.list(shards_prefix(job_id))]
    for key in sorted(keys, key=lambda key: key == plan_key(job_id)):
        runtime.control.delete(key)
    for info in list(runtime.control.list(shard_leases_prefix(job_id))):
        runtime.control.delete(info.key)
    return len(keys)


def left(runtime: Runtime) -> Iterator[tuple[str, list[Info]]]:
    """Jobs that have something in `work/`, with those objects."""
    for job_id, infos in groupby(runtime.control.list(SHARDS), lambda i: job_id_of(i.key)):
        yield job_id, list(infos)


def unfinished_shards(job_id: str, infos: list[Info], runtime: Runtime) -> list[Info]:
    """Shards of a job whose part is missing; if none is, any of them, whose worker commits."""
    done = parts.written_part_numbers(job_id, runtime)
    shards = [info for info in infos if info.key.endswith(SHARD_SUFFIX)]
    missing = [info for info in shards if parse_shard_key(info.key).number not in done]
    return missing or shards[:1]


def _make(found: Shard, runtime: Runtime) -> None:
    plan = found.plan
    key = part_key(plan.job_id, found.number)
    if runtime.results.head(key):
        return
    with Lease.acquire(runtime.control, found.name, runtime.worker, runtime.lease_seconds) as lease:
        if runtime.results.head(key):
            return
        if lease.attempt > runtime.max_attempts:
            _count_outputs(found, lease, runtime)
        given_up = lease.attempt > runtime.max_attempts
        with dead_letter.remembering(found.name, plan.manifest, lease, runtime.control):
            part = _give_up(found, runtime) if given_up else _carry_out(found, lease, runtime)
            lease.check()
            parts.put(part, runtime)


def _carry_out(found: Shard, lease: Lease, runtime: Runtime) -> Part:
    watch = Stopwatch(runtime, found.plan.job_id)
    asked = without(found.job, found.kept)
    voices, used = enrolment.of_job(asked, enrolment.enrol, runtime, watch)
    made = each_item.make_all(found.job, voices, found.kept, found.plan.job_id, lease, runtime)
    return msgspec.structs.replace(
        _part(found, made),
        engine=enrolment.engine_of(voices, runtime),
        voices=used,
        stages=document.stage_seconds(watch.seconds, made),
    )


def _part(found: Shard, made: list[ItemResult]) -> Part:
    lengths = {wanted.id: len(wanted.text) for wanted in found.job.items}
    return Part(
        job_id=found.plan.job_id,
        number=found.number,
        of=found.plan.shards,
        totals=document.count_totals(made, lengths),
        items=made,
    )


def _count_outputs(found: Shard, lease: Lease, runtime: Runtime) -> None:
    """Workers that were killed could not say how far they came; what they stored does."""
    keys = (output_key(found.plan.job_id, wanted.id, wanted.format) for wanted in found.job.items)
    lease.progress(sum(runtime.results.head(key) is not None for key in keys) + len(found.kept))
    lease.renew()
    lease.check()


def _give_up(found: Shard, runtime: Runtime) -> Part:
    """Attempts without progress are used up: what is finished counts, the rest has failed, and the
    other shards go on. Nothing is decoded or spoken: that may be what kills."""
    plan = found.plan
    error = each_item.exhausted(runtime)
    dead_letter.write(runtime.control, found.name, plan.manifest, error)
    made = [each_item.failed(e.id, e.index, e.error) for e in found.job.errors]
    for wanted in found.job.items:
        done = found.kept.get(wanted.id) or _finished(wanted, found, runtime)
        made.append(done or each_item.failed(wanted.id, wanted.index, error, wanted))
    return msgspec.structs.replace(
        _part(found, sorted(made, key=lambda one: one.index)),
        engine=plan.engine,
        voices=plan.voices,
    )


def _finished(wanted: Item, found: Shard, runtime: Runtime) -> ItemResult | None:
    """The item, if a worker has stored it, compared with what the plan meant it to be."""
    plan = found.plan
    voice = plan.voices[wanted.voice]
    if voice.reference_sha256 is None or plan.engine is None:
        return None
    made = item.fingerprint_of(wanted, voice.reference_sha256, plan.engine.fingerprint)
    with suppress(Refused):
        done = item.adopt(output_key(plan.job_id, wanted.id, wanted.format), made, wanted, runtime)
        if done:
            done = subtitles.of_item(done, wanted, plan.job_id, runtime)
            return item.as_asked(done, wanted, found.job, runtime)
    return None
