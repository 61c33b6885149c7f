"""What each command of `voicedrop` does, apart from how it is spelled and shown."""

from __future__ import annotations

import hashlib
import os
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from core import batch, consent, isolate, job, keys, schemas
from core.audio import BYTES_LIMIT
from core.errors import Refused, Unavailable
from core.pending import Waiting
from core.result import Result, result_key
from core.settings import Settings
from core.shard import Shared
from core.storage import Info
from core.studio import Studio
from events import outgoing
from events.incoming import CLIPS, MANIFEST_ENDINGS, MANIFESTS, kind
from handlers import wiring
from handlers.oss import carry_out, carry_out_shard, trace_object
from handlers.screen import Progress, Report

EXIT_FAILED, EXIT_WAITING = 1, 3
SETTLED = 0.5
"""Seconds since the last write after which a file in a folder is taken for whole: a bucket shows
only whole objects, but `cp` into a folder writes while we look."""


def init(settings: Settings) -> Report:
    made: list[Path] = []
    for place in (settings.inbox, settings.results, settings.control):
        folder = Path(place)
        if not place.startswith("oss://") and not folder.exists():
            folder.mkdir(parents=True)
            made.append(folder)
    made += keys.create(settings.keys)
    lines = [f"made {path}" for path in made] or ["Everything was there already."]
    lines.append(f"Keep {settings.keys} safe and private: without it nothing can be opened.")
    lines.append(f"Next: put files into {settings.inbox}, then run `voicedrop watch --once`.")
    return Report({"made": [str(path) for path in made]}, lines)


class Watch:
    """One look after another at the inbox, until nothing is left to do."""

    def __init__(self, studio: Studio, progress: Progress) -> None:
        self._studio, self._progress = studio, progress
        self._seen: dict[str, str] = {}
        self._shared: dict[str, Shared] = {}
        """ETag of a manifest -> how its job was cut; it is looked at again when it has a result."""
        self.jobs: dict[str, dict[str, Any]] = {}
        self.lines: list[str] = []
        self.waiting = False
        self.failed = False

    def look(self) -> bool:
        """Carry out what has no result yet; say whether there is more to do."""
        again = self.waiting = False
        for info in self._new():
            if self._studio.inbox.now() - info.modified < SETTLED:
                again = True
                continue
            try:
                if kind(info.key) == "clip":
                    self._note(info, trace_object(info.key, self._studio))
                else:
                    self._finish(info, carry_out(info.key, self._studio))
            except Waiting as exc:
                self.waiting = True
                self.jobs[info.key] = {"status": "waiting", "for": exc.references}
                self._progress.doing(str(exc))
            except Shared as exc:
                self._shared[info.etag] = exc
                self.jobs[info.key] = {"status": "shared", "shards": exc.shards}
                self._progress.say(f"{info.key}: cut into {exc.shards} shards")
            except Unavailable as exc:
                again = True
                self._progress.doing(f"{info.key}: {exc.message} Trying again.")
            except Refused as exc:
                self._note(info, {"status": "refused", "error": exc.code, "message": exc.message})
        return self._shards() or again

    def _shards(self) -> bool:
        """Make what is to be made of jobs that were cut, beside other watchers; say whether there
        is more to do."""
        again = False
        for job_id, infos in list(batch.left(self._studio)):
            for info in batch.todo(job_id, infos, self._studio):
                again = True
                try:
                    carry_out_shard(info.key, self._studio)
                except Unavailable as exc:
                    self._progress.doing(f"{info.key}: {exc.message} Trying again.")
                except Refused as exc:
                    self._progress.doing(f"{info.key}: {exc}")
        return again or any(self._unfinished(one) for one in self._shared.values())

    def _unfinished(self, shared: Shared) -> bool:
        return self._studio.results.head(result_key(shared.job_id)) is None

    def _new(self) -> list[Info]:
        inbox = self._studio.inbox
        found = [i for i in inbox.list(MANIFESTS) if i.key.endswith(MANIFEST_ENDINGS)]
        found += [i for i in inbox.list(CLIPS) if not i.key.endswith(".json")]
        return [
            info
            for info in found
            if self._seen.get(info.key) != info.etag
            and not ((one := self._shared.get(info.etag)) and self._unfinished(one))
        ]

    def _finish(self, info: Info, finished: Result) -> None:
        totals = finished.totals
        self._note(info, {"status": finished.status, **_job_summary(finished)})
        self.failed |= finished.status not in ("succeeded", "validated")
        spoken = f"{totals.succeeded} of {totals.items} items, {totals.audio_s:.1f} s of speech"
        self.lines.append(f"{info.key}: {finished.status}, {spoken}")
        self.lines += [f"  {line}" for line in _complaints(finished)]
        self.lines.append(f"  result: {_place(self._studio, finished)}")

    def _note(self, info: Info, summary: dict[str, Any]) -> None:
        self._seen[info.key] = info.etag
        self._shared.pop(info.etag, None)
        self.jobs[info.key] = summary
        if "meaning" in summary:
            self.lines.append(f"{info.key}: {summary['meaning']}")
        elif summary["status"] == "refused":
            self.failed = True
            self.lines.append(f"{info.key}: {summary['error']}: {summary['message']}")


