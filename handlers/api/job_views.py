"""How far jobs are, as their objects in the buckets tell. Nothing here needs a key.

A result is answered as it is stored, signed; who holds the public keys verifies it.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from typing import Any

import msgspec

from core.errors import Refused
from core.job import cancellation
from core.manifest import resolve
from core.result.document import Result
from core.storage.object_keys import (
    MANIFESTS,
    SEALED_SUFFIX,
    is_manifest_key,
    job_prefix,
    result_key,
)
from core.storage.port import Info, Store
from handlers.api.callers import Caller
from handlers.api.tickets import Ticket, put_ticket, read_result, read_ticket

RESULT_IN_ANSWER = 1 << 20
"""Bytes of the largest result that an answer contains."""
MAX_COUNTED = 10_000
"""Outputs of a job that are counted."""
MAX_PAGE = 100


class JobView(msgspec.Struct, frozen=True, kw_only=True):
    """How far a job is."""

    job: str
    status: str
    """accepted, running or cancelling; of a finished job that of its result."""
    manifest: str
    """Its key in the inbox."""
    items: int
    """0 until the result of a job that did not come over HTTP."""
    done: int
    """Items that are stored."""
    finished: str | None = None
    """RFC 3339, UTC; null without a result."""
    error: str | None = None
    """Code of the error of the job as a whole."""
    result_key: str | None = None
    """Of its signed result in the results bucket."""
    result: Any = None
    """The signed result; null until it is there, and if it has more than 1 MiB."""


class JobPage(msgspec.Struct, frozen=True, kw_only=True):
    """Jobs, the latest first."""

    jobs: list[JobView]
    next: str | None = None
    """What `before` must be to get the next page; null on the last one."""


def read_job(job_id: str, caller: Caller, inbox: Store, results: Store) -> JobView:
    """Raises Refused OBJECT_MISSING if the caller has no such job."""
    found = read_result(job_id, results)
    ticket = None if found else read_ticket(job_id, inbox)
    manifest = found[1].manifest.key if found else ticket.object if ticket else ""
    if not may_see(manifest, caller):
        raise Refused("OBJECT_MISSING", "There is no such job.", pointer=job_id, advice="")
    if found:
        return _finished(*found)
    if ticket is None or inbox.head(ticket.object) is None:
        raise Refused("OBJECT_MISSING", "There is no such job.", pointer=job_id, advice="")
    return _unfinished(job_id, ticket, inbox, results)


def list_jobs(
    caller: Caller, inbox: Store, results: Store, *, limit: int, before: str = ""
) -> JobPage:
    """List the jobs of a caller, the latest first. `before`: `next` of the page before."""
    folder = MANIFESTS if caller.sees_all else f"{MANIFESTS}{caller.folder}"
    end = _parse_cursor(before)
    infos = (info for info in inbox.list(folder) if is_manifest_key(info.key))
    wanted = (info for info in infos if end is None or (info.modified, info.key) < end)
    latest = heapq.nlargest(limit + 1, wanted, key=lambda info: (info.modified, info.key))
    page = latest[:limit]
    views = list(_views(page, inbox, results))
    more = f"{page[-1].modified!r}:{page[-1].key}" if len(latest) > limit else None
    return JobPage(jobs=views, next=more)


def cancel_job(view: JobView, inbox: Store) -> JobView:
    """Cancel a job. Raises Refused JOB_FINISHED."""
    if view.finished:
        raise Refused("JOB_FINISHED", pointer=view.job)
    cancellation.cancel(inbox, view.manifest, view.job)
    return msgspec.structs.replace(view, status="cancelling")


def may_see(manifest: str, caller: Caller) -> bool:
    """Whether the job of this manifest is one of the caller's."""
    folder = MANIFESTS if caller.sees_all else f"{MANIFESTS}{caller.folder}"
    return bool(manifest) and manifest.startswith(folder)


def _parse_cursor(text: str) -> tuple[float, str] | None:
    if not text:
        return None
    modified, _, key = text.partition(":")
    try:
        return float(modified), key
    except ValueError:
        message = "`before` is the field `next` of the page before."
        raise Refused("REQUEST_INVALID", message, pointer="/before") from None


def _views(infos: list[Info], inbox: Store, results: Store) -> Iterator[JobView]:
    for info in infos:
        with suppress(Refused):  # deleted since it was listed, or too large
            data = inbox.get(info.key, limit=resolve.LIMITS.manifest_bytes).data
            job_id = resolve.job_id(inbox.name, info.key, data)
            if found := read_result(job_id, results):
                yield msgspec.structs.replace(_finished(*found), result=None)
                continue
            ticket = read_ticket(job_id, inbox)
            if ticket is None:  # it did not come over HTTP; now its id leads to it
                ticket = Ticket(object=info.key)
                put_ticket(job_id, ticket, inbox)
            yield _unfinished(job_id, ticket, inbox, results)


def _finished(data: bytes, result: Result) -> JobView:
    return JobView(
        job=result.job_id,
        status=result.status,
        manifest=result.manifest.key,
        items=result.totals.items,
        done=result.totals.succeeded,
        finished=result.finished,
        error=result.error.code if result.error else None,
        result_key=result_key(result.job_id),
        result=msgspec.Raw(data) if len(data) <= RESULT_IN_ANSWER else None,
    )


def _unfinished(job_id: str, ticket: Ticket, inbox: Store, results: Store) -> JobView:
    listed = results.list(job_prefix(job_id))
    audio = (info for info in listed if _is_audio(info.key))
    done = sum(1 for _ in islice(audio, MAX_COUNTED))
    status = "running" if done else "accepted"
    if cancellation.is_cancelled(inbox, ticket.object, job_id):
        status = "cancelling"
    return JobView(job=job_id, status=status, manifest=ticket.object, items=ticket.items, done=done)


def _is_audio(key: str) -> bool:
    name = key.removesuffix(SEALED_SUFFIX)
    return key != name and not name.endswith((".srt", ".vtt", ".json")) and "/chapters/" not in key
