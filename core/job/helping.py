"""A worker that has nothing else to do makes items of a job that another worker carries out.

The job stays with the worker that holds its lease: it learned the voices, and it alone commits. The
helper begins with the last item and goes backwards until it meets what is stored. What it stores is
adopted, as after a crash. So it does nothing that a worker which lost its lease might not do too:
every output is put once, and no output counts that the result does not name.

It helps in the first attempt alone, and never again after a helper was killed: an item that kills
its worker must not take two at a time.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from contextlib import suppress

from core.errors import Failed, JobError, Refused
from core.job import accept, attempt, commit, each_item, enrolment, item, lease
from core.job.enrolment import Enrolled
from core.job.lease import LEAST_TO_HELP_S, helper_name
from core.job.runtime import Run, Runtime
from core.manifest.resolve import Item, Job
from core.storage.object_keys import SEALED_SUFFIX, job_prefix, output_key

TURN_S = 30.0
"""After so long it looks for work of its own again."""


def help_with(key: str, runtime: Runtime, *, least_s: float = LEAST_TO_HELP_S) -> bool:
    """Make items of the job of the manifest at `key`; return whether one was made.

    False if nobody carries the job out, or another worker helps, or it is not worth it.
    `least_s`: it is worth it if the rest of the job takes one worker longer. Raises Refused;
    Unavailable, Misconfigured as `pipeline.run`.
    """
    manifest = commit.read_manifest(key, runtime)
    job_id = manifest.job_id
    if not _may_help(job_id, runtime):
        return False
    stored = {info.key for info in runtime.results.list(job_prefix(job_id))}
    stored = {name for name in stored if name.endswith(SEALED_SUFFIX)}
    if not stored:  # the voices may not be learned yet
        return False
    accepted = accept.accept(manifest, runtime)
    job = accepted.to_make
    is_divided = job.output.concatenate != "none" or accepted.count > runtime.shard_items
    missing = [one for one in job.items if output_key(job_id, one.id, one.format) not in stored]
    left_s = _seconds_left(job_id, len(missing), stored, runtime)
    if job.mode != "run" or is_divided or not missing or left_s <= least_s:
        return False
    with attempt.begin(helper_name(job_id), job_id, runtime, manifest.ref.key) as run:
        try:
            return _make(missing, job, stored, run)
        finally:
            run.lease.undo_attempt()  # unless the process is killed


def _may_help(job_id: str, runtime: Runtime) -> bool:
    """Whether a worker carries out the job in the first attempt, and nobody helps it or was killed
    while it did."""
    control, keys = runtime.control, runtime.keys.verifying
    helper = lease.read_last_record(control, helper_name(job_id), keys)
    return _is_first_attempt(job_id, runtime) and (helper is None or helper.attempt == 0)


def _is_first_attempt(job_id: str, runtime: Runtime) -> bool:
    last = lease.read_last_record(runtime.control, job_id, runtime.keys.verifying)
    return last is not None and last.calls == 1 and last.expires > runtime.control.now()


def _seconds_left(job_id: str, missing: int, stored: Collection[str], runtime: Runtime) -> float:
    """How long the worker of the job needs for the missing items, at its pace so far."""
    last = lease.read_last_record(runtime.control, job_id, runtime.keys.verifying)
    return missing * (last.seconds if last else 0.0) / len(stored)


def _make(missing: list[Item], job: Job, stored: Collection[str], run: Run) -> bool:
    voices = enrolment.enrol_voices(job, run.runtime, run.stopwatch())
    same = {name: one for name, one in voices.items() if _is_same(name, one, job, stored, run)}
    left = [one for one in missing if one.voice in same]
    if not left:
        return False
    count, until = len(left), time.monotonic() + TURN_S
    places = run.runtime.lanes or run.runtime.voice.callers

    def make_next() -> bool:
        with run.runtime.concurrency.places.hold(places):
            run.check()
            with run.lanes.lock:
                if not left or time.monotonic() > until or _is_over(left[-1], run):
                    left.clear()
                    return False
                wanted = left.pop()
            # What is wrong with an item, the worker of the job finds too, and its result says so.
            with suppress(Refused, Failed):
                each_item.make_one(wanted, same[wanted.voice], job, run)
            return True

    run.lanes.repeat(make_next, min(places, len(left)))
    return len(left) < count


def _is_same(
    name: str, voice: Enrolled | JobError, job: Job, stored: Collection[str], run: Run
) -> bool:
    """Whether the worker of the job speaks in this voice, learned from the same recordings, with
    the same engine: by one of its outputs."""
    if isinstance(voice, JobError):
        return False
    made = [one for one in job.items if one.voice == name]
    made = [one for one in made if output_key(run.job_id, one.id, one.format) in stored]
    if not made:
        return False
    recordings = [claim.reference_sha256 for claim in voice.claims]
    engine = run.runtime.voice.fingerprint
    found = item.adopt(made[0], recordings, engine, job, run.job_id, run.runtime)
    return found is not None and all(n.code != "ENGINE_CHANGED" for n in found.notices)


def _is_over(wanted: Item, run: Run) -> bool:
    """Whether the job was cancelled, or its worker changed, or this item is stored."""
    key = output_key(run.job_id, wanted.id, wanted.format)
    is_going_on = _is_first_attempt(run.job_id, run.runtime) and not run.cancellation
    return not is_going_on or run.runtime.results.head(key) is not None
