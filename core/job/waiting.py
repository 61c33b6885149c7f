"""Jobs that wait for a reference: a mark through which its arrival resumes them.

    pending/<first 32 hex digits of the SHA-256 of the reference's key>/<job_id>: a `WaitingMark`

The deadline counts from the time in the mark, which is believed only if we signed it for this job
and reference. The manifest that it names needs no signature: it is carried out like one whose
notification is repeated, so that a mark of version 0.1.0, the bare key of a manifest, resumes its
job too.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from itertools import islice
from typing import Literal

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from core.crypto.keys import Keyring
from core.documents import signed
from core.documents.signed import Signature
from core.errors import Refused
from core.storage.object_keys import is_manifest_key, pending_key
from core.storage.port import Store, put_unless_genuine

LIMIT = 16 * 1024
"""Largest mark, in bytes."""
AT_ONCE = 1000
"""Most jobs that one arrival resumes; a sweep resumes the others."""


class WaitingMark(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    schema: Literal["voicedrop/waiting/1"] = "voicedrop/waiting/1"
    job_id: str
    reference: str
    manifest: str
    since: float
    """Unix seconds by the store's clock."""
    signature: Signature | None = None


def put_mark(control: Store, reference: str, job_id: str, manifest: str, keys: Keyring) -> float:
    """Mark a job as waiting for a reference; return since when it waits, in Unix seconds."""
    mark = WaitingMark(
        job_id=job_id, reference=reference, manifest=manifest, since=round(control.now(), 3)
    )
    stored = put_unless_genuine(
        control,
        pending_key(reference, job_id),
        signed.sign(mark, keys.signing),
        limit=LIMIT,
        is_genuine=lambda data: _since(data, mark, keys.verifying) is not None,
    )
    return _since(stored, mark, keys.verifying) or mark.since


def _since(data: bytes, wanted: WaitingMark, keys: Mapping[str, Ed25519PublicKey]) -> float | None:
    """Return since when the job of `wanted` waits for its reference, if we signed it."""
    with suppress(Refused):
        found = signed.read(data, WaitingMark, keys)
        if (found.job_id, found.reference) == (wanted.job_id, wanted.reference):
            return found.since
    return None


def list_manifests(control: Store, reference: str) -> list[str]:
    """List the keys of the manifests whose jobs wait for a reference."""
    manifests = []
    for info in list(islice(control.list(pending_key(reference)), AT_ONCE)):
        with suppress(Refused):  # the job finished at this moment and removed its mark
            manifests.append(read_manifest_key(control, info.key))
    return list(filter(None, manifests))


def read_manifest_key(control: Store, key: str) -> str:
    """Return the key of the manifest that a mark names; empty if it names none.

    Raises Refused OBJECT_MISSING, OBJECT_TOO_LARGE.
    """
    data = control.get(key, limit=LIMIT).data
    try:
        named = msgspec.json.decode(data, type=WaitingMark).manifest
    except (msgspec.DecodeError, RecursionError):
        named = data.decode("utf-8", "replace")
    return named if is_manifest_key(named) else ""
