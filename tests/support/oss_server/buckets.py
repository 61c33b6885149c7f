"""Requests about the service and about buckets: create, get, list, delete."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterable
from html import unescape

from tests.support.oss_server.errors import OssError
from tests.support.oss_server.messages import Node, Reply, Request, encoder, iso, parsed, xml_reply
from tests.support.oss_server.state import Bucket, State

ACLS = ("private", "public-read", "public-read-write")
_TOKEN = "voicedrop-test:"
_CLASSES = {
    "Standard": "Standard",
    "InfrequentAccess": "IA",
    "Archive": "Archive",
    "ColdArchive": "ColdArchive",
}


def list_buckets(state: State, request: Request) -> Reply:
    prefix, marker = request.query.get("prefix", ""), request.query.get("marker", "")
    limit = whole(request.query, "max-keys", 100, 1000)
    names = sorted(name for name in state.buckets if name.startswith(prefix) and name > marker)
    shown = [_summary(state.buckets[name], state, request) for name in names[:limit]]
    truncated = len(names) > limit
    nodes: list[Node] = [
        ("Owner", _owner(request.account)),
        ("Prefix", prefix),
        ("Marker", marker),
        ("MaxKeys", limit),
        ("IsTruncated", _bool(truncated)),
        ("NextMarker", names[limit - 1] if truncated else None),
        ("Buckets", [("Bucket", bucket) for bucket in shown]),
    ]
    return xml_reply("ListAllMyBucketsResult", nodes)


def create_bucket(state: State, request: Request) -> Reply:
    acl = request.header("x-oss-acl") or "private"
    storage = parsed(request.body).findtext("StorageClass") if request.body else None
    bucket = state.buckets.get(request.bucket) or Bucket(request.bucket, request.account)
    if bucket.owner != request.account:
        raise OssError("BucketAlreadyExists")
    bucket.acl, bucket.storage_class = _acl(acl), storage or bucket.storage_class
    state.store_bucket(bucket)
    return Reply(200, {"Location": f"/{request.bucket}"})


def delete_bucket(state: State, request: Request) -> Reply:
    bucket = state.bucket(request.bucket)
    if bucket.objects or bucket.uploads:
        raise OssError("BucketNotEmpty")
    state.remove_bucket(bucket)
    return Reply(204)


def bucket_info(state: State, request: Request) -> Reply:
    bucket = state.bucket(request.bucket)
    nodes: list[Node] = [
        *_summary(bucket, state, request),
        ("Owner", _owner(bucket.owner)),
        ("AccessControlList", [("Grant", bucket.acl)]),
        ("DataRedundancyType", "LRS"),
        ("Comment", ""),
        ("Versioning", bucket.versioning or None),
        ("ServerSideEncryptionRule", [("SSEAlgorithm", "None")]),
    ]
    return xml_reply("BucketInfo", [("Bucket", nodes)])


def bucket_stat(state: State, request: Request) -> Reply:
    """Count now; the service's figures are some hours old."""
    bucket = state.bucket(request.bucket)
    nodes: list[Node] = [
        ("Storage", sum(len(stored.data) for stored in bucket.objects.values())),
        ("ObjectCount", len(bucket.objects)),
        ("MultipartUploadCount", len(bucket.uploads)),
        ("LiveChannelCount", 0),
        ("LastModifiedTime", int(state.now())),
    ]
    for prefix, kind in _CLASSES.items():
        sizes = [len(o.data) for o in bucket.objects.values() if o.storage_class == kind]
        nodes.append((f"{prefix}Storage", sum(sizes)))
        if kind != "Standard":  # billed are at least 64 KB an object
            nodes.append((f"{prefix}RealStorage", sum(sizes)))
        nodes.append((f"{prefix}ObjectCount", len(sizes)))
    return xml_reply("BucketStat", nodes)


def location(state: State, request: Request) -> Reply:
    state.bucket(request.bucket)
    reply = xml_reply("LocationConstraint", [])
    reply.body = reply.body.replace(b" />", f">oss-{state.region}</LocationConstraint>".encode())
    return reply


def get_versioning(state: State, request: Request) -> Reply:
    status = state.bucket(request.bucket).versioning
    return xml_reply("VersioningConfiguration", [("Status", status or None)])


def put_versioning(state: State, request: Request) -> Reply:
    bucket = state.bucket(request.bucket)
    status = parsed(request.body).findtext("Status")
    if status not in ("Enabled", "Suspended"):
        raise OssError("MalformedXML", "The XML you provided was not well-formed.")
    bucket.versioning = status
    state.store_bucket(bucket)
    return Reply(200)


def get_acl(state: State, request: Request) -> Reply:
    bucket = state.bucket(request.bucket)
    nodes = [("Owner", _owner(bucket.owner)), ("AccessControlList", [("Grant", bucket.acl)])]
    return xml_reply("AccessControlPolicy", nodes)


def put_acl(state: State, request: Request) -> Reply:
    bucket = state.bucket(request.bucket)
    bucket.acl = _acl(request.header("x-oss-acl"))
    state.store_bucket(bucket)
    return Reply(200)


def list_live(state: State, request: Request) -> Reply:
    """Return an empty list: oss2's tests list live channels when they clean up."""
    state.bucket(request.bucket)
    nodes = [("Prefix", ""), ("Marker", ""), ("MaxKeys", 100), ("IsTruncated", "false")]
    return xml_reply("ListLiveChannelResult", [*nodes, ("NextMarker", "")])


