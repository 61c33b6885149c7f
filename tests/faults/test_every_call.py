"""One job, one fault, at each of its store calls in turn."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from core.result.document import Result
from tests.support.faults.injector import FAULTS, Call, Fault
from tests.support.faults.simulation import (
    LEASE,
    NoFaults,
    Theatre,
    consent_document,
    manifest,
    playing,
    reference,
)
from tests.support.faults.virtual_time import Host, World

KEY = "jobs/a.manifest.json"
REFERENCE_KEY = "refs/alice.flac"


class AtCall(NoFaults):
    """Something happens at the n-th call of the first worker, or of any."""

    def __init__(
        self, theatre: Theatre, number: int, happens: Callable[[], Fault | None], *, any_: bool
    ) -> None:
        super().__init__(theatre.watcher, theatre.world)
        self._number, self._happens, self._any = number, happens, any_
        self._first = ""
        self.calls: list[Call] = []

    def fault(self, call: Call) -> Fault | None:
        self._first = self._first or call.host.name
        if self._any or call.host.name == self._first:
            self.calls.append(call)
            if len(self.calls) == self._number:
                return self._happens()
        return None


def stage(number: int, *, waits: bool = False, cut: bool = False) -> tuple[Theatre, AtCall]:
    """`cut`: into shards of one item each, whose workers' calls count too."""
    theatre = Theatre(World(number), shard_items=1 if cut else 200)
    theatre.on_work = partial(announce, theatre)
    theatre.put("consent/alice.json", consent_document())
    if not waits:
        theatre.put(REFERENCE_KEY, reference())
    theatre.put(KEY, manifest(2))
    plan = AtCall(theatre, number, lambda: None, any_=cut)
    theatre.plan = plan
    return theatre, plan


def announce(theatre: Theatre, key: str) -> None:
    theatre.world.spawn(lambda: theatre.deliver(key, times=10), theatre.host("platform"))


def play(theatre: Theatre, *, rival: float | None = None) -> Result:
    """The notification is delivered until it is done, and perhaps a second time beside that."""
    world, platform = theatre.world, theatre.host("platform")
    with playing(world):
        world.spawn(lambda: theatre.deliver(KEY, times=10), platform)
        if rival is not None:
            world.spawn(lambda: theatre.deliver(KEY, times=10), platform, rival)
        world.run()
    return theatre.watcher.settled(theatre.quiet_runtime(), [KEY])[KEY]


def calls(*, waits: bool = False, cut: bool = False) -> int:
    theatre, plan = stage(0, waits=waits, cut=cut)
    with playing(theatre.world):
        theatre.world.spawn(lambda: theatre.deliver(KEY), theatre.host("platform"))
        theatre.world.run()
    return len(plan.calls)


@pytest.mark.slow
@pytest.mark.parametrize("rival", [None, 0.5], ids=["alone", "beside-another"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_at_any_call_leaves_one_result_one_event_and_whole_outputs(
    fault: Fault, rival: float | None
) -> None:
    for number in range(1, calls() + 1):
        theatre, plan = stage(number)
        plan._happens = lambda: fault
        done = play(theatre, rival=rival)
        assert done.status == "succeeded", (number, plan.calls[number - 1])
        assert sum(len(voice.spoken) for voice in theatre.voices) <= 2 + 2, number


@pytest.mark.slow
def test_a_fault_at_any_call_of_a_job_that_is_cut_leaves_one_result() -> None:
    """Every kind in turn; histories (tests/acceptance/faults.py) put every kind everywhere."""
    for number in range(1, calls(cut=True) + 1):
        theatre, plan = stage(number, cut=True)
        plan._happens = partial(lambda fault: fault, FAULTS[number % len(FAULTS)])
        done = play(theatre)
        assert (done.status, len(done.parts)) == ("succeeded", 2), (number, plan.calls[number - 1])
        assert list(theatre.buckets["control"].list("work/")) == [], number
        assert sum(len(voice.spoken) for voice in theatre.voices) <= 2 + 2, number


@pytest.mark.slow
def test_a_reference_that_arrives_at_any_call_awakens_the_job() -> None:
    """No second notification of the manifest, no sweeper: the upload's own one must do."""
    for number in range(1, calls(waits=True) + 1):
        theatre, plan = stage(number, waits=True)
        world = theatre.world
        platform = theatre.host("platform")

        def arrive(theatre: Theatre = theatre, platform: Host = platform) -> Fault:
            theatre.put(REFERENCE_KEY, reference())
            theatre.world.spawn(lambda: theatre.deliver(REFERENCE_KEY, times=8), platform)
            return "freeze-before"

        plan._happens = arrive
        plan.frozen_for = LEASE / 3
        with playing(world):
            world.spawn(partial(theatre.deliver, KEY), platform)
            world.run()
        done = theatre.watcher.settled(theatre.quiet_runtime(), [KEY])[KEY]
        assert done.status == "succeeded", (number, plan.calls[number - 1])
