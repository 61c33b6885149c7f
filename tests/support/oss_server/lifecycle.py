"""Rules that delete objects and unfinished uploads of a bucket after some days.

Source: OSS documentation, "PutBucketLifecycle". Of the actions, `Expiration` and
`AbortMultipartUpload` are carried out, with `Days`; others are kept and returned.
"""

from __future__ import annotations

import uuid
import xml.etree.ElementTree as ET

from tests.support.oss_server.errors import OssError
from tests.support.oss_server.messages import Reply, Request, parsed
from tests.support.oss_server.state import Bucket, State

DAY = 86_400
_ACTIONS = (
    "Expiration",
    "AbortMultipartUpload",
    "Transition",
    "NoncurrentVersionExpiration",
    "NoncurrentVersionTransition",
)


def put(state: State, request: Request) -> Reply:
    bucket = state.bucket(request.bucket)
    document = parsed(request.body)
    rules = document.findall("Rule")
    names = [rule.findtext("ID") or "" for rule in rules]
    named = [name for name in names if name]
    if not 1 <= len(rules) <= 1000 or len(set(named)) != len(named):
        raise OssError("InvalidArgument", "The rules are too many, or two have the same ID.")
    for rule in rules:
        if rule.findtext("Status") not in ("Enabled", "Disabled"):
            raise OssError("MalformedXML", "A rule needs a Status.")
        if not any(rule.find(action) is not None for action in _ACTIONS):
            raise OssError("InvalidArgument", "A rule needs an action.")
        if not rule.findtext("ID"):
            for old in rule.findall("ID"):
                rule.remove(old)
            ET.SubElement(rule, "ID").text = str(uuid.uuid4())
    bucket.lifecycle = ET.tostring(document, encoding="utf-8")
    state.store_bucket(bucket)
    return Reply(200)


def get(state: State, request: Request) -> Reply:
    rules = state.bucket(request.bucket).lifecycle
    if not rules:
        raise OssError("NoSuchLifecycle")
    return Reply(200, {"Content-Type": "application/xml"}, rules)


def delete(state: State, request: Request) -> Reply:
    bucket = state.bucket(request.bucket)
    bucket.lifecycle = b""
    state.store_bucket(bucket)
    return Reply(204)


def expire(state: State, bucket: Bucket) -> None:
    """Delete what is due: what is some days old at the midnight (UTC) before now."""
    midnight = state.now() // DAY * DAY
    for rule in ET.fromstring(bucket.lifecycle) if bucket.lifecycle else []:  # noqa: S314 (checked)
        prefix = rule.findtext("Prefix") or ""
        if rule.findtext("Status") != "Enabled":
            continue
        days = rule.findtext("Expiration/Days")
        before = midnight - DAY * float(days or "inf")
        for key in [k for k, stored in bucket.objects.items() if stored.modified < before]:
            if key.startswith(prefix):
                state.store(bucket, key, None)
        days = rule.findtext("AbortMultipartUpload/Days")
        before = midnight - DAY * float(days or "inf")
        for name, upload in list(bucket.uploads.items()):
            if upload.key.startswith(prefix) and upload.started < before:
                del bucket.uploads[name]
