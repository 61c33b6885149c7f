"""`voicedrop submit`: put a manifest and its files into the inbox."""

from __future__ import annotations

from pathlib import Path

import typer

from core.audio.decoding import BYTES_LIMIT
from core.errors import Refused
from core.manifest import resolve
from core.settings import Settings
from core.storage.object_keys import MANIFESTS
from handlers import wiring
from handlers.cli.files import read_file
from handlers.cli.screen import CommandOutput


def submit_job(settings: Settings, manifest: Path, files: list[Path]) -> CommandOutput:
    """Store the files first and the manifest last, because its arrival starts the job.

    Raises Refused with the first error of the manifest, or REF_NOT_FOUND for a file that the
    manifest does not name.
    """
    data = read_file(manifest, limit=BYTES_LIMIT)
    is_lines = manifest.name.endswith(".jsonl")
    references = _references(data, is_lines=is_lines)
    runtime = wiring.create_local_runtime(settings)
    stored: dict[str, str] = {}
    for path in files:
        key = _key_of(path, references)
        runtime.inbox.put(key, read_file(path, limit=BYTES_LIMIT))
        stored[str(path)] = key
    missing = sorted(key for key in references if runtime.inbox.head(key) is None)
    suffix = ".manifest.jsonl" if is_lines else ".manifest.json"
    stem = manifest.name.removesuffix(suffix).removesuffix(".jsonl").removesuffix(".json")
    manifest_key = f"{MANIFESTS}{stem}{suffix}"
    runtime.inbox.put(manifest_key, data)
    job_id = resolve.job_id(runtime.inbox.name, manifest_key, data)
    lines = [f"{path} -> {key}" for path, key in stored.items()]
    lines += [f"{manifest} -> {manifest_key}", f"job {job_id}"]
    lines += [f"not in the inbox yet: {key}" for key in missing]
    summary = {"job": job_id, "manifest": manifest_key, "files": stored, "absent": missing}
    return CommandOutput(summary, lines)


def _references(data: bytes, *, is_lines: bool) -> set[str]:
    """Return the keys of all recordings and consent records that a manifest names."""
    job = resolve.parse_job(data, lines=is_lines)
    for bad in job.errors:
        typer.echo(f"item {bad.id or bad.index}: {bad.error}", err=True)
    if job.errors:
        raise job.errors[0].error
    voices = job.voices.values()
    return {v.reference for v in voices} | {v.consent for v in voices if v.consent}


def _key_of(path: Path, references: set[str]) -> str:
    """Return the key whose last part is the name of this file."""
    keys = [key for key in references if key.rpartition("/")[2] == path.name]
    if len(keys) != 1:
        why = "several files of that name" if keys else "no file of that name"
        raise Refused("REF_NOT_FOUND", f"The manifest names {why}: {path.name}", pointer=str(path))
    return keys[0]
