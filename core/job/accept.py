"""From the bytes of a manifest to a job that is accepted, or refused as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from core.consent.records import ConsentClaim
from core.errors import Refused, Unavailable
from core.job import lease, reuse, wording
from core.job.commit import ReceivedManifest, part_reader, read_result
from core.job.runtime import Runtime
from core.manifest import resolve
from core.manifest.parse import ParsedManifest
from core.manifest.resolve import Job
from core.result.item_result import ItemResult
from core.text.annotated import count_spoken


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptedJob:
    """A job that may be carried out."""

    parsed: ParsedManifest
    job: Job
    earlier: dict[str, ItemResult]
    """Item id -> its result in the job that `retry_of` names, where that is kept."""
    claims: Mapping[str, list[ConsentClaim]]
    """Voice name -> the recordings that these results were made from, with their records."""
    to_make: Job
    """The job without the items in `earlier`."""

    @property
    def count(self) -> int:
        """Items in the manifest, unreadable ones included."""
        return len(self.parsed.entries)


def accept(manifest: ReceivedManifest, runtime: Runtime) -> AcceptedJob:
    """Parse the manifest and apply the limits of this installation.

    Raises Refused if something is wrong with the job as a whole; what is wrong with one item fails
    that item alone. Raises Unavailable JOB_BUSY while the job in `retry_of` is carried out.
    """
    if manifest.refused:
        raise manifest.refused
    parsed = resolve.parse_manifest(manifest.data, lines=manifest.ref.key.endswith(".jsonl"))
    job = resolve.resolve(parsed)
    job = wording.annotate_job(job, runtime.languages, wording.fetch_from(runtime))
    runtime.labels.refuse(job.label, manifest.ref.key, runtime.producer)
    _refuse_long_joined_job(parsed, runtime)
    earlier, claims = _earlier_results(job, runtime)
    to_make = reuse.remove_items(job, earlier)
    if job.mode == "run":
        _count_against_quota(manifest, to_make, runtime)
    return AcceptedJob(parsed=parsed, job=job, earlier=earlier, claims=claims, to_make=to_make)


def _refuse_long_joined_job(parsed: ParsedManifest, runtime: Runtime) -> None:
    """A job that is cut into shards cannot be joined: no worker sees all of its items."""
    count, most = len(parsed.entries), runtime.shard_items
    if parsed.header.output.concatenate != "none" and count > most:
        message = f"At most {most} items can be joined here, not {count}: split the job."
        raise Refused("FIELD_UNSUPPORTED", message, pointer="/output/concatenate")


def _earlier_results(
    job: Job, runtime: Runtime
) -> tuple[dict[str, ItemResult], dict[str, list[ConsentClaim]]]:
    if not job.retry_of:
        return {}, {}
    before = read_result(job.retry_of, runtime)
    if before is None and lease.is_held(runtime.control, job.retry_of, runtime.keys.verifying):
        message = "The job that `retry_of` names is being carried out."
        raise Unavailable("JOB_BUSY", message, pointer="/retry_of", advice="This job follows it.")
    if before is None or before.manifest.bucket != runtime.inbox.name:
        raise Refused("RETRY_UNKNOWN", pointer="/retry_of")
    return reuse.find_reusable_items(job, before, part_reader(runtime), runtime)


def _count_against_quota(manifest: ReceivedManifest, to_make: Job, runtime: Runtime) -> None:
    """Raises Refused QUOTA_EXCEEDED."""
    characters = sum(count_spoken(item.text) for item in to_make.items)
    runtime.quota.count_job(
        runtime.control,
        runtime.keys,
        manifest.job_id,
        manifest.ref.key,
        manifest.stored,
        characters,
    )
