"""What an earlier job has made and a job that names it in `retry_of` keeps."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace

import msgspec

from core.job import Item, Job
from core.outcome import ItemResult
from core.storage import Store


def kept(job: Job, made: Iterable[ItemResult], results: Store) -> dict[str, ItemResult]:
    """What became of items of the earlier job, by their ids, where its output is wanted and is
    still there."""
    wanted = {wanted.id: wanted for wanted in job.items}
    kept = [
        msgspec.structs.replace(one, kept_from=one.kept_from or job.retry_of)
        for one in made
        if one.output and one.id in wanted and _has_subtitles(one, wanted[one.id], job)
    ]
    sources = {one.kept_from for one in kept}
    there = {info.key for source in sources for info in results.list(f"out/{source}/")}
    return {one.id: one for one in kept if one.output and one.output.key in there}


def without(job: Job, kept: Collection[str]) -> Job:
    """The job less the items that need not be made."""
    return replace(job, items=[item for item in job.items if item.id not in kept])


def _has_subtitles(earlier: ItemResult, wanted: Item, job: Job) -> bool:
    """Those that are asked for; of a joined file they are made from the times of the sentences."""
    if job.output.concatenate != "none":
        return bool(earlier.sentences) or not job.subtitle
    return set(wanted.subtitle) <= {one.format for one in earlier.subtitles}
