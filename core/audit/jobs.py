"""One job's folder: its result (check 1), what lies beside it (10), and all that it names."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import msgspec

from core.audit import consents, log_snapshot, outputs
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
from core.audit.sources import SETTLING_SECONDS, Sources, is_leased, part_reader
from core.documents import signed
from core.errors import Refused
from core.result import document as results
from core.result.document import Result
from core.result.item_result import ItemResult, Watermark
from core.storage.object_keys import job_prefix, proof_key, queue_key, result_key
from core.storage.port import Info

_MAX_BYTES = 512 << 20


def check(
    job: str, listing: Sequence[Info], sources: Sources, book: LogSnapshot, since: str
) -> CheckedJob:
    """`listing`: everything under `out/<job>/`. `since`: RFC 3339; earlier results are left out."""
    seen = listing_digest(listing)
    stored = {info.key: info for info in listing}
    info = stored.get(result_key(job))
    if info is None:
        outcomes = _check_without_result(job, listing, sources, book)
        return CheckedJob(job=job, seen=seen, outcomes=outcomes)
    document = sources.results.get(info.key, limit=_MAX_BYTES).data
    found, genuine = _read_result(document, job, sources)
    age = sources.results.now() - info.modified
    proof = stored.get(proof_key(job))
    sha256 = hashlib.sha256(document).hexdigest()
    included = log_snapshot.check_inclusion(sources, book, job, sha256, proof, age)
    if found is None:
        return CheckedJob(job=job, seen=seen, outcomes=[genuine, included])
    made = CheckedJob(
        job=job,
        seen=seen,
        finished=found.finished,
        status=found.status,
    )
    if found.finished < since:
        marks = [i.watermark.payload for i in _read_items(found, sources, []) if i.watermark]
        return msgspec.structs.replace(made, early=True, marks=marks)
    return _check_contents(made, found, listing, sources, [genuine, included])


def listing_digest(listing: Sequence[Info]) -> str:
    """Names a state of a folder: any write to it gives another."""
    lines = sorted(f"{info.key} {info.etag} {info.size}" for info in listing)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:32]


def _check_contents(
    made: CheckedJob,
    found: Result,
    listing: Sequence[Info],
    sources: Sources,
    outcomes: list[Outcome],
) -> CheckedJob:
    whole = _check_attachments(found, sources)
    rows: list[CheckedItem] = []
    marks: dict[str, Watermark] = {}
    claimed = set(results.objects(found.chapters))
    for item in _read_items(found, sources, whole):
        claimed.update(results.objects([item]))
        rows.append(outputs.check(item, item.kept_from or made.job, sources))
        if item.watermark:
            marks[item.id] = item.watermark
    joined = [outputs.check_joined(one, made.job, marks, sources) for one in found.chapters]
    unclaimed = _find_unclaimed(found, claimed, listing)
    return msgspec.structs.replace(
        made,
        outcomes=[*outcomes, *whole, *unclaimed, *consents.check(found, sources)],
        items=rows,
        joined=joined,
        marks=[mark.payload for mark in marks.values()],
    )


def _read_items(found: Result, sources: Sources, bad: list[Outcome]) -> Iterator[ItemResult]:
    """Every item, of as many parts as can be read; what is wrong with the others goes to `bad`."""
    yield from found.items
    for named in found.parts:
        part: list[ItemResult] = []
        with attempt(SIGNATURE, named.key) as made:
            part = results.part_of(named, part_reader(sources)).items
        if made.outcome.verdict != "pass":
            bad.append(made.outcome)
        yield from part


def _check_attachments(found: Result, sources: Sources) -> list[Outcome]:
    """The tables beside a result are those that it names."""
    bad = []
    for named in found.attachments.values():
        with attempt(SIGNATURE, named.key) as made:
            data = sources.results.get(named.key, limit=_MAX_BYTES).data
            if hashlib.sha256(data).hexdigest() != named.sha256:
                raise Refused("OBJECT_CHANGED", "Its digest is not the one that the result states.")
        if made.outcome.verdict != "pass":
            bad.append(made.outcome)
    return bad


def _read_result(document: bytes, job: str, sources: Sources) -> tuple[Result | None, Outcome]:
    found = None
    key = result_key(job)
    with attempt(SIGNATURE, key) as made:
        signed.check(document, sources.keys.verifying)
        found = results.parse(document)
        if found.job_id != job:
            said = f"It is the result of {found.job_id}."
            return None, failed(SIGNATURE, "RESULT_MISPLACED", said, key)
    return found, made.outcome


def _find_unclaimed(found: Result, claimed: set[str], listing: Sequence[Info]) -> list[Outcome]:
    claimed |= {result_key(found.job_id), proof_key(found.job_id)}
    claimed |= {part.key for part in found.parts}
    claimed |= {named.key for named in found.attachments.values()}
    foreign = [info.key for info in listing if info.key not in claimed]
    bad = [failed(COMPLETENESS, "OBJECT_UNCLAIMED", key=key) for key in foreign]
    return bad or [passed(COMPLETENESS)]


def _check_without_result(
    job: str, listing: Sequence[Info], sources: Sources, book: LogSnapshot
) -> list[Outcome]:
    control = sources.control
    queued = control is not None and control.head(queue_key(job)) is not None
    if queued or job in book.leaves or any(i.key == proof_key(job) for i in listing):
        return [failed(COMPLETENESS, "RESULT_MISSING", key=result_key(job))]
    newest = max(info.modified for info in listing)
    if is_leased(sources, job) or sources.results.now() - newest < SETTLING_SECONDS:
        return [skipped(COMPLETENESS, "IN_PROGRESS", key=job_prefix(job))]
    return [failed(COMPLETENESS, "OBJECT_UNCLAIMED", key=info.key) for info in listing]
