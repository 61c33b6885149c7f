"""The fault table of docs/reliability.md: uploads by producers (rows 13-21, 35, 36)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest

from core.job import commit
from tests.support.faults.simulation import LEASE_SECONDS, manifest, other_reference, reference
from tests.support.faults.single_fault import KEY, REFERENCE_KEY, Scenario, error_codes
from tests.support.faults.virtual_time import Task
from tests.support.present import present

OTHER = "jobs/b.manifest.json"


def replacing(scenario: Scenario, key: str, data: bytes) -> Callable[[], None]:
    """Return an action in which the producer overwrites an object."""
    return lambda: scenario.simulation.put(key, data)


def summaries_of(scenario: Scenario, tasks: list[Task]) -> list[dict[str, Any]]:
    assert error_codes(tasks) == [""]
    answer = tasks[0].result
    assert isinstance(answer, dict)
    summaries: list[dict[str, Any]] = answer["done"]
    return summaries


def test_row_13_audio_before_its_manifest_costs_one_listing() -> None:
    scenario = Scenario()
    scenario.simulation.buckets["inbox"].delete(KEY)
    assert summaries_of(scenario, scenario.deliver(REFERENCE_KEY)) == []
    assert [(call.operation, call.bucket) for call in scenario.calls] == [("list", "control")]


def without_reference(**fields: Any) -> Scenario:
    scenario = Scenario(**fields)
    scenario.simulation.buckets["inbox"].delete(REFERENCE_KEY)
    return scenario


@pytest.mark.parametrize("by", ["audio event", "sweeper"])
def test_row_14_a_manifest_before_its_audio_waits_and_is_resumed(by: str) -> None:
    scenario = without_reference(wait_s=600)
    (summary,) = summaries_of(scenario, scenario.deliver())
    assert (summary["status"], summary["for"]) == ("waiting", [REFERENCE_KEY])
    assert [f.kind for f in scenario.sweep().open_findings] == ["waiting"]
    scenario.simulation.put(REFERENCE_KEY, reference())
    scenario.deliver(REFERENCE_KEY) if by == "audio event" else scenario.sweep()
    assert scenario.result.status == "succeeded"
    assert scenario.keys("control", "pending/") == []


def test_row_14_the_deadline_counts_from_the_first_attempt_for_all_files() -> None:
    scenario = without_reference(wait_s=600)
    document = json.loads(manifest(1, wait_s=600))
    document["voices"]["bob"] = document["voices"]["alice"] | {"reference": "refs/bob.flac"}
    document["items"] = [{"id": v, "text": "hi", "voice": v} for v in ("alice", "bob")]
    scenario.simulation.put(KEY, json.dumps(document).encode())
    scenario.deliver()
    scenario.scheduler.now += 500
    scenario.simulation.put(REFERENCE_KEY, reference())
    scenario.deliver(REFERENCE_KEY)
    scenario.scheduler.now += 110
    scenario.sweep()
    assert [item.status for item in scenario.result.items] == ["succeeded", "failed"]


def test_row_14_a_voice_without_items_is_not_waited_for() -> None:
    scenario = Scenario()
    document = json.loads(manifest(1))
    document["voices"]["bob"] = document["voices"]["alice"] | {"reference": "refs/bob.flac"}
    document["defaults"] = {"voice": "alice"}
    scenario.simulation.put(KEY, json.dumps(document).encode())
    scenario.deliver(times=1)
    assert scenario.result.status == "succeeded"


def test_row_15_audio_that_never_arrives_ends_the_job_at_the_deadline() -> None:
    scenario = without_reference(wait_s=600)
    scenario.deliver()
    scenario.scheduler.now += 590
    assert [f.kind for f in scenario.sweep().open_findings] == ["waiting"]
    scenario.scheduler.now += 11
    scenario.sweep()
    result = scenario.result
    assert (result.status, present(result.items[0].error).code) == ("failed", "REF_NOT_FOUND")
    assert scenario.sweep().findings == []


def test_row_16_the_result_names_the_reference_that_was_read() -> None:
    scenario = Scenario()
    scenario.on("put_once", "i0.wav.sealed", replacing(scenario, REFERENCE_KEY, other_reference()))
    scenario.deliver()
    digest = hashlib.sha256(reference()).hexdigest()
    assert scenario.result.voices["alice"].reference_sha256 == digest


def test_row_16_after_a_crash_items_of_an_earlier_reference_are_noticed() -> None:
    scenario = Scenario()
    scenario.on("put_once", "i1.wav.sealed", "crash-before")
    scenario.deliver(times=1)
    scenario.simulation.put(REFERENCE_KEY, other_reference())
    scenario.scheduler.now += LEASE_SECONDS
    scenario.deliver()
    noted = [[n.code for n in item.notices] for item in scenario.result.items]
    assert noted == [["ENGINE_CHANGED"], []]


def test_row_16_a_pinned_reference_must_match_its_digest() -> None:
    scenario = Scenario()
    document = json.loads(manifest(1))
    document["voices"]["alice"]["sha256"] = hashlib.sha256(reference()).hexdigest()
    scenario.simulation.put(KEY, json.dumps(document).encode())
    scenario.simulation.put(REFERENCE_KEY, other_reference())
    scenario.deliver()
    assert present(scenario.result.items[0].error).code == "REF_HASH_MISMATCH"


def test_row_17_a_manifest_replaced_during_its_job_is_another_job() -> None:
    scenario = Scenario()
    first = commit.read_manifest(KEY, scenario.runtime).job_id
    scenario.on("get", "refs/", replacing(scenario, KEY, manifest(1, variant=1)))
    scenario.deliver()
    scenario.deliver()
    second = scenario.result.job_id
    folders = {key.split("/")[1] for key in scenario.keys("results", "out/")}
    assert folders == {first, second}
    assert len(scenario.keys("results", "events/")) == 2


def test_row_18_a_manifest_deleted_before_it_was_read_is_not_retried() -> None:
    scenario = Scenario()
    scenario.simulation.buckets["inbox"].delete(KEY)
    (summary,) = summaries_of(scenario, scenario.deliver())
    assert summary["error"] == "MANIFEST_GONE"
    assert scenario.keys("results") + scenario.keys("control") == []


def test_row_18_outputs_of_a_manifest_deleted_during_its_job_are_reported() -> None:
    scenario = Scenario()
    scenario.on("put_once", "i1.wav.sealed", "crash-before")
    scenario.deliver(times=1)
    scenario.simulation.buckets["inbox"].delete(KEY)
    scenario.scheduler.now += LEASE_SECONDS
    (finding,) = scenario.sweep().findings
    assert (finding.kind, [key.rpartition("/")[2] for key in finding.keys]) == (
        "abandoned",
        ["i0.wav.sealed"],
    )


def test_row_19_an_identical_upload_changes_nothing_and_a_changed_one_is_another_job() -> None:
    scenario = Scenario()
    scenario.deliver()
    before = dict(scenario.simulation.buckets["results"].objects)
    scenario.simulation.put(KEY, manifest(2))
    scenario.deliver()
    assert scenario.simulation.buckets["results"].objects == before
    scenario.simulation.put(KEY, manifest(2, **{"x-again": 1}))
    scenario.deliver()
    assert len(scenario.keys("results", "events/")) == 2


def test_row_20_two_manifests_never_share_an_output() -> None:
    scenario = Scenario()
    scenario.simulation.put(OTHER, manifest(2))
    scenario.deliver(KEY, OTHER)
    results = scenario.checker.finished_results(scenario.runtime, [KEY, OTHER])
    keys = [present(item.output).key for result in results.values() for item in result.items]
    assert len(set(keys)) == 4


def test_row_21_a_duplicate_id_rejects_the_manifest_before_any_work() -> None:
    scenario = Scenario()
    document = json.loads(manifest(1))
    document["items"] *= 2
    scenario.simulation.put(KEY, json.dumps(document).encode())
    scenario.deliver()
    result = scenario.result
    assert (result.status, present(result.error).code) == ("rejected", "DUPLICATE_ID")
    assert scenario.spoken == []


@pytest.mark.parametrize(
    ("stored", "announced"),
    [
        ("jobs/第 一.manifest.json", "jobs/%E7%AC%AC+%E4%B8%80.manifest.json"),
        ("jobs/第 一.manifest.json", "jobs/第 一.manifest.json"),
        ("jobs/a%2fb.manifest.json", "jobs/a%2fb.manifest.json"),
    ],
    ids=["encoded", "plain", "literal-percent"],
)
def test_row_35_a_key_is_decoded_at_most_once(stored: str, announced: str) -> None:
    scenario = Scenario()
    scenario.simulation.buckets["inbox"].delete(KEY)
    scenario.simulation.put(stored, manifest(1))
    (summary,) = summaries_of(scenario, scenario.deliver(announced))
    assert summary["status"] == "succeeded"
    assert scenario.checker.finished_results(scenario.runtime, [stored])


def test_row_36_events_out_of_order_belong_to_separate_jobs() -> None:
    scenario = Scenario()
    newer, older = manifest(1, variant=2), manifest(1, variant=1)
    scenario.simulation.put(KEY, newer)
    scenario.deliver()
    second = scenario.result.job_id
    scenario.simulation.put(KEY, older)  # its notification arrives after that of the newer one
    scenario.deliver()
    assert scenario.result.job_id != second
    assert len(scenario.keys("results", "events/")) == 2


def test_a_waiting_marker_that_disappears_does_not_stop_the_other_jobs() -> None:
    scenario = without_reference()
    scenario.simulation.put(OTHER, manifest(1))
    scenario.deliver(KEY, OTHER)
    first, _ = scenario.keys("control", "pending/")
    scenario.simulation.put(REFERENCE_KEY, reference())
    pending = scenario.simulation.buckets["control"]
    scenario.on("get", first, lambda: pending.delete(first))
    assert len(summaries_of(scenario, scenario.deliver(REFERENCE_KEY))) == 1
