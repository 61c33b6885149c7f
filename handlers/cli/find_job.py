"""Which job a person means: by its id or short id, its manifest, or something that it made."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from core.audio.decoding import BYTES_LIMIT
from core.errors import Refused
from core.job import commit
from core.job.runtime import Runtime
from core.manifest import resolve
from core.manifest.retry import retry_manifest
from core.storage.object_keys import MANIFEST_SUFFIXES, MANIFESTS, OUTPUTS, job_id_of
from events.incoming import object_kind
from handlers.cli.files import read_file

_ID = re.compile("[0-9a-f]{32}")
_SHORT_ID = re.compile("[0-9a-f]{4,31}")
_IN_KEY = re.compile(r"(?:^|/)out/([0-9a-f]{32})(?:/|$)")


@dataclass(frozen=True, slots=True)
class FoundManifest:
    key: str
    """In the inbox."""
    data: bytes
    job: str
    """The id of its job."""


def find_job(named: str, runtime: Runtime) -> str:
    """Return the id of the job that a person names; for a manifest, of the last retry of its job.

    `named`: a job id or at least four digits of its beginning, the path or key of a manifest, or
    any path or key that contains `out/<job id>`. Raises Refused OBJECT_MISSING.
    """
    if _ID.fullmatch(named):
        return named
    if match := _IN_KEY.search(named):
        return match[1]
    if _SHORT_ID.fullmatch(named):
        return _complete(named, runtime)
    if named.endswith((".json", ".jsonl")):
        return last_retry(_find_manifest(named, runtime), runtime).job
    message = (
        "No such job: name it by its id, at least four digits from the beginning of its id, its "
        "manifest, or its result. `voicedrop list` shows the jobs."
    )
    raise Refused("OBJECT_MISSING", message, pointer=named)


def manifest_key(path: Path) -> str:
    """Return the key under which `voicedrop submit` stores a manifest."""
    suffix = MANIFEST_SUFFIXES[path.name.endswith(".jsonl")]
    stem = path.name.removesuffix(suffix).removesuffix(".jsonl").removesuffix(".json")
    return f"{MANIFESTS}{stem}{suffix}"


def found_manifest(key: str, data: bytes, runtime: Runtime) -> FoundManifest:
    return FoundManifest(key, data, resolve.job_id(runtime.inbox.name, key, data))


def last_retry(manifest: FoundManifest, runtime: Runtime) -> FoundManifest:
    """Return the manifest of the last retry of a job, or the manifest itself if there is none."""
    with suppress(Refused):  # it cannot be read, or nothing is stored under the key of a retry
        while True:
            key, _ = retry_manifest(manifest.key, manifest.data, manifest.job)
            stored = runtime.inbox.get(key, limit=resolve.LIMITS.manifest_bytes)
            manifest = found_manifest(key, stored.data, runtime)
    return manifest


def submitted_manifests(runtime: Runtime) -> Iterator[commit.ReceivedManifest]:
    """Yield the manifests of the inbox, in the order of their keys."""
    for info in runtime.inbox.list(MANIFESTS):
        if object_kind(info.key) == "manifest":
            with suppress(Refused):  # deleted since it was listed
                yield commit.read_manifest(info.key, runtime)


def _find_manifest(named: str, runtime: Runtime) -> FoundManifest:
    """Find a manifest by its path, or by its key in the inbox, of which the folder may be left
    out."""
    path = Path(named)
    keys = [named[named.find(MANIFESTS) :]] if MANIFESTS in named else []
    for key in [*keys, manifest_key(path)]:
        with suppress(Refused):
            stored = runtime.inbox.get(key, limit=resolve.LIMITS.manifest_bytes)
            if path.is_file() and read_file(path, limit=BYTES_LIMIT) != stored.data:
                why = "This is not what was submitted: `voicedrop submit` stores it as a new job."
                break
            return found_manifest(key, stored.data, runtime)
    else:
        why = "It is not in the inbox: `voicedrop submit` stores a manifest."
    raise Refused("OBJECT_MISSING", why, pointer=named)


def _complete(digits: str, runtime: Runtime) -> str:
    """Return the only job id that begins with these digits."""
    listed = runtime.results.list(OUTPUTS + digits)
    found = list(dict.fromkeys(job_id_of(info.key) for info in listed))
    if not found:
        submitted = (manifest.job_id for manifest in submitted_manifests(runtime))
        found = [job for job in submitted if job.startswith(digits)]
    if len(found) == 1:
        return found[0]
    why = f"{len(found)} jobs begin with it: {', '.join(found[:5])}." if found else "No such job."
    raise Refused("OBJECT_MISSING", why, pointer=digits)
