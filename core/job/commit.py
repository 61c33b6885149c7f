"""The beginning and the end of a job: its manifest is read once, and its result is written once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from core.documents import signed
from core.errors import Refused
from core.job.runtime import Runtime
from core.manifest import resolve
from core.result import document
from core.result.document import ManifestRef, Result
from core.storage.object_keys import pending_key, proof_key, result_key
from core.storage.port import put_once_or_read
from core.tlog.log import Leaf, enqueue

RESULT_LIMIT = 512 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedManifest:
    """A manifest that was read: what there is to do, and under which name."""

    job_id: str
    manifest: ManifestRef
    data: bytes
    stored: float
    """When the manifest was, in Unix seconds by the store's clock."""
    refused: Refused | None = None
    """Why it was not even read."""


def read_manifest(key: str, runtime: Runtime) -> ReceivedManifest:
    """Get the manifest once; these bytes are the job, whatever lies at the key later."""
    limit = resolve.LIMITS.manifest_bytes
    refused = None
    try:
        found = runtime.inbox.get(key, limit=limit)
        info, data = found.info, found.data
    except Refused as exc:
        unread = runtime.inbox.head(key) if exc.code == "OBJECT_TOO_LARGE" else None
        if unread is None:
            raise Refused("MANIFEST_GONE", pointer=key) from exc
        info = unread
        refused = Refused("MANIFEST_TOO_LARGE", f"{info.size} bytes; at most {limit}.", pointer=key)
        data = b"voicedrop/unread/1 " + info.etag.encode()  # names the job in place of the content
    digest = hashlib.sha256(data).hexdigest()
    return ReceivedManifest(
        job_id=resolve.job_id(runtime.inbox.name, key, data),
        manifest=ManifestRef(bucket=runtime.inbox.name, key=key, sha256=digest, size=info.size),
        data=data,
        stored=info.modified,
        refused=refused,
    )


def committed_result(job_id: str, runtime: Runtime) -> Result | None:
    """The result of a finished job. Refused SIGNATURE_INVALID if it is not one of ours."""
    key = result_key(job_id)
    if runtime.results.head(key) is None:
        return None
    return _read_result(job_id, runtime.results.get(key, limit=RESULT_LIMIT).data, runtime)


def _read_result(job_id: str, data: bytes, runtime: Runtime) -> Result:
    """A result that is stored; a job that broke off before its leaf is queued for the log here."""
    signed.check_signature(data, runtime.keys.verifying)
    if runtime.results.head(proof_key(job_id)) is None:
        _queue(job_id, data, runtime)
    return document.parse_result(data)


def _queue(job_id: str, data: bytes, runtime: Runtime) -> None:
    digest = hashlib.sha256(data).hexdigest()
    enqueue(runtime.control, Leaf(job=job_id, result_sha256=digest))


def part_reader(runtime: Runtime) -> Callable[[str], bytes]:
    """How the parts of a result are read."""
    return lambda key: runtime.results.get(key, limit=RESULT_LIMIT).data


def commit_result(draft: Result, runtime: Runtime) -> Result:
    """Write the result once; whoever comes second returns what the first one wrote."""
    finished = document.format_timestamp(runtime.control.now())
    data = signed.sign(msgspec.structs.replace(draft, finished=finished), runtime.keys.signing)
    key = result_key(draft.job_id)
    stored = put_once_or_read(runtime.results, key, data, limit=RESULT_LIMIT)
    if stored != data:
        return _read_result(draft.job_id, stored, runtime)
    _queue(draft.job_id, data, runtime)
    for voice in draft.voices.values():
        runtime.control.delete(pending_key(voice.reference, draft.job_id))
    return document.parse_result(data)
