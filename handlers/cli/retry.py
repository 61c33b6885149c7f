"""`voicedrop retry`: run a job again in which something failed, and keep what succeeded."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from core.errors import MANIFEST, Refused
from core.job import commit
from core.job.runtime import Runtime
from core.manifest import resolve
from core.manifest.resolve import Job
from core.manifest.retry import retry_manifest
from core.result.document import Result, read_items
from core.settings import Settings
from handlers import wiring
from handlers.cli import exit_codes
from handlers.cli.describe import SHORT, SUCCESSFUL
from handlers.cli.find_job import FoundManifest, find_job, found_manifest, last_retry
from handlers.cli.foresee import (
    CARRY_OUT,
    describe_unfinished,
    describe_waiting,
    missing_references,
)
from handlers.cli.screen import CommandOutput
from handlers.foresee import foresee_errors


def retry_job(settings: Settings, named: str) -> CommandOutput:
    """Store a manifest that names the job in `retry_of`, or the last retry of this job.

    Raises what `find_job` raises.
    """
    runtime = wiring.create_local_runtime(settings)
    job = find_job(named, runtime)
    result = commit.read_result(job, runtime)
    if result is None:
        return _nothing(job, describe_unfinished(job, runtime), exit_codes.LATER)
    manifest = _read_manifest(result, runtime)
    if manifest is None:
        why = f"{result.manifest.key} was replaced or deleted since: submit it again."
        return _nothing(job, why, exit_codes.FAILED)
    last = last_retry(manifest, runtime)
    result = commit.read_result(last.job, runtime)
    if result is None:
        why = f"its retry {last.job[:SHORT]} is not finished: "
        why += describe_unfinished(last.job, runtime)
        return _nothing(job, why, exit_codes.LATER)
    if why := _why_not(result, last, runtime):
        code = exit_codes.DONE if result.status in SUCCESSFUL else exit_codes.FAILED
        return _nothing(last.job, why, code)
    key, data = retry_manifest(last.key, last.data, last.job)
    runtime.inbox.put_once(key, data)
    new = resolve.job_id(runtime.inbox.name, key, data)
    missing = missing_references(commit.read_manifest(key, runtime), runtime)
    lines = [
        f"job {last.job[:SHORT]} ({result.status}, {result.totals.succeeded} of "
        f"{result.totals.items} items) is retried as job {new}",
        f"manifest {key}",
        f"It {describe_waiting(missing)}." if missing else CARRY_OUT,
    ]
    return CommandOutput({"job": last.job, "retry": new, "manifest": key, "reason": ""}, lines)


def next_command(result: Result, runtime: Runtime) -> str:
    """Return what a person may do with a result. A retry is named only if it would be made."""
    job, lines = result.job_id[:SHORT], []
    if result.totals.succeeded:
        lines.append(f"open it: voicedrop open {job}")
    if result.status not in SUCCESSFUL:
        lines.append(how_to_correct(result, runtime))
    if result.estimate:
        lines.append(f"to speak it, submit the manifest without `mode` (job {job} was a dry run)")
    return "; ".join(lines) or f"job {job}"


def how_to_correct(result: Result, runtime: Runtime) -> str:
    """Return what a person must do about a job in which something failed."""
    again = "correct the manifest and submit it again"
    manifest = _read_manifest(result, runtime)
    if manifest is None or _why_not(result, manifest, runtime):
        return again
    retry = f"voicedrop retry {result.job_id[:SHORT]}"
    if any(used.error and used.error.code == "REF_NOT_FOUND" for used in result.voices.values()):
        return f"submit the missing file, then: {retry}; or {again}"
    return f"after a correction elsewhere than in the manifest: {retry}"


def _nothing(job: str, why: str, code: int) -> CommandOutput:
    data = {"job": job, "retry": "", "manifest": "", "reason": why}
    return CommandOutput(data, [f"job {job[:SHORT]} is not retried: {why}"], code)


def _read_manifest(result: Result, runtime: Runtime) -> FoundManifest | None:
    """Return the manifest of a job; None if something else or nothing is stored there now."""
    ref = result.manifest
    try:
        data = runtime.inbox.get(ref.key, limit=resolve.LIMITS.manifest_bytes).data
    except Refused:
        return None
    is_same = hashlib.sha256(data).hexdigest() == ref.sha256
    return found_manifest(ref.key, data, runtime) if is_same else None


def _why_not(result: Result, manifest: FoundManifest, runtime: Runtime) -> str:
    """Return why a retry would change nothing; empty if it might."""
    if result.status in SUCCESSFUL:
        return "everything in it succeeded."
    advice = f"correct {manifest.key} and submit it again, which makes a new job."
    try:
        parsed = resolve.parse_job(manifest.data, lines=manifest.key.endswith(".jsonl"))
    except Refused as exc:
        return f"the error is in the manifest itself ({exc}): {advice}"
    if all(_is_in_manifest(result, parsed, runtime)):
        return f"every error is in the manifest itself: {advice}"
    return ""


def _is_in_manifest(result: Result, job: Job, runtime: Runtime) -> Iterator[bool]:
    """Yield for each error of a result whether only a changed manifest can correct it."""
    known = {(bad.index, bad.error.code) for bad in [*job.errors, *foresee_errors(job, runtime)]}
    for item in read_items(result, commit.part_reader(runtime)):
        if item.error:
            yield item.error.code in MANIFEST or (item.index, item.error.code) in known
    for error in (result.error, *(chapter.error for chapter in result.chapters)):
        if error and error.code != "CHAPTER_EMPTY":  # its items failed
            yield error.code in MANIFEST
