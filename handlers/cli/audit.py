"""`voicedrop audit` and `voicedrop log`: reading keys, resuming, and the files of a report."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from core import audit as audits
from core.audit import CheckedJob, Sources, page
from core.errors import JobError, Misconfigured, Refused
from core.result.document import format_timestamp
from core.settings import Settings
from core.storage.port import Store
from core.tlog import log, signed_note
from core.trace import registry
from core.trace import trace as tracing
from core.trace.scan import Keys
from handlers import jobs, wiring
from handlers.cli.screen import Progress
from handlers.cli.screen import Report as Shown

EXIT_FINDINGS, EXIT_IMPOSSIBLE = 1, 2
LISTED = 20
"""Findings shown on the terminal; the report has them all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRequest:
    """What an audit was asked for."""

    out: Path
    since: str = ""
    """YYYY-MM-DD, UTC; empty: from the beginning."""
    workers: int = 1
    checkpoint: Path | None = None
    """One that was kept elsewhere; else that of the last report in `out`."""


def audit(settings: Settings, request: AuditRequest, progress: Progress) -> Shown:
    """Exit code 0: clean, 1: findings, 2: it could not be done."""
    try:
        return _audit(settings, request, progress)
    except JobError as exc:
        data = {"verdict": "impossible", "error": exc.code, "message": exc.message}
        lines = [f"The audit could not be done. {exc}", exc.advice]
        return Shown(data, lines, EXIT_IMPOSSIBLE)


def trace(settings: Settings, clips: list[Path], index: Path | None) -> Shown:
    """Read marks with the watermark keys alone; whose they are, from an index or the bucket."""
    credentials = wiring.CurrentCredentials(os.environ)
    marks = wiring.reading_keys(settings, credentials).watermark
    if not marks:
        raise Misconfigured("KEY_NOT_FOUND", f"No watermark-*.key in {settings.keys}.")
    resolve: tracing.Resolve = partial(
        registry.resolve, wiring.store(settings.results, settings, credentials)
    )
    if index:
        resolve = registry.read_index(_read(index)).resolve
    traces = {str(clip): _trace(clip, marks, resolve) for clip in clips}
    lines = [f"{name}: {found.meaning}" for name, found in traces.items()]
    unread = any(found.error for found in traces.values())
    data = {"traces": [msgspec.to_builtins(found) for found in traces.values()]}
    return Shown(data, lines, EXIT_FINDINGS if unread else 0)


def _trace(clip: Path, marks: Keys, resolve: tracing.Resolve) -> tracing.Trace:
    try:
        with clip.open("rb") as file:
            return tracing.trace_recording(
                file, clip.name, marks, resolve, format_timestamp(time.time())
            )
    except OSError as exc:
        raise Refused("OBJECT_MISSING", f"{exc.strerror}.", pointer=str(clip)) from exc


def integrate(settings: Settings) -> Shown:
    """Log what workers have queued. Unavailable JOB_BUSY while another sequencer is at work."""
    runtime = wiring.local_runtime(settings)
    found = jobs.integrate_log(runtime)
    if found is None:
        return Shown({"size": 0}, ["Nothing is queued, and nothing was ever logged."])
    signed = log.read_latest_checkpoint(runtime.results) or ""
    data = {"origin": found.origin, "size": found.size, "checkpoint": signed}
    words = "Keep this checkpoint where the operator cannot reach it:"
    return Shown(data, [f"{found.size} results are in the log.", words, signed.rstrip()])


def verify(settings: Settings, checkpoint: Path | None) -> Shown:
    """Check the log with public keys alone. Refused LOG_INVALID."""
    sources = _sources(settings)
    earlier = _read(checkpoint).decode() if checkpoint else None
    origin = signed_note.claimed_origin(log.read_latest_checkpoint(sources.results) or "")
    known = sources.keys.verifying.values()
    found, leaves = log.verify(sources.results, known, origin, earlier=earlier)
    since = (
        f"It continues the checkpoint of {checkpoint}."
        if checkpoint
        else ("Nothing earlier was given to compare it with: keep a checkpoint for the next time.")
    )
    lines = [f"The log {found.origin} of {found.size} results is whole.", since]
    data = {"origin": found.origin, "size": found.size, "root": found.root.hex()}
    return Shown(data | {"jobs": len({leaf.job for leaf in leaves})}, lines)


def _audit(settings: Settings, request: AuditRequest, progress: Progress) -> Shown:
    _keep_out(settings, request.out)
    sources = _sources(settings)
    request.out.mkdir(parents=True, exist_ok=True)
    with _Journal(request.out / "progress.jsonl", _identity(sources, request)) as journal:

        def done(job: CheckedJob) -> None:
            journal.add(job)
            progress.doing(f"{journal.count} jobs looked at")

        bucket = audits.audit_bucket(
            sources,
            since=_moment(request.since),
            earlier=_earlier(request, sources),
            workers=request.workers,
            already_checked=journal.known,
            on_checked=done,
        )
    report = audits.build_report(bucket, sources, request.since)
    _write(request.out / "items.csv", "".join(audits.format_items_csv(bucket)).encode())
    index = msgspec.json.encode(audits.build_index(bucket, sources.results.name))
    _write(request.out / "index.json", msgspec.json.format(index))
    _write(request.out / "report.html", page.render(report).encode())
    _write(request.out / "report.json", msgspec.json.format(msgspec.json.encode(report)))
    journal.path.unlink()
    code = EXIT_FINDINGS if report.findings else 0
    return Shown(msgspec.to_builtins(report), list(_lines(report, request.out)), code)


