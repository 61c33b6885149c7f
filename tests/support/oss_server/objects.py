"""Requests about single objects: put, get, head, copy, append, delete."""

from __future__ import annotations

import base64
import gzip
import hashlib
import re
import time
from collections.abc import Mapping
from dataclasses import replace
from email.utils import parsedate_to_datetime
from urllib.parse import unquote

from tests.support.oss_server.attributes import parse_tags
from tests.support.oss_server.errors import OssError
from tests.support.oss_server.messages import Reply, Request, http_date, iso, xml_reply
from tests.support.oss_server.state import Bucket, State, Stored, md5

KEPT = (
    "content-type",
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "expires",
)
_META = "x-oss-meta-"
_RANGE = re.compile(r"bytes=(\d*)-(\d*)$")


def put_object(state: State, request: Request) -> Reply:
    bucket = state.bucket(request.bucket)
    check_name(request.key)
    check_digest(request)
    check_overwrite(bucket, request)
    if request.query.get("callback"):
        raise OssError("CallbackFailed", "Error status : 502.", status=203)
    stored = described(request, bucket, Stored(request.body, md5(request.body)))
    stored = replace(stored, content_md5=digest_text(request.body))
    state.store(bucket, request.key, stored)
    return stored_reply(stored)


def copy_object(state: State, request: Request) -> Reply:
    bucket, source = state.bucket(request.bucket), copy_source(state, request)
    check_name(request.key)
    check_overwrite(bucket, request)
    check_conditions(source, request.headers, "x-oss-copy-source-")
    moment = float(int(time.time()))
    stored = replace(source, kind="Normal", etag=md5(source.data), modified=moment, acl="default")
    if request.header("x-oss-metadata-directive").upper() == "REPLACE":
        fresh = described(request, bucket, stored)
        stored = replace(stored, headers=fresh.headers, metadata=fresh.metadata)
    if request.header("x-oss-tagging-directive").upper() == "REPLACE":
        stored = replace(stored, tags=parse_tags(request.header("x-oss-tagging")))
    state.store(bucket, request.key, stored)
    nodes = [("ETag", f'"{stored.etag}"'), ("LastModified", iso(stored.modified))]
    reply = xml_reply("CopyObjectResult", nodes)
    reply.headers |= stored_reply(stored).headers
    return reply


def append_object(state: State, request: Request) -> Reply:
    bucket = state.bucket(request.bucket)
    check_name(request.key)
    check_digest(request)
    old = bucket.objects.get(request.key)
    if old and old.kind != "Appendable":
        raise OssError("ObjectNotAppendable")
    length = len(old.data) if old else 0
    position = request.query.get("position", "")
    if not position.isdigit():
        raise OssError("InvalidArgument", "The position must be a number.")
    if int(position) != length:
        headers = {"x-oss-next-append-position": str(length)}
        raise OssError("PositionNotEqualToLength", headers=headers)
    if old is None:
        old = described(request, bucket, Stored(b"", "", "Appendable"))
    data = old.data + request.body
    etag = md5(data + b"appended")  # as documented, not the digest of the content
    stored = replace(old, data=data, etag=etag, modified=float(int(time.time())))
    state.store(bucket, request.key, stored)
    reply = stored_reply(stored)
    reply.headers["x-oss-next-append-position"] = str(len(data))
    return reply


def delete_object(state: State, request: Request) -> Reply:
    state.store(state.bucket(request.bucket), request.key, None)
    return Reply(204)


def head_object(state: State, request: Request) -> Reply:
    stored = _resolved(state, request)
    check_conditions(stored, request.headers, "")
    return Reply(200, _headers(stored) | {"Content-Length": str(len(stored.data))})


def get_object(state: State, request: Request) -> Reply:
    stored = _resolved(state, request)
    check_conditions(stored, request.headers, "")
    if stored.storage_class != "Standard" and "false" not in stored.restore:
        raise OssError("InvalidObjectState", details={"ObjectName": request.key})
    headers = _headers(stored)
    for name, value in request.query.items():
        if name.startswith("response-"):
            headers[name.removeprefix("response-").title()] = value
    found = span(request.header("range"), len(stored.data))
    if found:
        first, end = found
        headers["Content-Range"] = f"bytes {first}-{end - 1}/{len(stored.data)}"
        return Reply(206, headers, stored.data[first:end])
    if _compressible(request, headers, stored):
        headers |= {"Content-Encoding": "gzip", "Transfer-Encoding": "chunked"}
        return Reply(200, headers, gzip.compress(stored.data, 1))
    return Reply(200, headers, stored.data)


