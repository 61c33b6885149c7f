"""What the error answers of OSS mean for us: worth repeating, or whose task.

Source: OSS documentation, "Error codes", and the EC pages it links to.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from core.errors import JobError, Misconfigured, Refused, Unavailable

_REPEATABLE = {
    "InvalidDigest",  # our bytes were damaged on the way
    "QpsLimitExceeded",
    "RequestTimeout",
    "Throttling",
    "TotalQpsLimitExceeded",
}
_EXPLAINED: Mapping[str, tuple[type[JobError], str]] = {
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
_FORGOTTEN = "InvalidAccessKeyId"
"""Of an access key that never was, and of a temporary one some time after it expired."""


class Answer(Protocol):
    """What we use of oss2's ServerError."""

    status: int
    code: str
    ec: str
    message: str
    request_id: str


def repeatable(answer: Answer) -> bool:
    return answer.status >= 500 or answer.status == 429 or answer.code in _REPEATABLE


def explain(answer: Answer, bucket: str, key: str, *, temporary: bool) -> JobError:
    """`temporary`: the request was signed with a temporary access key."""
    usual: tuple[type[JobError], str] = (Unavailable, "STORAGE_UNAVAILABLE")
    if answer.status == 403:
        usual = (Misconfigured, "BUCKET_FORBIDDEN")
    family, code = _EXPLAINED.get(answer.code, usual)
    if answer.code == _FORGOTTEN and temporary:
        family, code = Unavailable, "CREDENTIALS_EXPIRED"
    what = f"{answer.status} {answer.code} {answer.ec}".rstrip()
    message = (
        f"OSS answered {what}: {answer.message} (bucket {bucket}, request {answer.request_id})"
    )
    return family(code, message, pointer=key)
