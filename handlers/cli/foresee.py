"""What will happen to a job, as far as its manifest, the inbox and the settings tell."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from core.errors import Refused
from core.job import enrolment
from core.job.commit import ReceivedManifest
from core.job.each_item import refuse_language
from core.job.runtime import Runtime
from core.manifest import resolve
from core.manifest.resolve import Item, ItemError, Job
from core.manifest.validate import join_pointer
from handlers.cli.find_job import submitted_manifests


def foresee_errors(job: Job, runtime: Runtime) -> Iterator[ItemError]:
    """Yield the errors that items of the manifest as it is have with these settings: no consent
    record is named though one is required, or the engine does not speak the language."""
    for item in job.items:
        try:
            _refuse(item, job, runtime)
        except Refused as exc:
            yield ItemError(item.index, item.id, exc)


def _refuse(item: Item, job: Job, runtime: Runtime) -> None:
    if job.voices[item.voice].consent is None and runtime.consent != "optional":
        raise Refused("CONSENT_MISSING", pointer=join_pointer("/voices", item.voice))
    refuse_language(item.language, runtime, f"{item.pointer}/language")


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
