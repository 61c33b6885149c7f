"""The report of an audit: `report.json`, from which the page is rendered, and `items.csv`."""

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
from core.consent.withdrawal import WithdrawalNote
from core.result.document import format_timestamp
from core.result.tombstone import Tombstone
from core.trace.registry import Index, Mark
from core.version import VERSION

MAX_DAYS = 92
"""Most days in a plot; longer periods are counted by month."""
_BINS = 12


class Check(msgspec.Struct, frozen=True, kw_only=True):
    number: int
    name: str
    meaning: str
    """The meaning of `pass`."""
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    reasons: dict[str, int] = {}
    """Code of a `fail` or `skip` -> number of times."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    check: int
    code: str
    job: str = ""
    item: str = ""
    key: str = ""
    message: str = ""

    @property
    def place(self) -> str:
        """The object, the job unless the key of the object names it, and the item."""
        job = f"job {self.job}" if self.job and self.job not in self.key else ""
        item = f"item {self.item}" if self.item else ""
        return " ".join(filter(None, (self.key, job, item))) or "the bucket"


class ReplacedRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A consent record that is no longer in the inbox, because another one has its key."""

    job: str
    """The job that cites it."""
    key: str
    message: str
    """The voice, and the SHA-256 of the record, by which it can be asked for."""


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
    """The signed checkpoint. Keep it where the operator cannot change it; give it to the next
    audit."""


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    jobs: int
    items: int
    outputs: int
    audio_s: float
    objects: int
    """Number of objects in the bucket; `bytes` is their total size."""
    bytes: int
    left_out: int
    """Jobs that finished before `since` and were not checked."""
    findings: int
    withdrawn: int = 0
    """Items of voices whose consent was withdrawn since; no finding. items.csv names them."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    schema: Literal["voicedrop/audit/1"] = "voicedrop/audit/1"
    verdict: Literal["clean", "findings"]
    bucket: str
    since: str
    finished: str
    """RFC 3339, UTC."""
    processor: str = VERSION
    keys: dict[str, list[str]]
    """Ids of the public signing keys and watermark keys of the audit; `opening` is ["held"] if it
    could decrypt."""
    totals: Totals
    checks: list[Check]
    findings: list[Finding]
    erasures: list[Tombstone] = []
    """What was erased, by logged tombstones. Not findings."""
    withdrawals: list[WithdrawalNote] = []
    """The recordings to which consent was withdrawn, by signed notes. Not findings."""
    replaced: list[ReplacedRecord] = []
    """The consent records that were replaced since a job cited them. Not findings."""
    codes: dict[str, str]
    """Every code in this report -> its meaning."""
    outcomes: list[Period]
    scores: Histogram
    """Watermark scores: -log10 of a bound on the false-positive probability."""
    durations: Histogram
    """Durations of the outputs in seconds."""
    log: LogSummary | None


def build_report(bucket: AuditedBucket, sources: Sources, since: str) -> Report:
    jobs = [job for job in bucket.jobs if not job.early]
    items = [item for job in jobs for item in job.items]
    outputs = [item for item in items if item.bytes]
    findings = list(_find_failures(bucket, jobs))
    checks = _count_checks(bucket, jobs)
    log = bucket.log
    return Report(
        verdict="findings" if findings else "clean",
        bucket=sources.results.name,
        since=since,
        finished=format_timestamp(sources.results.now()),
        keys={
            "signing": sorted(sources.keys.verifying),
            "watermark": sorted(sources.keys.watermark),
            "opening": ["held"] if sources.keys.wrapping else [],
        },
        totals=Totals(
            jobs=len(jobs),
            items=len(items),
            outputs=len(outputs),
            audio_s=round(sum(item.duration_s for item in outputs), 1),
            objects=bucket.objects,
            bytes=bucket.bytes,
            left_out=len(bucket.jobs) - len(jobs),
            findings=len(findings),
            withdrawn=sum(bool(item.withdrawn) for item in items),
        ),
        checks=checks,
        findings=findings,
        erasures=[one for job in bucket.jobs for one in job.erasures],
        withdrawals=bucket.withdrawals,
        replaced=[
            ReplacedRecord(job=job, key=outcome.key, message=outcome.message)
            for job, _, outcome in _all_outcomes(bucket, jobs)
            if outcome.code == "CONSENT_REPLACED"
        ],
        codes={code: explain(code) for code in sorted({c for k in checks for c in k.reasons})},
        outcomes=_count_periods(jobs),
        scores=build_histogram([item.score for item in outputs if item.score is not None]),
        durations=build_histogram([item.duration_s for item in outputs]),
        log=LogSummary(origin=log.origin, size=log.size, root=log.root, checkpoint=log.checkpoint)
        if log.root
        else None,
    )


def build_histogram(values: list[float]) -> Histogram:
    """Count values in up to twelve bins of a round width. The first edge is 0 or, for negative
    values, the round number below the least value."""
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
    """Yield the lines of items.csv: a row for each item, joined file or job without items, and a
    column for each check."""
    consistency = [o for o in bucket.outcomes if o.check == CONSISTENCY][:1]
    names = [name for name, _ in CHECKS.values()]
    head = ["job", "item", "index", "job_status", "item_status", "finished"]
    properties = ["duration_s", "bytes", "media_type", "payload", "score", "withdrawn"]
    yield _format_row([*head, *properties, *names])
    for job in bucket.jobs:
        if job.early:
            continue
        for item in [*job.items, *job.joined] or [CheckedItem(item="", index=-1, status="")]:
            outcomes = [*job.outcomes, *item.outcomes, *consistency]
            yield _format_row(
                [
                    *(job.job, item.item, "" if item.index < 0 else item.index),
                    *(job.status, item.status, job.finished),
                    *(item.duration_s, item.bytes, item.media_type, item.payload),
                    "" if item.score is None else item.score,
                    item.withdrawn,
                    *(_worst_verdict(outcomes, number) for number in CHECKS),
                ]
            )


def build_index(bucket: AuditedBucket, name: str) -> Index:
    """Return the item of each watermark payload in the genuine results."""
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


def _worst_verdict(outcomes: list[Outcome], number: int) -> str:
    order = ["fail", "skip", "pass"]
    of_check = [o for o in outcomes if o.check == number]
    worst = min(of_check, key=lambda o: order.index(o.verdict), default=None)
    return f"{worst.verdict} {worst.code}".strip() if worst else ""


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
    """Round up to 1, 2 or 5 times a power of ten."""
    scale = 10.0 ** math.floor(math.log10(value))
    return next(m * scale for m in (1, 2, 5, 10) if m * scale >= value * (1 - 1e-9))