def watch(settings: Settings, *, once: bool, poll: float, progress: Progress) -> Report:
    isolate.start()  # beside the rest, instead of before the first recording
    purse = wiring.Purse(os.environ)
    engine = wiring.on_first_use(settings)
    studio = wiring.studio(settings, purse, engine, progress)
    wiring.check_stores(studio)
    looking = Watch(studio, progress)
    while looking.look() or not once:
        for line in looking.lines:
            progress.say(line)
        looking.lines.clear()
        time.sleep(SETTLED if once else poll)
    lines = looking.lines or ["Nothing new in the inbox."]
    for key, state in looking.jobs.items():
        if state.get("status") == "waiting":
            lines.append(f"{key}: waits for {', '.join(state['for'])}")
    code = EXIT_FAILED if looking.failed else EXIT_WAITING if looking.waiting else 0
    return Report({"jobs": looking.jobs}, lines, code)


def submit(settings: Settings, manifest: Path, files: list[Path]) -> Report:
    """Files first, the manifest last: its arrival starts the job."""
    data = _read(manifest)
    lines = manifest.name.endswith(".jsonl")
    draft = job.parse(data, lines=lines)
    if draft.errors:
        for bad in draft.errors:
            os.write(2, f"item {bad.id or bad.index}: {bad.error}\n".encode())
        raise draft.errors[0].error
    named = {v.reference for v in draft.voices.values()}
    named |= {v.consent for v in draft.voices.values() if v.consent}
    studio = wiring.bare_studio(settings)
    placed: dict[str, str] = {}
    for path in files:
        key = _key_of(path, named)
        studio.inbox.put(key, _read(path))
        placed[str(path)] = key
    absent = sorted(key for key in named if studio.inbox.head(key) is None)
    ending = ".manifest.jsonl" if lines else ".manifest.json"
    stem = manifest.name.removesuffix(ending).removesuffix(".jsonl").removesuffix(".json")
    key = f"{MANIFESTS}{stem}{ending}"
    studio.inbox.put(key, data)
    name = job.job_id(studio.inbox.name, key, data)
    said = [f"{path} -> {placed[path]}" for path in placed] + [
        f"{manifest} -> {key}",
        f"job {name}",
    ]
    said += [f"not there yet: {key}" for key in absent]
    return Report({"job": name, "manifest": key, "files": placed, "absent": absent}, said)


def open_result(settings: Settings, source: str, out: Path) -> Report:
    from handlers.opening import Opened, open_all

    opened: list[Opened] = open_all(settings, source, out)
    lines = [f"{one.path}  {one.seconds:.1f} s  item {one.item}" for one in opened]
    data = {"opened": [msgspec.to_builtins(one) for one in opened]}
    return Report(data, [*lines, "The signature and every digest are right."])


