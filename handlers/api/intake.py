"""Check manifests and store them with their files, the manifest last.

    inbox  refs/, consent/        files of requests, under the SHA-256 of their content
           jobs/<caller>/         manifests
           tickets/<job_id>.json  where the manifest of a job is (handlers/api/tickets.py)
           voices/<caller>/       voices that are kept under a name, as a manifest writes them

A manifest is stored under a random name, or with an Idempotency-Key under a digest of that: then it
is put once, so that a repeated request has the same job, and another request with the key is
refused.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Protocol

import msgspec

from core.audio.decoding import BYTES_LIMIT
from core.consent import records
from core.errors import JobError, Refused
from core.job import wording
from core.job.label_policy import LabelPolicy
from core.job.runtime import Runtime
from core.manifest import resolve
from core.manifest.resolve import Job
from core.manifest.validate import join_pointer
from core.storage.object_keys import (
    MANIFEST_SUFFIXES,
    MANIFESTS,
    REVOKED_SUFFIX,
)
from core.storage.port import Store
from core.text import lexicon
from events.incoming import object_kind
from handlers.api import voices
from handlers.api.callers import Caller
from handlers.api.clone import NewJob
from handlers.api.tickets import Ticket, find_manifest, put_ticket
from handlers.foresee import Rules, foresee_errors, read_gates, refuse_uncovered

_FOLDERS = ("refs/", "consent/", "lexicons/")
"""Where the files of callers are."""


class Desk(Rules, Protocol):
    """What is needed of a `Runtime`; none of it is a key."""

    @property
    def results(self) -> Store: ...
    @property
    def labels(self) -> LabelPolicy: ...
    @property
    def producer(self) -> str: ...


class RefusedJob(Exception):
    """Errors of a manifest that keep it from being stored."""

    def __init__(self, errors: list[JobError]) -> None:
        super().__init__(str(errors[0]))
        self.errors = errors


class Accepted(msgspec.Struct, frozen=True):
    job_id: str
    manifest: str
    is_new: bool


def check_job(new: NewJob, caller: Caller, desk: Desk) -> Job:
    """Return the job of a manifest. Raises Refused, and RefusedJob with the errors of its items:
    whatever would be refused later is refused now, before anything is stored."""
    parsed = resolve.parse_manifest(new.manifest)
    job = resolve.resolve(parsed)
    desk.labels.refuse(job.label, f"{MANIFESTS}{caller.folder}x", desk.producer)
    _refuse_foreign(job, new.files, caller, desk)
    refuse_uncovered(job, new.files.keys(), new.files.__getitem__)
    read = partial(_read_named, new.files, desk.inbox)
    job = wording.annotate_job(job, desk.front_end.languages, partial(read, lexicon.MAX_BYTES))
    gates = read_gates(job, desk, partial(read, records.MAX_BYTES))
    foreseen = [bad.error for bad in foresee_errors(job, desk, gates)]
    errors: list[JobError] = [*(bad.error for bad in job.errors), *foreseen]
    errors += _missing_files(job, new.files, desk.inbox)
    if errors:
        raise RefusedJob(errors)
    return job


Count = Callable[[str, str, Job], None]
"""Called with the id of a job, the key of its manifest and the job, before anything is stored."""


def count_nothing(job_id: str, manifest: str, job: Job) -> None:
    """Where no keys are, the worker alone counts jobs against the quota."""


def count_against_quota(runtime: Runtime) -> Count:
    """Return what counts a new job against its producer's quota, so that a caller is told at once
    what its result would say. The worker finds the job counted. Of a job that keeps outputs of an
    earlier one, the worker alone knows what is to be spoken."""

    def count(job_id: str, manifest: str, job: Job) -> None:
        if job.mode == "run" and not job.retry_of:
            characters = sum(len(item.text) for item in job.items)
            control, stored = runtime.control, runtime.inbox.now()
            runtime.quota.count_job(control, runtime.keys, job_id, manifest, stored, characters)

    return count


def store_job(
    new: NewJob,
    job: Job,
    caller: Caller,
    desk: Desk,
    idempotency: str = "",
    count: Count = count_nothing,
) -> Accepted:
    """Store the files, last the manifest. Raises Refused IDEMPOTENCY_KEY_REUSED, FILE_EXISTS,
    QUOTA_EXCEEDED."""
    key = _manifest_key(caller, idempotency)
    inbox = desk.inbox
    job_id = resolve.job_id(inbox.name, key, new.manifest)
    if idempotency and (stored := _read(inbox, key)) is not None:
        return _same_job(stored, new, key, job_id)
    count(job_id, key, job)
    _store_beside(new, job, caller, key, inbox)
    if not inbox.put_once(key, new.manifest):
        return _same_job(_read(inbox, key) or b"", new, key, job_id)
    return Accepted(job_id, key, True)


def store_all_but_manifest(new: NewJob, job: Job, caller: Caller, desk: Desk) -> str:
    """Store the files of a job, and return the key at which its manifest is to be stored. Raises
    Refused FILE_EXISTS."""
    key = _manifest_key(caller, "")
    _store_beside(new, job, caller, key, desk.inbox)
    return key


def _store_beside(new: NewJob, job: Job, caller: Caller, key: str, inbox: Store) -> None:
    """Store what must be there before a manifest is. `key`: of the manifest."""
    for name, data in new.files.items():
        _put_file(name, data, inbox)
    if new.voice is not None:
        voices.keep_voice(new.voice_name, new.voice, caller, inbox)
    job_id = resolve.job_id(inbox.name, key, new.manifest)
    put_ticket(job_id, Ticket(object=key, items=len(job.items)), inbox)


def _manifest_key(caller: Caller, idempotency: str) -> str:
    name = secrets.token_hex(16)
    if idempotency:
        name = hashlib.sha256(f"voicedrop/idempotency/1 {idempotency}".encode()).hexdigest()[:32]
    return f"{MANIFESTS}{caller.folder}{name}{MANIFEST_SUFFIXES[0]}"


def _same_job(stored: bytes, new: NewJob, key: str, job_id: str) -> Accepted:
    if stored != new.manifest:
        raise Refused("IDEMPOTENCY_KEY_REUSED")
    return Accepted(job_id, key, False)


def _put_file(key: str, data: bytes, inbox: Store) -> None:
    """Store a file of a request; nothing else is ever replaced by it."""
    if not inbox.put_once(key, data) and _read(inbox, key) != data:
        message = f"The inbox has another file at {key}, which is not replaced."
        raise Refused("FILE_EXISTS", message, pointer=key, advice="")


def _read(inbox: Store, key: str) -> bytes | None:
    with suppress(Refused):
        return inbox.get(key, limit=BYTES_LIMIT).data
    return None


def _read_named(files: Mapping[str, bytes], inbox: Store, limit: int, key: str) -> bytes:
    return files[key] if key in files else inbox.get(key, limit=limit).data


def _keys_of(job: Job) -> Iterator[tuple[str, str]]:
    """Yield each key that the voices name, with its pointer."""
    for name, voice in job.voices.items():
        pointer = join_pointer("/voices", name)
        for key in voice.recordings:
            yield key, f"{pointer}/reference"
        if voice.consent:
            yield voice.consent, f"{pointer}/consent"


def _refuse_foreign(job: Job, files: Mapping[str, bytes], caller: Caller, desk: Desk) -> None:
    """Raises Refused REF_FORBIDDEN for files of other callers, RETRY_UNKNOWN for their jobs."""
    for key in files:
        is_special = object_kind(key) not in ("audio", "other") or key.startswith(MANIFESTS)
        if is_special or key.endswith(REVOKED_SUFFIX):
            raise Refused("REF_FORBIDDEN", f"{key} is no key for a file.", pointer=key)
    if caller.sees_all:
        return
    lexicons = {item.lexicon: f"{item.pointer}/lexicon" for item in job.items if item.lexicon}
    named = [*_keys_of(job), *lexicons.items(), *((key, key) for key in files)]
    for key, pointer in named:
        if not key.startswith(tuple(folder + caller.folder for folder in _FOLDERS)):
            message = (
                f"{key} is not a file of yours: those are in refs/{caller.folder}, "
                f"consent/{caller.folder} and lexicons/{caller.folder}."
            )
            raise Refused("REF_FORBIDDEN", message, pointer=pointer)
    if job.retry_of and not _is_own(job.retry_of, caller, desk):
        raise Refused("RETRY_UNKNOWN", pointer="/retry_of")


def _is_own(job_id: str, caller: Caller, desk: Desk) -> bool:
    manifest = find_manifest(job_id, desk.inbox, desk.results)
    return manifest.startswith(f"{MANIFESTS}{caller.folder}")


def _missing_files(job: Job, files: Mapping[str, bytes], inbox: Store) -> Iterator[Refused]:
    """Yield REF_NOT_FOUND for each file that is not there, unless the job may wait for it."""
    for key, pointer in _keys_of(job):
        is_record = pointer.endswith("/consent")
        if key not in files and (is_record or not job.wait_s) and inbox.head(key) is None:
            yield Refused("REF_NOT_FOUND", f"The inbox has no {key}.", pointer=pointer, advice="")
