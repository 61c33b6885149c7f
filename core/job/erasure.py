"""Erase outputs of finished jobs, and leave a signed tombstone that says so.

    results  out/<job_id>/tombstones/<nnnnn>.json        core/result/tombstone.py
             out/<job_id>/tombstones/<nnnnn>.tlog-proof  written by the sequencer

The tombstone is stored and queued for the log before anything is deleted, so that an erasure that
was interrupted can be completed from it. The result, its proof and the other outputs stay.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from functools import cache, partial
from itertools import count

import msgspec

from core.consent.records import parse_consent
from core.documents import signed
from core.errors import Refused
from core.job import commit, object_record
from core.job.runtime import Runtime
from core.result import document, tombstone
from core.result.document import Result
from core.result.item_result import Chapter, ItemResult
from core.result.tombstone import ErasedFile, Tombstone, Withdrawal
from core.result.withdrawn_voices import WithdrawnSince, recordings_of
from core.storage.object_keys import (
    OUTPUTS,
    SEALED_SUFFIX,
    SPOKEN,
    chapter_name,
    job_id_of,
    job_prefix,
    result_key,
    tombstone_key,
    tombstones_prefix,
)
from core.tlog import log
from core.tlog.leaf import TombstoneLeaf
from core.tlog.sequencer import enqueue
from core.version import VERSION

Made = Mapping[str, ItemResult | Chapter]
"""Name of an output -> what the result states about it."""


def erase_outputs(
    job_id: str,
    runtime: Runtime,
    *,
    reason: str,
    items: Collection[str] | None = None,
    withdrawal: Withdrawal | None = None,
    skip_damaged: bool = False,
) -> list[Tombstone]:
    """Delete outputs of a finished job, with their subtitles and with the joined files of the job
    that contain them.

    `items`: ids of items, or `chapters/<id>` of joined files; None: everything. An output that the
    job kept from an earlier job is erased there, with what that job joined from it. Returns the new
    tombstones, one for each of these jobs; none if everything was erased before. Safe to repeat.
    What is kept of the speech of these voices (core/job/speech_cache.py) is deleted too.
    `skip_damaged`: leave out the items of parts that were changed or deleted.

    Raises Refused OBJECT_MISSING if the job has no result, VALUE_RANGE for an item without output,
    and for damaged parts what `document.read_items` raises.
    """
    made = _read_outputs(job_id, runtime, skip_damaged=skip_damaged)
    names = _with_joined_files(made, made if items is None else items, job_id)
    kept: dict[str, list[str]] = {}
    files: dict[ErasedFile, str] = {}
    for name in names:
        owner = getattr(made[name], "kept_from", "")
        if owner:
            kept.setdefault(owner, []).append(name)
        else:
            files |= dict.fromkeys(tombstone.files_of(made[name]), name)
    erased = complete_erasures(job_id, runtime)
    tombstones = []
    if new := {file: name for file, name in files.items() if file not in erased}:
        about = Tombstone(
            job_id=job_id,
            number=0,
            result_sha256=hashlib.sha256(_read_result_bytes(job_id, runtime)).hexdigest(),
            items=sorted(set(new.values())),
            files=list(new),
            reason=reason,
            erased=document.format_timestamp(runtime.results.now()),
            withdrawal=withdrawal,
            processor=VERSION,
        )
        tombstones.append(_put_tombstone(about, runtime))
        complete_erasures(job_id, runtime)
    _forget_spoken(job_id, [made[name] for name in names], runtime)
    for owner, ids in kept.items():
        tombstones += erase_outputs(
            owner,
            runtime,
            reason=reason,
            items=ids,
            withdrawal=withdrawal,
            skip_damaged=skip_damaged,
        )
    return tombstones


def _forget_spoken(job_id: str, erased: Collection[ItemResult | Chapter], runtime: Runtime) -> None:
    """Delete the spoken items that are kept of the voices: which of them are those of the erased
    outputs cannot be told without their texts."""
    result = commit.read_result(job_id, runtime)
    used = result.voices if result else {}
    names = {one.voice for one in erased if isinstance(one, ItemResult)}
    for recording in {r for name in names & used.keys() for r in recordings_of(used[name])}:
        for kept in runtime.caches:
            kept.forget(recording, SPOKEN)


def erase_withdrawn(record: bytes, runtime: Runtime) -> list[Tombstone]:
    """Erase every output of the recordings of a withdrawn record that was made before, in all jobs.

    Returns the new tombstones. Safe to repeat. Raises Refused CONSENT_INVALID.
    """
    consent = parse_consent(record)
    about = Withdrawal(record_sha256=hashlib.sha256(record).hexdigest(), id=consent.id)
    tombstones = []
    for job_id in _finished_jobs(runtime):
        with suppress(Refused):
            items = _withdrawn_items(job_id, set(consent.ref_audio_sha256), runtime)
            for at, ids in items.items():
                withdrawal = msgspec.structs.replace(about, withdrawn=at)
                tombstones += _erase_withdrawn_items(job_id, ids, withdrawal, runtime)
    return tombstones


def account_for_deleted(result: Result, runtime: Runtime) -> list[Tombstone]:
    """Leave tombstones for the outputs of withdrawn voices that are gone: `delete_unclaimed`
    deleted them before the result was stored that names them."""
    recordings = {one for used in result.voices.values() for one in recordings_of(used)}
    notes = [n for one in sorted(recordings) for n in runtime.consents.find_withdrawals(one)]
    if not notes:
        return []
    records = {document.format_timestamp(note.at.timestamp()): note.record for note in notes}
    stored = {info.key for info in runtime.results.list(job_prefix(result.job_id))}
    made = _read_outputs(result.job_id, runtime, skip_damaged=True)
    tombstones = []
    for at, ids in _withdrawn_items(result.job_id, recordings, runtime).items():
        own = [id_ for id_ in ids if not getattr(made[id_], "kept_from", "")]
        gone = [id_ for id_ in own if not stored.issuperset(document.sealed_keys([made[id_]]))]
        if gone:
            about = Withdrawal(record_sha256=records[at], withdrawn=at)
            tombstones += _erase_withdrawn_items(result.job_id, gone, about, runtime)
    return tombstones


def _erase_withdrawn_items(
    job_id: str, ids: Collection[str], withdrawal: Withdrawal, runtime: Runtime
) -> list[Tombstone]:
    return erase_outputs(
        job_id,
        runtime,
        reason="consent withdrawn",
        items=ids,
        withdrawal=withdrawal,
        skip_damaged=True,
    )


def delete_unclaimed(record: bytes, runtime: Runtime) -> list[str]:
    """Delete the outputs of the recordings of a withdrawn record that were stored before and that
    no result names which we signed: their own records name the recordings.

    `erase_withdrawn` does not see them, because somebody deleted or changed the result or a part of
    it, or because the job is not finished. Returns their keys; there is no tombstone, because no
    result claims them. If a result does later, its worker leaves one (`account_for_deleted`).
    Raises Refused CONSENT_INVALID.
    """
    at = {
        recording: max(note.at for note in notes).timestamp()
        for recording in parse_consent(record).ref_audio_sha256
        if (notes := runtime.consents.find_withdrawals(recording))
    }
    deleted = []
    named_keys = cache(partial(_named_keys, runtime))
    for info in list(runtime.results.list(OUTPUTS)):
        if not info.key.endswith(SEALED_SUFFIX) or info.key in named_keys(job_id_of(info.key)):
            continue
        stored = runtime.results.head(info.key)
        named = object_record.recordings_of(stored, runtime) if stored else []
        if stored and any(stored.modified <= at.get(recording, 0) for recording in named):
            runtime.results.delete(info.key)
            deleted.append(info.key)
    return deleted


def _named_keys(runtime: Runtime, job_id: str) -> set[str]:
    """Return the keys of the outputs that the result of a job names; none if it has no result."""
    with suppress(Refused):
        made = _read_outputs(job_id, runtime, skip_damaged=True)
        return set(document.sealed_keys(made.values()))
    return set()


def _finished_jobs(runtime: Runtime) -> list[str]:
    listed = runtime.results.list(OUTPUTS)
    return [job for i in listed if i.key == result_key(job := job_id_of(i.key))]


def _withdrawn_items(
    job_id: str, recordings: Collection[str], runtime: Runtime
) -> dict[str, list[str]]:
    """Time of the withdrawal -> ids of the items of a job that were made from these recordings."""
    found: dict[str, list[str]] = {}
    if result := commit.read_result(job_id, runtime):
        read = commit.part_reader(runtime)
        since = WithdrawnSince(result, read, runtime.results, runtime.keys.verifying)
        for item in _items_of(result, runtime, skip_damaged=True):
            if (at := since(item)) and not set(recordings).isdisjoint(since.recordings(item)):
                found.setdefault(at, []).append(item.id)
    return found


def complete_erasures(job_id: str, runtime: Runtime) -> set[ErasedFile]:
    """Delete the files that the tombstones of a job name and that still exist, and queue the
    tombstones that are not in the log. Returns all files that they name."""
    erased: set[ErasedFile] = set()
    stored = {info.key for info in runtime.results.list(job_prefix(job_id))}
    for one, leaf in _read_tombstones(job_id, runtime):
        if not log.has_proof(runtime.results, leaf, runtime.keys.verifying.values()):
            enqueue(runtime.control, leaf)
        for file in one.files:
            if file.key in stored:
                runtime.results.delete(file.key)
        erased.update(one.files)
    return erased


def find_keepers(
    job_id: str, items: Collection[str] | None, runtime: Runtime
) -> Iterator[tuple[str, list[str]]]:
    """Yield each other job that kept some of these outputs of a job (None: any), with their ids.
    What it joined from them is not erased with them. Reads every result of the bucket."""
    for info in runtime.results.list(OUTPUTS):
        other = job_id_of(info.key)
        if info.key != result_key(other) or other == job_id:
            continue
        with suppress(Refused):
            result = commit.read_result(other, runtime)
            if result is None or not result.retry_of:
                continue
            found = document.read_items(result, commit.part_reader(runtime))
            ids = [i.id for i in found if i.kept_from == job_id and i.id in (items or [i.id])]
            if ids:
                yield other, ids


def _read_outputs(job_id: str, runtime: Runtime, *, skip_damaged: bool) -> Made:
    result: Result | None = commit.read_result(job_id, runtime)
    if result is None:
        message = f"Job {job_id} has no result, so there is nothing to erase."
        raise Refused("OBJECT_MISSING", message, pointer=result_key(job_id))
    items = _items_of(result, runtime, skip_damaged=skip_damaged)
    outputs: dict[str, ItemResult | Chapter] = {item.id: item for item in items if item.output}
    return outputs | {chapter_name(one.id): one for one in result.chapters if one.output}


def _items_of(result: Result, runtime: Runtime, *, skip_damaged: bool) -> Iterator[ItemResult]:
    passed_over = (Refused,) if skip_damaged else ()
    yield from result.items
    for ref in result.parts:
        with suppress(*passed_over):
            yield from document.read_part(ref, commit.part_reader(runtime)).items


def _with_joined_files(made: Made, names: Collection[str], job_id: str) -> list[str]:
    if unknown := sorted(set(names) - made.keys()):
        message = f"The job has no output of {', '.join(unknown)}."
        raise Refused("VALUE_RANGE", message, pointer=result_key(job_id))
    joined = [
        name
        for name, one in made.items()
        if isinstance(one, Chapter) and any(span.id in names for span in one.items)
    ]
    return sorted({*names, *joined})


def _read_result_bytes(job_id: str, runtime: Runtime) -> bytes:
    return runtime.results.get(result_key(job_id), limit=commit.RESULT_LIMIT).data


def _put_tombstone(about: Tombstone, runtime: Runtime) -> Tombstone:
    """Store a tombstone under the first free number of its job, and return it."""
    while True:
        taken = {info.key for info in runtime.results.list(tombstones_prefix(about.job_id))}
        numbers = (n for n in count() if tombstone_key(about.job_id, n) not in taken)
        about = msgspec.structs.replace(about, number=next(numbers))
        data = signed.sign(about, runtime.keys.signing)
        if runtime.results.put_once(tombstone_key(about.job_id, about.number), data):
            return about


def _read_tombstones(job_id: str, runtime: Runtime) -> Iterator[tuple[Tombstone, TombstoneLeaf]]:
    """Yield the genuine tombstones of a job. Others excuse nothing: an audit reports them."""
    for info in runtime.results.list(tombstones_prefix(job_id)):
        with suppress(Refused, ValueError):
            number = int(info.key.rpartition("/")[2].removesuffix(".json"))
            data = runtime.results.get(info.key, limit=tombstone.LIMIT).data
            one = tombstone.parse_tombstone(data, job_id, number, runtime.keys.verifying)
            digest = hashlib.sha256(data).hexdigest()
            yield one, TombstoneLeaf(job=job_id, number=number, sha256=digest)
