"""Notifications of a bucket -> objects to act on.

Four shapes arrive: OSS triggers, `{"events": [...]}`; EventBridge, a CloudEvent (or a list of
them) whose `data` is one such record; the envelope of an asynchronous destination, which keeps the
original notification in `requestPayload`; and timers, `{"triggerTime", "triggerName", "payload"}`.
Unknown fields are left alone, because the cloud adds some without telling.

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
    MANIFEST_SUFFIXES,
    MANIFESTS,
    MARKS,
    OUTPUTS,
    PENDING,
    SHARD_SUFFIX,
    SHARDS,
    check_key,
)

Kind = Literal["manifest", "clip", "audio", "other", "shard"]

CREATED = frozenset({"PutObject", "PostObject", "CompleteMultipartUpload", "CopyObject"})
"""An upload in parts also fires for its start and for every part: those name no object yet."""

MAX_RECORDS = 1000
"""Of one notification. Clouds send one, or a batch of a few."""

OWN_PREFIXES = (OUTPUTS, EVENTS, MARKS, LEASES, PENDING, DEAD_LETTERS, LOG)
"""Prefixes that we write ourselves, in buckets of our own: acting on them would never end."""
TEMPORARY_ENDINGS = (".tmp", ".part", ".partial", ".crdownload")
_MAX_ENCODED_KEY = 3 * 1023
"""Characters of a key whose every byte is percent-encoded."""
AUDIO_EXTENSIONS = (
    *(".wav", ".wave", ".rf64", ".w64", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".aif", ".aiff"),
    *(".aifc", ".caf", ".au", ".snd", ".m4a", ".aac", ".amr", ".wma", ".webm"),
)


@dataclass(frozen=True, slots=True)
class CreatedObject:
    """An object that has just been written."""

    bucket: str
    key: str
    """As it stands in the notification."""
    etag: str
    size: int | None
    region: str
    event_name: str
    """`ObjectCreated:PutObject`"""
    request_id: str
    principal: str
    """Who wrote it: a RAM user, role session or account."""
    kind: Kind


@dataclass(frozen=True, slots=True)
class Notification:
    created: list[CreatedObject] = field(default_factory=list)
    turns: list[str] = field(default_factory=list)
    """Payloads of timers: what it is time for."""
    ignored: Counter[str] = field(default_factory=Counter)
    """Reason -> how many records: event-type, other-source, other-bucket, folder, temporary,
    marker, own-prefix, invalid-key, malformed."""


def parse(body: bytes, *, bucket: str = "", control: str = "") -> Notification:
    """What a notification asks for. `bucket`: the inbox; of `control` only shards count; records of
    another bucket are ignored.

    Raises Refused EVENT_INVALID if nothing in it can be understood as a record.
    """
    try:
        document = json.loads(body.decode("utf-8-sig"))
        records = list(_unwrap(document))
    except (ValueError, RecursionError):
        raise Refused("EVENT_INVALID", "The notification is not JSON.") from None
    if len(records) > MAX_RECORDS:
        raise Refused("EVENT_INVALID", f"{len(records)} records; at most {MAX_RECORDS} at once.")
    incoming = Notification()
    for record in records:
        if _text_at(record, "triggerTime"):
            incoming.turns.append(_text_at(record, "payload").strip())
            continue
        made = _parse_record(record, bucket, control)
        if isinstance(made, CreatedObject):
            incoming.created.append(made)
        else:
            incoming.ignored[made] += 1
    if records and incoming.ignored["malformed"] == len(records):
        raise Refused("EVENT_INVALID")
    return incoming


def key_candidates(key: str) -> list[str]:
    """Keys to try in turn: as written, then decoded once as a form would be.

    A raw key that exists is right even if it looks encoded; a decoded one is never decoded again.
    """
    try:
        decoded = unquote_plus(key, errors="strict")
    except UnicodeDecodeError:
        decoded = key
    return [name for name in dict.fromkeys((key, decoded)) if _is_valid_key(name)]


def object_kind(key: str) -> Kind:
    """What an object of the inbox is for, by its name."""
    if key.startswith(MANIFESTS) and key.endswith(MANIFEST_SUFFIXES):
        return "manifest"
    if key.startswith(CLIPS):
        return "clip"
    if key.lower().endswith(AUDIO_EXTENSIONS):
        return "audio"
    return "other"


def _unwrap(document: Any) -> Iterator[Any]:
    """Every record, whatever it is wrapped in; None for what is none and costs only itself."""
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
    """The object, or why it is ignored."""
    name = _text_at(record, "eventName").removeprefix("oss:")
    if not name:
        return "malformed"
    if _text_at(record, "eventSource") not in ("acs:oss", ""):
        return "other-source"
    family, _, operation = name.partition(":")
    if family != "ObjectCreated" or operation not in CREATED:
        return "event-type"
    key, place = _text_at(record, "oss", "object", "key"), _text_at(record, "oss", "bucket", "name")
    if not (key and place):
        return "malformed"
    if bucket and place != bucket:
        plain = unquote_plus(
            key[:_MAX_ENCODED_KEY]
        )  # such keys hold nothing that an encoding could change
        ours = place == control and plain.startswith(SHARDS) and plain.endswith(SHARD_SUFFIX)
        return _created_object(record, name, place, plain, "shard") if ours else "other-bucket"
    return _ignore_reason(key) or _created_object(
        record, name, place, key, _kind_of_candidates(key)
    )


def _kind_of_candidates(key: str) -> Kind:
    kinds = (object_kind(candidate) for candidate in key_candidates(key))
    return next((k for k in kinds if k != "other"), "other")


def _created_object(record: Any, name: str, bucket: str, key: str, kind: Kind) -> CreatedObject:
    size = _value_at(record, "oss", "object", "size")
    return CreatedObject(
        bucket=bucket,
        key=key,
        etag=_text_at(record, "oss", "object", "eTag").strip('"'),
        size=size if type(size) is int else None,
        region=_text_at(record, "region"),
        event_name=name,
        request_id=_text_at(record, "responseElements", "requestId"),
        principal=_text_at(record, "userIdentity", "principalId"),
        kind=kind,
    )


def _value_at(record: Any, *path: str) -> Any:
    """The value at a path, or None: only bucket and key are worth refusing a record for."""
    for name in path:
        record = record.get(name) if isinstance(record, dict) else None
    return record


def _text_at(record: Any, *path: str) -> str:
    value = _value_at(record, *path)
    return value if isinstance(value, str) else ""


def _ignore_reason(key: str) -> str:
    """Why an object is none of our business, or an empty string."""
    name = unquote_plus(key) if len(key) <= _MAX_ENCODED_KEY else ""
    if name.endswith("/"):
        return "folder"
    if not name or not key_candidates(key):
        return "invalid-key"
    if name.rpartition("/")[2] in ("_SUCCESS", "_STARTED", ".keep", ".DS_Store"):
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
