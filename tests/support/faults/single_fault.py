"""Simulations of one job in which chosen store calls fail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from core.errors import JobError
from core.job.lease import LeaseRecord
from core.job.runtime import Runtime
from core.result.document import Result
from handlers import sweep
from handlers.sweep import SweepReport
from tests.support.faults.injector import Call, Fault
from tests.support.faults.simulation import (
    NoFaults,
    Simulation,
    consent_document,
    in_virtual_time,
    manifest,
    reference,
)
from tests.support.faults.virtual_time import Scheduler, Task

KEY = "jobs/a.manifest.json"
REFERENCE_KEY = "refs/alice.flac"


@dataclass
class Rule:
    operation: str
    key: str
    """Part of the key."""
    action: Callable[[], Fault | None]
    times: int


class Scenario(NoFaults):
    """One uploaded job. `on` sets which calls fail; `deliver` and `sweep` run it."""

    def __init__(self, items: int = 2, seed: int = 7, **fields: Any) -> None:
        self.simulation = Simulation(Scheduler(seed))
        super().__init__(self.simulation.checker, self.simulation.scheduler)
        self.simulation.plan = self
        self.rules: list[Rule] = []
        self.calls: list[Call] = []
        self.tasks: list[Task] = []
        self.platform = self.simulation.host("platform")
        self.fields = {"items": items, **fields}
        self.simulation.put("consent/alice.json", consent_document())
        self.simulation.put(REFERENCE_KEY, reference())
        self.simulation.put(KEY, manifest(**self.fields))

    def on(
        self, operation: str, key: str, fault: Fault | Callable[[], Fault | None], times: int = 1
    ) -> None:
        action = fault if callable(fault) else lambda: fault
        self.rules.append(Rule(operation, key, action, times))

    def fault(self, call: Call) -> Fault | None:
        self.calls.append(call)
        for rule in self.rules:
            if rule.times and rule.operation == call.operation and rule.key in call.key:
                rule.times -= 1
                return rule.action()
        return None

    def deliver(
        self, *keys: str, at: tuple[float, ...] = (0.0,), times: int = 4, **worker: Any
    ) -> list[Task]:
        """Deliver a notification at each of these times; return every worker's task."""
        tasks: list[Task] = []

        def deliver_once() -> None:
            tasks.extend(self.simulation.deliver(*(keys or (KEY,)), times=times, **worker))

        with in_virtual_time(self.scheduler):
            for moment in at:
                self.scheduler.spawn(deliver_once, self.platform, moment)
            self.scheduler.run()
        return tasks

    def start_sweep(self, at: float = 0.0, grace: float = 0.0) -> Task:
        host = self.simulation.host("s")
        runtime = self.simulation.runtime(host)
        return self.scheduler.spawn(lambda: sweep.run_sweep(runtime, grace=grace), host, at)

    def sweep(self) -> SweepReport:
        with in_virtual_time(self.scheduler):
            task = self.start_sweep()
            self.scheduler.run()
        if task.error:
            raise task.error
        assert isinstance(task.result, SweepReport)
        return task.result

    @property
    def runtime(self) -> Runtime:
        return self.simulation.direct_runtime()

    @property
    def result(self) -> Result:
        """The result of the job, which must be finished and announced."""
        return self.checker.finished_results(self.runtime, [KEY])[KEY]

    @property
    def spoken(self) -> list[str]:
        return sorted(text for voice in self.simulation.voices for text in voice.spoken)

    def keys(self, bucket: str, prefix: str = "") -> list[str]:
        return [info.key for info in self.simulation.buckets[bucket].list(prefix)]

    def lease_records(self, job_id: str = "") -> list[LeaseRecord]:
        leases = self.keys("control", f"lease/{job_id}")
        (key,) = [key for key in leases if not key.endswith(".reason")]
        log = self.simulation.buckets["control"].objects[key].data
        return msgspec.json.Decoder(LeaseRecord).decode_lines(log)


def error_codes(tasks: list[Task]) -> list[str]:
    """Return how each worker ended: the code of a JobError, the name of another exception, or an
    empty string."""
    return [
        error.code if isinstance(error, JobError) else type(error).__name__ if error else ""
        for error in (task.error for task in tasks)
    ]


class FaultAtCall(NoFaults):
    """Runs an action at the n-th call of the first worker, or of any worker."""

    def __init__(
        self,
        simulation: Simulation,
        number: int,
        action: Callable[[], Fault | None],
        *,
        any_worker: bool,
    ) -> None:
        super().__init__(simulation.checker, simulation.scheduler)
        self.action = action
        self._number, self._any_worker = number, any_worker
        self._first_host = ""
        self.calls: list[Call] = []

    def fault(self, call: Call) -> Fault | None:
        self._first_host = self._first_host or call.host.name
        if self._any_worker or call.host.name == self._first_host:
            self.calls.append(call)
            if len(self.calls) == self._number:
                return self.action()
        return None
