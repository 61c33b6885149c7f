"""`voicedrop audit`: check every result of a bucket and write a report."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import msgspec

from core import audit
from core.audit import CheckedJob, Sources, page
from core.audit.model import CONSISTENCY, explain
from core.errors import JobError, Misconfigured, Refused
from core.settings import Settings
from core.storage.object_keys import WITHDRAWN
from core.storage.port import Store
from core.tlog import log, signed_note
from handlers import wiring
from handlers.cli import exit_codes
from handlers.cli.files import make_folder, read_file, refuse_bucket, replace_file, writing
from handlers.cli.screen import CommandOutput, Progress, further_advice

MAX_LISTED = 20
"""Findings shown on the terminal; the report has all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRequest:
    """The options of an audit."""

    out: Path
    """Folder for the report."""
    since: str = ""
    """YYYY-MM-DD, UTC; results that finished before are left out."""
    workers: int = 1
    checkpoint: Path | None = None
    """A checkpoint that the log must continue; default: that of the last report in `out`."""


def audit_results(settings: Settings, request: AuditRequest, progress: Progress) -> CommandOutput:
    """Audit the results bucket. The exit code says whether there are findings."""
    try:
        return _audit(settings, request, progress)
    except JobError as exc:
        data = {"verdict": "impossible", "error": exc.code, "message": exc.message}
        advice = further_advice(exc)
        lines = [f"The audit could not be done. {exc}", *([advice] if advice else [])]
        return CommandOutput(data, lines, exit_codes.NOT_AUDITED)


def open_sources(settings: Settings) -> Sources:
    """The buckets and keys that an auditor has. Raises Misconfigured without results or keys."""
    credentials = wiring.CurrentCredentials(os.environ)
    keys = wiring.load_reading_keys(settings, credentials)
    if not keys.verifying:
        message = (
            f"There is no public key (sign-*.pub.pem) in {settings.keys}. Ask the operator for the "
            "public keys, put them into a folder and set VOICEDROP_KEYS to it. Do not create keys: "
            "others cannot verify these results."
        )
        raise Misconfigured("KEY_NOT_FOUND", message)
    return Sources(
        results=wiring.open_store(settings.results, settings, credentials),
        keys=keys,
        control=_readable(wiring.open_store(settings.control, settings, credentials)),
        inbox=_readable(wiring.open_store(settings.inbox, settings, credentials)),
    )


def read_checkpoint(path: Path) -> str:
    """Return the checkpoint in a file: as `log integrate` prints it, as JSON or among other lines.
    Raises Refused LOG_INVALID if there is none."""
    text = read_file(path).decode("utf-8-sig", "replace")
    with suppress(msgspec.DecodeError):
        document = msgspec.json.decode(text, type=_KeptDocument)
        text = document.checkpoint or (document.log.checkpoint if document.log else "")
    checkpoint = signed_note.find_checkpoint(text)
    if checkpoint is None:
        message = "There is no checkpoint in it: keep what `voicedrop log integrate` prints."
        raise Refused("LOG_INVALID", message, pointer=str(path))
    return checkpoint


class _KeptLog(msgspec.Struct):
    checkpoint: str = ""


class _KeptDocument(msgspec.Struct):
    """What `log integrate --json` prints, or the report of an audit."""

    checkpoint: str = ""
    log: _KeptLog | None = None


def _readable(store: Store) -> Store | None:
    """Return None if the auditor may not read it."""
    try:
        next(store.list(""), None)
    except Misconfigured:
        return None
    return store


def _audit(settings: Settings, request: AuditRequest, progress: Progress) -> CommandOutput:
    refuse_bucket(settings, request.out)
    sources = open_sources(settings)
    digest = _request_digest(sources, request)
    make_folder(request.out)
    with _Journal(request.out / "progress.jsonl", digest) as journal:

        def record(job: CheckedJob) -> None:
            journal.add(job)
            progress.update_status(f"{journal.count} jobs checked")

        bucket = audit.audit_bucket(
            sources,
            since=_parse_since(request.since),
            earlier=_earlier_checkpoint(request, sources),
            workers=request.workers,
            already_checked=journal.checked,
            on_checked=record,
        )
    report = audit.build_report(bucket, sources, request.since)
    replace_file(request.out / "items.csv", "".join(audit.format_items_csv(bucket)).encode())
    index = msgspec.json.encode(audit.build_index(bucket, sources.results.name))
    replace_file(request.out / "index.json", msgspec.json.format(index))
    replace_file(request.out / "report.html", page.render(report).encode())
    replace_file(request.out / "report.json", msgspec.json.format(msgspec.json.encode(report)))
    journal.path.unlink()
    code = exit_codes.FAILED if report.findings else exit_codes.DONE
    return CommandOutput(msgspec.to_builtins(report), list(_lines(report, request.out)), code)


