"""A job that was cut into shards: each worker makes one, and the one that makes the last commits.

    shard -> its own lease -> voices (voiceprints are stored) -> items -> part (put once)
          -> are all parts stored? -> tables -> result.json (put once) -> the shards are removed

There is no coordinator: a worker that has stored its part checks whether it was the last. Two
workers may find that at once; then the result that is stored first counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import groupby

import msgspec

from core.batch import parts, plan
from core.batch.plan import Plan, Shard
from core.consent.records import ConsentClaim
from core.errors import Notice, Refused
from core.job import (
    attempt,
    commit,
    each_item,
    enrolment,
    erasure,
    item,
    lease,
    reuse,
    subtitles,
    withdrawn,
    wording,
)
from core.job.runtime import Run, Runtime
from core.manifest.resolve import Item
from core.result import cost, document
from core.result.cost import Cost
from core.result.document import Part, Result
from core.result.item_result import ItemResult
from core.result.withdrawn_voices import recordings_of
from core.storage.object_keys import (
    SHARDS,
    is_shard_key,
    job_id_of,
    output_key,
    parse_shard_key,
    part_key,
    plan_key,
    shard_leases_prefix,
    shards_prefix,
)
from core.storage.port import Info
from core.text.annotated import count_spoken
from core.version import VERSION


def make_shard(key: str, runtime: Runtime) -> Result | None:
    """Make the shard at `key` of the control bucket; the result, if that finishes the job.

    Raises Refused OBJECT_MISSING if the shard is missing and its job has no result,
    SIGNATURE_INVALID; Unavailable and Misconfigured as `pipeline.run`.
    """
    job_id = parse_shard_key(key).job_id
    if result := commit.read_result(job_id, runtime):
        return result
    shard = plan.read_shard(runtime.control, key, runtime.keys.verifying)
    _make_part(_annotate(shard, runtime), runtime)
    return commit_if_complete(shard.plan, runtime)


def _annotate(shard: Shard, runtime: Runtime) -> Shard:
    fetch = wording.fetch_from(runtime)
    job = wording.annotate_job(shard.job, runtime.languages, fetch, pinned=shard.plan.lexicons)
    return replace(shard, job=job)


def commit_if_complete(job: Plan, runtime: Runtime) -> Result | None:
    """Commit the job if all of its parts are stored."""
    stored = parts.list_part_keys(job.job_id, runtime)
    if any(part_key(job.job_id, number) not in stored for number in range(job.shards)):
        return None
    with runtime.meter.share() as share:
        gathered, attachments = parts.gather_parts(job.job_id, job.shards, runtime)
    changed = [Notice("ENGINE_CHANGED")] if gathered.changed else []
    result = Result(
        job_id=job.job_id,
        status=document.overall_status(gathered.totals),
        manifest=job.manifest,
        processor=VERSION,
        started=job.started,
        finished="",
        consent_policy=runtime.consent,
        engine=gathered.engine,
        id=job.header.id or "",
        labels=job.header.labels,
        totals=gathered.totals,
        error=commit.cancellation_error(code for ref in gathered.refs for code in ref.errors),
        voices=gathered.voices,
        parts=gathered.refs,
        attachments=attachments,
        retry_of=job.header.retry_of or "",
        lexicons=job.lexicons,
        stages=document.sum_stages(job.stages, gathered.stages),
        cost=_cost(job.job_id, gathered.costs, share.charged, runtime),
        notices=[*job.notices, *changed],
    )
    committed = commit.commit_result(result, runtime)
    erasure.account_for_deleted(committed, runtime)
    return committed


def _cost(
    job_id: str, of_parts: list[Cost | None], gathering: float, runtime: Runtime
) -> Cost | None:
    """What the job cost: its parts, cutting it, and gathering the parts, which took so many seconds
    of a call that is counted for the last part."""
    if runtime.prices is None:
        return None
    cut = lease.read_last_record(runtime.control, job_id, runtime.keys.verifying)
    seconds, calls = (cut.seconds, cut.calls) if cut else (0.0, 0)
    return cost.add_up([*of_parts, runtime.prices.cost(seconds + gathering, calls)])


def remove_shards(job_id: str, runtime: Runtime) -> int:
    """Remove the shards of a job and their leases; return how many objects the job had in `work/`.

    The plan is removed last, so that a removal that was interrupted can be recognised.
    """
    keys = [info.key for info in runtime.control.list(shards_prefix(job_id))]
    for key in sorted(keys, key=lambda key: key == plan_key(job_id)):
        runtime.control.delete(key)
    for info in list(runtime.control.list(shard_leases_prefix(job_id))):
        runtime.control.delete(info.key)
    return len(keys)


def list_cut_jobs(runtime: Runtime) -> Iterator[tuple[str, list[Info]]]:
    """Job ids that have objects in `work/`, with those objects."""
    listed = runtime.control.list(SHARDS)
    for job_id, infos in groupby(listed, lambda info: job_id_of(info.key)):
        yield job_id, list(infos)


def unfinished_shards(job_id: str, infos: list[Info], runtime: Runtime) -> list[Info]:
    """The shards of a job whose part is missing.

    If no part is missing, any one of the shards: its worker commits the job.
    """
    stored = parts.list_part_keys(job_id, runtime)
    shards = [info for info in infos if is_shard_key(info.key)]
    missing = [info for info in shards if part_key(*parse_shard_key(info.key)) not in stored]
    return missing or shards[:1]


def _make_part(shard: Shard, runtime: Runtime) -> None:
    job_id = shard.plan.job_id
    key = part_key(job_id, shard.number)
    if runtime.results.head(key):
        return
    with attempt.begin(shard.name, job_id, runtime, shard.plan.manifest.key) as run:
        if runtime.results.head(key):
            return
        is_exhausted = attempt.is_exhausted(run, lambda: _count_outputs(shard, runtime))
        with attempt.recording_failure(shard.plan.manifest, run):
            part = _give_up(shard, run) if is_exhausted else _speak(shard, run)
            run.lease.check()
            parts.put_part(msgspec.structs.replace(part, cost=run.cost()), runtime)


def _count_outputs(shard: Shard, runtime: Runtime) -> int:
    keys = [output_key(shard.plan.job_id, it.id, it.format) for it in shard.job.items]
    return sum(runtime.results.head(key) is not None for key in keys) + len(shard.earlier)


def _speak(shard: Shard, run: Run) -> Part:
    stopwatch = run.stopwatch()
    to_make = reuse.remove_items(shard.job, shard.earlier)
    voices = enrolment.enrol_voices(to_make, run.runtime, stopwatch)
    items = each_item.make_all(shard.job, voices, shard.earlier, run)
    errors = withdrawn.find_withdrawn(voices, withdrawn.claims_of(voices), run.runtime)
    items = withdrawn.remove_outputs(items, shard.job, errors, run)
    return msgspec.structs.replace(
        _part(shard, items),
        engine=enrolment.describe_engine(voices, run.runtime),
        voices=enrolment.describe_voices(shard.job, voices),
        stages=document.stage_seconds(stopwatch.seconds, items),
    )


def _part(shard: Shard, items: list[ItemResult]) -> Part:
    lengths = {item.id: count_spoken(item.text) for item in shard.job.items}
    return Part(
        job_id=shard.plan.job_id,
        number=shard.number,
        of=shard.plan.shards,
        totals=document.count_totals(items, lengths),
        items=items,
    )


def _give_up(shard: Shard, run: Run) -> Part:
    """The part of a shard whose attempts are used up: what is stored counts, the other items fail.

    Nothing is decoded or spoken, because that may be what kills the worker.
    """
    error = attempt.exhausted_error(run)
    attempt.write_dead_letter(shard.plan.manifest, run)
    results = [each_item.failed_item(bad.id, bad.index, bad.error) for bad in shard.job.errors]
    for wanted in shard.job.items:
        stored = shard.earlier.get(wanted.id) or _stored_item(wanted, shard, run.runtime)
        results.append(stored or each_item.failed_item(wanted.id, wanted.index, error, wanted))
    results.sort(key=lambda result: result.index)
    errors = withdrawn.find_withdrawn({}, _planned_claims(shard), run.runtime)
    results = withdrawn.remove_outputs(results, shard.job, errors, run)
    return msgspec.structs.replace(
        _part(shard, results), engine=shard.plan.engine, voices=shard.plan.voices
    )


def _planned_claims(shard: Shard) -> dict[str, list[ConsentClaim]]:
    """Voice name -> the recordings that the plan states, with the record that is named for them."""
    return {
        name: [ConsentClaim(shard.job.voices[name].consent, one, "") for one in recordings_of(used)]
        for name, used in shard.plan.voices.items()
    }


def _stored_item(wanted: Item, shard: Shard, runtime: Runtime) -> ItemResult | None:
    """The item if a worker has stored it, compared with what the plan says about it."""
    job = shard.plan
    recordings = recordings_of(job.voices[wanted.voice])
    if not recordings or job.engine is None:
        return None
    engine = job.engine.fingerprint
    with suppress(Refused):
        if stored := item.adopt(wanted, recordings, engine, shard.job, job.job_id, runtime):
            stored = subtitles.add_to_item(stored, wanted, job.job_id, recordings, runtime)
            return item.add_request(stored, wanted, shard.job, runtime)
    return None
