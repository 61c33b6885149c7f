"""Signatures: V4 and V1, in the header, in a presigned URL or of the policy of a form.

Sources: OSS documentation, "Include a V4 signature in the Authorization header", "Add a V4
signature to a URL", "Include a V1 signature in the Authorization header", "PostObject".
"""

from __future__ import annotations

import base64
import calendar
import hashlib
import hmac
import re
import time
from email.utils import parsedate_to_datetime
from urllib.parse import quote

from tests.support.oss_server.errors import OssError
from tests.support.oss_server.messages import Request
from tests.support.oss_server.state import AccessKey, State

SKEW_SECONDS = 15 * 60
_V4 = re.compile(
    r"OSS4-HMAC-SHA256 Credential=([^,]+), ?(?:AdditionalHeaders=([^,]+), ?)?"
    r"Signature=([0-9a-f]+)(?:, ?AdditionalHeaders=(.+))?$"
)
_SUBRESOURCES = set(
    "acl append bucketInfo comp continuation-token delete encryption group lifecycle link live "  # noqa: SIM905
    "location objectInfo objectMeta partNumber position qos referer restore security-token "
    "sequential stat status symlink tagging uploadId uploads versionId versioning versions "
    "website cors logging policy requestPayment worm inventory replication callback callback-var "
    "response-cache-control response-content-disposition response-content-encoding "
    "response-content-language response-content-type response-expires x-oss-process "
    "x-oss-request-payer x-oss-traffic-limit startTime endTime vod".split()
)


def authenticate(request: Request, state: State, now: float) -> str:
    """The access key id of a rightly signed request, empty for an unsigned one; else OssError."""
    header = request.header("authorization")
    if header.startswith("OSS4-HMAC-SHA256 "):
        return _v4_header(request, state, now)
    if header.startswith("OSS "):
        return _v1_header(request, state, now)
    if request.query.get("x-oss-signature-version") == "OSS4-HMAC-SHA256":
        return _v4_query(request, state, now)
    if "Signature" in request.query:
        return _v1_query(request, state, now)
    if header:
        raise OssError("InvalidArgument", "Unsupported authorization type.")
    return ""


def _v4_header(request: Request, state: State, now: float) -> str:
    found = _V4.match(request.header("authorization"))
    if not found:
        raise OssError("InvalidArgument", "Invalid Authorization header.", ec="0002-00000224")
    credential, before, signature, behind = found.groups()
    if not request.header("x-oss-content-sha256"):
        raise OssError("InvalidArgument", "Missing x-oss-content-sha256 header.")
    moment = request.header("x-oss-date")
    access = _access(request, state, credential.split("/", 1)[0], now)
    _check_scope(credential, moment, state, "Invalid signing region in Authorization header.")
    _check_skew(_v4_time(moment), now)
    _check_v4(request, access, credential, moment, before or behind or "", signature)
    return access.id


def _v4_query(request: Request, state: State, now: float) -> str:
    query = request.query
    credential, moment = query.get("x-oss-credential", ""), query.get("x-oss-date", "")
    access = _access(request, state, credential.split("/", 1)[0], now)
    _check_scope(credential, moment, state, "The signing region in credential is invalid.")
    if now > _v4_time(moment) + int(query.get("x-oss-expires", "0")):
        raise OssError("AccessDenied", "Request has expired.", ec="0002-00000069")
    extra, signature = query.get("x-oss-additional-headers", ""), query.get("x-oss-signature", "")
    _check_v4(request, access, credential, moment, extra, signature)
    return access.id


def _check_scope(credential: str, moment: str, state: State, wrong_region: str) -> None:
    parts = credential.split("/")
    if len(parts) != 5 or parts[1] != moment[:8] or parts[3:] != ["oss", "aliyun_v4_request"]:
        raise OssError("InvalidArgument", "Invalid Credential.", ec="0002-00000225")
    if parts[2] != state.region:
        raise OssError("InvalidArgument", wrong_region, ec="0002-00000226")


def _check_v4(
    request: Request, access: AccessKey, credential: str, moment: str, extra: str, signature: str
) -> None:
    canonical = _v4_canonical(request, [name for name in extra.split(";") if name])
    scope = credential.split("/", 1)[1]
    digest = hashlib.sha256(canonical).hexdigest()
    text = f"OSS4-HMAC-SHA256\n{moment}\n{scope}\n{digest}"
    if not hmac.compare_digest(_v4_signature(access, scope, text), signature):
        raise _mismatch(access, signature, text, canonical)


def _v4_signature(access: AccessKey, scope: str, text: str) -> str:
    key = f"aliyun_v4{access.secret}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.new(key, text.encode(), "sha256").hexdigest()


