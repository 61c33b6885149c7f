"""The fault table of docs/reliability.md: what producers do (rows 13-21, 35, 36)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest

from core.job import commit
from tests.support.faults.simulation import LEASE, manifest, other_reference, reference
from tests.support.faults.single_fault import KEY, REFERENCE_KEY, Scene, codes
from tests.support.faults.virtual_time import Task
from tests.support.present import present

OTHER = "jobs/b.manifest.json"


def replaced(scene: Scene, key: str, data: bytes) -> Callable[[], None]:
    """The producer overwrites an object at this very moment."""
    return lambda: scene.theatre.put(key, data)


def done(scene: Scene, tasks: list[Task]) -> list[dict[str, Any]]:
    assert codes(tasks) == [""]
    told = tasks[0].result
    assert isinstance(told, dict)
    summaries: list[dict[str, Any]] = told["done"]
    return summaries


def test_row_13_audio_before_its_manifest_costs_one_look() -> None:
    scene = Scene()
    scene.theatre.buckets["inbox"].delete(KEY)
    assert done(scene, scene.deliver(REFERENCE_KEY)) == []
    assert [(call.operation, call.bucket) for call in scene.calls] == [("list", "control")]


def waiting(**fields: Any) -> Scene:
    scene = Scene(**fields)
    scene.theatre.buckets["inbox"].delete(REFERENCE_KEY)
    return scene


@pytest.mark.parametrize("by", ["audio event", "sweeper"])
def test_row_14_a_manifest_before_its_audio_waits_and_is_awakened(by: str) -> None:
    scene = waiting(wait_s=600)
    (told,) = done(scene, scene.deliver())
    assert (told["status"], told["for"]) == ("waiting", [REFERENCE_KEY])
    assert [f.kind for f in scene.sweep().open] == ["waiting"]
    scene.theatre.put(REFERENCE_KEY, reference())
    scene.deliver(REFERENCE_KEY) if by == "audio event" else scene.sweep()
    assert scene.result.status == "succeeded"
    assert scene.keys("control", "pending/") == []


def test_row_14_the_deadline_runs_from_the_first_look_and_not_anew_for_each_file() -> None:
    scene = waiting(wait_s=600)
    document = json.loads(manifest(1, wait_s=600))
    document["voices"]["bob"] = document["voices"]["alice"] | {"reference": "refs/bob.flac"}
    document["items"] = [{"id": v, "text": "hi", "voice": v} for v in ("alice", "bob")]
    scene.theatre.put(KEY, json.dumps(document).encode())
    scene.deliver()
    scene.world.now += 500
    scene.theatre.put(REFERENCE_KEY, reference())
    scene.deliver(REFERENCE_KEY)
    scene.world.now += 110
    scene.sweep()
    assert [item.status for item in scene.result.items] == ["succeeded", "failed"]


def test_row_14_a_voice_that_says_nothing_is_not_waited_for() -> None:
    scene = Scene()
    document = json.loads(manifest(1))
    document["voices"]["bob"] = document["voices"]["alice"] | {"reference": "refs/bob.flac"}
    document["defaults"] = {"voice": "alice"}
    scene.theatre.put(KEY, json.dumps(document).encode())
    scene.deliver(times=1)
    assert scene.result.status == "succeeded"


def test_row_15_audio_that_never_comes_ends_the_job_at_the_deadline() -> None:
    scene = waiting(wait_s=600)
    scene.deliver()
    scene.world.now += 599
    assert [f.kind for f in scene.sweep().open] == ["waiting"]
    scene.world.now += 2
    scene.sweep()
    result = scene.result
    assert (result.status, present(result.items[0].error).code) == ("failed", "REF_NOT_FOUND")
    assert scene.sweep().findings == []


def test_row_16_the_reference_that_was_read_is_the_one_that_is_named() -> None:
    scene = Scene()
    scene.on("put_once", "i0.wav.sealed", replaced(scene, REFERENCE_KEY, other_reference()))
    scene.deliver()
    digest = hashlib.sha256(reference()).hexdigest()
    assert scene.result.voices["alice"].reference_sha256 == digest


def test_row_16_after_a_crash_items_of_an_earlier_reference_say_so() -> None:
    scene = Scene()
    scene.on("put_once", "i1.wav.sealed", "crash-before")
    scene.deliver(times=1)
    scene.theatre.put(REFERENCE_KEY, other_reference())
    scene.world.now += LEASE
    scene.deliver()
    noted = [[n.code for n in item.notices] for item in scene.result.items]
    assert noted == [["ENGINE_CHANGED"], []]


def test_row_16_a_pinned_reference_is_the_pinned_one_or_none() -> None:
    scene = Scene()
    document = json.loads(manifest(1))
    document["voices"]["alice"]["sha256"] = hashlib.sha256(reference()).hexdigest()
    scene.theatre.put(KEY, json.dumps(document).encode())
    scene.theatre.put(REFERENCE_KEY, other_reference())
    scene.deliver()
    assert present(scene.result.items[0].error).code == "REF_HASH_MISMATCH"


def test_row_17_a_manifest_replaced_meanwhile_is_another_job() -> None:
    scene = Scene()
    first = commit.read_manifest(KEY, scene.runtime).job_id
    scene.on("get", "refs/", replaced(scene, KEY, manifest(1, variant=1)))
    scene.deliver()
    scene.deliver()
    second = scene.result.job_id
    folders = {key.split("/")[1] for key in scene.keys("results", "out/")}
    assert folders == {first, second}
    assert len(scene.keys("results", "events/")) == 2


def test_row_18_a_manifest_deleted_before_it_was_read_is_no_reason_to_try_again() -> None:
    scene = Scene()
    scene.theatre.buckets["inbox"].delete(KEY)
    (told,) = done(scene, scene.deliver())
    assert told["error"] == "MANIFEST_GONE"
    assert scene.keys("results") + scene.keys("control") == []


def test_row_18_what_was_begun_for_a_manifest_deleted_since_is_explained() -> None:
    scene = Scene()
    scene.on("put_once", "i1.wav.sealed", "crash-before")
    scene.deliver(times=1)
    scene.theatre.buckets["inbox"].delete(KEY)
    scene.world.now += LEASE
    (found,) = scene.sweep().findings
    assert (found.kind, [key.rpartition("/")[2] for key in found.keys]) == (
        "abandoned",
        ["i0.wav.sealed"],
    )


def test_row_19_an_identical_upload_changes_nothing_and_other_bytes_are_another_job() -> None:
    scene = Scene()
    scene.deliver()
    before = dict(scene.theatre.buckets["results"].objects)
    scene.theatre.put(KEY, manifest(2))
    scene.deliver()
    assert scene.theatre.buckets["results"].objects == before
    scene.theatre.put(KEY, manifest(2, **{"x-again": 1}))
    scene.deliver()
    assert len(scene.keys("results", "events/")) == 2


def test_row_20_two_manifests_never_share_an_output() -> None:
    scene = Scene()
    scene.theatre.put(OTHER, manifest(2))
    scene.deliver(KEY, OTHER)
    results = scene.watcher.settled(scene.runtime, [KEY, OTHER])
    keys = [present(item.output).key for result in results.values() for item in result.items]
    assert len(set(keys)) == 4


def test_row_21_an_id_that_stands_twice_refuses_the_manifest_before_anything_is_made() -> None:
    scene = Scene()
    document = json.loads(manifest(1))
    document["items"] *= 2
    scene.theatre.put(KEY, json.dumps(document).encode())
    scene.deliver()
    result = scene.result
    assert (result.status, present(result.error).code) == ("rejected", "DUPLICATE_ID")
    assert scene.spoken == []


@pytest.mark.parametrize(
    ("stored", "told"),
    [
        ("jobs/第 一.manifest.json", "jobs/%E7%AC%AC+%E4%B8%80.manifest.json"),
        ("jobs/第 一.manifest.json", "jobs/第 一.manifest.json"),
        ("jobs/a%2fb.manifest.json", "jobs/a%2fb.manifest.json"),
    ],
    ids=["encoded", "plain", "literal-percent"],
)
def test_row_35_a_key_is_decoded_once_at_most(stored: str, told: str) -> None:
    scene = Scene()
    scene.theatre.buckets["inbox"].delete(KEY)
    scene.theatre.put(stored, manifest(1))
    (summary,) = done(scene, scene.deliver(told))
    assert summary["status"] == "succeeded"
    assert scene.watcher.settled(scene.runtime, [stored])


def test_row_36_events_out_of_order_belong_to_jobs_of_their_own() -> None:
    scene = Scene()
    newer, older = manifest(1, variant=2), manifest(1, variant=1)
    scene.theatre.put(KEY, newer)
    scene.deliver()
    second = scene.result.job_id
    scene.theatre.put(KEY, older)  # its notification comes after the newer one's
    scene.deliver()
    assert scene.result.job_id != second
    assert len(scene.keys("results", "events/")) == 2


def test_a_mark_that_vanishes_while_it_is_read_awakens_the_others_all_the_same() -> None:
    scene = waiting()
    scene.theatre.put(OTHER, manifest(1))
    scene.deliver(KEY, OTHER)
    first, _ = scene.keys("control", "pending/")
    scene.theatre.put(REFERENCE_KEY, reference())
    pending = scene.theatre.buckets["control"]
    scene.on("get", first, lambda: pending.delete(first))
    assert len(done(scene, scene.deliver(REFERENCE_KEY))) == 1
