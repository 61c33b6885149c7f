"""The sweeper: it does what lost notifications did not bring about.

It may run at any time, beside workers and other sweepers: it does nothing that a repeated
notification would not do, and removes only marks that no job waits for.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec

from core import sweep
from core.batch import plan, worker
from core.errors import Misconfigured, Refused, Unavailable
from core.job import commit
from core.job.runtime import Finished, Runtime, Waiting
from core.result.document import Result
from core.storage.object_keys import MANIFESTS, event_key, result_key
from core.storage.port import Info
from core.sweep import SweepFinding
from events.incoming import object_kind
from handlers.jobs import announce, carry_out, carry_out_shard

GRACE = 60.0
"""Seconds in which the notification of a new manifest may still arrive."""
LISTED = 1000
"""Findings that are kept: a bucket may hold any number of manifests."""

log = logging.getLogger("voicedrop.sweep")


class Sweep(msgspec.Struct, kw_only=True):
    """What one sweep found and did."""

    manifests: int = 0
    finished: int = 0
    """Jobs that have a result now."""
    findings: list[SweepFinding] = []
    """The first LISTED findings; the counts cover all of them."""
    counts: Counter[str] = msgspec.field(default_factory=Counter)
    """Kind -> number of findings."""
    undone: int = 0
    """Jobs without result or event: sweep again later."""
    waiting: int = 0
    """Those of the undone jobs that wait for a file."""
    broken: int = 0
    """Findings that need an operator."""

    def add(self, finding: SweepFinding) -> None:
        self.counts[finding.kind] += 1
        self.undone += finding.open
        self.waiting += finding.open and finding.kind == "waiting"
        self.broken += finding.kind == "foreign" or finding.error == "INTERNAL"
        if len(self.findings) < LISTED:
            self.findings.append(finding)

    @property
    def open(self) -> list[SweepFinding]:
        return [finding for finding in self.findings if finding.open]


def run(runtime: Runtime, *, grace: float = GRACE) -> Sweep:
    """Bring about the result of every manifest and the event of every result; report the rest.

    The error of one job does not stop the others. Raises Unavailable or Misconfigured if the
    buckets cannot be listed.
    """
    return _Sweeper(runtime, grace).run()


def summary(swept: Sweep) -> dict[str, Any]:
    """The counts alone: the answer to the invocation by a timer."""
    return {
        "manifests": swept.manifests,
        "finished": swept.finished,
        "open": swept.undone,
        "counts": dict(swept.counts),
    }


def describe(finding: SweepFinding) -> str:
    """One line for people."""
    subject = finding.manifest or f"job {finding.job}"
    action = f"{finding.action}. " if finding.action else ""
    code = f"{finding.error}: " if finding.error else ""
    keys = f" ({len(finding.keys)} objects)" if finding.keys else ""
    return f"{subject}: {finding.kind}: {action}{code}{finding.detail}{keys}"


class _Sweeper:
    def __init__(self, runtime: Runtime, grace: float) -> None:
        self._runtime, self._grace = runtime, grace
        self._started = runtime.control.now()
        self._without_manifest: dict[str, list[str]] = {}
        """Jobs without result for which no manifest was found yet -> their objects."""
        self._sweep = Sweep()

    def run(self) -> Sweep:
        self._without_manifest = sweep.without_result(self._runtime, self._started)
        for info in self._runtime.inbox.list(MANIFESTS):
            if object_kind(info.key) == "manifest":
                self._sweep.manifests += 1
                finding = SweepFinding(kind="unfinished", manifest=info.key)
                self._try(finding, self._finish_manifest, info)
        for job_id, infos in worker.list_cut_jobs(self._runtime):
            finding = SweepFinding(kind="unfinished", job=job_id)
            self._try(finding, self._finish_cut_job, job_id, infos)
        for job_id, infos in sweep.begun(self._runtime):
            finding = SweepFinding(kind="unannounced", job=job_id)
            self._try(finding, self._announce_result, job_id, infos)
        for finding in sweep.stale_pending(self._runtime):
            self._try(finding, self._remove_mark, finding)
        for job_id, keys in self._without_manifest.items():
            finding = SweepFinding(kind="abandoned", job=job_id)
            self._try(finding, self._report_abandoned, job_id, keys)
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

    def _finish_manifest(self, info: Info) -> None:
        manifest = commit.read_manifest(info.key, self._runtime)
        self._without_manifest.pop(manifest.job_id, None)
        if self._runtime.results.head(result_key(manifest.job_id)):
            return
        finding = sweep.unfinished(info, manifest.job_id, self._runtime, self._grace)
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
        """Make the shards of a job on which no worker works."""
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
        finding = sweep.shard_left(info, job_id, self._runtime, self._grace)
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
        if result := commit.read_result(job_id, self._runtime):
            self._sweep.finished += 1
            self._announce(result)
            if finding := sweep.orphans(job_id, infos, result, self._runtime):
                self._add(finding)

    def _announce(self, result: Result) -> None:
        key = event_key(result.job_id, result.finished)
        if self._runtime.results.head(key):
            return
        is_new = announce(result, self._runtime)
        finding = SweepFinding(
            kind="unannounced",
            job=result.job_id,
            manifest=result.manifest.key,
            detail="The result was stored, its event was not.",
        )
        self._add(finding, action="event written" if is_new else "announced meanwhile")

    def _remove_mark(self, finding: SweepFinding) -> None:
        for key in finding.keys:
            self._runtime.control.delete(key)
        self._add(finding, action="removed")

    def _report_abandoned(self, job_id: str, keys: list[str]) -> None:
        if self._runtime.results.head(result_key(job_id)) is None:
            self._add(sweep.abandoned(job_id, keys))
