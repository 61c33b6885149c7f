"""What the answers of OSS mean for us: an object, the time, an error and whose task it is.

Source: OSS documentation, "Error codes", and the EC pages it links to.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Protocol

from core.errors import JobError, Misconfigured, Refused, Unavailable
from core.storage.port import Info

METADATA_PREFIX = "x-oss-meta-"
WRITER_METADATA = "voicedrop-writer"
"""Metadata that names one call of put_once, so that its repetition knows its own object."""
_MAX_CLOCK_AGE = 60.0

_RETRYABLE_CODES = {
    "InvalidDigest",  # our bytes were damaged on the way
    "QpsLimitExceeded",
    "RequestTimeout",
    "Throttling",
    "TotalQpsLimitExceeded",
}
_CODES: Mapping[str, tuple[type[JobError], str]] = {
    "AccessDenied": (Misconfigured, "BUCKET_FORBIDDEN"),
    "InvalidAccessKeyId": (Misconfigured, "BUCKET_FORBIDDEN"),
    "InvalidSecurityToken": (Misconfigured, "BUCKET_FORBIDDEN"),
    "SignatureDoesNotMatch": (Misconfigured, "BUCKET_FORBIDDEN"),
    "UserDisable": (Misconfigured, "BUCKET_FORBIDDEN"),
    "RequestTimeTooSkewed": (Unavailable, "STORAGE_UNAVAILABLE"),  # another worker's clock may do
    "SecurityTokenExpired": (Unavailable, "CREDENTIALS_EXPIRED"),
    "NoSuchBucket": (Misconfigured, "BUCKET_MISSING"),
    "InvalidBucketName": (Misconfigured, "BUCKET_MISSING"),
    "NoSuchKey": (Refused, "OBJECT_MISSING"),
    "InvalidObjectState": (Refused, "REF_NOT_READABLE"),
    "PreconditionFailed": (Refused, "OBJECT_CHANGED"),
}
_UNKNOWN_ACCESS_KEY = "InvalidAccessKeyId"
"""Of an access key that never was, and of a temporary one some time after it expired."""


class ServerError(Protocol):
    """What we use of oss2's ServerError."""

    status: int
    code: str
    ec: str
    message: str
    request_id: str


def is_retryable(answer: ServerError) -> bool:
    return answer.status >= 500 or answer.status == 429 or answer.code in _RETRYABLE_CODES


def to_job_error(answer: ServerError, bucket: str, key: str, *, temporary: bool) -> JobError:
    """`temporary`: the request was signed with a temporary access key."""
    usual: tuple[type[JobError], str] = (Unavailable, "STORAGE_UNAVAILABLE")
    if answer.status == 403:
        usual = (Misconfigured, "BUCKET_FORBIDDEN")
    family, code = _CODES.get(answer.code, usual)
    if answer.code == _UNKNOWN_ACCESS_KEY and temporary:
        family, code = Unavailable, "CREDENTIALS_EXPIRED"
    what = f"{answer.status} {answer.code} {answer.ec}".rstrip()
    message = (
        f"OSS answered {what}: {answer.message} (bucket {bucket}, request {answer.request_id})"
    )
    return family(code, message, pointer=key)


class DamagedResponse(Exception):
    """An answer lacks headers, or its body is short or not what its checksum says."""


def parse_info(key: str, headers: Mapping[str, str]) -> Info:
    """Raises Damaged."""
    metadata = {
        name.lower().removeprefix(METADATA_PREFIX): value
        for name, value in headers.items()
        if name.lower().startswith(METADATA_PREFIX)
    }
    metadata.pop(WRITER_METADATA, None)
    try:
        size, etag = int(headers["Content-Length"]), headers["ETag"].strip('"')
        modified = parsedate_to_datetime(headers["Last-Modified"]).timestamp()
    except (KeyError, ValueError) as exc:
        raise DamagedResponse(str(exc)) from exc
    return Info(key, size, etag, modified, metadata)


class Clock:
    """The server's, from the `Date` of its answers, to the second."""

    def __init__(self) -> None:
        self._ahead: tuple[float, float] | None = None
        """Server's clock minus ours, and when that was learned; ours is monotonic."""

    def now(self) -> float | None:
        """Unix seconds; None if the latest answer is more than a minute old."""
        if self._ahead is None or time.monotonic() - self._ahead[1] > _MAX_CLOCK_AGE:
            return None
        return time.monotonic() + self._ahead[0]

    def update(self, date: str | None) -> None:
        if not date:
            return
        here, old = time.monotonic(), self._ahead
        fresh = parsedate_to_datetime(date).timestamp() - here
        # Dates are cut to seconds, so of several the latest is nearest to the truth.
        if old is None or here - old[1] > _MAX_CLOCK_AGE or not 0 <= old[0] - fresh < 1:
            self._ahead = (fresh, here)
