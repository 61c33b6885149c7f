"""Parse storage notifications into the objects to act on.

Four formats are accepted: OSS triggers, `{"events": [...]}`; EventBridge, a CloudEvent (or a list
of them) whose `data` is one such record; the envelope of an asynchronous destination, which has the
original notification in `requestPayload`; and timers, `{"triggerTime", "triggerName", "payload"}`.
Unknown fields are ignored, because the cloud adds fields without notice.

Sources: Alibaba Cloud, Function Compute, "Event formats for different triggers"; EventBridge, "OSS
events". No document says whether keys are percent-encoded: see `key_candidates`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import unquote_plus

from core.errors import Refused
from core.storage.object_keys import (
    CLIPS,
    DEAD_LETTERS,
    EVENTS,
    LEASES,
    LOG,
    MARKS,
    OUTPUTS,
    PENDING,
    REVOKED_SUFFIX,
    SHARD_SUFFIX,
    SHARDS,
    check_key,
    is_apple_double,
    is_manifest_key,
)

Kind = Literal["manifest", "clip", "audio", "withdrawal", "other", "shard"]

CREATED = frozenset(
    {"PutObject", "PostObject", "CompleteMultipartUpload", "CopyObject", "AppendObject"}
)
"""Every event after which an object can be read. A multipart upload also fires events when it
starts and for every part, before the object exists."""

MAX_RECORDS = 1000
"""Most records in one notification. Clouds send one or a few."""

OWN_PREFIXES = (OUTPUTS, EVENTS, MARKS, LEASES, PENDING, DEAD_LETTERS, LOG)
"""Prefixes that voicedrop itself writes. Acting on these objects would start an endless loop."""
TEMPORARY_ENDINGS = (".tmp", ".part", ".partial", ".crdownload")
_MAX_ENCODED_KEY = 3 * 1023
"""Most characters in a key, if every byte is percent-encoded."""
AUDIO_EXTENSIONS = (
    *(".wav", ".wave", ".rf64", ".w64", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".aif", ".aiff"),
    *(".aifc", ".caf", ".au", ".snd", ".m4a", ".aac", ".amr", ".wma", ".webm"),
)


@dataclass(frozen=True, slots=True)
class CreatedObject:
    """An object that was written."""

    bucket: str
    key: str
    """The key as written in the notification."""
    principal: str
    """The RAM user, role session or account that wrote it."""
    kind: Kind


@dataclass(frozen=True, slots=True)
class Notification:
    """The contents of one notification."""

    created: list[CreatedObject] = field(default_factory=list)
    timers: list[str] = field(default_factory=list)
    """Payload of each timer record, which names the task to run."""
    ignored: Counter[str] = field(default_factory=Counter)
    """Reason -> number of records: event-type, other-source, other-bucket, folder, temporary,
    marker, own-prefix, invalid-key, malformed."""


def parse(body: bytes, *, bucket: str = "", control: str = "") -> Notification:
    """Parse the body of a notification.

    `bucket`: the inbox; `control`: the control bucket, of which only shards are accepted. Records
    of other buckets are ignored. Raises Refused EVENT_INVALID if every record is malformed.
    """
    try:
        document = json.loads(body.decode("utf-8-sig"))
        records = list(_unwrap(document))
    except (ValueError, RecursionError):
        raise Refused("EVENT_INVALID", "The notification is not JSON.") from None
    if len(records) > MAX_RECORDS:
        message = f"The notification has {len(records)} records; the limit is {MAX_RECORDS}."
        raise Refused("EVENT_INVALID", message)
    notification = Notification()
    for record in records:
        if _text_at(record, "triggerTime"):
            notification.timers.append(_text_at(record, "payload").strip())
            continue
        created = _parse_record(record, bucket, control)
        if isinstance(created, CreatedObject):
            notification.created.append(created)
        else:
            notification.ignored[created] += 1
    if records and notification.ignored["malformed"] == len(records):
        raise Refused("EVENT_INVALID")
    return notification


def key_candidates(key: str) -> list[str]:
    """Return the keys to try in order: as written, then decoded once like a form field.

    If an object has the raw key, that key is right even if it looks encoded. A decoded key is never
    decoded again.
    """
    try:
        decoded = unquote_plus(key, errors="strict")
    except UnicodeDecodeError:
        decoded = key
    return [name for name in dict.fromkeys((key, decoded)) if _is_valid_key(name)]


def object_kind(key: str) -> Kind:
    """Return what an object of the inbox is for, judged by its key."""
    if is_apple_double(key):
        return "other"
    if is_manifest_key(key):
        return "manifest"
    if key.endswith(REVOKED_SUFFIX):
        return "withdrawal"
    if key.startswith(CLIPS):
        return "clip"
    if key.lower().endswith(AUDIO_EXTENSIONS):
        return "audio"
    return "other"


def _unwrap(document: Any) -> Iterator[Any]:
    """Yield every record without its wrapper, and None for each malformed one."""
    if isinstance(document, str):
        try:
            document = json.loads(document)
        except ValueError:
            document = None
    if isinstance(document, list):
        for element in document:
            yield from _unwrap(element)
    elif isinstance(document, dict):
        for wrapper in ("events", "requestPayload", "data"):
            if wrapper in document:
                yield from _unwrap(document[wrapper])
                return
        yield document
    else:
        yield None


def _parse_record(record: Any, bucket: str, control: str) -> CreatedObject | str:
    """Return the created object, or the reason to ignore the record."""
    name = _text_at(record, "eventName").removeprefix("oss:")
    if not name:
        return "malformed"
    if _text_at(record, "eventSource") not in ("acs:oss", ""):
        return "other-source"
    family, _, operation = name.partition(":")
    if family != "ObjectCreated" or operation not in CREATED:
        return "event-type"
    key = _text_at(record, "oss", "object", "key")
    source = _text_at(record, "oss", "bucket", "name")
    if not (key and source):
        return "malformed"
    if bucket and source != bucket:
        # Decoding is safe here: keys of shards have no characters that decoding would change.
        decoded = unquote_plus(key[:_MAX_ENCODED_KEY])
        is_shard = (
            source == control and decoded.startswith(SHARDS) and decoded.endswith(SHARD_SUFFIX)
        )
        shard = _created_object(record, source, decoded, "shard")
        return shard if is_shard else "other-bucket"
    kinds = (object_kind(candidate) for candidate in key_candidates(key))
    kind: Kind = next((k for k in kinds if k != "other"), "other")
    return _ignore_reason(key) or _created_object(record, source, key, kind)


def _created_object(record: Any, bucket: str, key: str, kind: Kind) -> CreatedObject:
    return CreatedObject(
        bucket=bucket,
        key=key,
        principal=_text_at(record, "userIdentity", "principalId"),
        kind=kind,
    )


def _value_at(record: Any, *path: str) -> Any:
    """Return the value at a path, or None. A record is malformed only without bucket or key."""
    for name in path:
        record = record.get(name) if isinstance(record, dict) else None
    return record


def _text_at(record: Any, *path: str) -> str:
    value = _value_at(record, *path)
    return value if isinstance(value, str) else ""


def _ignore_reason(key: str) -> str:
    """Return the reason to ignore an object, or an empty string."""
    name = unquote_plus(key) if len(key) <= _MAX_ENCODED_KEY else ""
    if name.endswith("/"):
        return "folder"
    if not name or not key_candidates(key):
        return "invalid-key"
    markers = ("_SUCCESS", "_STARTED", ".keep", ".DS_Store")
    if name.rpartition("/")[2] in markers or is_apple_double(name):
        return "marker"
    if name.endswith(TEMPORARY_ENDINGS):
        return "temporary"
    if name.startswith(OWN_PREFIXES) or (name.startswith(CLIPS) and name.endswith(".json")):
        return "own-prefix"
    return ""


def _is_valid_key(key: str) -> bool:
    try:
        check_key(key)
    except Refused:
        return False
    return True
