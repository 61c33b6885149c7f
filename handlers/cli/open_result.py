"""`voicedrop open`: check results and unseal their audio."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, get_args

from core.crypto import sealing
from core.crypto.keys import Keyring
from core.crypto.sealing import Envelope
from core.documents import signed
from core.errors import JobError, Refused
from core.job.commit import RESULT_LIMIT
from core.job.runtime import Runtime
from core.manifest import fields
from core.result import document
from core.result.document import Result
from core.result.item_result import Chapter, ItemResult
from core.result.sealed_file import sealed_files
from core.result.tombstone import Tombstone, parse_tombstone
from core.result.withdrawn_voices import WithdrawnSince
from core.settings import Settings
from core.storage.object_keys import SEALED_SUFFIX, job_id_of, result_key, tombstone_key
from handlers import wiring
from handlers.cli import exit_codes, screen
from handlers.cli.describe import SHORT, describe_failures
from handlers.cli.files import read_file, refuse_bucket, replace_file, writing
from handlers.cli.find_job import find_job
from handlers.cli.foresee import describe_unfinished
from handlers.cli.retry import how_to_correct
from handlers.cli.screen import CommandOutput

SEALED_LIMIT = 4 << 30
_JOB_ID = re.compile("[0-9a-f]{32}")
Fetch = Callable[[str], bytes]
"""Return the object with this key."""


@dataclass(slots=True)
class _Opened:
    files: list[dict[str, Any]] = field(default_factory=list)
    failed: list[dict[str, str]] = field(default_factory=list)
    """What a result names as failed, and the sources that could not be opened."""
    withdrawn: list[dict[str, str]] = field(default_factory=list)
    """Items of voices whose consent was withdrawn since."""
    lines: list[str] = field(default_factory=list)
    exit_code: int = exit_codes.DONE
    is_intact: bool = True
    """Whether every result and file that was named could be opened."""

    def refuse(self, error: JobError, **found: str) -> None:
        """Note an error other than those that a result states. `found`: what it is about."""
        self.is_intact = False
        self.exit_code = self.exit_code or exit_codes.of_error(error)
        self.failed.append({**found, "error": error.code, "message": error.message})


def open_results(settings: Settings, sources: list[str], out: Path) -> CommandOutput:
    """Unseal every output of results, or single ones, after all checks.

    `sources`: what `find_job` finds, or the path of a result.json or of a .sealed file beside one.
    The error of one source or item is printed and does not stop the others. Raises Refused
    FILE_UNUSABLE if `out` is in a bucket, or named like an audio file.
    """
    refuse_bucket(settings, out)
    _refuse_file_name(out)
    runtime = wiring.create_local_runtime(settings)
    opened = _Opened()
    for source in sources:
        try:
            _open_source(source, runtime, out, opened)
        except JobError as exc:
            screen.print_error(exc)
            opened.refuse(exc, source=source)
    if opened.files and opened.is_intact:
        opened.lines.append("The signature and every digest are right.")
    data = {"opened": opened.files, "failed": opened.failed, "withdrawn": opened.withdrawn}
    return CommandOutput(data, opened.lines, opened.exit_code)


def _refuse_file_name(out: Path) -> None:
    if out.suffix.removeprefix(".") in get_args(fields.Format) and not out.is_dir():
        message = f"{out} is named like a file: --out is the folder for the audio."
        raise Refused("FILE_UNUSABLE", message, pointer=str(out), advice="")


def _open_source(source: str, runtime: Runtime, out: Path, opened: _Opened) -> None:
    """Raises Refused SIGNATURE_INVALID, OBJECT_MISSING, FILE_UNUSABLE; what is damaged or missing
    of single items is noted."""
    job, data, fetch, name = _locate(source, runtime)
    try:
        result = signed.read(data, Result, runtime.keys.verifying)
    except Refused as exc:
        raise Refused(exc.code, exc.message, pointer=source) from exc
    if job not in ("", result.job_id):
        message = f"This is the result of job {result.job_id}, not of {job}."
        raise Refused("SIGNATURE_INVALID", message, pointer=source)
    items = list(document.read_items(result, fetch))
    outputs: list[ItemResult | Chapter] = [*items, *result.chapters]
    sealed = _sealed_files(outputs, result.job_id)
    files = [file for file in sealed if not name or file.key.endswith(f"/{name}")]
    if name and not files:
        raise Refused("OBJECT_MISSING", "The result holds no such output.", pointer=source)
    with writing(out):
        folder = _choose_folder(files, out, result.job_id)
    for file in files:
        try:
            plain = sealing.open_sealed(fetch(file.key), file.envelope, runtime.keys.wrapping)
        except Refused as exc:
            _report_unopened(file, exc, _find_tombstone(file.key, fetch, runtime.keys), opened)
            continue
        path = folder / file.place
        replace_file(path, plain)
        made = {"item": file.owner, "path": str(path), "seconds": file.seconds}
        opened.files.append({"job": result.job_id, **made})
        opened.lines.append(f"{path}  {file.seconds:.1f} s  item {file.owner}")
    _report_withdrawals(result, items, fetch, runtime, opened)
    if not name:
        _report_failures(result, outputs, runtime, opened)


def _find_tombstone(key: str, fetch: Fetch, keys: Keyring) -> Tombstone | None:
    """Return the tombstone that says when and why this file was erased, if there is one."""
    job = job_id_of(key)
    with suppress(Refused):  # there are no more
        for number in count():
            data = fetch(tombstone_key(job, number))
            one = parse_tombstone(data, job, number, keys.verifying)
            if any(file.key == key for file in one.files):
                return one
    return None


def _report_unopened(
    file: _SealedFile, error: Refused, erased: Tombstone | None, opened: _Opened
) -> None:
    found = {"job": file.job, "item": file.owner}
    if error.code != "OBJECT_MISSING" or erased is None:
        opened.refuse(error, **found)
        opened.lines.append(f"item {file.owner}: {error.code}: {error.message} (at {file.key})")
        return
    opened.exit_code = opened.exit_code or exit_codes.FAILED
    message = f"{file.place} was erased at {erased.erased}: {erased.why}"
    opened.failed.append({**found, "error": "ERASED", "message": message})
    opened.lines.append(f"item {file.owner}: {message}")


def _report_withdrawals(
    result: Result,
    items: Iterable[ItemResult],
    fetch: Fetch,
    runtime: Runtime,
    opened: _Opened,
) -> None:
    """Say which items are of a voice whose consent was withdrawn since they were made."""
    withdrawn_since = WithdrawnSince(result, fetch, runtime.results, runtime.keys.verifying)
    with suppress(JobError):  # the bucket of a copied result may be out of reach
        for item in items:
            if at := withdrawn_since(item):
                opened.withdrawn.append({"job": result.job_id, "item": item.id, "withdrawn": at})
                opened.lines.append(f"item {item.id}: consent to its voice was withdrawn at {at}")


def _report_failures(
    result: Result, outputs: Iterable[ItemResult | Chapter], runtime: Runtime, opened: _Opened
) -> None:
    """List what the result does not contain, because a folder does not show what is missing."""
    errors = [("", result.error), *((one.id, one.error) for one in outputs)]
    for owner, error in errors:
        if error:
            found = {"job": result.job_id, "item": owner, "error": error.code}
            opened.failed.append({**found, "message": error.message})
    if failures := describe_failures(result, outputs):
        opened.exit_code = opened.exit_code or exit_codes.FAILED
        opened.lines.append(f"job {result.job_id[:SHORT]}: {result.status}")
        opened.lines += [f"  {line}" for line in failures]
        if result.manifest.bucket == runtime.inbox.name:  # else it is a copy from elsewhere
            with suppress(JobError):
                opened.lines.append(f"  {how_to_correct(result, runtime)}")
    elif result.estimate:
        opened.lines.append(f"job {result.job_id[:SHORT]}: a dry run, in which nothing is spoken")


def _locate(source: str, runtime: Runtime) -> tuple[str, bytes, Fetch, str]:
    """Return the job whose result is there by the key or folder, empty if neither tells; the result
    document; a function that reads what it names; and the name of the only file to open, or empty
    for all."""
    path, name = Path(source), ""
    if (path / "result.json").is_file():
        path /= "result.json"
    if path.suffix == SEALED_SUFFIX:
        name = path.name
        folder = path.parent.parent if path.parent.name == "chapters" else path.parent
        path = folder / "result.json" if path.is_file() else path
    if path.is_file():
        data = read_file(path)
        if path.name == "result.json" or document.SCHEMA.encode() in data:
            owner = path.resolve().parent.name
            job = owner if _JOB_ID.fullmatch(owner) else ""
            return job, data, partial(_read_copy, path.parent), name
        if fields.SCHEMA.encode() not in data:
            raise Refused("SCHEMA_TYPE", "This is no result of a job.", pointer=source)
    job = find_job(source, runtime)
    fetch = lambda key: runtime.results.get(key, limit=SEALED_LIMIT).data  # noqa: E731
    try:
        return job, runtime.results.get(result_key(job), limit=RESULT_LIMIT).data, fetch, name
    except Refused as exc:
        if exc.code != "OBJECT_MISSING":
            raise
        why = f"Job {job} cannot be opened: {describe_unfinished(job, runtime)}"
        raise Refused("OBJECT_MISSING", why, pointer=source) from exc


def _read_copy(folder: Path, key: str) -> bytes:
    """Read an object that the result in `folder` names.

    The folder is a copy of `out/<job>/` under any name. Outputs of an earlier job are in the folder
    of that job beside it.
    """
    _, job, rest = key.split("/", 2)
    paths = (folder.parent / job / rest, folder / rest, folder / rest.rpartition("/")[2])
    return read_file(next((path for path in paths if path.is_file()), paths[1]))


@dataclass(frozen=True, slots=True)
class _SealedFile:
    job: str
    """Whose result names it."""
    owner: str
    """Id of the item or joined file."""
    key: str
    envelope: Envelope
    seconds: float
    """Length of the owner's audio."""

    @property
    def place(self) -> Path:
        """Where the plain file belongs in the folder of its job."""
        name = self.key.rpartition("/")[2]
        folder = "chapters" if self.key.endswith(f"/chapters/{name}") else ""
        return Path(folder, name.removesuffix(SEALED_SUFFIX))


def _sealed_files(outputs: Iterable[ItemResult | Chapter], job: str) -> Iterator[_SealedFile]:
    """Yield every sealed file that the result of a job names: items, joined files and subtitles.
    Raises Refused SEAL_INVALID."""
    for made in outputs:
        seconds = made.output.duration_s if made.output else 0.0
        for file in sealed_files(made, job):
            yield _SealedFile(job, made.id, file.key, file.checked_envelope(), seconds)


def _choose_folder(files: list[_SealedFile], out: Path, job: str) -> Path:
    """Return the folder for the files of a job: `out`, or one named after the job in it if `out`
    has other files of these names, because items of different jobs often have the same ids.

    Raises Refused OUTPUT_EXISTS if both have.
    """
    for folder in (out, out / job[:SHORT]):
        taken = [path for file in files if not _is_free(path := folder / file.place, file.envelope)]
        if not taken:
            return folder
    message = "A file with other content is there: move it, or choose another folder with --out."
    raise Refused("OUTPUT_EXISTS", message, pointer=str(taken[0]))


def _is_free(path: Path, envelope: Envelope) -> bool:
    """Whether nothing else would be overwritten: there is no such file, or it is the same."""
    if not path.exists():
        return True
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == envelope.pt_sha256
