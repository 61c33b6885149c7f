"""A theatre in which one thing goes wrong, at a call that is named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from core.errors import JobError
from core.job.lease import RECORD, Record
from core.job.runtime import Runtime
from core.result.document import Result
from handlers import sweep
from handlers.sweep import Sweep
from tests.support.faults.injector import Call, Fault
from tests.support.faults.simulation import (
    NoFaults,
    Theatre,
    consent_document,
    manifest,
    playing,
    reference,
)
from tests.support.faults.virtual_time import Task, World

KEY = "jobs/a.manifest.json"
REFERENCE_KEY = "refs/alice.flac"


@dataclass
class Rule:
    operation: str
    key: str
    """Part of the key."""
    happens: Callable[[], Fault | None]
    times: int


class Scene(NoFaults):
    """Everything is uploaded; `on` says what goes wrong; `deliver` and `sweep` make time pass."""

    def __init__(self, items: int = 2, seed: int = 7, **fields: Any) -> None:
        self.theatre = Theatre(World(seed))
        super().__init__(self.theatre.watcher, self.theatre.world)
        self.theatre.plan = self
        self.rules: list[Rule] = []
        self.calls: list[Call] = []
        self.tasks: list[Task] = []
        self.platform = self.theatre.host("platform")
        self.fields = {"items": items, **fields}
        self.theatre.put("consent/alice.json", consent_document())
        self.theatre.put(REFERENCE_KEY, reference())
        self.theatre.put(KEY, manifest(**self.fields))

    def on(
        self, operation: str, key: str, fault: Fault | Callable[[], Fault | None], times: int = 1
    ) -> None:
        happens = fault if callable(fault) else lambda: fault
        self.rules.append(Rule(operation, key, happens, times))

    def fault(self, call: Call) -> Fault | None:
        self.calls.append(call)
        for rule in self.rules:
            if rule.times and rule.operation == call.operation and rule.key in call.key:
                rule.times -= 1
                return rule.happens()
        return None

    def deliver(
        self, *keys: str, at: tuple[float, ...] = (0.0,), times: int = 4, **worker: Any
    ) -> list[Task]:
        """Deliver a notification at each of these moments; returns every worker's task."""
        tasks: list[Task] = []

        def one() -> None:
            tasks.extend(self.theatre.deliver(*(keys or (KEY,)), times=times, **worker))

        with playing(self.world):
            for moment in at:
                self.world.spawn(one, self.platform, moment)
            self.world.run()
        return tasks

    def start_sweep(self, at: float = 0.0, grace: float = 0.0) -> Task:
        host = self.theatre.host("s")
        runtime = self.theatre.runtime(host)
        return self.world.spawn(lambda: sweep.run(runtime, grace=grace), host, at)

    def sweep(self) -> Sweep:
        with playing(self.world):
            task = self.start_sweep()
            self.world.run()
        if task.error:
            raise task.error
        assert isinstance(task.result, Sweep)
        return task.result

    @property
    def runtime(self) -> Runtime:
        return self.theatre.quiet_runtime()

    @property
    def result(self) -> Result:
        """Of the manifest; the job must be finished and announced."""
        return self.watcher.settled(self.runtime, [KEY])[KEY]

    @property
    def spoken(self) -> list[str]:
        return sorted(text for voice in self.theatre.voices for text in voice.spoken)

    def keys(self, bucket: str, prefix: str = "") -> list[str]:
        return [info.key for info in self.theatre.buckets[bucket].list(prefix)]

    def records(self, job_id: str = "") -> list[Record]:
        found = self.keys("control", f"lease/{job_id}")
        (key,) = [key for key in found if not key.endswith(".reason")]
        log = self.theatre.buckets["control"].objects[key].data
        return [Record.parse(log[i : i + RECORD]) for i in range(0, len(log), RECORD)]


def codes(tasks: list[Task]) -> list[str]:
    """How each worker ended: an error's code, the name of another exception, or empty."""
    return [
        error.code if isinstance(error, JobError) else type(error).__name__ if error else ""
        for error in (task.error for task in tasks)
    ]
