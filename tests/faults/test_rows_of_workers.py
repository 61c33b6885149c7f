"""The fault table of docs/reliability.md: workers and deliveries (rows 1-12, 22-24, 30, 37, 40)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from handlers.sweep import SweepReport
from tests.support.faults.injector import Fault
from tests.support.faults.simulation import ENGINES, LEASE_SECONDS, manifest
from tests.support.faults.single_fault import KEY, Scenario, error_codes
from tests.support.faults.virtual_time import Crash, Host, Task
from tests.support.present import present


def test_row_01_a_repeated_event_only_reads_the_result() -> None:
    scenario = Scenario()
    scenario.deliver()
    before = dict(scenario.simulation.buckets["results"].objects)
    first = len(scenario.calls)
    scenario.deliver()
    assert scenario.simulation.buckets["results"].objects == before
    assert {call.operation for call in scenario.calls[first:]} <= {"get", "head", "put", "put_once"}
    assert all(call.bucket != "inbox" or call.key == KEY for call in scenario.calls[first:])
    assert scenario.spoken == ["hi 0", "hi 1"]


def test_row_02_a_simultaneous_duplicate_event_is_handled_by_one_worker() -> None:
    scenario = Scenario()
    tasks = scenario.deliver(at=(0.0, 0.1))
    assert "JOB_BUSY" in error_codes(tasks)
    assert scenario.result.status == "succeeded"
    assert scenario.spoken == ["hi 0", "hi 1"]


def test_row_03_a_crash_before_the_lease_leaves_nothing() -> None:
    scenario = Scenario()
    stored: list[str] = []

    def crash() -> Fault:
        stored.extend(scenario.keys("results") + scenario.keys("control"))
        return "crash-before"

    scenario.on("append", "lease/", crash)
    assert error_codes(scenario.deliver()) == ["Crash", ""]
    assert stored == []
    assert scenario.result.status == "succeeded"


def test_row_04_a_crash_after_the_lease_is_counted_and_delays_until_it_expires() -> None:
    scenario = Scenario()
    scenario.on("get", "refs/", "crash-before")
    tasks = scenario.deliver(times=9)
    first, second = scenario.lease_records()[:2]
    assert (first.attempt, second.attempt) == (1, 2)
    taken = second.expires - LEASE_SECONDS
    assert first.expires <= taken
    assert error_codes(tasks)[0] == "Crash"
    assert set(error_codes(tasks)[1:-1]) <= {"JOB_BUSY"}
    assert scenario.result.status == "succeeded"


@pytest.mark.slow
def test_row_05_a_crash_in_an_item_repeats_only_that_item() -> None:
    scenario = Scenario(items=3)
    scenario.on("put_once", "i1.wav.sealed", "crash-before")
    scenario.deliver(times=9)
    assert scenario.result.status == "succeeded"
    assert scenario.spoken == ["hi 0", "hi 1", "hi 1", "hi 2"]


def test_row_06_a_crash_after_an_output_was_stored_repeats_nothing() -> None:
    scenario = Scenario(items=3)
    scenario.on("put_once", "i1.wav.sealed", "crash-after")
    scenario.deliver(times=9)
    assert scenario.spoken == ["hi 0", "hi 1", "hi 2"]
    assert scenario.result.status == "succeeded"
    assert scenario.sweep().findings == []


def test_row_07_an_output_whose_reply_was_lost_is_recognised() -> None:
    scenario = Scenario()
    scenario.on("put_once", "i0.wav.sealed", "lost-reply")
    assert error_codes(scenario.deliver()) == ["STORAGE_UNAVAILABLE", ""]
    assert scenario.spoken == ["hi 0", "hi 1"]
    assert scenario.result.status == "succeeded"


def run_with_frozen_worker(seed: int = 7, **worker: Any) -> tuple[Scenario, list[Task]]:
    scenario = Scenario(seed=seed)
    scenario.freeze_seconds = 4 * LEASE_SECONDS
    scenario.on("put_once", "i0.wav.sealed", "freeze-before")
    return scenario, scenario.deliver(at=(0.0, 2 * LEASE_SECONDS), times=1, **worker)


def test_row_08_a_worker_frozen_past_its_lease_changes_nothing_afterwards() -> None:
    scenario, (rival, sleeper) = run_with_frozen_worker()
    assert (error_codes([rival]), error_codes([sleeper])[0] in ("", "LEASE_LOST")) == ([""], True)
    assert sleeper.host.name < rival.host.name
    outputs = [key for key in scenario.checker.written if key.endswith(".sealed")]
    assert [scenario.checker.written[key] for key in outputs] == [1, 1]
    assert scenario.result.status == "succeeded"


def test_row_09_after_a_crash_before_the_result_the_next_run_only_commits() -> None:
    scenario = Scenario()
    scenario.on("put_once", "/result.json", "crash-before")
    scenario.deliver(times=9)
    assert scenario.spoken == ["hi 0", "hi 1"]
    assert scenario.result.status == "succeeded"


@pytest.mark.parametrize("by", ["delivery", "sweeper"])
def test_row_10_an_event_lost_in_a_crash_is_written_later_with_the_same_content(by: str) -> None:
    scenario = Scenario()
    scenario.on("put_once", "/result.json", "crash-after")
    scenario.deliver(times=1)
    assert scenario.keys("results", "events/") == []
    scenario.deliver() if by == "delivery" else scenario.sweep()
    assert scenario.result.status == "succeeded"  # the checker compares the event with the result


def test_row_11_if_events_cannot_be_written_the_sweeper_writes_them_later() -> None:
    scenario = Scenario()
    scenario.on("put_once", "events/", "refused", times=5)
    assert set(error_codes(scenario.deliver(times=4))) == {"STORAGE_UNAVAILABLE"}
    swept = scenario.sweep()
    assert [(f.kind, f.error) for f in swept.open_findings] == [
        ("unannounced", "STORAGE_UNAVAILABLE")
    ]
    assert [f.action for f in scenario.sweep().findings] == ["event written"]
    assert scenario.result.status == "succeeded"


def test_row_12_the_first_result_of_two_workers_is_kept() -> None:
    scenario = Scenario()
    scenario.freeze_seconds = 4 * LEASE_SECONDS
    scenario.on("put_once", "/result.json", "freeze-before")
    winner, late = scenario.deliver(at=(0.0, 2 * LEASE_SECONDS), times=1)
    assert winner.result == late.result
    assert error_codes([winner, late]) == ["", ""]
    assert scenario.result.status == "succeeded"


def test_row_22_a_job_that_kills_every_worker_is_given_up_and_affects_no_other_job() -> None:
    scenario = Scenario()
    scenario.simulation.put("jobs/b.manifest.json", manifest(1, variant=5))
    poison = scenario.runtime.inbox.get(KEY, limit=999).data

    def die(host: Host) -> None:
        if host.name in killers:
            host.is_dead = True
            raise Crash

    killers: set[str] = set()
    scenario.on("get", KEY, lambda: killers.add(scenario.calls[-1].host.name), times=99)
    scenario.simulation.on_sentence = die
    scenario.deliver(times=14)
    scenario.deliver("jobs/b.manifest.json")
    done = scenario.checker.finished_results(scenario.runtime, [KEY, "jobs/b.manifest.json"])
    assert [d.status for d in done.values()] == ["failed", "succeeded"]
    assert present(done[KEY].error).code == "RETRIES_EXHAUSTED"
    assert done[KEY].manifest.size == len(poison)
    letter = scenario.runtime.control.get(f"dead/{done[KEY].job_id}.json", limit=9999).data
    assert json.loads(letter)["manifest"]["key"] == KEY
    assert max(record.attempt for record in scenario.lease_records(done[KEY].job_id)) == 6


@pytest.mark.slow
def test_row_23_an_item_that_raises_fails_alone_in_a_large_job() -> None:
    scenario = Scenario()
    items = [{"id": f"i{n}", "text": "!bug" if n == 50 else "hi"} for n in range(100)]
    document = json.loads(manifest(1)) | {"items": items}
    scenario.simulation.put(KEY, json.dumps(document).encode())
    scenario.deliver(times=1)
    done = scenario.result
    assert (done.status, done.totals.succeeded, done.totals.failed) == ("partial", 99, 1)
    assert present(done.items[50].error).code == "INTERNAL"


@pytest.mark.slow
def test_row_23_an_item_that_kills_its_process_fails_alone() -> None:
    scenario = Scenario(items=4)
    scenario.on("put_once", "i1.wav.sealed", "crash-before", times=99)
    for _ in range(3):
        scenario.deliver(times=9)
    done = scenario.result
    outcomes = [item.error.code if item.error else item.status for item in done.items]
    assert outcomes == ["succeeded", "RETRIES_EXHAUSTED", "succeeded", "succeeded"]
    assert scenario.keys("control", "dead/") == [f"dead/{done.job_id}.json"]
    assert scenario.sweep().findings == []


@pytest.mark.slow
def test_row_24_workers_that_are_killed_after_every_item_still_finish_the_job() -> None:
    """Each worker makes progress, so that no attempt is used up."""
    scenario = Scenario(items=8)
    scenario.simulation.max_attempts = 2
    scenario.on("put_once", ".sealed", "crash-after", times=8)
    for _ in range(9):
        scenario.deliver(times=4)
    done = scenario.result
    assert (done.status, len(scenario.spoken)) == ("succeeded", 8)


@pytest.mark.parametrize("skew", [3600.0, -3600.0])
def test_row_30_a_clock_that_is_an_hour_wrong_changes_nothing(skew: float) -> None:
    scenario = Scenario()
    tasks = scenario.deliver(at=(0.0, 0.1), skew=skew)
    assert "JOB_BUSY" in error_codes(tasks)
    assert (scenario.result.status, len(scenario.spoken)) == ("succeeded", 2)
    late, _ = run_with_frozen_worker(skew=skew)
    assert late.result.status == "succeeded"
    assert abs(late.lease_records()[0].expires - late.scheduler.now) < 60


def test_row_37_items_of_another_engine_version_are_noticed() -> None:
    scenario = Scenario()
    scenario.on("put_once", "i1.wav.sealed", "crash-before")
    scenario.deliver(times=1)
    scenario.scheduler.now += LEASE_SECONDS
    scenario.deliver(engine=ENGINES[1])
    done = scenario.result
    noted = [[n.code for n in item.notices] for item in done.items]
    assert noted == [["ENGINE_CHANGED"], []]
    assert present(done.engine).fingerprint == ENGINES[1]


def test_row_40_a_sweeper_leaves_the_job_of_a_live_worker_alone() -> None:
    scenario = Scenario()
    began: list[Task] = []
    scenario.on("put_once", "i0.wav.sealed", lambda: began.append(scenario.start_sweep()))
    scenario.deliver()
    swept = began[0].result
    assert isinstance(swept, SweepReport)
    assert [f.kind for f in swept.findings] == ["running"]
    assert scenario.result.status == "succeeded"
    assert scenario.spoken == ["hi 0", "hi 1"]
