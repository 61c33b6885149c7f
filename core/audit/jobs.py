"""Audit one job: its result (check 1), the objects beside it (10) and everything it names."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec

from core.audit import consents, erasures, log_snapshot, outputs
from core.audit.erasures import Erasures
from core.audit.log_snapshot import LogSnapshot
from core.audit.model import (
    COMPLETENESS,
    SIGNATURE,
    CheckedItem,
    CheckedJob,
    Outcome,
    attempt,
    failed,
    passed,
    skipped,
)
from core.audit.sources import SETTLING_SECONDS, Sources, is_in_progress, part_reader
from core.documents import signed
from core.errors import Refused
from core.result import document as results
from core.result.document import Result
from core.result.item_result import Chapter, ItemResult, Watermark
from core.result.withdrawn_voices import WithdrawnSince
from core.storage.object_keys import (
    SEALED_SUFFIX,
    event_key,
    job_prefix,
    proof_key,
    queue_key,
    result_key,
)
from core.storage.port import Info
from core.tlog.leaf import Leaf

_MAX_BYTES = 512 << 20


def check(
    job: str, listing: Sequence[Info], sources: Sources, snapshot: LogSnapshot, since: str
) -> CheckedJob:
    """Check one job. `listing`: all objects under `out/<job>/`. `since`: RFC 3339; of a result that
    finished before, only the watermark payloads and the tombstones are read."""
    digest = listing_digest(listing)
    stored = {info.key: info for info in listing}
    info = stored.get(result_key(job))
    if info is None:
        outcomes = _check_without_result(job, listing, sources, snapshot)
        return CheckedJob(job=job, seen=digest, outcomes=outcomes)
    document = sources.results.get(info.key, limit=_MAX_BYTES).data
    result, signature = _read_result(document, job, sources)
    age = sources.results.now() - info.modified
    proof = stored.get(proof_key(job))
    sha256 = hashlib.sha256(document).hexdigest()
    leaf = Leaf(job=job, result_sha256=sha256)
    inclusion = log_snapshot.check_inclusion(sources, snapshot, leaf, proof, age)
    if result is None:
        outcomes = [signature, inclusion]
        if signature.code == "RESULT_MISPLACED":
            outputs_left = [key for key in stored if key.endswith(SEALED_SUFFIX)]
            outcomes += (failed(COMPLETENESS, "OBJECT_UNCLAIMED", key=key) for key in outputs_left)
        return CheckedJob(job=job, seen=digest, outcomes=outcomes)
    erased = erasures.check(job, sha256, listing, sources, snapshot)
    checked = CheckedJob(
        job=job,
        seen=digest,
        finished=result.finished,
        status=result.status,
        erasures=[msgspec.structs.replace(one, signature=None) for one in erased.genuine],
    )
    outcomes = [signature, inclusion, *erased.outcomes]
    # A result that was changed may state any time, so a failure is reported in any case.
    if result.finished < since and all(outcome.verdict != "fail" for outcome in outcomes):
        marks = [i.watermark.payload for i in _read_items(result, sources, []) if i.watermark]
        return msgspec.structs.replace(checked, early=True, marks=marks)
    context = _Context(sources, snapshot, {job: erased})
    return _check_contents(checked, result, listing, outcomes, context)


@dataclass(frozen=True, slots=True)
class _Context:
    sources: Sources
    snapshot: LogSnapshot
    erasures: dict[str, Erasures]
    """Job -> its tombstones; filled as they are needed."""

    def is_erased(self, made: ItemResult | Chapter, owner: str) -> bool:
        """Return whether the files of an item or joined file that `owner` made were erased."""
        if made.output is None:
            return False
        if owner not in self.erasures:
            # Only a job that kept outputs of another gets here: most of them were never erased.
            if self.sources.results.head(made.output.key):
                return False
            self.erasures[owner] = erasures.check_owner(owner, self.sources, self.snapshot)
        return self.erasures[owner].cover(made)


def listing_digest(listing: Sequence[Info]) -> str:
    """Return a digest that changes with every write to the folder."""
    lines = sorted(f"{info.key} {info.etag} {info.size}" for info in listing)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:32]


def _check_contents(
    checked: CheckedJob,
    result: Result,
    listing: Sequence[Info],
    outcomes: list[Outcome],
    context: _Context,
) -> CheckedJob:
    sources = context.sources
    failures = _check_attachments(result, sources)
    items: list[CheckedItem] = []
    marks: dict[str, Watermark] = {}
    claimed = set(results.sealed_keys(result.chapters))
    withdrawn = WithdrawnSince(
        result, part_reader(sources), sources.results, sources.keys.verifying
    )
    for item in _read_items(result, sources, failures):
        claimed.update(results.sealed_keys([item]))
        maker = item.kept_from or checked.job
        if context.is_erased(item, maker):
            found = outputs.check_erased(item, maker, sources)
        else:
            found = outputs.check(item, checked.job, sources)
        items.append(msgspec.structs.replace(found, withdrawn=withdrawn(item)))
        if item.watermark:
            marks[item.id] = item.watermark
    joined = [
        outputs.skip_erased_joined(chapter)
        if context.is_erased(chapter, checked.job)
        else outputs.check_joined(chapter, checked.job, marks, sources)
        for chapter in result.chapters
    ]
    erased = context.erasures[checked.job]
    claimed |= erased.claimed
    unclaimed = [*_find_unclaimed(result, claimed, listing), *_check_event(result, sources)]
    return msgspec.structs.replace(
        checked,
        outcomes=[*outcomes, *failures, *unclaimed, *consents.check(result, sources)],
        items=items,
        joined=joined,
        marks=[mark.payload for mark in marks.values()],
    )


def _read_items(result: Result, sources: Sources, failures: list[Outcome]) -> Iterator[ItemResult]:
    """Yield the items of every part that can be read; add an outcome to `failures` for each part
    that cannot."""
    yield from result.items
    for part in result.parts:
        items: list[ItemResult] = []
        with attempt(SIGNATURE, part.key) as reading:
            items = results.read_part(part, part_reader(sources)).items
        if reading.outcome.verdict != "pass":
            failures.append(reading.outcome)
        yield from items


def _check_attachments(result: Result, sources: Sources) -> list[Outcome]:
    """Return an outcome for each table whose digest is not the one in the result."""
    failures = []
    for table in result.attachments.values():
        with attempt(SIGNATURE, table.key) as checking:
            data = sources.results.get(table.key, limit=_MAX_BYTES).data
            if hashlib.sha256(data).hexdigest() != table.sha256:
                raise Refused("OBJECT_CHANGED", "Its digest is not the one that the result states.")
        if checking.outcome.verdict != "pass":
            failures.append(checking.outcome)
    return failures


def _read_result(document: bytes, job: str, sources: Sources) -> tuple[Result | None, Outcome]:
    result = None
    key = result_key(job)
    with attempt(SIGNATURE, key) as checking:
        result = signed.read(document, Result, sources.keys.verifying)
        if result.job_id != job:
            message = f"It is the result of {result.job_id}."
            return None, failed(SIGNATURE, "RESULT_MISPLACED", message, key)
    return result, checking.outcome


def _find_unclaimed(result: Result, claimed: set[str], listing: Sequence[Info]) -> list[Outcome]:
    claimed |= {result_key(result.job_id), proof_key(result.job_id)}
    claimed |= {part.key for part in result.parts}
    claimed |= {table.key for table in result.attachments.values()}
    unclaimed = [info.key for info in listing if info.key not in claimed]
    failures = [failed(COMPLETENESS, "OBJECT_UNCLAIMED", key=key) for key in unclaimed]
    return failures or [passed(COMPLETENESS)]


class _EventData(msgspec.Struct, frozen=True, kw_only=True):
    job_id: str
    status: str
    manifest_key: str
    manifest_sha256: str
    result_key: str
    totals: results.Totals
    error: str


class _Event(msgspec.Struct, frozen=True, kw_only=True):
    time: str
    data: _EventData


def _check_event(result: Result, sources: Sources) -> list[Outcome]:
    """Return an outcome if the job's event does not say what its result says."""
    key = event_key(result.job_id, result.finished)
    try:
        stored = sources.results.get(key, limit=_MAX_BYTES).data
        found = msgspec.json.decode(stored, type=_Event)
    except Refused:
        return []  # it is written after the result
    except (msgspec.DecodeError, RecursionError):
        return [failed(COMPLETENESS, "EVENT_MISMATCH", key=key)]
    data = _EventData(
        job_id=result.job_id,
        status=result.status,
        manifest_key=result.manifest.key,
        manifest_sha256=result.manifest.sha256,
        result_key=result_key(result.job_id),
        totals=result.totals,
        error=result.error.code if result.error else "",
    )
    is_same = found == _Event(time=result.finished, data=data)
    return [] if is_same else [failed(COMPLETENESS, "EVENT_MISMATCH", key=key)]


def _check_without_result(
    job: str, listing: Sequence[Info], sources: Sources, snapshot: LogSnapshot
) -> list[Outcome]:
    control = sources.control
    queued = control is not None and control.head(queue_key(job)) is not None
    if queued or job in snapshot.entries or any(i.key == proof_key(job) for i in listing):
        return [failed(COMPLETENESS, "RESULT_MISSING", key=result_key(job))]
    newest = max(info.modified for info in listing)
    if is_in_progress(sources, job) or sources.results.now() - newest < SETTLING_SECONDS:
        return [skipped(COMPLETENESS, "IN_PROGRESS", key=job_prefix(job))]
    return [failed(COMPLETENESS, "OBJECT_UNCLAIMED", key=info.key) for info in listing]
