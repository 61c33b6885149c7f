"""What lies about that should not: the findings a sweeper acts on, each with its reason.

Notifications get lost, workers die, producers replace and delete. Nothing here is needed for a
result to be right; it is what makes sure that there is one, and that nothing is left unexplained.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from typing import Literal

import msgspec

from core.errors import Refused
from core.job import commit, lease, waiting
from core.job.runtime import Runtime
from core.result.document import Result, read_items, sealed_keys
from core.storage.object_keys import (
    LEASES,
    OUTPUTS,
    PENDING,
    SEALED_SUFFIX,
    SHARDS,
    job_id_of,
    parse_shard_key,
    result_key,
    shard_name,
)
from core.storage.port import Info, Store

_JOB = re.compile("[0-9a-f]{32}(?![0-9a-f])")

Kind = Literal[
    "unfinished",  # a manifest without result, on which nobody works
    "running",  # somebody works on it
    "fresh",  # too young to be called forgotten
    "waiting",  # for a file, until its deadline
    "unannounced",  # a result without event
    "stale-work",  # shards of a job that is finished, or can never be
    "stale-pending",  # a wake-up mark that nobody needs any more
    "orphans",  # outputs that the result does not name
    "abandoned",  # begun, and then the manifest was deleted or replaced
    "foreign",  # not written by us, where only we should write
]


class SweepFinding(msgspec.Struct, frozen=True, kw_only=True):
    kind: Kind
    job: str = ""
    manifest: str = ""
    detail: str = ""
    """Why, in words."""
    keys: list[str] = []
    """Objects concerned."""
    action: str = ""
    """What was done about it; empty: nothing."""
    error: str = ""
    """Code of what stood in the way."""

    @property
    def open(self) -> bool:
        """The job has no result or no event yet."""
        undone = ("unfinished", "running", "fresh", "waiting", "unannounced")
        return self.kind in undone and not self.action


def unfinished(info: Info, job_id: str, runtime: Runtime, grace: float) -> SweepFinding:
    """How a manifest without result stands: does anybody work on it, and if not, since when?"""
    found = _standing(job_id, runtime.inbox.now() - info.modified, runtime, grace)
    return msgspec.structs.replace(found, job=job_id, manifest=info.key)


def _standing(name: str, age: float, runtime: Runtime, grace: float) -> SweepFinding:
    now = runtime.control.now()
    last = lease.last(runtime.control, name)
    kind: Kind = "unfinished"
    if last is None:
        kind = "fresh" if age < grace else kind
        detail = f"It arrived {age:.0f} s ago and nobody has begun."
    elif last.expires > now:
        kind = "running"
        detail = f"{last.worker} holds it for {last.expires - now:.0f} s more."
    elif last.expires:
        silent = now - last.expires
        detail = f"The lease of {last.worker} ran out {silent:.0f} s ago, attempt {last.attempt}."
    else:
        detail = f"{last.worker} left it unfinished, attempt {last.attempt}."
    return SweepFinding(kind=kind, detail=detail)


def shard_left(info: Info, job_id: str, runtime: Runtime, grace: float) -> SweepFinding:
    """How a shard without part stands: like a manifest without result."""
    place = parse_shard_key(info.key)
    name = shard_name(job_id, place.number)
    return msgspec.structs.replace(
        _standing(name, runtime.control.now() - info.modified, runtime, grace),
        job=job_id,
        keys=[info.key],
    )


def begun(runtime: Runtime) -> Iterator[tuple[str, list[Info]]]:
    """Jobs that have objects in the results bucket, with those objects."""
    for job_id, infos in groupby(runtime.results.list(OUTPUTS), lambda i: job_id_of(i.key)):
        yield job_id, list(infos)


def without_result(runtime: Runtime, before: float) -> dict[str, list[str]]:
    """Jobs that were begun and have no result, and in which nobody has written since `before`
    (Unix seconds): job -> its objects. The listings are read side by side, for all three come in
    the order of jobs: what is held in memory is what is returned."""
    listings = (
        _by_job(runtime.results, OUTPUTS),
        _by_job(runtime.control, LEASES),
        _by_job(runtime.control, SHARDS),
    )
    found = {}
    for job_id, pairs in groupby(heapq.merge(*listings, key=itemgetter(0)), itemgetter(0)):
        infos = [info for _, info in pairs]
        done = any(info.key == result_key(job_id) for info in infos)
        if not done and all(info.modified < before for info in infos):
            made = [info.key for info in infos if info.key.startswith(OUTPUTS)]
            found[job_id] = made or [info.key for info in infos]
    return found


def _by_job(store: Store, prefix: str) -> Iterator[tuple[str, Info]]:
    for info in store.list(prefix):
        if found := _JOB.match(info.key, len(prefix)):
            yield found[0], info


def orphans(
    job_id: str, infos: list[Info], finished: Result, runtime: Runtime
) -> SweepFinding | None:
    items = read_items(finished, commit.part_reader(runtime))
    named = {*sealed_keys(items), *sealed_keys(finished.chapters)}
    keys = [i.key for i in infos if i.key.endswith(SEALED_SUFFIX) and i.key not in named]
    if not keys:
        return None
    given_up = finished.error and finished.error.code == "RETRIES_EXHAUSTED"
    why = "The job was given up when they were made already." if given_up else "Not named by it."
    return SweepFinding(
        kind="orphans", job=job_id, manifest=finished.manifest.key, keys=keys, detail=why
    )


def abandoned(job_id: str, keys: list[str]) -> SweepFinding:
    detail = "Begun, but no manifest in the inbox has these bytes: it was deleted or replaced."
    return SweepFinding(kind="abandoned", job=job_id, keys=keys, detail=detail)


def stale_pending(runtime: Runtime) -> Iterator[SweepFinding]:
    """Marks of jobs that are finished, or whose manifest is no longer that job."""
    for info in runtime.control.list(PENDING):
        job_id = info.key.rpartition("/")[2]
        try:
            manifest = runtime.control.get(info.key, limit=waiting.KEY_LIMIT).data.decode()
        except Refused:
            continue  # its job has just finished
        if runtime.results.head(result_key(job_id)):
            why = "Its job has a result."
        elif not _is_job(manifest, job_id, runtime):
            why = "Its manifest was deleted or replaced."
        else:
            continue
        yield SweepFinding(
            kind="stale-pending", job=job_id, manifest=manifest, keys=[info.key], detail=why
        )


def _is_job(manifest: str, job_id: str, runtime: Runtime) -> bool:
    try:
        return commit.read_manifest(manifest, runtime).job_id == job_id
    except Refused:
        return False
