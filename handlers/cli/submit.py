"""`voicedrop submit`: put a manifest and its files into the inbox."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

from core.audio import ffmpeg
from core.audio.decoding import BYTES_LIMIT
from core.consent import records
from core.errors import Misconfigured, Refused, raising
from core.job import commit, wording
from core.job.runtime import Runtime
from core.manifest import resolve
from core.manifest.parse import ParsedManifest
from core.manifest.resolve import ItemError, Job
from core.result.document import Result
from core.settings import Settings
from core.text import lexicon
from handlers import wiring
from handlers.cli import exit_codes, screen
from handlers.cli.describe import SHORT, SUCCESSFUL, describe_totals, join_names, limit_lines
from handlers.cli.files import read_file
from handlers.cli.find_job import FoundManifest, found_manifest, last_retry, manifest_key
from handlers.cli.foresee import CARRY_OUT
from handlers.cli.retry import next_command
from handlers.cli.screen import CommandOutput
from handlers.foresee import foresee_errors, read_gates, refuse_uncovered


def submit_job(
    settings: Settings, manifest: Path, files: list[Path], *, as_is: bool = False
) -> CommandOutput:
    """Store the files first and the manifest last, because its arrival starts the job.

    Says so if the same manifest was carried out before, because then nothing happens. Prints the
    errors of items, and stores nothing if there are any, unless `as_is`. Raises Refused with the
    error of the manifest as a whole, REF_NOT_FOUND for a file that it does not name,
    CONSENT_INVALID or CONSENT_SCOPE for a record that does not cover a recording beside it.
    """
    data = read_file(manifest, limit=BYTES_LIMIT)
    runtime = wiring.create_local_runtime(settings)
    try:
        parsed, job = _parse_manifest(manifest, data)
        named = _references(job)
        keys = {path: _key_of(path, job) for path in files}
        beside = {key: path for path, key in keys.items()}
        read_beside = lambda key: read_file(beside[key], limit=BYTES_LIMIT)  # noqa: E731
        fetch = partial(_read_beside, runtime, beside, lexicon.MAX_BYTES)
        job = wording.annotate_job(job, runtime.languages, fetch)
        refuse_uncovered(job, beside.keys(), read_beside)
    except Refused:
        screen.print_line(screen.stderr(), f"{manifest} was not submitted:")
        raise
    gates = read_gates(job, runtime, partial(_read_beside, runtime, beside, records.MAX_BYTES))
    # A lexicon that is missing may still come.
    errors = [bad for bad in job.errors if bad.error.code != "LEXICON_MISSING"]
    errors += foresee_errors(job, runtime, gates)
    for line in _describe_errors(manifest, parsed, errors):
        screen.print_line(screen.stderr(), line)
    if errors and not as_is:
        return _refuse_items(manifest, [bad.error for bad in errors])
    lines = list(_store(keys, runtime))
    missing = sorted(key for key in named if runtime.inbox.head(key) is None)
    key = manifest_key(manifest)
    is_known = _is_stored(key, data, runtime)
    runtime.inbox.put(key, data)
    submitted = found_manifest(key, data, runtime)
    last = last_retry(submitted, runtime)
    result = _earlier_result(last, runtime)
    lines += [f"{manifest} -> {key}", f"job {submitted.job}"]
    lines += [_describe_missing(absent, job) for absent in missing]
    if is_known and not result and last == submitted:
        lines.append("This manifest was submitted before, and its job is not finished.")
    if result:
        lines += _explain_earlier(result, runtime)
    elif last != submitted:
        lines.append(f"Its retry {last.job[:SHORT]} is not finished: `voicedrop watch --once`.")
    elif not missing:
        lines.append(CARRY_OUT)
    summary = {
        "job": submitted.job,
        "manifest": key,
        "files": {str(path): key for path, key in keys.items()},
        "absent": missing,
        "finished": result.status if result else "",
    }
    is_good = result is None or result.status in SUCCESSFUL
    return CommandOutput(summary, lines, exit_codes.DONE if is_good else exit_codes.FAILED)


def _read_beside(runtime: Runtime, beside: Mapping[str, Path], limit: int, key: str) -> bytes:
    """Return a file that is submitted, or stored in the inbox, under this key.

    Raises Refused OBJECT_MISSING, also if a producer may not read the inbox.
    """
    if key in beside:
        return read_file(beside[key], limit=limit)
    with raising(Refused("OBJECT_MISSING", pointer=key), on=Misconfigured):
        return runtime.inbox.get(key, limit=limit).data


def _references(job: Job) -> set[str]:
    """Return the keys of the recordings, consent records and lexicons that the manifest names."""
    voices = job.voices.values()
    keys = {key for voice in voices for key in (*voice.recordings, voice.consent) if key}
    return keys | {item.lexicon for item in job.items if item.lexicon}


def _store(keys: Mapping[Path, str], runtime: Runtime) -> Iterator[str]:
    """Store files under their keys; yield a line for each, and one if nothing here can read it."""
    for path, key in keys.items():
        data = read_file(path, limit=BYTES_LIMIT)
        runtime.inbox.put(key, data)
        yield f"{path} -> {key}"
        if why := ffmpeg.explain_missing(data):
            yield f"Warning: {key} cannot be read on this machine. {why}."


def _is_stored(key: str, data: bytes, runtime: Runtime) -> bool:
    with suppress(Refused, Misconfigured):  # nothing is stored, or a producer may not read
        return runtime.inbox.get(key, limit=BYTES_LIMIT).data == data
    return False


def _describe_missing(key: str, job: Job) -> str:
    """Say what happens if a file that the manifest names does not arrive."""
    if any(key == voice.consent for voice in job.voices.values()):
        then = "without this consent record its voice is refused. Submit it before the job begins."
    elif any(key == item.lexicon for item in job.items):
        then = "without this lexicon its items fail. Submit it before the job begins."
    elif job.wait_s:
        then = f"the job waits for this recording, up to {job.wait_s} s."
    else:
        then = "without this recording its voice fails. Submit it before the job begins."
    return f"not in the inbox yet: {key}: {then}"


def _earlier_result(manifest: FoundManifest, runtime: Runtime) -> Result | None:
    with suppress(Misconfigured):  # a producer may not read results
        return commit.read_result(manifest.job, runtime)
    return None


def _explain_earlier(result: Result, runtime: Runtime) -> list[str]:
    short = result.job_id[:SHORT]
    lines = [
        f"This manifest was carried out before, as job {short}: {result.status}, "
        f"{describe_totals(result)}. Nothing new will be made."
    ]
    return [*lines, f"{next_command(result, runtime)}. A changed manifest is a new job."]


def _parse_manifest(path: Path, data: bytes) -> tuple[ParsedManifest, Job]:
    """Raises Refused with the error of the manifest as a whole."""
    try:
        parsed = resolve.parse_manifest(data, lines=path.name.endswith(".jsonl"))
        return parsed, resolve.resolve(parsed)
    except Refused as exc:
        is_text = exc.code != "JSON_ENCODING" or path.suffix in (".json", ".jsonl")
        is_record = records.SCHEMA.encode() in data
        if is_text and not is_record:
            raise
        other = "a consent record" if is_record else "a recording"
        message = f"This looks like {other}: name the manifest first."
        raise Refused(exc.code, message, pointer=str(path), advice="") from exc


def _describe_errors(path: Path, parsed: ParsedManifest, errors: list[ItemError]) -> list[str]:
    """Return a line for each different error, with the lines of the manifest in which it is."""
    newline = "\n" if isinstance(parsed.source, str) else b"\n"
    line, end = 1, 0
    first: dict[tuple[str, str], str] = {}
    others: dict[tuple[str, str], list[str]] = {}
    for bad in sorted(errors, key=lambda error: error.index):
        start, _ = parsed.entries[bad.index].span
        line += parsed.source.count(newline, end, start)  # type: ignore[arg-type]
        end = start
        kind, place = (bad.error.code, bad.error.message), f"line {line}"
        name = f"item {bad.id}" if bad.id else ""
        if kind in first:
            others.setdefault(kind, []).append(f"{place} ({name})" if name else place)
        else:
            first[kind] = ": ".join(filter(None, (f"{path}, {place}", name, str(bad.error))))
    same = {kind: f"; the same in {join_names(places)}" for kind, places in others.items()}
    return limit_lines([line + same.get(kind, "") for kind, line in first.items()])


def _refuse_items(manifest: Path, refused: list[Refused]) -> CommandOutput:
    advice = (
        f"{manifest} was not submitted: correct it, or submit it as it is with --as-is; then only "
        "these items fail."
    )
    screen.print_line(screen.stderr(), advice)
    errors = [screen.describe_error(error) for error in refused]
    return CommandOutput({"error": errors[0], "errors": errors}, [], exit_codes.FAILED)


def _key_of(path: Path, job: Job) -> str:
    """Return the key whose last part is the name of this file."""
    references = _references(job)
    keys = [key for key in references if key.rpartition("/")[2] == path.name]
    if len(keys) != 1:
        lacking = [name for name, voice in job.voices.items() if voice.consent is None]
        if lacking and records.SCHEMA.encode() in read_file(path, limit=BYTES_LIMIT):
            message = (
                f"This is a consent record, and the voice `{lacking[0]}` of the manifest names "
                f'none: add "consent": "consent/{path.name}" to that voice.'
            )
            raise Refused("REF_NOT_FOUND", message, pointer=str(path), advice="")
        why = "several files of that name" if keys else "no file of that name"
        named = join_names(sorted(references)) or "none"
        message = (
            f"The manifest names {why}. The files it names: {named}. Rename the file, or correct "
            "the manifest."
        )
        raise Refused("REF_NOT_FOUND", message, pointer=str(path), advice="")
    return keys[0]
