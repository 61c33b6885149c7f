"""The fault table of docs/reliability.md: workers and deliveries (rows 1-12, 22-24, 30, 37, 40)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from handlers.sweep import Sweep
from tests.support.faults.injector import Fault
from tests.support.faults.simulation import ENGINES, LEASE, manifest
from tests.support.faults.single_fault import KEY, Scene, codes
from tests.support.faults.virtual_time import Crash, Host, Task
from tests.support.present import present


def test_row_01_the_same_event_twice_in_turn_costs_only_a_look() -> None:
    scene = Scene()
    scene.deliver()
    before = dict(scene.theatre.buckets["results"].objects)
    first = len(scene.calls)
    scene.deliver()
    assert scene.theatre.buckets["results"].objects == before
    assert {call.operation for call in scene.calls[first:]} <= {"get", "head", "put", "put_once"}
    assert all(call.bucket != "inbox" or call.key == KEY for call in scene.calls[first:])
    assert scene.spoken == ["hi 0", "hi 1"]


def test_row_02_the_same_event_twice_at_once_is_done_by_one_worker() -> None:
    scene = Scene()
    tasks = scene.deliver(at=(0.0, 0.1))
    assert "JOB_BUSY" in codes(tasks)
    assert scene.result.status == "succeeded"
    assert scene.spoken == ["hi 0", "hi 1"]


def test_row_03_a_crash_before_the_claim_leaves_nothing() -> None:
    scene = Scene()
    left: list[str] = []

    def crash() -> Fault:
        left.extend(scene.keys("results") + scene.keys("control"))
        return "crash-before"

    scene.on("append", "lease/", crash)
    assert codes(scene.deliver()) == ["Crash", ""]
    assert left == []
    assert scene.result.status == "succeeded"


def test_row_04_a_crash_after_the_claim_is_counted_and_waits_for_the_lease_at_most() -> None:
    scene = Scene()
    scene.on("get", "refs/", "crash-before")
    tasks = scene.deliver(times=9)
    first, second = scene.records()[:2]
    assert (first.attempt, second.attempt) == (1, 2)
    taken = second.expires - LEASE
    assert first.expires <= taken
    assert codes(tasks)[0] == "Crash"
    assert set(codes(tasks)[1:-1]) <= {"JOB_BUSY"}
    assert scene.result.status == "succeeded"


@pytest.mark.slow
def test_row_05_a_crash_in_an_item_costs_only_that_item() -> None:
    scene = Scene(items=3)
    scene.on("put_once", "i1.wav.sealed", "crash-before")
    scene.deliver(times=9)
    assert scene.result.status == "succeeded"
    assert scene.spoken == ["hi 0", "hi 1", "hi 1", "hi 2"]


def test_row_06_a_crash_after_an_output_was_stored_costs_nothing() -> None:
    scene = Scene(items=3)
    scene.on("put_once", "i1.wav.sealed", "crash-after")
    scene.deliver(times=9)
    assert scene.spoken == ["hi 0", "hi 1", "hi 2"]
    assert scene.result.status == "succeeded"
    assert scene.sweep().findings == []


def test_row_07_an_output_whose_answer_was_lost_is_recognised_as_our_own() -> None:
    scene = Scene()
    scene.on("put_once", "i0.wav.sealed", "lost-reply")
    assert codes(scene.deliver()) == ["STORAGE_UNAVAILABLE", ""]
    assert scene.spoken == ["hi 0", "hi 1"]
    assert scene.result.status == "succeeded"


def frozen(seed: int = 7, **worker: Any) -> tuple[Scene, list[Task]]:
    scene = Scene(seed=seed)
    scene.frozen_for = 4 * LEASE
    scene.on("put_once", "i0.wav.sealed", "freeze-before")
    return scene, scene.deliver(at=(0.0, 2 * LEASE), times=1, **worker)


def test_row_08_a_worker_frozen_past_its_lease_changes_nothing_when_it_wakes() -> None:
    scene, (rival, sleeper) = frozen()
    assert (codes([rival]), codes([sleeper])[0] in ("", "LEASE_LOST")) == ([""], True)
    assert sleeper.host.name < rival.host.name
    outputs = [key for key in scene.watcher.written if key.endswith(".sealed")]
    assert [scene.watcher.written[key] for key in outputs] == [1, 1]
    assert scene.result.status == "succeeded"


def test_row_09_after_a_crash_before_the_result_the_next_run_only_commits() -> None:
    scene = Scene()
    scene.on("put_once", "/result.json", "crash-before")
    scene.deliver(times=9)
    assert scene.spoken == ["hi 0", "hi 1"]
    assert scene.result.status == "succeeded"


@pytest.mark.parametrize("by", ["delivery", "sweeper"])
def test_row_10_an_event_lost_in_a_crash_is_written_later_with_the_same_content(by: str) -> None:
    scene = Scene()
    scene.on("put_once", "/result.json", "crash-after")
    scene.deliver(times=1)
    assert scene.keys("results", "events/") == []
    scene.deliver() if by == "delivery" else scene.sweep()
    assert scene.result.status == "succeeded"  # the watcher compares the event with the result


def test_row_11_while_events_cannot_be_written_the_result_stands_and_the_sweeper_goes_on() -> None:
    scene = Scene()
    scene.on("put_once", "events/", "refused", times=5)
    assert set(codes(scene.deliver(times=4))) == {"STORAGE_UNAVAILABLE"}
    swept = scene.sweep()
    assert [(f.kind, f.error) for f in swept.open] == [("unannounced", "STORAGE_UNAVAILABLE")]
    assert [f.action for f in scene.sweep().findings] == ["event written"]
    assert scene.result.status == "succeeded"


def test_row_12_of_two_workers_that_both_finish_the_first_result_stands() -> None:
    scene = Scene()
    scene.frozen_for = 4 * LEASE
    scene.on("put_once", "/result.json", "freeze-before")
    winner, late = scene.deliver(at=(0.0, 2 * LEASE), times=1)
    assert winner.result == late.result
    assert codes([winner, late]) == ["", ""]
    assert scene.result.status == "succeeded"


def test_row_22_a_job_that_kills_every_worker_is_given_up_and_costs_no_other_job() -> None:
    scene = Scene()
    scene.theatre.put("jobs/b.manifest.json", manifest(1, variant=5))
    poison = scene.runtime.inbox.get(KEY, limit=999).data

    def die(host: Host) -> None:
        if host.name in killers:
            host.dead = True
            raise Crash

    killers: set[str] = set()
    scene.on("get", KEY, lambda: killers.add(scene.calls[-1].host.name), times=99)
    scene.theatre.trouble = die
    scene.deliver(times=14)
    scene.deliver("jobs/b.manifest.json")
    done = scene.watcher.settled(scene.runtime, [KEY, "jobs/b.manifest.json"])
    assert [d.status for d in done.values()] == ["failed", "succeeded"]
    assert present(done[KEY].error).code == "RETRIES_EXHAUSTED"
    assert done[KEY].manifest.size == len(poison)
    letter = scene.runtime.control.get(f"dead/{done[KEY].job_id}.json", limit=9999).data
    assert json.loads(letter)["manifest"]["key"] == KEY
    assert max(record.attempt for record in scene.records(done[KEY].job_id)) == 6


@pytest.mark.slow
def test_row_23_a_poisonous_item_of_a_large_batch_costs_only_itself() -> None:
    scene = Scene()
    items = [{"id": f"i{n}", "text": "!bug" if n == 50 else "hi"} for n in range(100)]
    document = json.loads(manifest(1)) | {"items": items}
    scene.theatre.put(KEY, json.dumps(document).encode())
    scene.deliver(times=1)
    done = scene.result
    assert (done.status, done.totals.succeeded, done.totals.failed) == ("partial", 99, 1)
    assert present(done.items[50].error).code == "INTERNAL"


@pytest.mark.slow
def test_row_23_an_item_that_kills_its_process_costs_only_itself() -> None:
    scene = Scene(items=4)
    scene.on("put_once", "i1.wav.sealed", "crash-before", times=99)
    for _ in range(3):
        scene.deliver(times=9)
    done = scene.result
    told = [item.error.code if item.error else item.status for item in done.items]
    assert told == ["succeeded", "RETRIES_EXHAUSTED", "succeeded", "succeeded"]
    assert scene.keys("control", "dead/") == [f"dead/{done.job_id}.json"]
    assert scene.sweep().findings == []


@pytest.mark.slow
def test_row_24_workers_that_are_killed_after_every_item_still_finish_the_job() -> None:
    """Each makes progress, so none of the kills counts against the job."""
    scene = Scene(items=8)
    scene.theatre.max_attempts = 2
    scene.on("put_once", ".sealed", "crash-after", times=8)
    for _ in range(9):
        scene.deliver(times=4)
    done = scene.result
    assert (done.status, len(scene.spoken)) == ("succeeded", 8)


@pytest.mark.parametrize("skew", [3600.0, -3600.0])
def test_row_30_a_clock_that_is_an_hour_wrong_changes_nothing(skew: float) -> None:
    scene = Scene()
    tasks = scene.deliver(at=(0.0, 0.1), skew=skew)
    assert "JOB_BUSY" in codes(tasks)
    assert (scene.result.status, len(scene.spoken)) == ("succeeded", 2)
    late, _ = frozen(skew=skew)
    assert late.result.status == "succeeded"
    assert abs(late.records()[0].expires - late.world.now) < 60


def test_row_37_items_made_by_another_engine_version_say_so() -> None:
    scene = Scene()
    scene.on("put_once", "i1.wav.sealed", "crash-before")
    scene.deliver(times=1)
    scene.world.now += LEASE
    scene.deliver(engine=ENGINES[1])
    done = scene.result
    noted = [[n.code for n in item.notices] for item in done.items]
    assert noted == [["ENGINE_CHANGED"], []]
    assert present(done.engine).fingerprint == ENGINES[1]


def test_row_40_a_sweeper_beside_a_live_worker_takes_nothing_from_it() -> None:
    scene = Scene()
    began: list[Task] = []
    scene.on("put_once", "i0.wav.sealed", lambda: began.append(scene.start_sweep()))
    scene.deliver()
    swept = began[0].result
    assert isinstance(swept, Sweep)
    assert [f.kind for f in swept.findings] == ["running"]
    assert scene.result.status == "succeeded"
    assert scene.spoken == ["hi 0", "hi 1"]
