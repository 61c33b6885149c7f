"""All items of a job or of a shard, one after the other: what is wrong with one costs it alone."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping

import msgspec

from core.errors import Failed, JobError, Refused
from core.job import item
from core.job.enrolment import Enrolled
from core.job.lease import Lease
from core.job.runtime import Runtime
from core.manifest.resolve import Item, Job
from core.result.item_result import ItemResult, Problem
from core.storage.object_keys import output_key

log = logging.getLogger("voicedrop.items")


def make_all(
    job: Job,
    voices: Mapping[str, Enrolled | JobError],
    kept: Mapping[str, ItemResult],
    job_id: str,
    lease: Lease,
    runtime: Runtime,
) -> list[ItemResult]:
    """What became of each, in the order of the manifest."""
    results = [failed(e.id, e.index, e.error) for e in job.errors]
    stored, rest = _in_turn(job, kept, job_id, lease, runtime)
    if lease.attempt > runtime.max_attempts:
        error = exhausted(runtime)
        results += [failed(wanted.id, wanted.index, error, wanted) for wanted in rest]
        rest = []
    made = 0
    for wanted in [*stored, *rest]:
        lease.check()
        try:
            if earlier := kept.get(wanted.id):
                results.append(_keep(wanted, earlier))
            else:
                results.append(_make_one(wanted, voices[wanted.voice], job, job_id, runtime))
            made += 1
        except (Refused, Failed) as exc:
            results.append(failed(wanted.id, wanted.index, exc, wanted))
        lease.progress(made)
    return sorted(results, key=lambda r: r.index)


def exhausted(runtime: Runtime) -> Failed:
    """Why what is not stored after so many attempts never will be."""
    return Failed("RETRIES_EXHAUSTED", f"{runtime.max_attempts} attempts made no progress.")


def _in_turn(
    job: Job, kept: Collection[str], job_id: str, lease: Lease, runtime: Runtime
) -> tuple[list[Item], list[Item]]:
    """What is there already, and what is to be made: after each attempt that stored nothing it
    begins one later, so that an item that kills its process does not cost those behind it."""
    if lease.attempt == 1:
        return [], job.items
    there = {
        wanted.id
        for wanted in job.items
        if wanted.id in kept or runtime.results.head(output_key(job_id, wanted.id, wanted.format))
    }
    rest = [wanted for wanted in job.items if wanted.id not in there]
    turn = (lease.attempt - 1) % max(len(rest), 1)
    return [w for w in job.items if w.id in there], rest[turn:] + rest[:turn]


def _keep(wanted: Item, earlier: ItemResult) -> ItemResult:
    return msgspec.structs.replace(earlier, index=wanted.index, meta=wanted.meta, timings={})


def _make_one(
    wanted: Item, voice: Enrolled | JobError, job: Job, job_id: str, runtime: Runtime
) -> ItemResult:
    if isinstance(voice, JobError):
        raise voice
    if wanted.language not in runtime.voice.languages:
        spoken = ", ".join(sorted(runtime.voice.languages))
        message = f"{runtime.voice.name} speaks {spoken}, not {wanted.language}."
        raise Refused("LANGUAGE_UNSUPPORTED", message, pointer=f"{wanted.pointer}/language")
    try:
        return item.make(wanted, voice, job, job_id, runtime)
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
        error=Problem.from_error(error),
        voice=wanted.voice if wanted else "",
        notices=list(wanted.notices) if wanted else [],
        meta=wanted.meta if wanted else None,
    )
