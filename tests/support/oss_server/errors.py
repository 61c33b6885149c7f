"""OSS error codes with the status, message and EC (fine-grained error code) of the real service."""

from __future__ import annotations

from collections.abc import Mapping

_NOT_FOUND = {
    "NoSuchBucket": ("The specified bucket does not exist.", "0015-00000101"),
    "NoSuchKey": ("The specified key does not exist.", "0026-00000001"),
    "NoSuchLifecycle": ("No Row found in Lifecycle Table.", "0023-00000001"),
    "NoSuchUpload": ("The specified upload does not exist.", "0042-00000002"),
}
_CONFLICT = {
    "FileAlreadyExists": (
        "The object you specified already exists and can not be overwritten.",
        "0026-00000002",
    ),
    "PositionNotEqualToLength": ("Position is not equal to file length", "0026-00000016"),
    "ObjectNotAppendable": ("The object is not appendable", "0026-00000015"),
    "BucketNotEmpty": ("The bucket has objects. Please delete them first.", "0015-00000301"),
    "BucketAlreadyExists": ("The requested bucket name is not available.", "0015-00000104"),
    "RestoreAlreadyInProgress": ("The restore operation is in progress.", ""),
}
_FORBIDDEN = {
    "AccessDenied": ("You have no right to access this object.", "0003-00000001"),
    "InvalidAccessKeyId": (
        "The OSS Access Key Id you provided does not exist in our records.",
        "0002-00000902",
    ),
    "SignatureDoesNotMatch": (
        "The request signature we calculated does not match the signature you provided. "
        "Check your key and signing method.",
        "0002-00000040",
    ),
    "SecurityTokenExpired": ("The security token you provided has expired.", "0002-00000069"),
    "InvalidSecurityToken": ("The security token you provided is invalid.", "0002-00000070"),
    "RequestTimeTooSkewed": (
        "The difference between the request time and the current time is too large.",
        "0002-00000504",
    ),
    "InvalidObjectState": ("The operation is not valid for the object's state", "0016-00000402"),
}
_OTHER = {
    "NotModified": (304, "", ""),
    "PreconditionFailed": (
        412,
        "At least one of the pre-conditions you specified did not hold.",
        "0016-00000301",
    ),
    "MissingContentLength": (411, "You must provide the Content-Length HTTP header.", ""),
    "MethodNotAllowed": (405, "The specified method is not allowed against this resource.", ""),
    "NotImplemented": (501, "This test server does not offer the feature.", ""),
    "InvalidRange": (416, "The requested range cannot be satisfied", ""),
    "InternalError": (500, "We encountered an internal error. Please try again.", ""),
    "ServiceUnavailable": (503, "Please reduce your request rate.", ""),
}
_TABLE = (
    {code: (404, *rest) for code, rest in _NOT_FOUND.items()}
    | {code: (409, *rest) for code, rest in _CONFLICT.items()}
    | {code: (403, *rest) for code, rest in _FORBIDDEN.items()}
    | _OTHER
)


class OssError(Exception):
    """An error reply. Codes outside the table (InvalidArgument, MalformedXML, ...) are 400."""

    def __init__(
        self,
        code: str,
        message: str = "",
        *,
        status: int = 0,
        ec: str = "",
        details: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        usual = _TABLE.get(code, (400, code, ""))
        self.code = code
        self.status = status or usual[0]
        self.message = message or usual[1]
        self.ec = ec or usual[2]
        self.details = dict(details or {})
        self.headers = dict(headers or {})
        super().__init__(f"{self.status} {code}: {self.message}")
