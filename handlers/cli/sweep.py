"""The sweeper: what notifications did not bring about is brought about here.

Safe at any time, beside live workers and other sweepers: it does nothing but what a repeated
notification would do, and takes away only marks that nobody waits for.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec

from core import sweep
from core.batch import plan, worker
from core.errors import Misconfigured, Refused, Unavailable
from core.job import commit
from core.job.runtime import Runtime
from core.job.waiting import Shared, Waiting
from core.result.document import Result
from core.settings import Settings
from core.storage.object_keys import MANIFESTS, event_key, result_key
from core.storage.port import Info
from core.sweep import SweepFinding
from events.incoming import object_kind
from handlers import wiring
from handlers.cli.screen import Progress, Report
from handlers.oss import announce, carry_out, carry_out_shard

EXIT_FAILED, EXIT_WAITING, EXIT_LATER = 1, 3, 5
GRACE = 60.0
"""Seconds in which the notification of a manifest is taken to be still on its way."""
LISTED = 1000
"""Findings that are kept: a bucket may hold any number of manifests."""

log = logging.getLogger("voicedrop.sweep")


class Swept(msgspec.Struct, kw_only=True):
    """What one sweep found and did."""

    manifests: int = 0
    finished: int = 0
    """Jobs that have a result, now."""
    findings: list[SweepFinding] = []
    """The first LISTED of them; the numbers are those of all."""
    counts: Counter[str] = msgspec.field(default_factory=Counter)
    """Kind -> how many."""
    undone: int = 0
    """Jobs that have no result or no event yet: look again later."""
    waiting: int = 0
    """Of those, the ones that wait for a file."""
    broken: int = 0
    """Findings that need somebody."""

    def note(self, found: SweepFinding) -> None:
        self.counts[found.kind] += 1
        self.undone += found.open
        self.waiting += found.open and found.kind == "waiting"
        self.broken += found.kind == "foreign" or found.error == "INTERNAL"
        if len(self.findings) < LISTED:
            self.findings.append(found)

    @property
    def open(self) -> list[SweepFinding]:
        return [found for found in self.findings if found.open]


def run(runtime: Runtime, *, grace: float = GRACE) -> Swept:
    """Every manifest gets its result, every result its event; what is left over is explained.

    One job that cannot be helped does not stop the others; only what makes all of it impossible is
    raised: Unavailable, Misconfigured from listing the buckets.
    """
    return _Sweep(runtime, grace).run()


class _Sweep:
    def __init__(self, runtime: Runtime, grace: float) -> None:
        self._runtime, self._grace = runtime, grace
        self._began = runtime.control.now()
        self._left: dict[str, list[str]] = {}
        """Jobs without result of which no manifest was seen yet, and their objects."""
        self._swept = Swept()

    def run(self) -> Swept:
        self._left = sweep.without_result(self._runtime, self._began)
        for info in self._runtime.inbox.list(MANIFESTS):
            if object_kind(info.key) == "manifest":
                self._swept.manifests += 1
                self._guard(
                    SweepFinding(kind="unfinished", manifest=info.key), self._manifest, info
                )
        for job_id, infos in worker.left(self._runtime):
            self._guard(SweepFinding(kind="unfinished", job=job_id), self._cut, job_id, infos)
        for job_id, infos in sweep.begun(self._runtime):
            self._guard(SweepFinding(kind="unannounced", job=job_id), self._begun, job_id, infos)
        for found in sweep.stale_pending(self._runtime):
            self._guard(found, self._drop_marker, found)
        for job_id, keys in self._left.items():
            self._guard(SweepFinding(kind="abandoned", job=job_id), self._abandoned, job_id, keys)
        return self._swept

    def _guard(self, about: SweepFinding, act: Callable[..., None], *args: Any) -> None:
        """One job's trouble is a finding, and the sweep goes on."""
        try:
            act(*args)
        except (Unavailable, Misconfigured) as exc:
            self._note(about, error=exc.code, detail=exc.message)
        except Refused as exc:
            if exc.code == "MANIFEST_GONE":
                return  # deleted while we looked
            self._note(about, kind="foreign", error=exc.code, detail=exc.message)
        except Exception as exc:
            log.exception("sweep", extra={"job": about.job, "manifest": about.manifest})
            self._note(about, error="INTERNAL", detail=type(exc).__name__)

    def _note(self, finding: SweepFinding, **changes: Any) -> None:
        found = msgspec.structs.replace(finding, **changes)
        self._swept.note(found)
        log.info(_line(found), extra={"job": found.job, "kind": found.kind})

    def _manifest(self, info: Info) -> None:
        order = commit.read_manifest(info.key, self._runtime)
        self._left.pop(order.job_id, None)
        if self._runtime.results.head(result_key(order.job_id)):
            return
        found = sweep.unfinished(info, order.job_id, self._runtime, self._grace)
        if found.kind != "unfinished":
            self._note(found)
            return
        try:
            finished = carry_out(info.key, self._runtime)
        except Shared:
            pass  # its shards come next
        except Waiting as exc:
            self._note(found, kind="waiting", detail=f"Waits for {', '.join(exc.references)}.")
        except (Unavailable, Misconfigured) as exc:
            self._note(found, error=exc.code, detail=f"{found.detail} {exc.message}")
        else:
            self._note(found, action=f"carried out: {finished.status}")

    def _cut(self, job_id: str, infos: list[Info]) -> None:
        """A job that was cut into shards: they are made where nobody makes them."""
        if finished := commit.committed_result(job_id, self._runtime):
            self._announce(finished)
            self._clear(job_id, "Its job has a result.")
        elif plan.complete_shard_count(self._runtime.control, job_id, self._runtime.keys.verifying):
            self._left.pop(job_id, None)
            for info in worker.unfinished_shards(job_id, infos, self._runtime):
                about = SweepFinding(kind="unfinished", job=job_id, keys=[info.key])
                self._guard(about, self._shard, job_id, info)
        elif job_id in self._left:
            # Not cut to the end, and nobody can go on with it any more.
            self._clear(job_id, "Its manifest was deleted or replaced.")

    def _shard(self, job_id: str, info: Info) -> None:
        found = sweep.shard_left(info, job_id, self._runtime, self._grace)
        if found.kind != "unfinished":
            self._note(found)
            return
        try:
            finished = carry_out_shard(info.key, self._runtime)
        except (Unavailable, Misconfigured) as exc:
            self._note(found, error=exc.code, detail=f"{found.detail} {exc.message}")
        else:
            ended = f"carried out: {finished.status}" if finished else "shard made"
            self._note(found, action=ended)

    def _clear(self, job_id: str, why: str) -> None:
        worker.clear(job_id, self._runtime)
        self._note(SweepFinding(kind="stale-work", job=job_id, detail=why), action="removed")

    def _begun(self, job_id: str, infos: list[Info]) -> None:
        if all(info.key != result_key(job_id) for info in infos):
            return
        if finished := commit.committed_result(job_id, self._runtime):
            self._swept.finished += 1
            self._announce(finished)
            if found := sweep.orphans(job_id, infos, finished, self._runtime):
                self._note(found)

    def _announce(self, finished: Result) -> None:
        key = event_key(finished.job_id, finished.finished)
        if self._runtime.results.head(key):
            return
        new = announce(finished, self._runtime)
        found = SweepFinding(
            kind="unannounced",
            job=finished.job_id,
            manifest=finished.manifest.key,
            detail="The result is there, its event was not.",
        )
        self._note(found, action="event written" if new else "announced meanwhile")

    def _drop_marker(self, found: SweepFinding) -> None:
        for key in found.keys:
            self._runtime.control.delete(key)
        self._note(found, action="removed")

    def _abandoned(self, job_id: str, keys: list[str]) -> None:
        if self._runtime.results.head(result_key(job_id)) is None:
            self._note(sweep.abandoned(job_id, keys))


