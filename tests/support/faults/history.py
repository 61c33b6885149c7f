"""A random history of producers, platform, workers and store, determined by one seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from random import Random

from core.result.document import Result
from handlers import sweep
from handlers.sweep import SweepReport
from tests.support.faults.injector import FAULTS, Call, Fault
from tests.support.faults.simulation import (
    ENGINES,
    LEASE_SECONDS,
    NoFaults,
    Simulation,
    consent_document,
    in_virtual_time,
    manifest,
    other_reference,
    reference,
)
from tests.support.faults.virtual_time import Crash, Host, Scheduler

HOUR = 3600.0
JOBS = ("jobs/a.manifest.json", "jobs/b.manifest.json")
REFERENCE_KEY = "refs/alice.flac"
WAIT_S = 600


class RandomFaults(NoFaults):
    """Every call may fail, with one probability for the whole history."""

    def __init__(self, simulation: Simulation, chance: float) -> None:
        super().__init__(simulation.checker, simulation.scheduler)
        self._chance = chance

    def fault(self, call: Call) -> Fault | None:
        rng = self.scheduler.rng
        if rng.random() >= self._chance:
            return None
        self.fault_count += 1
        return rng.choice(FAULTS)

    def in_speech(self, host: Host) -> None:
        rng = self.scheduler.rng
        if rng.random() >= self._chance:
            return
        self.fault_count += 1
        if rng.random() < 0.5:
            host.is_dead = True
            raise Crash
        host.frozen_until = self.scheduler.now + self.freeze()


@dataclass
class History:
    """The outcome of one history."""

    seed: int
    is_calm: bool
    """No call fails and no notification is lost: the jobs must finish without the sweeper."""
    results: dict[str, Result] = field(default_factory=dict)
    faults: int = 0
    steps: int = 0
    spoken: int = 0
    helped: int = 0
    """How often a worker helped another."""
    split_jobs: int = 0
    """Number of jobs that were split into shards."""
    sweep_rounds: int = 0
    """Runs of the sweeper until nothing was left to do."""


MakeSimulation = Callable[[Scheduler], Simulation]


def play_history(seed: int, make_simulation: MakeSimulation = Simulation) -> History:
    """Play the history of a seed. Raises AssertionError, whose message begins with the seed, if an
    invariant does not hold."""
    try:
        return _HistoryRun(seed, make_simulation).play()
    except AssertionError as exc:
        raise AssertionError(f"seed {seed}: {exc}") from None


class _HistoryRun:
    def __init__(self, seed: int, make_simulation: MakeSimulation) -> None:
        self.scheduler = Scheduler(seed)
        self.rng = self.scheduler.rng
        self.simulation = make_simulation(self.scheduler)
        self.is_calm = self.rng.random() < 0.2
        chance = 0.0 if self.is_calm else self.rng.choice([0.01, 0.05, 0.1])
        self.plan = RandomFaults(self.simulation, chance)
        self.simulation.plan = self.plan
        self.simulation.on_sentence = self.plan.in_speech
        self.platform = self.simulation.host("platform")
        self.jobs = list(JOBS[: self.rng.choice([1, 1, 2])])
        self.has_reference = self.rng.random() < 0.95
        if self.rng.random() < 0.4:
            self.simulation.shard_items = self.rng.choice([1, 1, 2])
        # Drawn by itself, so that the rest of a history does not depend on it.
        self.simulation.lanes = Random(f"{seed} lanes").choice([1, 1, 2, 3])
        self.has_helpers = Random(f"{seed} helpers").random() < 0.3
        if self.has_helpers:
            self.simulation.shard_items = 200
        self.simulation.has_helpers = self.has_helpers
        self.simulation.on_shard = self._announce

    def play(self) -> History:
        with in_virtual_time(self.scheduler):
            self._produce()
            if not self.is_calm and self.rng.random() < 0.4:
                self._later(10, self._sweep)
            self.scheduler.run()
            rounds = self._sweep_until_done()
        assert not list(self.simulation.buckets["control"].list("pending/")), (
            "a stale waiting marker"
        )
        assert not list(self.simulation.buckets["control"].list("work/")), "unfinished shards"
        results = self.simulation.checker.finished_results(
            self.simulation.direct_runtime(), self._manifests()
        )
        for key, result in results.items():
            self._check_result(key, result)
        return History(
            seed=self.scheduler.seed,
            is_calm=self.is_calm,
            results=results,
            faults=self.plan.fault_count,
            steps=self.scheduler.steps,
            spoken=sum(len(voice.spoken) for voice in self.simulation.voices),
            helped=self.simulation.helped,
            split_jobs=sum(bool(result.parts) for result in results.values()),
            sweep_rounds=rounds,
        )

    def _produce(self) -> None:
        """Upload everything in random order; perhaps replace or delete some of it later."""
        self.simulation.put("consent/alice.json", consent_document())
        if self.has_reference:
            self._later(8, lambda: self._upload(REFERENCE_KEY, reference()))
        for key in self.jobs:
            items = self.rng.randint(1, 3) * (4 if self.has_helpers else 1)
            data = manifest(items, wait_s=WAIT_S)
            self._later(8, partial(self._upload, key, data))
        if self.rng.random() < 0.15:
            other = manifest(self.rng.randint(1, 3), variant=1, wait_s=WAIT_S)
            self._later(15, lambda: self._upload(self.jobs[0], other))
        if self.rng.random() < 0.1 and self.has_reference:
            self._later(15, lambda: self._upload(REFERENCE_KEY, other_reference()))
        if self.rng.random() < 0.05:
            self._later(15, lambda: self.simulation.buckets["inbox"].delete(self.jobs[0]))

    def _upload(self, key: str, data: bytes) -> None:
        self.simulation.put(key, data)
        self._announce(key)

    def _announce(self, key: str) -> None:
        """Deliver the notification of an object never, once or several times."""
        lost = not self.is_calm and self.rng.random() < 0.1
        for _ in range(0 if lost else self.rng.choice([1, 1, 2, 3]) + self.has_helpers):
            self._later(self.rng.choice([0.02, 0.2, 5]), lambda: self._deliver(key))

    def _deliver(self, key: str) -> None:
        skew = self.rng.choice([0.0, 0.0, HOUR, -HOUR])
        engine = ENGINES[self.rng.random() < 0.1]
        # Without faults the platform retries until a busy job is free.
        self.simulation.deliver(key, times=8 if self.is_calm else 3, skew=skew, engine=engine)

    def _later(self, seconds: float, work: Callable[[], object]) -> None:
        self.scheduler.spawn(work, self.platform, self.rng.uniform(0, seconds))

    def _sweep(self, plan: NoFaults | None = None) -> bool:
        """Run the sweeper as a worker of its own; True if nothing was left to do."""
        host = self.simulation.host("s")
        runtime = self.simulation.runtime(host, plan=plan)
        task = self.scheduler.spawn(lambda: sweep.run_sweep(runtime, grace=0.0), host)
        self.scheduler.pause(float("inf"), lambda: task.done)
        if task.error:
            self.simulation.record_unexpected(task.error)
            return False
        assert isinstance(task.result, SweepReport)
        return not task.result.open_findings

    def _sweep_until_done(self) -> int:
        """Run the sweeper without faults until nothing is left to do; return the number of runs."""
        no_faults = NoFaults(self.simulation.checker, self.scheduler)
        if self.is_calm:
            if not self.has_reference:
                self.scheduler.now += WAIT_S
            else:
                self.simulation.checker.finished_results(
                    self.simulation.direct_runtime(), self._manifests()
                )
        for number in range(1, 20):
            task = self.scheduler.spawn(lambda: self._sweep(no_faults), self.platform)
            self.scheduler.run()
            if task.result:
                return number
            self.scheduler.now += LEASE_SECONDS if number < 10 else WAIT_S
        raise AssertionError("the sweeper did not finish in 19 runs")

    def _manifests(self) -> list[str]:
        return self.simulation.manifests()

    def _check_result(self, key: str, result: Result) -> None:
        """Allow only failures that the injected faults explain."""
        code = result.error.code if result.error else ""
        if code == "RETRIES_EXHAUSTED":
            assert self.plan.fault_count >= self.simulation.max_attempts, (
                "RETRIES_EXHAUSTED without enough faults"
            )
            return
        if not self.has_reference:
            items = self.simulation.checker.items(result)
            codes = {item.error.code if item.error else "" for item in items}
            assert codes == {"REF_NOT_FOUND"}, key
            return
        if any(
            i.error and i.error.code == "RETRIES_EXHAUSTED"
            for i in self.simulation.checker.items(result)
        ):
            assert self.plan.fault_count >= self.simulation.max_attempts, (
                "RETRIES_EXHAUSTED without enough faults"
            )
            return
        assert result.status == "succeeded", f"{key} ended as {result.status}: {result.items}"
