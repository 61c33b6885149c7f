"""Errors as `application/problem+json` (RFC 9457), with the codes of core/errors.py."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
from starlette.responses import Response

from core.errors import Failed, JobError, Misconfigured, Refused, Unavailable
from core.result.item_result import Problem

MEDIA_TYPE = "application/problem+json"
RETRY_SECONDS = 5
"""How long a caller waits after an error that may pass."""
_STATUS = {
    "REQUEST_INVALID": 400,
    "JSON_SYNTAX": 400,
    "JSON_ENCODING": 400,
    "JSON_DUPLICATE_KEY": 400,
    "CALLER_UNKNOWN": 401,
    "SCOPE_MISSING": 403,
    "ORIGIN_FORBIDDEN": 403,
    "OBJECT_MISSING": 404,
    "NOT_OPENED_HERE": 406,
    "JOB_FINISHED": 409,
    "FILE_EXISTS": 409,
    "MANIFEST_TOO_LARGE": 413,
    "OBJECT_TOO_LARGE": 413,
    "AUDIO_TOO_LARGE": 413,
    "QUOTA_EXCEEDED": 429,
    "OVERLOADED": 429,
    "INTERNAL": 500,
}
"""Code -> status, where it is not that of its family."""


class ProblemDetails(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An error as RFC 9457 defines it."""

    type: str
    """`urn:voicedrop:error:<code>`; `about:blank` if the status says everything."""
    title: str
    status: int
    detail: str = ""
    code: str = ""
    """The code of docs/errors.md."""
    advice: str = ""
    pointer: str = ""
    """JSON pointer into the manifest or the request, or an object key."""
    retryable: bool = False
    errors: list[Problem] = []
    """Every error of a manifest, if it has several."""
    error: dict[str, str | None] = {}
    """The same for clients of OpenAI, at their paths: message, type, param and code."""


def status_of(error: JobError) -> int:
    if error.code in _STATUS:
        return _STATUS[error.code]
    return 422 if isinstance(error, Refused | Failed) else 503


def answer_error(
    error: JobError, *, errors: list[JobError] | None = None, path: str = ""
) -> Response:
    """Return the response for an error. `errors`: all that were found, if several; `path`: that of
    the request."""
    details = ProblemDetails(
        type=f"urn:voicedrop:error:{error.code}",
        title=error.codes[error.code],
        status=status_of(error),
        detail=error.message,
        code=error.code,
        advice=error.advice,
        pointer=error.pointer,
        retryable=error.retry,
        errors=[Problem.from_error(one) for one in errors or []],
    )
    return _answer(details, path, _headers(error, details.status))


def answer_status(
    status: int, detail: str, path: str = "", headers: dict[str, str] | None = None
) -> Response:
    """Return the response for an error that its status names, such as 405."""
    details = ProblemDetails(type="about:blank", title=detail, status=status, detail=detail)
    return _answer(details, path, headers or {})


def _answer(details: ProblemDetails, path: str, headers: dict[str, str]) -> Response:
    if path.startswith("/v1/"):
        kind = "invalid_request_error" if details.status < 500 else "server_error"
        error = {
            "message": details.detail or details.title,
            "type": kind,
            "param": details.pointer.removeprefix("/") or None,
            "code": details.code or None,
        }
        details = msgspec.structs.replace(details, error=error)
    body = msgspec.json.encode(details)
    return Response(body, details.status, headers, MEDIA_TYPE)


def _headers(error: JobError, status: int) -> dict[str, str]:
    if error.code == "QUOTA_EXCEEDED":
        now = datetime.now(UTC)
        midnight = (now + timedelta(days=1)).replace(hour=0, minute=0, second=0)
        return {"Retry-After": str(int((midnight - now).total_seconds()) + 1)}
    if status == 429:
        return {"Retry-After": "1"}
    if isinstance(error, Unavailable | Misconfigured):
        return {"Retry-After": str(RETRY_SECONDS)}
    return {"WWW-Authenticate": "Bearer"} if status == 401 else {}