def list_objects(state: State, request: Request) -> Reply:
    query, bucket = request.query, state.bucket(request.bucket)
    encode, second = encoder(query), query.get("list-type") == "2"
    prefix, delimiter = _short(query, "prefix"), _short(query, "delimiter")
    after = _after(query) if second else _short(query, "marker")
    limit = whole(query, "max-keys", 100, 1000)
    keys, prefixes, last = page(bucket.objects, prefix, delimiter, after, limit)
    owner = not second or query.get("fetch-owner") == "true"
    nodes: list[Node] = [
        ("Name", bucket.name),
        ("Prefix", encode(prefix)),
        ("MaxKeys", limit),
        ("Delimiter", encode(delimiter) or None),
        ("EncodingType", query.get("encoding-type")),
        ("IsTruncated", _bool(last is not None)),
    ]
    if second:
        nodes += [
            ("StartAfter", encode(query.get("start-after", "")) or None),
            ("ContinuationToken", query.get("continuation-token") or None),
            ("NextContinuationToken", None if last is None else encode(_token(last))),
            ("KeyCount", len(keys) + len(prefixes)),
        ]
    else:
        nodes += [("Marker", encode(after)), ("NextMarker", None if last is None else encode(last))]
    nodes += [("Contents", _contents(bucket, key, encode, owner)) for key in keys]
    nodes += [("CommonPrefixes", [("Prefix", encode(name))]) for name in prefixes]
    return xml_reply("ListBucketResult", nodes)


def delete_objects(state: State, request: Request) -> Reply:
    bucket, encode, text = (
        state.bucket(request.bucket),
        encoder(request.query),
        request.body.decode(),
    )
    # Not through the XML parser: as at the real service, keys may hold control characters.
    keys = [unescape(key) for key in re.findall(r"<Key>(.*?)</Key>", text, re.DOTALL)]
    quiet = "<Quiet>true</Quiet>" in text
    if not 1 <= len(keys) <= 1000:
        raise OssError("MalformedXML", "Delete between 1 and 1000 objects at once.")
    for key in keys:
        state.store(bucket, key, None)
    nodes: list[Node] = [("EncodingType", request.query.get("encoding-type"))]
    nodes += [] if quiet else [("Deleted", [("Key", encode(key))]) for key in keys]
    return xml_reply("DeleteResult", nodes)


def page(
    names: Iterable[str], prefix: str, delimiter: str, after: str, limit: int
) -> tuple[list[str], list[str], str | None]:
    """Names and common prefixes in byte order, and the last one if more would follow."""
    keys: list[str] = []
    prefixes: list[str] = []
    last = after
    for name in sorted(names, key=str.encode):
        if not name.startswith(prefix) or name.encode() <= after.encode():
            continue
        cut = name.find(delimiter, len(prefix)) if delimiter else -1
        shown = name if cut < 0 else name[: cut + len(delimiter)]
        if cut >= 0 and shown in (after, *prefixes[-1:]):
            continue
        if len(keys) + len(prefixes) == limit:
            return keys, prefixes, last
        (keys if cut < 0 else prefixes).append(shown)
        last = shown
    return keys, prefixes, None


def whole(query: dict[str, str], name: str, default: int, most: int) -> int:
    text = query.get(name, str(default))
    if not text.isdigit() or not 1 <= int(text) <= most:
        raise OssError("InvalidArgument", f"{name} must be between 1 and {most}.")
    return int(text)


def _contents(bucket: Bucket, key: str, encode: Callable[[str], str], owner: bool) -> list[Node]:
    stored = bucket.objects[key]
    return [
        ("Key", encode(key)),
        ("LastModified", iso(stored.modified)),
        ("ETag", f'"{stored.etag}"'),
        ("Type", stored.kind),
        ("Size", len(stored.data)),
        ("StorageClass", stored.storage_class),
        ("RestoreInfo", stored.restore or None),
        ("Owner", _owner(bucket.owner) if owner else None),
    ]


def _after(query: dict[str, str]) -> str:
    token = query.get("continuation-token", "")
    if not token:
        return _short(query, "start-after")
    try:
        text = base64.b64decode(token, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        text = ""
    if not text.startswith(_TOKEN):
        raise OssError("InvalidArgument", "The continuation token provided is incorrect.")
    return text.removeprefix(_TOKEN)


def _token(last: str) -> str:
    return base64.b64encode(f"{_TOKEN}{last}".encode()).decode()


def _short(query: dict[str, str], name: str) -> str:
    value = query.get(name, "")
    if len(value.encode()) > 1023:
        raise OssError("InvalidArgument", f"The {name} is too long.")
    return value


def _summary(bucket: Bucket, state: State, request: Request) -> list[Node]:
    return [
        ("Name", bucket.name),
        ("Location", f"oss-{state.region}"),
        ("Region", state.region),
        ("CreationDate", iso(bucket.created)),
        ("ExtranetEndpoint", request.host),
        ("IntranetEndpoint", request.host),
        ("StorageClass", bucket.storage_class),
    ]


def _acl(value: str) -> str:
    if value not in ACLS:
        raise OssError("InvalidArgument", "no such bucket access control exists")
    return value


def _owner(account: str) -> list[Node]:
    return [("ID", account or "anonymous"), ("DisplayName", account or "anonymous")]


def _bool(value: bool) -> str:
    return "true" if value else "false"
