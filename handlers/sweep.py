"""The sweeper: it finishes what lost notifications and killed workers left undone.

It may run at any time, beside workers and other sweepers: it does only what a repeated notification
would do, and removes the marks of jobs that do not wait any more.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec

from core import sweep
from core.batch import plan, worker
from core.consent import protection
from core.errors import Misconfigured, Refused, Unavailable
from core.job import commit, erasure, speech_cache, withdrawn
from core.job.runtime import Finished, Runtime, Waiting
from core.result.document import Result
from core.storage.object_keys import (
    MANIFESTS,
    SEALED_SUFFIX,
    VOICES,
    WEBHOOKS,
    WITHDRAWN,
    result_key,
    tombstones_prefix,
    voice_prefix,
    withdrawals_prefix,
)
from core.storage.port import Info
from core.sweep import SweepFinding
from events.incoming import object_kind
from handlers import webhook
from handlers.jobs import announce, carry_out, carry_out_shard, is_announced, read_event

GRACE_SECONDS = 60.0
"""Seconds in which the notification of a new manifest may still arrive."""
MAX_FINDINGS = 1000
"""Findings that are kept in memory: a bucket may contain any number of manifests."""

log = logging.getLogger("voicedrop.sweep")


class SweepReport(msgspec.Struct, kw_only=True):
    """The findings and counts of one sweep."""

    manifests: int = 0
    finished: int = 0
    """Jobs that have a result now."""
    findings: list[SweepFinding] = []
    """The first MAX_FINDINGS findings; the counts cover all of them."""
    counts: Counter[str] = msgspec.field(default_factory=Counter)
    """Kind -> number of findings."""
    open_jobs: int = 0
    """Jobs without result or event, for a later sweep."""
    waiting_jobs: int = 0
    """Open jobs that wait for a file."""
    failures: int = 0
    """Findings that an operator must look into."""

    def add(self, finding: SweepFinding) -> None:
        self.counts[finding.kind] += 1
        self.open_jobs += finding.is_open
        self.waiting_jobs += finding.is_open and finding.kind == "waiting"
        self.failures += finding.kind == "foreign" or finding.error == "INTERNAL"
        if len(self.findings) < MAX_FINDINGS:
            self.findings.append(finding)

    @property
    def open_findings(self) -> list[SweepFinding]:
        return [finding for finding in self.findings if finding.is_open]


def run_sweep(runtime: Runtime, *, grace: float = GRACE_SECONDS) -> SweepReport:
    """Finish every manifest without result, write missing events, and report the rest.

    The error of one job does not stop the others. Raises Unavailable or Misconfigured if the
    buckets cannot be listed.
    """
    return _Sweeper(runtime, grace).run()


def summarise(swept: SweepReport) -> dict[str, Any]:
    """Return the counts, which are the answer to a timer."""
    return {
        "manifests": swept.manifests,
        "finished": swept.finished,
        "open": swept.open_jobs,
        "counts": dict(swept.counts),
    }


def describe(finding: SweepFinding) -> str:
    """Return a line for people."""
    subject = finding.manifest or (f"job {finding.job}" if finding.job else finding.keys[0])
    action = f"{finding.action}. " if finding.action else ""
    code = f"{finding.error}: " if finding.error else ""
    keys = f" ({len(finding.keys)} objects)" if finding.keys else ""
    return f"{subject}: {finding.kind}: {action}{code}{finding.detail}{keys}"


class _Sweeper:
    def __init__(self, runtime: Runtime, grace: float) -> None:
        self._runtime, self._grace = runtime, grace
        self._started = runtime.control.now()
        self._without_manifest: dict[str, list[str]] = {}
        """Job id -> its objects, for jobs without result whose manifest was not listed yet."""
        self._misplaced: dict[str, list[str]] = {}
        """The same for jobs in whose place there is the result of another job."""
        self._sweep = SweepReport()

    def run(self) -> SweepReport:
        # First, so that nothing more is made with a voice whose withdrawal was not noticed.
        revoked = set(self._runtime.consents.list_marks())
        finding = SweepFinding(kind="withdrawn", keys=[WITHDRAWN])
        self._try(finding, self._notice_withdrawals, revoked)
        self._try(finding, self._complete_withdrawals)
        self._try(SweepFinding(kind="expired", keys=[VOICES]), self._remove_expired)
        self._without_manifest = sweep.find_jobs_without_result(self._runtime, self._started)
        self._finish_manifests(self._finish_manifest)
        for job_id, infos in worker.list_cut_jobs(self._runtime):
            finding = SweepFinding(kind="unfinished", job=job_id)
            self._try(finding, self._finish_cut_job, job_id, infos)
        for job_id, infos in sweep.group_outputs_by_job(self._runtime):
            finding = SweepFinding(kind="unannounced", job=job_id)
            self._try(finding, self._announce_result, job_id, infos)
        if self._misplaced:  # known only now, and rare: therefore manifests are read again
            self._finish_manifests(self._finish_misplaced)
        if self._runtime.tell:
            for delivery in webhook.list_queued(self._runtime.control):
                finding = SweepFinding(kind="undelivered", keys=[f"{WEBHOOKS}{delivery}"])
                self._try(finding, self._deliver, finding, delivery)
        for finding in sweep.find_stale_marks(self._runtime):
            self._try(finding, self._remove_mark, finding)
        self._report_protections()
        self._report_abandoned(self._without_manifest, "It has no result")
        self._report_abandoned(self._misplaced, "It has the result of another job")
        return self._sweep

    def _try(self, finding: SweepFinding, act: Callable[..., None], *args: Any) -> None:
        """Turn the error of one job into a finding, so that the sweep goes on."""
        try:
            act(*args)
        except (Unavailable, Misconfigured) as exc:
            self._add(finding, error=exc.code, detail=exc.message)
        except Refused as exc:
            if exc.code == "MANIFEST_GONE":
                return  # deleted since it was listed
            self._add(finding, kind="foreign", error=exc.code, detail=exc.message)
        except Exception as exc:
            log.exception("sweep", extra={"job": finding.job, "manifest": finding.manifest})
            self._add(finding, error="INTERNAL", detail=type(exc).__name__)

    def _add(self, finding: SweepFinding, **changes: Any) -> None:
        changed = msgspec.structs.replace(finding, **changes)
        self._sweep.add(changed)
        log.info(describe(changed), extra={"job": changed.job, "kind": changed.kind})

    def _finish_manifests(self, finish: Callable[[Info], None]) -> None:
        for info in self._runtime.inbox.list(MANIFESTS):
            if object_kind(info.key) == "manifest":
                self._try(SweepFinding(kind="unfinished", manifest=info.key), finish, info)

    def _finish_manifest(self, info: Info) -> None:
        self._sweep.manifests += 1
        manifest = commit.read_manifest(info.key, self._runtime)
        self._without_manifest.pop(manifest.job_id, None)
        if self._runtime.results.head(result_key(manifest.job_id)):
            return
        self._finish_job(info, manifest.job_id)

    def _finish_misplaced(self, info: Info) -> None:
        job_id = commit.read_manifest(info.key, self._runtime).job_id
        if self._misplaced.pop(job_id, None):
            self._finish_job(info, job_id)

    def _finish_job(self, info: Info, job_id: str) -> None:
        finding = sweep.inspect_manifest(info, job_id, self._runtime, self._grace)
        if finding.kind != "unfinished":
            self._add(finding)
            return
        try:
            outcome = carry_out(info.key, self._runtime)
        except (Unavailable, Misconfigured) as exc:
            self._add(finding, error=exc.code, detail=f"{finding.detail} {exc.message}")
            return
        if isinstance(outcome, Finished):
            self._add(finding, action=f"carried out: {outcome.result.status}")
        elif isinstance(outcome, Waiting):
            detail = f"Waits for {', '.join(outcome.references)}."
            self._add(finding, kind="waiting", detail=detail)
        # Otherwise it was cut into shards, which are made next.

    def _finish_cut_job(self, job_id: str, infos: list[Info]) -> None:
        """Make the unfinished shards of a job on which no worker works."""
        if result := commit.read_result(job_id, self._runtime):
            self._announce(result)
            self._remove_shards(job_id, "Its job has a result.")
        elif plan.complete_shard_count(job_id, self._runtime):
            self._without_manifest.pop(job_id, None)
            for info in worker.unfinished_shards(job_id, infos, self._runtime):
                finding = SweepFinding(kind="unfinished", job=job_id, keys=[info.key])
                self._try(finding, self._make_shard, job_id, info)
        elif job_id in self._without_manifest:
            # It was cut in part, and without its manifest it cannot be cut completely.
            self._remove_shards(job_id, "Its manifest was deleted or replaced.")

    def _make_shard(self, job_id: str, info: Info) -> None:
        finding = sweep.inspect_shard(info, job_id, self._runtime, self._grace)
        if finding.kind != "unfinished":
            self._add(finding)
            return
        try:
            result = carry_out_shard(info.key, self._runtime)
        except (Unavailable, Misconfigured) as exc:
            self._add(finding, error=exc.code, detail=f"{finding.detail} {exc.message}")
        else:
            action = f"carried out: {result.status}" if result else "shard made"
            self._add(finding, action=action)

    def _remove_shards(self, job_id: str, why: str) -> None:
        worker.remove_shards(job_id, self._runtime)
        self._add(SweepFinding(kind="stale-work", job=job_id, detail=why), action="removed")

    def _announce_result(self, job_id: str, infos: list[Info]) -> None:
        if all(info.key != result_key(job_id) for info in infos):
            return
        result = commit.read_result(job_id, self._runtime)
        if result is None and all(info.modified < self._started for info in infos):
            outputs = [info.key for info in infos if info.key.endswith(SEALED_SUFFIX)]
            self._misplaced[job_id] = outputs or [result_key(job_id)]
        elif result and result.manifest.bucket == self._runtime.inbox.name:
            self._sweep.finished += 1
            self._announce(result)
            self._complete_erasures(job_id, infos)
            if finding := sweep.find_orphans(job_id, infos, result, self._runtime):
                self._add_unclaimed(finding)

    def _complete_erasures(self, job_id: str, infos: list[Info]) -> None:
        """Finish the erasures that were interrupted, and queue their tombstones for the log."""
        stored = {info.key for info in infos}
        if not any(key.startswith(tombstones_prefix(job_id)) for key in stored):
            return
        erased = erasure.complete_erasures(job_id, self._runtime)
        if left := sorted(stored & {file.key for file in erased}):
            detail = "A tombstone says that they were erased."
            finding = SweepFinding(kind="unerased", job=job_id, keys=left, detail=detail)
            self._add(finding, action="removed")

    def _announce(self, result: Result) -> None:
        if is_announced(result, self._runtime):
            return
        is_new = announce(result, self._runtime)
        finding = SweepFinding(
            kind="unannounced",
            job=result.job_id,
            manifest=result.manifest.key,
            detail="The result was stored, its event was not.",
        )
        self._add(finding, action="event written" if is_new else "another worker wrote the event")

    def _deliver(self, finding: SweepFinding, delivery: str) -> None:
        event = read_event(delivery, self._runtime)
        if event is None or self._runtime.tell is None:
            self._remove_mark(finding)
        elif outcome := self._runtime.tell(delivery, event):
            self._add(finding, action=outcome)

    def _notice_withdrawals(self, revoked: set[str]) -> None:
        """Withdraw what nobody has noticed. `revoked`: the keys of the objects that withdraw."""
        consents = self._runtime.consents
        for key in sorted(revoked):
            self._withdraw(key, consents.withdraw_marked, key)
        for recording in sorted(consents.list_kept()) if revoked else ():
            self._withdraw(voice_prefix(recording), consents.withdraw_used, recording, revoked)

    def _withdraw(self, key: str, withdraw: Callable[..., list[str]], *args: Any) -> None:
        finding = SweepFinding(kind="withdrawn", keys=[key])

        def report() -> None:
            if recordings := withdraw(*args):
                detail = f"Recordings: {len(recordings)}."
                self._add(finding, action="consent withdrawn", detail=detail)

        self._try(finding, report)

    def _complete_withdrawals(self) -> None:
        consents = self._runtime.consents
        for recording in consents.find_incomplete():
            finding = SweepFinding(kind="withdrawn", keys=[withdrawals_prefix(recording)])
            self._try(finding, consents.complete_withdrawal, recording)

    def _remove_expired(self) -> None:
        if count := speech_cache.remove_expired(self._runtime):
            finding = SweepFinding(kind="expired", keys=[VOICES], detail="Speech that was kept.")
            self._add(finding, action=f"{count} items removed")

    def _remove_mark(self, finding: SweepFinding) -> None:
        for key in finding.keys:
            self._runtime.control.delete(key)
        self._add(finding, action="removed")

    def _report_protections(self) -> None:
        """Report what stands in place of protections of voices and is not believed."""
        for key, found in protection.list_protections(self._runtime.control, self._runtime.keys):
            if found is None:
                detail = "It is not a protection that we signed for this place, and is ignored."
                self._add(SweepFinding(kind="foreign", keys=[key], detail=detail))

    def _report_abandoned(self, jobs: dict[str, list[str]], what: str) -> None:
        def report(finding: SweepFinding) -> None:
            if commit.read_result(finding.job, self._runtime) is None:
                self._add_unclaimed(finding)

        for job_id, keys in jobs.items():
            detail = f"{what}, and its manifest was deleted or replaced."
            finding = SweepFinding(kind="abandoned", job=job_id, keys=keys, detail=detail)
            self._try(finding, report, finding)

    def _add_unclaimed(self, finding: SweepFinding) -> None:
        removed = withdrawn.remove_unclaimed(finding.keys, self._runtime)
        action = f"deleted {len(removed)} outputs of withdrawn voices" if removed else ""
        self._add(finding, action=action)
