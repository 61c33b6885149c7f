"""One job with one fault, at each of its store calls."""

from __future__ import annotations

from functools import partial

import pytest

from core.result.document import Result
from tests.support.faults.injector import FAULTS, Fault
from tests.support.faults.simulation import (
    LEASE_SECONDS,
    Simulation,
    consent_document,
    in_virtual_time,
    manifest,
    reference,
)
from tests.support.faults.single_fault import FaultAtCall
from tests.support.faults.virtual_time import Host, Scheduler

KEY = "jobs/a.manifest.json"
REFERENCE_KEY = "refs/alice.flac"


def upload_job(
    number: int, *, waits: bool = False, split: bool = False, lanes: int = 1
) -> tuple[Simulation, FaultAtCall]:
    """Upload a job. `split`: into shards of one item, whose calls are counted too; `waits`: its
    reference is missing."""
    simulation = Simulation(Scheduler(number), shard_items=1 if split else 200, lanes=lanes)
    simulation.on_shard = partial(announce, simulation)
    simulation.put("consent/alice.json", consent_document())
    if not waits:
        simulation.put(REFERENCE_KEY, reference())
    simulation.put(KEY, manifest(2))
    plan = FaultAtCall(simulation, number, lambda: None, any_worker=split)
    simulation.plan = plan
    return simulation, plan


def announce(simulation: Simulation, key: str) -> None:
    simulation.scheduler.spawn(
        lambda: simulation.deliver(key, times=10), simulation.host("platform")
    )


def run_job(simulation: Simulation, *, rival: float | None = None) -> Result:
    """Deliver the notification until it succeeds, and a second time after `rival` seconds."""
    scheduler, platform = simulation.scheduler, simulation.host("platform")
    with in_virtual_time(scheduler):
        scheduler.spawn(lambda: simulation.deliver(KEY, times=10), platform)
        if rival is not None:
            scheduler.spawn(lambda: simulation.deliver(KEY, times=10), platform, rival)
        scheduler.run()
    return simulation.checker.finished_results(simulation.direct_runtime(), [KEY])[KEY]


def count_calls(*, waits: bool = False, split: bool = False) -> int:
    simulation, plan = upload_job(0, waits=waits, split=split)
    with in_virtual_time(simulation.scheduler):
        simulation.scheduler.spawn(lambda: simulation.deliver(KEY), simulation.host("platform"))
        simulation.scheduler.run()
    return len(plan.calls)


@pytest.mark.repeats
@pytest.mark.slow
@pytest.mark.parametrize("rival", [None, 0.5], ids=["alone", "beside-another"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_at_any_call_leaves_one_result_one_event_and_complete_outputs(
    fault: Fault, rival: float | None
) -> None:
    for number in range(1, count_calls() + 1):
        simulation, plan = upload_job(number, lanes=1 if rival is None else 2)
        plan.action = lambda: fault
        done = run_job(simulation, rival=rival)
        assert done.status == "succeeded", (number, plan.calls[number - 1])
        assert sum(len(voice.spoken) for voice in simulation.voices) <= 2 + 2, number


@pytest.mark.repeats
@pytest.mark.slow
def test_a_fault_at_any_call_of_a_split_job_leaves_one_result() -> None:
    """Each call gets one kind of fault; tests/acceptance/faults.py combines all of them."""
    for number in range(1, count_calls(split=True) + 1):
        simulation, plan = upload_job(number, split=True)
        plan.action = partial(lambda fault: fault, FAULTS[number % len(FAULTS)])
        done = run_job(simulation)
        assert (done.status, len(done.parts)) == ("succeeded", 2), (number, plan.calls[number - 1])
        assert list(simulation.buckets["control"].list("work/")) == [], number
        assert sum(len(voice.spoken) for voice in simulation.voices) <= 2 + 2, number


@pytest.mark.repeats
@pytest.mark.slow
def test_a_reference_that_arrives_at_any_call_resumes_the_job() -> None:
    """Only the notification of the upload resumes the job, without a sweeper."""
    for number in range(1, count_calls(waits=True) + 1):
        simulation, plan = upload_job(number, waits=True)
        scheduler = simulation.scheduler
        platform = simulation.host("platform")

        def arrive(simulation: Simulation = simulation, platform: Host = platform) -> Fault:
            simulation.put(REFERENCE_KEY, reference())
            simulation.scheduler.spawn(lambda: simulation.deliver(REFERENCE_KEY, times=8), platform)
            return "freeze-before"

        plan.action = arrive
        plan.freeze_seconds = LEASE_SECONDS / 3
        with in_virtual_time(scheduler):
            scheduler.spawn(partial(simulation.deliver, KEY), platform)
            scheduler.run()
        done = simulation.checker.finished_results(simulation.direct_runtime(), [KEY])[KEY]
        assert done.status == "succeeded", (number, plan.calls[number - 1])
