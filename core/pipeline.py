"""The story of a job.

    manifest -> lease -> voices (fetch, check consent, decode, prepare, enrol)
             -> items (speak, watermark, read back, label, seal, check consent, put once)
             -> result.json (put once: the commit marker) -> queued for the log

A job of many items is cut into shards once its voices are enrolled; core/batch/worker.py makes
them.

Any worker may repeat a job at any time: every write that counts is a put-once, and a worker that
finds an output already stored adopts it. The event is written after this, from the result alone
(`events/`). Why that is safe: docs/reliability.md.
"""

from __future__ import annotations

from core import dry_run
from core.batch import plan
from core.errors import Refused
from core.job import accept, attempt, commit, each_item, enrolment
from core.job.runtime import Finished, Outcome, Run, Runtime, Sharded
from core.joined import assemble


def run(key: str, runtime: Runtime) -> Outcome:
    """Carry out the manifest at `key` of the inbox, or return the result that the job already has.

    What is wrong with the job is stated in its result. Raises Refused MANIFEST_GONE, or
    SIGNATURE_INVALID if a stored result is not signed with our keys; Unavailable (call again);
    Misconfigured (correct the setting or key, then call again).
    """
    manifest = commit.read_manifest(key, runtime)
    if result := commit.read_result(manifest.job_id, runtime):
        return Finished(result)
    with attempt.begin(manifest.job_id, manifest.job_id, runtime, manifest.ref.key) as run:
        if result := commit.read_result(manifest.job_id, runtime):
            return Finished(result)
        if error := attempt.find_reason_to_give_up(manifest.ref, run):
            return Finished(commit.commit_failure("failed", manifest, error, run))
        with attempt.recording_failure(manifest.ref, run):
            outcome = _carry_out(manifest, run)
            if not isinstance(outcome, Finished):
                run.lease.undo_attempt()  # waiting for a file or for shards is no failed attempt
            return outcome


def _carry_out(manifest: commit.ReceivedManifest, run: Run) -> Outcome:
    runtime, stopwatch = run.runtime, run.stopwatch()
    try:
        accepted = accept.accept(manifest, runtime)
    except Refused as exc:
        return Finished(commit.commit_failure("rejected", manifest, exc, run))
    result = commit.new_result(manifest, accepted.job, runtime)
    if shards := plan.complete_shard_count(run.job_id, runtime):
        return Sharded(run.job_id, shards)
    if waiting := enrolment.wait_for_references(accepted.to_make, manifest.ref.key, run):
        return waiting
    if accepted.job.mode == "validate":
        result = dry_run.validate(result, accepted, stopwatch, runtime)
    else:
        voices = enrolment.enrol_voices(accepted.to_make, runtime, stopwatch)
        result = enrolment.add_voices(result, accepted.job, voices, runtime)
        if accepted.count > runtime.shard_items:
            return plan.write_shards(result, accepted, stopwatch, run)
        items = each_item.make_all(accepted.job, voices, accepted.earlier, run)
        released = assemble.release(accepted, items, voices, run)
        result = commit.add_items(
            result, accepted.job, released.items, released.chapters, released.notices, stopwatch
        )
    return Finished(commit.commit_run(result, run))
