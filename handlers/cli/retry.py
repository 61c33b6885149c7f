"""`voicedrop retry`: run a job again in which something failed, and keep what succeeded."""

from __future__ import annotations

import hashlib

from core.errors import Refused
from core.job import commit
from core.job.runtime import Runtime
from core.manifest import resolve
from core.manifest.retry import retry_manifest
from core.result.document import Result, read_items
from core.settings import Settings
from handlers import wiring
from handlers.cli import exit_codes
from handlers.cli.describe import SHORT, SUCCESSFUL
from handlers.cli.find_job import FoundManifest, find_job, found_manifest, last_retry
from handlers.cli.screen import CommandOutput


def retry_job(settings: Settings, named: str) -> CommandOutput:
    """Store a manifest that names the job in `retry_of`, or the last retry of this job.

    Raises what `find_job` raises.
    """
    runtime = wiring.create_local_runtime(settings)
    job = find_job(named, runtime)
    result = commit.read_result(job, runtime)
    if result is None:
        why = "it has no result yet: `voicedrop watch --once` carries out what is new."
        return _nothing(job, why, exit_codes.LATER)
    manifest = _read_manifest(result, runtime)
    if manifest is None:
        why = f"{result.manifest.key} was replaced or deleted since: submit it again."
        return _nothing(job, why, exit_codes.FAILED)
    last = last_retry(manifest, runtime)
    result = commit.read_result(last.job, runtime)
    if result is None:
        why = f"its retry {last.job[:SHORT]} is not finished: `voicedrop watch --once`."
        return _nothing(job, why, exit_codes.LATER)
    if why := _why_not(result, last, runtime):
        code = exit_codes.DONE if result.status in SUCCESSFUL else exit_codes.FAILED
        return _nothing(last.job, why, code)
    key, data = retry_manifest(last.key, last.data, last.job)
    runtime.inbox.put_once(key, data)
    new = resolve.job_id(runtime.inbox.name, key, data)
    lines = [
        f"job {last.job[:SHORT]} ({result.status}, {result.totals.succeeded} of "
        f"{result.totals.items} items) is retried as job {new}",
        f"manifest {key}",
        "`voicedrop watch --once` carries it out, unless a worker is running.",
    ]
    return CommandOutput({"job": last.job, "retry": new, "manifest": key, "reason": ""}, lines)


def next_command(result: Result, runtime: Runtime) -> str:
    """Return what a person may do with a result. A retry is named only if it would be made."""
    job, lines = result.job_id[:SHORT], []
    if result.totals.succeeded:
        lines.append(f"open it: voicedrop open {job}")
    if result.status not in SUCCESSFUL:
        manifest = _read_manifest(result, runtime)
        if manifest is None or _why_not(result, manifest, runtime):
            lines.append("correct the manifest and submit it again")
        else:
            lines.append(
                f"after a correction elsewhere than in the manifest: voicedrop retry {job}"
            )
    return "; ".join(lines) or f"job {job}"


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
    items = read_items(result, commit.part_reader(runtime))
    failed = {item.index for item in items if item.error}
    is_elsewhere = result.error or any(chapter.error for chapter in result.chapters)
    if is_elsewhere or failed - {bad.index for bad in parsed.errors}:
        return ""
    return f"every error is in the manifest itself: {advice}"
