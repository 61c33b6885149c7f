"""What each command of `voicedrop` does, apart from how it is spelled and shown."""

from __future__ import annotations

import hashlib
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from core.audio.decoding import BYTES_LIMIT
from core.consent import records
from core.crypto import keys
from core.errors import Refused
from core.manifest import resolve
from core.result import schemas
from core.settings import Settings
from core.storage.object_keys import MANIFESTS
from events import outgoing
from handlers import wiring
from handlers.cli.screen import Report


def init(settings: Settings) -> Report:
    made: list[Path] = []
    for place in (settings.inbox, settings.results, settings.control):
        folder = Path(place)
        if not place.startswith("oss://") and not folder.exists():
            folder.mkdir(parents=True)
            made.append(folder)
    made += keys.create_keys(settings.keys)
    lines = [f"made {path}" for path in made] or ["Everything was there already."]
    lines.append(f"Keep {settings.keys} safe and private: without it nothing can be opened.")
    lines.append(f"Next: put files into {settings.inbox}, then run `voicedrop watch --once`.")
    return Report({"made": [str(path) for path in made]}, lines)


def submit(settings: Settings, manifest: Path, files: list[Path]) -> Report:
    """Files first, the manifest last: its arrival starts the job."""
    data = _read(manifest)
    lines = manifest.name.endswith(".jsonl")
    draft = resolve.parse_job(data, lines=lines)
    if draft.errors:
        for bad in draft.errors:
            os.write(2, f"item {bad.id or bad.index}: {bad.error}\n".encode())
        raise draft.errors[0].error
    named = {v.reference for v in draft.voices.values()}
    named |= {v.consent for v in draft.voices.values() if v.consent}
    runtime = wiring.local_runtime(settings)
    placed: dict[str, str] = {}
    for path in files:
        key = _key_of(path, named)
        runtime.inbox.put(key, _read(path))
        placed[str(path)] = key
    absent = sorted(key for key in named if runtime.inbox.head(key) is None)
    ending = ".manifest.jsonl" if lines else ".manifest.json"
    stem = manifest.name.removesuffix(ending).removesuffix(".jsonl").removesuffix(".json")
    key = f"{MANIFESTS}{stem}{ending}"
    runtime.inbox.put(key, data)
    name = resolve.job_id(runtime.inbox.name, key, data)
    said = [f"{path} -> {placed[path]}" for path in placed] + [
        f"{manifest} -> {key}",
        f"job {name}",
    ]
    said += [f"not there yet: {key}" for key in absent]
    return Report({"job": name, "manifest": key, "files": placed, "absent": absent}, said)


def open_result(settings: Settings, source: str, out: Path) -> Report:
    from handlers.cli.open_result import Opened, open_all

    opened: list[Opened] = open_all(settings, source, out)
    lines = [f"{one.path}  {one.seconds:.1f} s  item {one.item}" for one in opened]
    data = {"opened": [msgspec.to_builtins(one) for one in opened]}
    return Report(data, [*lines, "The signature and every digest are right."])


def schema(name: str) -> dict[str, Any]:
    made = {
        "job": schemas.job_schema,
        "result": schemas.result_schema,
        "event": outgoing.schema,
        "consent": schemas.consent_schema,
    }
    if name not in made:
        raise Refused("VALUE_RANGE", f"There is a schema of {', '.join(made)}, not of {name}.")
    return made[name]()


def new_consent(  # noqa: PLR0913 - the fields of a record
    reference: Path,
    *,
    subject: str,
    method: records.Method,
    controller: str,
    purposes: list[str],
    languages: list[str],
    days: int,
    proof: str,
) -> records.Consent:
    start = datetime.now(UTC).replace(microsecond=0)
    end = start + timedelta(days=days) if days else None
    fields: dict[str, Any] = {
        "schema": records.SCHEMA,
        "id": records.new_id(),
        "subject": records.Subject(name=subject),
        "controller": controller,
        "purposes": purposes,
        "scope": records.Scope(languages=languages),
        "valid_from": start,
        "valid_until": end,
        "method": method,
        "ref_audio_sha256": [hashlib.sha256(_read(reference)).hexdigest()],
        "created_by": controller,
    }
    fields |= _proof(method, proof)
    if method in ("own-voice", "recorded-statement", "signed-document"):
        words = records.format_statement(
            "en", name=subject, controller=controller, purposes=purposes, start=start, end=end
        )
        fields.setdefault("statement_text", words)
    try:
        return records.Consent(**fields)
    except ValueError as exc:
        raise Refused("CONSENT_INVALID", f"{exc}: give it with --proof.") from exc


def write_record(record: records.Consent, out: Path | None) -> None:
    data = records.format_consent(record)
    if out is None:
        os.write(1, data)
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("xb") as file:
        file.write(data)
    os.write(2, f"wrote {out}: read it, it speaks for a person\n".encode())


def _proof(method: str, proof: str) -> dict[str, Any]:
    """The field that the method cannot do without, from a file or from words."""
    field = records.REQUIRED_EVIDENCE.get(method, "")
    if not proof:
        return {}
    if field == "evidence_sha256":
        return {field: hashlib.sha256(_read(Path(proof))).hexdigest()}
    if field == "statement_audio":
        digest = hashlib.sha256(_read(Path(proof))).hexdigest()
        return {field: records.StatementAudio(key=Path(proof).name, sha256=digest)}
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