def _parse_since(since: str) -> str:
    if not since:
        return ""
    try:
        return date.fromisoformat(since).isoformat()
    except ValueError as exc:
        raise Refused("VALUE_RANGE", f"--since {since}: write YYYY-MM-DD.", advice="") from exc


def _earlier_checkpoint(request: AuditRequest, sources: Sources) -> str:
    """Return the checkpoint that this log must continue; empty if there is none."""
    if request.checkpoint:
        return read_checkpoint(request.checkpoint)
    with suppress(OSError, msgspec.DecodeError):
        last = msgspec.json.decode((request.out / "report.json").read_bytes(), type=audit.Report)
        if last.log and last.bucket == sources.results.name:
            return last.log.checkpoint
    return ""


def _request_digest(sources: Sources, request: AuditRequest) -> str:
    """Return a digest of all that the outcomes depend on. A journal with another one is ignored."""
    keys = sources.keys
    values = [
        sources.results.name,
        log.read_latest_checkpoint(sources.results),
        [info.key for info in sources.results.list(WITHDRAWN)],
        request.since,
        *(*sorted(keys.verifying), *sorted(keys.watermark), bool(keys.wrapping)),
        *(sources.control is not None, sources.inbox is not None),
    ]
    return hashlib.sha256(repr(values).encode()).hexdigest()


class _Journal:
    """The checked jobs, one a line, so that an interrupted audit can be resumed."""

    def __init__(self, path: Path, digest: str) -> None:
        self.path, self.count = path, 0
        self.checked = {job.job: job for job in _read_journal(path, digest)}
        with writing(path):
            self._file = path.open("wb")
            self._write(digest, *self.checked.values())

    def __enter__(self) -> _Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, job: CheckedJob) -> None:
        self.count += 1
        if self.checked.get(job.job) is not job:
            with writing(self.path):
                self._write(job)

    def _write(self, *lines: CheckedJob | str) -> None:
        self._file.writelines(msgspec.json.encode(line) + b"\n" for line in lines)
        self._file.flush()


def _read_journal(path: Path, digest: str) -> Iterator[CheckedJob]:
    lines = path.read_bytes().split(b"\n") if path.exists() else []
    with suppress(msgspec.DecodeError):  # the last line may be incomplete
        if lines and msgspec.json.decode(lines[0]) == digest:
            for line in lines[1:]:
                yield msgspec.json.decode(line, type=CheckedJob)


def _lines(report: audit.Report, out: Path) -> Iterator[str]:
    totals = report.totals
    yield f"{totals.jobs} jobs, {totals.outputs} outputs, {totals.audio_s} s of speech"
    for check in report.checks:
        counts = f"{check.passed} passed, {check.failed} failed, {check.skipped} skipped"
        reasons = ", ".join(f"{code} {count}" for code, count in check.reasons.items())
        yield f"{check.number:3} {check.name:13} {counts}  {reasons}".rstrip()
    yield from _list_events_and_findings(report)
    if totals.withdrawn:
        yield f"consent to {totals.withdrawn} items was withdrawn since: {out / 'items.csv'}"
    if report.log is None and not any(f.check == CONSISTENCY for f in report.findings):
        yield explain("NO_LOG")
    count = "1 finding" if totals.findings == 1 else f"{totals.findings} findings"
    from_then = f" from {report.since} on" if report.since else ""
    clean = "clean" if totals.jobs else f"nothing to check: there are no results{from_then}"
    yield clean if report.verdict == "clean" else count
    yield f"report: {out / 'report.html'}"


def _list_events_and_findings(report: audit.Report) -> Iterator[str]:
    """Yield a line for each thing that was erased, withdrawn or replaced, and for each finding."""
    for one in report.erasures[:MAX_LISTED]:
        yield f"  erased  {one.job_id} {', '.join(one.items)}  {one.erased}  {one.why}"
    for note in report.withdrawals[:MAX_LISTED]:
        yield f"  withdrawn  recording {note.recording}  {note.at:%Y-%m-%dT%H:%M:%SZ}"
    for record in report.replaced[:MAX_LISTED]:
        yield f"  replaced  {record.key}  job {record.job}  {record.message}"
    for finding in report.findings[:MAX_LISTED]:
        sentence = report.codes[finding.code]
        message = finding.message.replace(sentence, "").strip()
        parts = (finding.code, finding.place, message, sentence)
        yield "  " + "  ".join(filter(None, parts))
    if report.totals.findings > MAX_LISTED:
        yield f"  and {report.totals.findings - MAX_LISTED} more"
