"""Authorise a request and call the function that handles it."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable

from tests.support.oss_server import attributes, buckets, forms, lifecycle, multipart, objects
from tests.support.oss_server.errors import OssError
from tests.support.oss_server.messages import Reply, Request, error_reply, http_date
from tests.support.oss_server.signing import authenticate
from tests.support.oss_server.state import State

Operation = Callable[[State, Request], Reply]

# Method and the query parameter that selects the operation; the first match applies.
_BUCKET: list[tuple[str, str, Operation]] = [
    ("GET", "bucketInfo", buckets.bucket_info),
    ("GET", "stat", buckets.bucket_stat),
    ("GET", "lifecycle", lifecycle.get),
    ("PUT", "lifecycle", lifecycle.put),
    ("DELETE", "lifecycle", lifecycle.delete),
    ("GET", "location", buckets.location),
    ("GET", "versioning", buckets.get_versioning),
    ("PUT", "versioning", buckets.put_versioning),
    ("GET", "acl", buckets.get_acl),
    ("PUT", "acl", buckets.put_acl),
    ("GET", "uploads", multipart.list_uploads),
    ("GET", "live", buckets.list_live),
    ("POST", "delete", buckets.delete_objects),
    ("GET", "", buckets.list_objects),
    ("PUT", "", buckets.create_bucket),
    ("DELETE", "", buckets.delete_bucket),
]
_OBJECT: list[tuple[str, str, Operation]] = [
    ("POST", "append", objects.append_object),
    ("POST", "uploads", multipart.begin),
    ("POST", "uploadId", multipart.complete),
    ("POST", "restore", attributes.restore),
    ("GET", "uploadId", multipart.list_parts),
    ("DELETE", "uploadId", multipart.abort),
    ("GET", "acl", attributes.get_acl),
    ("PUT", "acl", attributes.put_acl),
    ("GET", "tagging", attributes.get_tagging),
    ("PUT", "tagging", attributes.put_tagging),
    ("DELETE", "tagging", attributes.delete_tagging),
    ("GET", "symlink", attributes.get_symlink),
    ("PUT", "symlink", attributes.put_symlink),
    ("HEAD", "", objects.head_object),
    ("GET", "objectMeta", objects.head_object),
    ("GET", "", objects.get_object),
    ("DELETE", "", objects.delete_object),
]
# Parameters of operations that are not supported, so that they are not taken for others.
_UNKNOWN = set(
    "cors website logging referer policy worm inventory replication encryption "  # noqa: SIM905
    "x-oss-process x-oss-async-process asyncFetch versions qos vod bucketArchiveDirectRead "
    "metaQuery style cname".split()
)


def answer(state: State, request: Request) -> Reply:
    """Perform the request atomically. Every error becomes the reply that OSS would send."""
    began, request_id = time.monotonic(), uuid.uuid4().hex[:24].upper()
    try:
        with state.lock:
            reply = _perform(state, request)
    except OssError as error:
        reply = error_reply(error, request, request_id)
    common = {
        "Server": "AliyunOSS",
        "Date": http_date(state.now()),
        "x-oss-request-id": request_id,
        "x-oss-server-time": str(int((time.monotonic() - began) * 1000)),
    }
    return Reply(reply.status, common | reply.headers, reply.body)


def _perform(state: State, request: Request) -> Reply:
    if request.bucket in state.buckets:
        lifecycle.expire(state, state.buckets[request.bucket])
    if forms.is_form(request):
        put, form = forms.as_put(state, request)
        _authorize(state, put)
        return forms.answer(put, form, objects.put_object(state, put))
    request.account = authenticate(request, state, state.now())
    _authorize(state, request)
    if not request.bucket:
        if request.method != "GET":
            raise OssError("MethodNotAllowed")
        return buckets.list_buckets(state, request)
    return _operation(request)(state, request)


def _operation(request: Request) -> Operation:
    if _UNKNOWN & request.query.keys():
        raise OssError("NotImplemented")
    if request.method == "PUT" and request.key:
        return _put_operation(request)
    for method, parameter, operation in _OBJECT if request.key else _BUCKET:
        if method == request.method and (not parameter or parameter in request.query):
            return operation
    raise OssError("MethodNotAllowed")


def _put_operation(request: Request) -> Operation:
    for method, parameter, operation in _OBJECT:
        if method == "PUT" and parameter in request.query:
            return operation
    copy = bool(request.header("x-oss-copy-source"))
    if "uploadId" in request.query:
        return multipart.copy_part if copy else multipart.put_part
    return objects.copy_object if copy else objects.put_object


def _action(request: Request) -> str:
    """Return the RAM action that a request requires.

    Source: OSS documentation, "Common examples of RAM policies".
    """
    if request.key:
        named = {"GET": "GetObject", "HEAD": "GetObject", "DELETE": "DeleteObject"}
        return f"oss:{named.get(request.method, 'PutObject')}"
    asked = {
        "bucketInfo": "GetBucketInfo",
        "versioning": "GetBucketVersioning",
        "stat": "GetBucketStat",
        "lifecycle": "GetBucketLifecycle",
    }
    parameter = next((name for name in asked if name in request.query), "")
    return f"oss:{asked.get(parameter, 'ListObjects')}" if request.method == "GET" else "none"


def _authorize(state: State, request: Request) -> None:
    if request.account:
        who = state.keys[request.account]
        if who.buckets is not None and request.bucket not in who.buckets:
            raise OssError("AccessDenied")
        resource = "/".join(filter(None, (request.bucket, request.key)))
        if who.policy and not who.policy(_action(request), resource):
            raise OssError("AccessDenied")
        return
    bucket = state.bucket(request.bucket) if request.bucket else None
    stored = bucket.objects.get(request.key) if bucket else None
    acl = stored.acl if stored and stored.acl != "default" else bucket.acl if bucket else "private"
    reading = request.method in ("GET", "HEAD") and request.key
    if not (acl == "public-read-write" or (acl == "public-read" and reading)):
        raise OssError("AccessDenied")
