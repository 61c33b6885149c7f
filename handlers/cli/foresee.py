"""What keeps a job from being carried out, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable

from core.errors import Refused
from core.job import enrolment
from core.job.commit import ReceivedManifest
from core.job.runtime import Runtime
from core.manifest import resolve
from handlers.cli.find_job import submitted_manifests


def missing_references(manifest: ReceivedManifest, runtime: Runtime) -> list[str]:
    try:
        job = resolve.parse_job(manifest.data, lines=manifest.ref.key.endswith(".jsonl"))
    except Refused:
        return []  # the job will be rejected
    return enrolment.missing_references(job, runtime)


CARRY_OUT = "`voicedrop watch --once` carries it out, unless a worker is running."
"""What to do for a job that is not finished and waits for nothing."""


def describe_waiting(missing: Iterable[str]) -> str:
    """Return what a job waits for, and what to do."""
    how = "`voicedrop submit MANIFEST FILE` stores it; or correct its name in the manifest"
    return f"waits for {', '.join(missing)}: {how}"


def describe_unfinished(job: str, runtime: Runtime) -> str:
    """Return why a job has no result yet, and what to do."""
    for manifest in submitted_manifests(runtime):
        if manifest.job_id == job and (missing := missing_references(manifest, runtime)):
            return f"it {describe_waiting(missing)}."
    return "it has no result yet: `voicedrop watch --once` carries out what is new."