def schema(name: str) -> dict[str, Any]:
    made = {
        "job": schemas.job,
        "result": schemas.result,
        "event": outgoing.schema,
        "consent": schemas.consent,
    }
    if name not in made:
        raise Refused("VALUE_RANGE", f"There is a schema of {', '.join(made)}, not of {name}.")
    return made[name]()


def new_consent(  # noqa: PLR0913 - the fields of a record
    reference: Path,
    *,
    subject: str,
    method: consent.Method,
    controller: str,
    purposes: list[str],
    languages: list[str],
    days: int,
    proof: str,
) -> consent.Consent:
    start = datetime.now(UTC).replace(microsecond=0)
    end = start + timedelta(days=days) if days else None
    fields: dict[str, Any] = {
        "schema": consent.SCHEMA,
        "id": consent.new_id(),
        "subject": consent.Subject(name=subject),
        "controller": controller,
        "purposes": purposes,
        "scope": consent.Scope(languages=languages),
        "valid_from": start,
        "valid_until": end,
        "method": method,
        "ref_audio_sha256": [hashlib.sha256(_read(reference)).hexdigest()],
        "created_by": controller,
    }
    fields |= _proof(method, proof)
    if method in ("own-voice", "recorded-statement", "signed-document"):
        words = consent.statement(
            "en", name=subject, controller=controller, purposes=purposes, start=start, end=end
        )
        fields.setdefault("statement_text", words)
    try:
        return consent.Consent(**fields)
    except ValueError as exc:
        raise Refused("CONSENT_INVALID", f"{exc}: give it with --proof.") from exc


def write_record(record: consent.Consent, out: Path | None) -> None:
    data = consent.write(record)
    if out is None:
        os.write(1, data)
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("xb") as file:
        file.write(data)
    os.write(2, f"wrote {out}: read it, it speaks for a person\n".encode())


def _proof(method: str, proof: str) -> dict[str, Any]:
    """The field that the method cannot do without, from a file or from words."""
    field = consent.PROOF.get(method, "")
    if not proof:
        return {}
    if field == "evidence_sha256":
        return {field: hashlib.sha256(_read(Path(proof))).hexdigest()}
    if field == "statement_audio":
        digest = hashlib.sha256(_read(Path(proof))).hexdigest()
        return {field: consent.StatementAudio(key=Path(proof).name, sha256=digest)}
    return {field: proof} if field else {}


def _key_of(path: Path, named: set[str]) -> str:
    keys_ = sorted(key for key in named if key.rpartition("/")[2] == path.name)
    if len(keys_) != 1:
        why = "no file of that name" if not keys_ else "several files of that name"
        raise Refused("REF_NOT_FOUND", f"The manifest names {why}: {path.name}", pointer=str(path))
    return keys_[0]


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > BYTES_LIMIT:
            raise Refused("OBJECT_TOO_LARGE", pointer=str(path))
        return path.read_bytes()
    except OSError as exc:
        raise Refused("OBJECT_MISSING", f"{exc.strerror}.", pointer=str(path)) from exc


def _job_summary(finished: Result) -> dict[str, Any]:
    return {"job": finished.job_id, "totals": msgspec.to_builtins(finished.totals)}


def _complaints(finished: Result) -> list[str]:
    told = [finished.error, *(voice.error for voice in finished.voices.values())]
    lines = [f"{e.code} {e.pointer}: {e.message}" for e in told if e]
    many: Counter[str] = Counter()
    for item in finished.items:
        if item.error and item.error not in told:
            lines.append(f"item {item.id or item.index}: {item.error.code}: {item.error.message}")
    for part in finished.parts:
        many.update(part.errors)
    lines += [f"{count} items: {code}" for code, count in many.items()]
    if many:
        lines.append(f"each of them: {finished.attachments['errors'].key}")
    for name, voice in finished.voices.items():
        for encoder, match in voice.match.items():
            lines.append(
                f"voice {name}, by {encoder}: {match.default:.2f} unadapted -> "
                f"{match.achieved:.2f} (the same person: {match.same_person:.2f})"
            )
    return lines


def _place(studio: Studio, finished: Result) -> str:
    return f"{studio.results.name}/out/{finished.job_id}/result.json"
