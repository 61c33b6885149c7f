"""Attributes of objects: access control list, tags, symbolic link, archive state."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any
from urllib.parse import quote, unquote_plus

from tests.support.oss_server.errors import OssError
from tests.support.oss_server.messages import Node, Reply, Request, parsed, xml_reply
from tests.support.oss_server.state import State, Stored, md5

_OBJECT_ACLS = ("default", "private", "public-read", "public-read-write")
_TAG = re.compile(r"[\w +\-=._:/]*")


def get_acl(state: State, request: Request) -> Reply:
    stored = state.object(request.bucket, request.key)
    owner = state.bucket(request.bucket).owner
    nodes = [
        ("Owner", [("ID", owner), ("DisplayName", owner)]),
        ("AccessControlList", [("Grant", stored.acl)]),
    ]
    return xml_reply("AccessControlPolicy", nodes)


def put_acl(state: State, request: Request) -> Reply:
    acl = request.header("x-oss-object-acl")
    if acl not in _OBJECT_ACLS:
        raise OssError("InvalidArgument", "no such object access control exists")
    return _change(state, request, acl=acl)


def get_tagging(state: State, request: Request) -> Reply:
    tags = state.object(request.bucket, request.key).tags
    nodes: list[Node] = [("Tag", [("Key", key), ("Value", tags[key])]) for key in tags]
    return xml_reply("Tagging", [("TagSet", nodes)])


def put_tagging(state: State, request: Request) -> Reply:
    nodes = parsed(request.body).findall("TagSet/Tag")
    pairs = [(node.findtext("Key") or "", node.findtext("Value") or "") for node in nodes]
    return _change(state, request, tags=_check_tags(pairs))


def delete_tagging(state: State, request: Request) -> Reply:
    _change(state, request, tags={})
    return Reply(204)


def parse_tags(header: str) -> dict[str, str]:
    pairs = [part.partition("=") for part in header.split("&") if part]
    return _check_tags([(unquote_plus(key), unquote_plus(value)) for key, _, value in pairs])


def put_symlink(state: State, request: Request) -> Reply:
    bucket = state.bucket(request.bucket)
    target = unquote_plus(request.header("x-oss-symlink-target"))
    metadata = {
        name.removeprefix("x-oss-meta-"): value
        for name, value in request.headers.items()
        if name.startswith("x-oss-meta-")
    }
    tags = parse_tags(request.header("x-oss-tagging"))
    link = Stored(b"", md5(target.encode()), "Symlink", metadata=metadata, tags=tags, target=target)
    state.store(bucket, request.key, link)
    return Reply(200, {"ETag": f'"{link.etag}"'})


def get_symlink(state: State, request: Request) -> Reply:
    stored = state.object(request.bucket, request.key)
    if stored.kind != "Symlink":
        raise OssError("NotSymlink", "The object is not a symbolic link.")
    target = quote(stored.target, safe="")
    return Reply(200, {"x-oss-symlink-target": target, "ETag": f'"{stored.etag}"'})


def restore(state: State, request: Request) -> Reply:
    """Start to restore an archived object; here this never completes."""
    stored = state.object(request.bucket, request.key)
    if stored.storage_class == "Standard":
        raise OssError("OperationNotSupported", "The object is not archived.")
    if stored.restore:
        raise OssError("RestoreAlreadyInProgress")
    _change(state, request, restore='ongoing-request="true"')
    return Reply(202)


def _change(state: State, request: Request, **fields: Any) -> Reply:
    bucket, stored = state.bucket(request.bucket), state.object(request.bucket, request.key)
    state.store(bucket, request.key, replace(stored, **fields))
    return Reply(200)


def _check_tags(pairs: list[tuple[str, str]]) -> dict[str, str]:
    tags = dict(pairs)
    valid = len(tags) == len(pairs) <= 10 and all(
        0 < len(key) <= 128 and len(value) <= 256 and _TAG.fullmatch(key) and _TAG.fullmatch(value)
        for key, value in pairs
    )
    if not valid:
        raise OssError("InvalidTag", "The tags you provided are invalid.")
    return tags
