"""Interpret responses of OSS: properties of objects, the time, and errors.

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
"""Metadata that identifies one call of put_once, so that its retry recognises its own object."""
_MAX_CLOCK_AGE = 60.0

_RETRYABLE_CODES = {
    "InvalidDigest",  # the bytes were damaged in transit
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
    "RequestTimeTooSkewed": (
        Unavailable,
        "STORAGE_UNAVAILABLE",
    ),  # the clock of another worker may be right
    "SecurityTokenExpired": (Unavailable, "CREDENTIALS_EXPIRED"),
    "NoSuchBucket": (Misconfigured, "BUCKET_MISSING"),
    "InvalidBucketName": (Misconfigured, "BUCKET_MISSING"),
    "NoSuchKey": (Refused, "OBJECT_MISSING"),
    "InvalidObjectState": (Refused, "REF_NOT_READABLE"),
    "PreconditionFailed": (Refused, "OBJECT_CHANGED"),
}
_UNKNOWN_ACCESS_KEY = "InvalidAccessKeyId"
"""Means an access key that never existed, or a temporary one some time after it expired."""


class ServerError(Protocol):
    """The attributes of oss2's ServerError that are used here."""

    status: int
    code: str
    ec: str
    message: str
    request_id: str


def is_retryable(answer: ServerError) -> bool:
    return answer.status >= 500 or answer.status == 429 or answer.code in _RETRYABLE_CODES


def to_job_error(answer: ServerError, bucket: str, key: str, *, temporary: bool) -> JobError:
    """Return the JobError for a response. `temporary`: it was signed with a temporary key."""
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
    """A response lacks headers, or its body is incomplete or does not match its checksum."""


def parse_info(key: str, headers: Mapping[str, str]) -> Info:
    """Raises DamagedResponse."""
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
    """The server's clock, estimated from the `Date` of its responses, to the second."""

    def __init__(self) -> None:
        self._ahead: tuple[float, float] | None = None
        """Server time minus local monotonic time, and the local time of that measurement."""

    def now(self) -> float | None:
        """Return Unix seconds; None if the latest response is more than a minute old."""
        if self._ahead is None or time.monotonic() - self._ahead[1] > _MAX_CLOCK_AGE:
            return None
        return time.monotonic() + self._ahead[0]

    def update(self, date: str | None) -> None:
        if not date:
            return
        here, old = time.monotonic(), self._ahead
        fresh = parsedate_to_datetime(date).timestamp() - here
        # Dates are truncated to seconds, so of several the latest is the most accurate.
        if old is None or here - old[1] > _MAX_CLOCK_AGE or not 0 <= old[0] - fresh < 1:
            self._ahead = (fresh, here)