def described(request: Request, bucket: Bucket, stored: Stored) -> Stored:
    """`stored` with the headers, metadata, tags and class that the request gives it."""
    metadata = {
        name.removeprefix(_META): value
        for name, value in request.headers.items()
        if name.startswith(_META)
    }
    if any("_" in name for name in metadata):
        message = "The metadata name contains an underscore."
        raise OssError("InvalidArgument", message, ec="0011-00000002")
    if sum(len(name) + len(value) for name, value in metadata.items()) > 8192:
        raise OssError("InvalidArgument", "The user metadata exceed 8 KB.")
    kept = {name: request.header(name) for name in KEPT if request.header(name)}
    return replace(
        stored,
        headers={"content-type": "application/octet-stream"} | kept,
        metadata=metadata,
        tags=parse_tags(request.header("x-oss-tagging")),
        storage_class=request.header("x-oss-storage-class") or bucket.storage_class,
        acl=request.header("x-oss-object-acl") or "default",
    )


def check_name(key: str) -> None:
    if not 1 <= len(key.encode()) <= 1023 or key[0] in "/\\":
        raise OssError("InvalidObjectName", "The specified object is not valid.")


def check_digest(request: Request) -> None:
    wanted = request.header("content-md5")
    if wanted and wanted != digest_text(request.body):
        raise OssError("InvalidDigest", "The Content-MD5 you specified was invalid.")


def check_overwrite(bucket: Bucket, request: Request) -> None:
    value = request.header("x-oss-forbid-overwrite")
    if value not in ("", "true", "false"):
        message = "x-oss-forbid-overwrite must be true or false."
        raise OssError("InvalidArgument", message, ec="0017-00000279")
    # Documented: the header has no effect once versioning was enabled, even if suspended since.
    if value == "true" and not bucket.versioning and request.key in bucket.objects:
        raise OssError("FileAlreadyExists", details={"ObjectName": request.key})


def check_conditions(stored: Stored, headers: Mapping[str, str], prefix: str) -> None:
    match, none = headers.get(f"{prefix}if-match"), headers.get(f"{prefix}if-none-match")
    if match and match.strip('"') not in (stored.etag, "*"):
        raise OssError("PreconditionFailed", details={"Condition": "If-Match"})
    if none and none.strip('"') in (stored.etag, "*"):
        raise OssError("NotModified")
    since = headers.get(f"{prefix}if-modified-since")
    before = headers.get(f"{prefix}if-unmodified-since")
    if since and not none and stored.modified <= parsedate_to_datetime(since).timestamp():
        raise OssError("NotModified")
    if before and not match and stored.modified > parsedate_to_datetime(before).timestamp():
        raise OssError("PreconditionFailed", details={"Condition": "If-Unmodified-Since"})


def copy_source(state: State, request: Request) -> Stored:
    name = unquote(request.header("x-oss-copy-source").split("?", 1)[0])
    bucket, _, key = name.lstrip("/").partition("/")
    return state.object(bucket, key)


def span(header: str, size: int) -> tuple[int, int] | None:
    """The bytes asked for as (first, end); None for all, also when the range makes no sense."""
    found = _RANGE.match(header)
    if not found or not size or found.groups() == ("", ""):
        return None
    first, last = found.groups()
    if not first:
        return max(0, size - int(last)), size
    if int(first) >= size or (last and int(last) < int(first)):
        return None
    return int(first), min(size, int(last) + 1) if last else size


def stored_reply(stored: Stored) -> Reply:
    headers = {"ETag": f'"{stored.etag}"', "x-oss-hash-crc64ecma": stored.crc}
    if stored.content_md5:
        headers["Content-MD5"] = stored.content_md5
    return Reply(200, headers)


def digest_text(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


def _resolved(state: State, request: Request) -> Stored:
    """The object, or what a symbolic link points to under the link's own metadata."""
    stored = state.object(request.bucket, request.key)
    if stored.kind != "Symlink":
        return stored
    target = state.object(request.bucket, stored.target)
    return replace(target, kind="Symlink", metadata=stored.metadata)


def _headers(stored: Stored) -> dict[str, str]:
    headers = {name.title(): value for name, value in stored.headers.items()}
    headers |= stored_reply(stored).headers
    headers |= {
        "Last-Modified": http_date(stored.modified),
        "Accept-Ranges": "bytes",
        "x-oss-object-type": stored.kind,
        "x-oss-storage-class": stored.storage_class,
    }
    if stored.kind == "Appendable":
        headers["x-oss-next-append-position"] = str(len(stored.data))
    if stored.restore:
        headers["x-oss-restore"] = stored.restore
    if stored.tags:
        headers["x-oss-tagging-count"] = str(len(stored.tags))
    return headers | {f"{_META}{name}": value for name, value in stored.metadata.items()}


def _compressible(request: Request, headers: dict[str, str], stored: Stored) -> bool:
    wanted = "gzip" in request.header("accept-encoding")
    text = headers["Content-Type"].startswith("text/")
    return wanted and text and len(stored.data) >= 1024
