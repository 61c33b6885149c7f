"""Notifications: which objects they announce, and which records are ignored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from core.errors import Refused
from events import incoming
from events.incoming import CreatedObject

DATA = Path(__file__).parents[1] / "data" / "notifications"


def read_sample(name: str) -> bytes:
    return (DATA / name).read_bytes()


def make_record(key: Any = "jobs/a.manifest.json", **changes: Any) -> dict[str, Any]:
    return {
        "eventName": "ObjectCreated:PutObject",
        "eventSource": "acs:oss",
        "region": "cn-hangzhou",
        "responseElements": {"requestId": "R"},
        "oss": {"bucket": {"name": "inbox"}, "object": {"key": key, "eTag": "E", "size": 3}},
    } | changes


def parse(*records: Any, bucket: str = "inbox") -> incoming.Notification:
    return incoming.parse(json.dumps({"events": records}).encode(), bucket=bucket)


def test_the_example_in_the_documentation() -> None:
    found = incoming.parse(read_sample("native_put.json"))
    assert found.created == [
        CreatedObject(
            bucket="testbucket",
            key="source/a.png",
            principal="164901546557****",
            kind="other",
        )
    ]
    assert not found.ignored


def test_several_records_in_one_notification() -> None:
    found = incoming.parse(read_sample("native_several.json"), bucket="inbox")
    assert [(c.key, c.kind) for c in found.created] == [
        ("refs/alice.FLAC", "audio"),
        ("jobs/batch/nightly.manifest.jsonl", "manifest"),
    ]
    assert found.ignored == {"event-type": 2}


def test_a_cloud_event_from_eventbridge() -> None:
    found = incoming.parse(read_sample("eventbridge.json"), bucket="inbox")
    assert [(c.key, c.kind) for c in found.created] == [("jobs/书 1.manifest.json", "manifest")]


def test_a_list_of_cloud_events() -> None:
    one = read_sample("eventbridge.json")
    assert len(incoming.parse(b"[" + one + b"," + one + b"]").created) == 2


def test_a_notification_in_the_envelope_of_a_destination() -> None:
    found = incoming.parse(read_sample("destination.json"), bucket="inbox")
    assert [c.key for c in found.created] == ["jobs/a.manifest.json"]


def test_a_single_record_without_a_wrapper() -> None:
    """EventBridge can be configured to deliver only `data`."""
    assert incoming.parse(json.dumps(make_record()).encode()).created


@pytest.mark.parametrize("operation", sorted(incoming.CREATED))
def test_every_way_to_write_an_object_counts(operation: str) -> None:
    found = parse(make_record(eventName=f"oss:ObjectCreated:{operation}"))
    assert found.created[0].kind == "manifest"


def test_a_byte_order_mark_is_accepted() -> None:
    assert incoming.parse(b"\xef\xbb\xbf" + json.dumps(make_record()).encode()).created


KINDS = {
    "jobs/a.manifest.json": "manifest",
    "jobs/deep/er/a.manifest.jsonl": "manifest",
    "jobs/a.json": "other",
    "jobs/a.manifest.json.bak": "other",
    "elsewhere/a.manifest.json": "other",
    "jobs/a%20b.manifest.json": "manifest",
    "jobs%2Fa.manifest.json": "manifest",
    "audit/clip.mp3": "clip",
    "audit/2026/clip": "clip",
    "refs/alice.wav": "audio",
    "refs/ALICE.Opus": "audio",
    "参考/小明.m4a": "audio",
    "wav": "other",
    "consent/alice.json": "other",
}


@pytest.mark.parametrize(("key", "kind"), KINDS.items())
def test_kinds(key: str, kind: str) -> None:
    assert [c.kind for c in parse(make_record(key)).created] == [kind]


def change_oss_field(path: str, value: Any) -> dict[str, Any]:
    made = make_record()
    made["oss"][path] = value
    return made


IGNORED = {
    "deletion": (make_record(eventName="ObjectRemoved:DeleteObject"), "event-type"),
    "a part": (make_record(eventName="ObjectCreated:UploadPart"), "event-type"),
    "a copied part": (make_record(eventName="ObjectCreated:UploadPartCopy"), "event-type"),
    "a link": (make_record(eventName="ObjectCreated:PutSymlink"), "event-type"),
    "metadata": (make_record(eventName="ObjectModified:UpdateObjectMeta"), "event-type"),
    "a name without a family": (make_record(eventName="PutObject"), "event-type"),
    "another service": (make_record(eventSource="acs:mns"), "other-source"),
    "another bucket": (change_oss_field("bucket", {"name": "outbox"}), "other-bucket"),
    "a folder": (make_record("jobs/"), "folder"),
    "an encoded folder": (make_record("jobs%2F"), "folder"),
    "a temporary file": (make_record("jobs/a.manifest.json.tmp"), "temporary"),
    "a cut download": (make_record("refs/a.wav.crdownload"), "temporary"),
    "a marker": (make_record("jobs/_SUCCESS"), "marker"),
    "an output": (make_record("out/j/a.wav.sealed"), "own-prefix"),
    "an event": (make_record("events/dt=2026-01-01/j.json"), "own-prefix"),
    "a lease": (make_record("lease/j"), "own-prefix"),
    "a trace report": (make_record("audit/0123.json"), "own-prefix"),
    "a key that climbs": (make_record("jobs/../a.manifest.json"), "invalid-key"),
    "half a character": (make_record("jobs/\ud800"), "invalid-key"),
    "a long key": (make_record("a" * 1024), "invalid-key"),
}


@pytest.mark.parametrize(("ignored", "reason"), IGNORED.values(), ids=IGNORED)
def test_ignored_records_are_counted_by_reason(ignored: dict[str, Any], reason: str) -> None:
    found = parse(ignored)
    assert (found.created, dict(found.ignored)) == ([], {reason: 1})


def test_an_empty_manifest_is_not_ignored() -> None:
    """It gets a result with an error."""
    made = make_record()
    made["oss"]["object"]["size"] = 0
    assert parse(made).created[0].kind == "manifest"


def test_missing_fields_are_empty() -> None:
    bare = {
        "eventName": "ObjectCreated:PutObject",
        "oss": {"bucket": {"name": "inbox"}, "object": {"key": "refs/a.wav"}},
    }
    found = parse(bare).created[0]
    assert (found.kind, found.principal) == ("audio", "")


def test_fields_of_the_wrong_type_are_treated_as_missing() -> None:
    found = parse(make_record(userIdentity=[])).created[0]
    assert found.principal == ""


MALFORMED = {
    "no name": {k: v for k, v in make_record().items() if k != "eventName"},
    "a name that is a number": make_record(eventName=1),
    "no object": make_record(oss={"bucket": {"name": "inbox"}}),
    "no bucket": make_record(oss={"object": {"key": "a"}}),
    "a key that is a number": make_record(7),
    "an empty key": make_record(""),
    "text": "record",
    "nothing": None,
    "a number": 1,
}


@pytest.mark.parametrize("broken", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_record_among_valid_ones_is_counted(broken: Any) -> None:
    if broken == "record":
        broken = '"record"'  # text is taken as JSON in JSON
    found = parse(broken, make_record())
    assert (len(found.created), dict(found.ignored)) == (1, {"malformed": 1})


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"hello",
        b"{",
        b"\xff\xfe",
        b"{}",
        b"7",
        b"null",
        b'{"events": 1}',
        b'{"events": [{}]}',
        b'{"events": ["{"]}',
        b'{"specversion": "1.0", "type": "other", "data": {"a": 1}}',
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a": ' + b"9" * 5000 + b"}",
    ],
    ids=lambda body: ascii(body[:40]),
)
def test_other_bodies_are_refused(body: bytes) -> None:
    with pytest.raises(Refused, match="EVENT_INVALID"):
        incoming.parse(body)


@pytest.mark.parametrize("body", [b"[]", b'{"events": []}'])
def test_a_notification_without_records_is_accepted(body: bytes) -> None:
    assert incoming.parse(body) == incoming.Notification()


KEY_CANDIDATES = {
    "plain": ("jobs/a.json", ["jobs/a.json"]),
    "plus": ("a+b.wav", ["a+b.wav", "a b.wav"]),
    "space": ("a%20b.wav", ["a%20b.wav", "a b.wav"]),
    "chinese": ("%E5%B0%8F.wav", ["%E5%B0%8F.wav", "小.wav"]),
    "decoded once only": ("a%2520b", ["a%2520b", "a%20b"]),
    "not decodable": ("a%FFb", ["a%FFb"]),
    "climbing when decoded": ("refs/..%2F..%2Fx", ["refs/..%2F..%2Fx"]),
    "climbing": ("../x", []),
}


@pytest.mark.parametrize(("key", "candidates"), KEY_CANDIDATES.values(), ids=KEY_CANDIDATES)
def test_keys_to_try(key: str, candidates: list[str]) -> None:
    assert incoming.key_candidates(key) == candidates


def test_the_page_lists_every_reason() -> None:
    page = (Path(__file__).parents[2] / "docs" / "events.md").read_text(encoding="utf-8")
    assert all(f"| `{reason}` |" in page for reason in {reason for _, reason in IGNORED.values()})
    assert all(f"`{prefix}`" in page for prefix in incoming.OWN_PREFIXES)


def test_a_malformed_record_does_not_affect_the_others() -> None:
    good = {
        "eventName": "ObjectCreated:PutObject",
        "oss": {"bucket": {"name": "inbox"}, "object": {"key": "jobs/a.manifest.json"}},
    }
    found = incoming.parse(json.dumps({"events": [None, 5, "x", good]}).encode(), bucket="inbox")
    assert [one.key for one in found.created] == ["jobs/a.manifest.json"]
    assert found.ignored["malformed"] == 3


def test_more_records_than_any_notification_has_are_refused() -> None:
    with pytest.raises(Refused, match=f"the limit is {incoming.MAX_RECORDS}") as refusal:
        parse(*[{}] * (incoming.MAX_RECORDS + 1))
    assert refusal.value.code == "EVENT_INVALID"
