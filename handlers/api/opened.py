"""Outputs of finished jobs: what their results state about them, and their audio where keys are."""

from __future__ import annotations

import msgspec

from core.crypto import sealing
from core.crypto.keys import Keyring
from core.documents import signed
from core.errors import Failed, JobError, Misconfigured, Refused, Unavailable
from core.job.commit import RESULT_LIMIT
from core.result import document
from core.result.document import Result
from core.result.item_result import Chapter, ItemResult
from core.result.sealed_file import sealed_files
from core.storage.object_keys import result_key
from core.storage.port import Store
from handlers.api.tickets import read_result

FAMILIES = (Refused, Failed, Misconfigured, Unavailable)
LINK_SECONDS = 900
SEALED_LIMIT = 256 << 20
"""Bytes of the largest file that is opened for an answer; `voicedrop open` opens larger ones."""


class Opened(msgspec.Struct, frozen=True):
    data: bytes
    media_type: str


class OutputView(msgspec.Struct, frozen=True, kw_only=True):
    """An item or joined file of a finished job."""

    job: str
    item: ItemResult | None = None
    chapter: Chapter | None = None
    url: str | None = None
    """Where the sealed file can be fetched for a quarter of an hour; null where files are in a
    folder, and for an output that failed."""


def find_output(job_id: str, name: str, is_chapter: bool, results: Store) -> OutputView:
    """Raises Refused OBJECT_MISSING."""
    found = read_result(job_id, results)
    if found is None:
        raise Refused("OBJECT_MISSING", "The job is not finished.", pointer=job_id, advice="")
    made = _find(found[1], name, is_chapter, results)
    url = (results.link(made.output.key, LINK_SECONDS) or None) if made.output else None
    if isinstance(made, Chapter):
        return OutputView(job=job_id, chapter=made, url=url)
    return OutputView(job=job_id, item=made, url=url)


def open_output(job_id: str, name: str, is_chapter: bool, results: Store, keys: Keyring) -> Opened:
    """Open the audio of an item or joined file, after all checks. `name`: empty for the first item.

    Raises Refused OBJECT_MISSING, SIGNATURE_INVALID, SEAL_INVALID, OBJECT_TOO_LARGE, and the error
    of an item that failed.
    """
    data = results.get(result_key(job_id), limit=RESULT_LIMIT).data
    result = signed.read(data, Result, keys.verifying)
    if result.job_id != job_id:
        raise Refused("SIGNATURE_INVALID", pointer=result_key(job_id))
    if result.error and not result.totals.succeeded:
        raise _as_error(result.error.code, result.error.message, result.error.pointer)
    made = _find(result, name, is_chapter, results)
    if made.error:
        raise _as_error(made.error.code, made.error.message, made.error.pointer)
    file = next(sealed_files(made, job_id), None)
    if file is None:
        raise Refused("OBJECT_MISSING", "Nothing was spoken.", pointer=name, advice="")
    sealed = results.get(file.key, limit=SEALED_LIMIT).data
    plain = sealing.open_sealed(sealed, file.checked_envelope(), keys.wrapping)
    return Opened(plain, file.media_type)


def _find(result: Result, name: str, is_chapter: bool, results: Store) -> ItemResult | Chapter:
    def fetch(key: str) -> bytes:
        return results.get(key, limit=RESULT_LIMIT).data

    among = result.chapters if is_chapter else document.read_items(result, fetch)
    for made in among:
        if made.id == name or not name:
            return made
    raise Refused("OBJECT_MISSING", "The job has no such output.", pointer=name, advice="")


def _as_error(code: str, message: str, pointer: str) -> JobError:
    """Return an error that a result states, as the answer to whoever asks for the output."""
    family = next((one for one in FAMILIES if code in one.codes), None)
    if family is None:
        return Failed("INTERNAL", f"{code}: {message}", pointer=pointer)
    return family(code, message, pointer=pointer)