def _v4_canonical(request: Request, extra: list[str]) -> bytes:
    query = {k: v for k, v in request.query.items() if k != "x-oss-signature"}
    pairs = sorted((quote(k, safe="~"), quote(v, safe="~")) for k, v in query.items())
    path = f"/{request.bucket}/{request.key}" if request.bucket else "/"
    signed = sorted(
        name
        for name in request.headers
        if name.startswith("x-oss-") or name in ("content-type", "content-md5", *extra)
    )
    lines = [
        request.method,
        quote(path, safe="/~"),
        "&".join(f"{k}={v}" if v else k for k, v in pairs),
        "".join(f"{name}:{request.headers[name].strip()}\n" for name in signed),
        ";".join(sorted(extra)),
        request.header("x-oss-content-sha256") or "UNSIGNED-PAYLOAD",
    ]
    return "\n".join(lines).encode("latin-1")


def _v1_header(request: Request, state: State, now: float) -> str:
    name, _, signature = request.header("authorization")[4:].partition(":")
    access = _access(request, state, name, now)
    date = request.header("x-oss-date") or request.header("date")
    try:
        _check_skew(parsedate_to_datetime(date).timestamp(), now)
    except ValueError:
        raise OssError("AccessDenied", "OSS authentication requires a valid Date.") from None
    _check_v1(request, access, date, signature)
    return access.id


def _v1_query(request: Request, state: State, now: float) -> str:
    query = request.query
    access = _access(request, state, query.get("OSSAccessKeyId", ""), now)
    expires = query.get("Expires", "")
    if not expires.isdigit() or now > int(expires):
        raise OssError("AccessDenied", "Request has expired.", ec="0002-00000069")
    _check_v1(request, access, expires, query["Signature"])
    return access.id


def _check_v1(request: Request, access: AccessKey, date: str, signature: str) -> None:
    headers = sorted(name for name in request.headers if name.startswith("x-oss-"))
    sub = sorted(
        (k, v) for k, v in request.query.items() if k in _SUBRESOURCES or k.startswith("x-oss-ac-")
    )
    resource = f"/{request.bucket}/{request.key}" if request.bucket else "/"
    if sub:
        resource += "?" + "&".join(f"{k}={v}" if v else k for k, v in sub)
    head = [request.method, request.header("content-md5"), request.header("content-type"), date]
    named = "".join(f"{name}:{request.headers[name]}\n" for name in headers)
    text = ("\n".join(head) + "\n" + named).encode("latin-1") + resource.encode()
    wanted = base64.b64encode(hmac.digest(access.secret.encode(), text, "sha1")).decode()
    if not hmac.compare_digest(wanted, signature):
        raise _mismatch(access, signature, text.decode("utf-8", "replace"), b"")


def _mismatch(access: AccessKey, signature: str, text: str, canonical: bytes) -> OssError:
    """The real service shows what it computed, security tokens included."""
    details = {
        "OSSAccessKeyId": access.id,
        "SignatureProvided": signature,
        "StringToSign": text,
        "CanonicalRequest": canonical.decode("utf-8", "replace"),
    }
    return OssError("SignatureDoesNotMatch", details=details)


def authenticate_form(put: Request, state: State, now: float) -> str:
    """The access key id of a form whose policy is rightly signed, empty without one; else OssError.
    The headers of `put` are the fields of the form."""
    text = put.header("policy")
    v4 = put.header("x-oss-signature-version") == "OSS4-HMAC-SHA256"
    credential = put.header("x-oss-credential" if v4 else "ossaccesskeyid")
    if not text and not credential:
        return ""
    access = _access(put, state, credential.split("/", 1)[0], now)
    if v4:
        moment, signature = put.header("x-oss-date"), put.header("x-oss-signature")
        _check_scope(credential, moment, state, "The signing region in credential is invalid.")
        wanted = _v4_signature(access, credential.split("/", 1)[1], text)
    else:
        signature = put.header("signature")
        digest = hmac.digest(access.secret.encode(), text.encode(), "sha1")
        wanted = base64.b64encode(digest).decode()
    if not hmac.compare_digest(wanted, signature):
        raise _mismatch(access, signature, text, b"")
    return access.id


def _access(request: Request, state: State, name: str, now: float) -> AccessKey:
    access = state.keys.get(name)
    # V1 knows both names; the SDK V2 for Python sends the short one as a header.
    names = ("x-oss-security-token", "security-token")
    tokens = [request.header(n) or request.query.get(n, "") for n in names]
    given = next(filter(None, tokens), "")
    if access is None or (access.token and not given):
        raise OssError("InvalidAccessKeyId", details={"OSSAccessKeyId": name})
    if given != access.token:
        raise OssError("InvalidSecurityToken")
    if now > access.expires:
        raise OssError("SecurityTokenExpired")
    return access


def _v4_time(moment: str) -> float:
    try:
        return calendar.timegm(time.strptime(moment, "%Y%m%dT%H%M%SZ"))
    except ValueError:
        raise OssError("InvalidArgument", "Invalid x-oss-date.") from None


def _check_skew(signed: float, now: float) -> None:
    if abs(signed - now) > SKEW_SECONDS:
        raise OssError("RequestTimeTooSkewed")
