"""What was found, counted: `report.json`, from which the page is drawn, and `items.csv`."""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Literal

import msgspec

from core.audit.bucket import AuditedBucket
from core.audit.model import CHECKS, CONSISTENCY, CheckedItem, CheckedJob, Outcome, explain
from core.audit.sources import Sources
from core.result.document import timestamp
from core.trace.registry import Index, Mark
from core.version import VERSION

MAX_DAYS = 92
"""Days that a plot shows; more are put together by months."""
_BINS = 12


class Check(msgspec.Struct, frozen=True, kw_only=True):
    number: int
    name: str
    meaning: str
    """What `pass` says."""
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    reasons: dict[str, int] = {}
    """Code -> how often, of what did not pass."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    check: int
    code: str
    job: str = ""
    item: str = ""
    key: str = ""
    message: str = ""


class Period(msgspec.Struct, frozen=True, kw_only=True):
    period: str
    """A day or a month, UTC."""
    succeeded: int = 0
    partial: int = 0
    failed: int = 0
    rejected: int = 0


class Histogram(msgspec.Struct, frozen=True, kw_only=True):
    """`counts[i]` values lie in [edges[i], edges[i + 1])."""

    edges: list[float] = []
    counts: list[int] = []


class LogSummary(msgspec.Struct, frozen=True, kw_only=True):
    origin: str
    size: int
    root: str
    checkpoint: str
    """Signed. Keep it where the operator cannot reach it, and give it to the next audit."""


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    jobs: int
    items: int
    outputs: int
    audio_s: float
    objects: int
    """In the whole bucket."""
    bytes: int
    left_out: int
    """Jobs that finished before the time asked for."""
    findings: int


class Report(msgspec.Struct, frozen=True, kw_only=True):
    schema: Literal["voicedrop/audit/1"] = "voicedrop/audit/1"
    verdict: Literal["clean", "findings"]
    bucket: str
    since: str
    finished: str
    """RFC 3339, UTC."""
    processor: str = VERSION
    keys: dict[str, list[str]]
    """Ids of the keys the audit held: signing (public), watermark; and whether it could open."""
    totals: Totals
    checks: list[Check]
    findings: list[Finding]
    codes: dict[str, str]
    """Every code in this report -> what it means."""
    outcomes: list[Period]
    scores: Histogram
    """Of the marks: -log10 of a bound on the probability that unmarked sound scores as high."""
    durations: Histogram
    """Seconds."""
    log: LogSummary | None


def build_report(bucket: AuditedBucket, sources: Sources, since: str) -> Report:
    jobs = [job for job in bucket.jobs if not job.early]
    items = [item for job in jobs for item in job.items]
    spoken = [item for item in items if item.bytes]
    findings = list(_find_failures(bucket, jobs))
    checks = _count_checks(bucket, jobs)
    book = bucket.book
    return Report(
        verdict="findings" if findings else "clean",
        bucket=sources.results.name,
        since=since,
        finished=timestamp(sources.results.now()),
        keys={
            "signing": sorted(sources.keys.verifying),
            "watermark": sorted(sources.keys.watermark),
            "opening": ["held"] if sources.keys.wrapping else [],
        },
        totals=Totals(
            jobs=len(jobs),
            items=len(items),
            outputs=len(spoken),
            audio_s=round(sum(item.duration_s for item in spoken), 1),
            objects=bucket.objects,
            bytes=bucket.bytes,
            left_out=len(bucket.jobs) - len(jobs),
            findings=len(findings),
        ),
        checks=checks,
        findings=findings,
        codes={code: explain(code) for code in sorted({c for k in checks for c in k.reasons})},
        outcomes=_count_periods(jobs),
        scores=build_histogram([item.score for item in spoken if item.score is not None]),
        durations=build_histogram([item.duration_s for item in spoken]),
        log=LogSummary(
            origin=book.origin, size=book.size, root=book.root, checkpoint=book.checkpoint
        )
        if book.root
        else None,
    )


def build_histogram(values: list[float]) -> Histogram:
    """Up to twelve bins of a round width, from 0 or the round number below the least value."""
    if not values:
        return Histogram()
    low = min(0.0, *values)
    step = _round_up(max((max(values) - low) / _BINS, 1e-3))
    first = math.floor(low / step)
    counts = Counter(math.floor(value / step) - first for value in values)
    bins = max(counts) + 1
    edges = [round((first + i) * step, 6) for i in range(bins + 1)]
    return Histogram(edges=edges, counts=[counts[i] for i in range(bins)])


def format_items_csv(bucket: AuditedBucket) -> Iterator[str]:
    """One line an item, a joined file, or a job without items; a column a check."""
    log = next((o for o in bucket.outcomes if o.check == CONSISTENCY), None)
    names = [name for name, _ in CHECKS.values()]
    head = ["job", "item", "index", "job_status", "item_status", "finished"]
    facts = ["duration_s", "bytes", "media_type", "payload", "score"]
    yield _format_row([*head, *facts, *names])
    for job in bucket.jobs:
        if job.early:
            continue
        for item in [*job.items, *job.joined] or [CheckedItem(item="", index=-1, status="")]:
            found = [*job.outcomes, *item.outcomes, *([log] if log else [])]
            yield _format_row(
                [
                    *(job.job, item.item, "" if item.index < 0 else item.index),
                    *(job.status, item.status, job.finished),
                    *(item.duration_s, item.bytes, item.media_type, item.payload),
                    "" if item.score is None else item.score,
                    *(_worst_verdict(found, number) for number in CHECKS),
                ]
            )


def build_index(bucket: AuditedBucket, name: str) -> Index:
    """Whose the marks of genuine results are."""
    marks = {
        item.payload: Mark(item=item.item, job=job.job)
        for job in bucket.jobs
        for item in job.items
        if item.payload
    }
    return Index(bucket=name, marks=marks)


def _format_row(fields: Iterable[object]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(fields)
    return line.getvalue()


def _worst_verdict(found: list[Outcome], number: int) -> str:
    order = ["fail", "skip", "pass"]
    mine = sorted((o for o in found if o.check == number), key=lambda o: order.index(o.verdict))
    return f"{mine[0].verdict} {mine[0].code}".strip() if mine else ""


def _all_outcomes(
    bucket: AuditedBucket, jobs: list[CheckedJob]
) -> Iterator[tuple[str, str, Outcome]]:
    yield from (("", "", outcome) for outcome in bucket.outcomes)
    for job in jobs:
        yield from ((job.job, "", outcome) for outcome in job.outcomes)
        for item in [*job.items, *job.joined]:
            yield from ((job.job, item.item, outcome) for outcome in item.outcomes)


def _find_failures(bucket: AuditedBucket, jobs: list[CheckedJob]) -> Iterator[Finding]:
    for job, item, outcome in _all_outcomes(bucket, jobs):
        if outcome.verdict == "fail":
            yield Finding(
                check=outcome.check,
                code=outcome.code,
                job=job,
                item=item,
                key=outcome.key,
                message=outcome.message,
            )


def _count_checks(bucket: AuditedBucket, jobs: list[CheckedJob]) -> list[Check]:
    verdicts: Counter[tuple[int, str]] = Counter()
    reasons: dict[int, Counter[str]] = {number: Counter() for number in CHECKS}
    for _, _, outcome in _all_outcomes(bucket, jobs):
        verdicts[outcome.check, outcome.verdict] += 1
        if outcome.code:
            reasons[outcome.check][outcome.code] += 1
    return [
        Check(
            number=number,
            name=name,
            meaning=meaning,
            passed=verdicts[number, "pass"],
            failed=verdicts[number, "fail"],
            skipped=verdicts[number, "skip"],
            reasons=dict(reasons[number].most_common()),
        )
        for number, (name, meaning) in CHECKS.items()
    ]


def _count_periods(jobs: list[CheckedJob]) -> list[Period]:
    dated = [job for job in jobs if job.finished]
    length = 10 if len({job.finished[:10] for job in dated}) <= MAX_DAYS else 7
    counts = Counter((job.finished[:length], job.status) for job in dated)
    return [
        Period(
            period=period,
            succeeded=counts[period, "succeeded"],
            partial=counts[period, "partial"],
            failed=counts[period, "failed"],
            rejected=counts[period, "rejected"],
        )
        for period in sorted({job.finished[:length] for job in dated})
    ]


def _round_up(value: float) -> float:
    """The next of 1, 2, 5, 10, 20 ..."""
    scale = 10.0 ** math.floor(math.log10(value))
    return next(m * scale for m in (1, 2, 5, 10) if m * scale >= value * (1 - 1e-9))