def sweep_settings(settings: Settings, *, grace: float, progress: Progress) -> Report:
    """`voicedrop sweep`."""
    engine = wiring.on_first_use(settings)
    runtime = wiring.runtime(settings, wiring.CurrentCredentials(os.environ), engine, progress)
    wiring.check_stores(runtime)
    return report(run(runtime, grace=grace))


def report(swept: Swept) -> Report:
    findings = [msgspec.to_builtins(finding) for finding in swept.findings]
    lines = [_line(finding) for finding in swept.findings]
    if (more := swept.counts.total() - len(swept.findings)) > 0:
        lines.append(f"and {more} more")
    lines.append(
        f"{swept.manifests} manifests, {swept.finished} jobs finished, {swept.undone} open."
    )
    return Report(summary(swept) | {"findings": findings}, lines, _exit_code(swept))


def summary(swept: Swept) -> dict[str, Any]:
    """The numbers alone: what a timer's invocation answers."""
    return {
        "manifests": swept.manifests,
        "finished": swept.finished,
        "open": swept.undone,
        "counts": dict(swept.counts),
    }


def _line(finding: SweepFinding) -> str:
    about = finding.manifest or f"job {finding.job}"
    what = f"{finding.action}. " if finding.action else ""
    code = f"{finding.error}: " if finding.error else ""
    more = f" ({len(finding.keys)} objects)" if finding.keys else ""
    return f"{about}: {finding.kind}: {what}{code}{finding.detail}{more}"


def _exit_code(swept: Swept) -> int:
    if swept.broken:
        return EXIT_FAILED
    if not swept.undone:
        return 0
    return EXIT_WAITING if swept.waiting == swept.undone else EXIT_LATER