def _sources(settings: Settings) -> Sources:
    credentials = wiring.CurrentCredentials(os.environ)
    held = wiring.reading_keys(settings, credentials)
    if not held.verifying:
        raise Misconfigured("KEY_NOT_FOUND", f"No sign-*.pub.pem in {settings.keys}.")
    results = wiring.store(settings.results, settings, credentials)
    next(results.list(""), None)
    return Sources(
        results=results,
        keys=held,
        control=_if_there(wiring.store(settings.control, settings, credentials)),
        inbox=_if_there(wiring.store(settings.inbox, settings, credentials)),
    )


def _if_there(store: Store) -> Store | None:
    """An auditor may have been given the results alone."""
    try:
        next(store.list(""), None)
    except Misconfigured:
        return None
    return store


def _keep_out(settings: Settings, out: Path) -> None:
    for place in (settings.inbox, settings.results, settings.control):
        if not place.startswith("oss://") and out.resolve().is_relative_to(Path(place).resolve()):
            raise Misconfigured("CONFIG_LOOP", f"{out} lies in {place}, which is only read.")


def _moment(since: str) -> str:
    if not since:
        return ""
    try:
        return date.fromisoformat(since).isoformat()
    except ValueError as exc:
        raise Refused("VALUE_RANGE", f"--since {since}: write YYYY-MM-DD.") from exc


def _earlier(request: AuditRequest, sources: Sources) -> str:
    """The checkpoint that this log must continue."""
    if request.checkpoint:
        return _read(request.checkpoint).decode()
    with suppress(OSError, msgspec.DecodeError):
        last = msgspec.json.decode((request.out / "report.json").read_bytes(), type=audits.Report)
        if last.log and last.bucket == sources.results.name:
            return last.log.checkpoint
    return ""


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise Refused("OBJECT_MISSING", f"{exc.strerror}.", pointer=str(path)) from exc


def _identity(sources: Sources, request: AuditRequest) -> str:
    """Of an audit: what another one looked at counts only if it was asked the same."""
    keys = sources.keys
    known = [*sorted(keys.verifying), *sorted(keys.watermark), bool(keys.wrapping)]
    there = [sources.control is not None, sources.inbox is not None]
    asked = [
        sources.results.name,
        log.read_latest_checkpoint(sources.results),
        request.since,
        *known,
        *there,
    ]
    return hashlib.sha256(repr(asked).encode()).hexdigest()


class _Journal:
    """What was looked at, a line a job, so that an audit that is cut off can go on."""

    def __init__(self, path: Path, identity: str) -> None:
        self.path, self.count = path, 0
        self.known = {job.job: job for job in _kept(path, identity)}
        self._file = path.open("wb")
        self._file.write(msgspec.json.encode(identity) + b"\n")
        for job in self.known.values():
            self._file.write(msgspec.json.encode(job) + b"\n")

    def __enter__(self) -> _Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, job: CheckedJob) -> None:
        self.count += 1
        if self.known.get(job.job) is not job:
            self._file.write(msgspec.json.encode(job) + b"\n")
            self._file.flush()


def _kept(path: Path, identity: str) -> Iterator[CheckedJob]:
    lines = path.read_bytes().split(b"\n") if path.exists() else []
    with suppress(msgspec.DecodeError):  # the last line may be cut
        if lines and msgspec.json.decode(lines[0]) == identity:
            for line in lines[1:]:
                yield msgspec.json.decode(line, type=CheckedJob)


def _write(path: Path, data: bytes) -> None:
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.write_bytes(data)
    aside.replace(path)


def _lines(report: audits.Report, out: Path) -> Iterator[str]:
    totals = report.totals
    yield f"{totals.jobs} jobs, {totals.outputs} outputs, {totals.audio_s} s of speech"
    for check in report.checks:
        counts = f"{check.passed} passed, {check.failed} failed, {check.skipped} skipped"
        yield f"{check.number:3} {check.name:13} {counts}  {_reasons(check.reasons)}".rstrip()
    for found in report.findings[:LISTED]:
        where = found.key or f"{found.job} {found.item}".strip() or "log"
        yield f"  {found.code}  {where}  {found.message}".rstrip()
    if totals.findings > LISTED:
        yield f"  and {totals.findings - LISTED} more"
    yield "clean" if report.verdict == "clean" else f"{totals.findings} findings"
    yield f"report: {out / 'report.html'}"


def _reasons(reasons: dict[str, Any]) -> str:
    return ", ".join(f"{code} {count}" for code, count in reasons.items())
