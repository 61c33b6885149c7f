"""A random history: what producers, the platform, workers and the store do, all from one seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from core.result.document import Result
from handlers import sweep
from handlers.sweep import Sweep
from tests.support.faults.injector import FAULTS, Call, Fault
from tests.support.faults.simulation import (
    ENGINES,
    LEASE,
    NoFaults,
    Theatre,
    consent_document,
    manifest,
    other_reference,
    playing,
    reference,
)
from tests.support.faults.virtual_time import Crash, Host, World

HOUR = 3600.0
JOBS = ("jobs/a.manifest.json", "jobs/b.manifest.json")
REFERENCE_KEY = "refs/alice.flac"
WAIT_S = 600


class Random(NoFaults):
    """Every call may go wrong, with one chance for the whole history."""

    def __init__(self, theatre: Theatre, chance: float) -> None:
        super().__init__(theatre.watcher, theatre.world)
        self._chance = chance

    def fault(self, call: Call) -> Fault | None:
        draw = self.world.draw
        if draw.random() >= self._chance:
            return None
        self.struck += 1
        return draw.choice(FAULTS)

    def in_speech(self, host: Host) -> None:
        draw = self.world.draw
        if draw.random() >= self._chance:
            return
        self.struck += 1
        if draw.random() < 0.5:
            host.dead = True
            raise Crash
        host.frozen = self.world.now + self.freeze()


@dataclass
class Played:
    """What a history was, and how it ended."""

    seed: int
    calm: bool
    """Nothing failed and no notification was lost: it must end without the sweeper."""
    results: dict[str, Result] = field(default_factory=dict)
    faults: int = 0
    steps: int = 0
    spoken: int = 0
    cut: int = 0
    """Jobs that were cut into shards."""
    swept: int = 0
    """Rounds of the sweeper that were needed."""


Setting = Callable[[World], Theatre]


def play(seed: int, setting: Setting = Theatre) -> Played:
    """AssertionError if an invariant broke; its message begins with the seed."""
    try:
        return _History(seed, setting).play()
    except AssertionError as exc:
        raise AssertionError(f"seed {seed}: {exc}") from None


class _History:
    def __init__(self, seed: int, setting: Setting) -> None:
        self.world = World(seed)
        self.draw = self.world.draw
        self.theatre = setting(self.world)
        self.calm = self.draw.random() < 0.2
        chance = 0.0 if self.calm else self.draw.choice([0.01, 0.05, 0.1])
        self.plan = Random(self.theatre, chance)
        self.theatre.plan = self.plan
        self.theatre.trouble = self.plan.in_speech
        self.platform = self.theatre.host("platform")
        self.jobs = list(JOBS[: self.draw.choice([1, 1, 2])])
        self.has_reference = self.draw.random() < 0.95
        if self.draw.random() < 0.4:
            self.theatre.shard_items = self.draw.choice([1, 1, 2])
        self.theatre.on_work = self._announce

    def play(self) -> Played:
        with playing(self.world):
            self._produce()
            if not self.calm and self.draw.random() < 0.4:
                self._later(10, self._sweep)
            self.world.run()
            rounds = self._settle()
        assert not list(self.theatre.buckets["control"].list("pending/")), "a stale wake-up mark"
        assert not list(self.theatre.buckets["control"].list("work/")), "work that is left lying"
        results = self.theatre.watcher.settled(self.theatre.quiet_runtime(), self._manifests())
        for key, result in results.items():
            self._judge(key, result)
        return Played(
            seed=self.world.seed,
            calm=self.calm,
            results=results,
            faults=self.plan.struck,
            steps=self.world.steps,
            spoken=sum(len(voice.spoken) for voice in self.theatre.voices),
            cut=sum(bool(result.parts) for result in results.values()),
            swept=rounds,
        )

    def _produce(self) -> None:
        """Uploads in any order, each with its notifications; then perhaps somebody meddles."""
        self.theatre.put("consent/alice.json", consent_document())
        if self.has_reference:
            self._later(8, lambda: self._upload(REFERENCE_KEY, reference()))
        for key in self.jobs:
            data = manifest(self.draw.randint(1, 3), wait_s=WAIT_S)
            self._later(8, partial(self._upload, key, data))
        if self.draw.random() < 0.15:
            other = manifest(self.draw.randint(1, 3), variant=1, wait_s=WAIT_S)
            self._later(15, lambda: self._upload(self.jobs[0], other))
        if self.draw.random() < 0.1 and self.has_reference:
            self._later(15, lambda: self._upload(REFERENCE_KEY, other_reference()))
        if self.draw.random() < 0.05:
            self._later(15, lambda: self.theatre.buckets["inbox"].delete(self.jobs[0]))

    def _upload(self, key: str, data: bytes) -> None:
        self.theatre.put(key, data)
        self._announce(key)

    def _announce(self, key: str) -> None:
        """Of a manifest, a recording or a shard; it may be lost or come several times."""
        lost = not self.calm and self.draw.random() < 0.1
        for _ in range(0 if lost else self.draw.choice([1, 1, 2, 3])):
            self._later(self.draw.choice([0.02, 0.2, 5]), lambda: self._deliver(key))

    def _deliver(self, key: str) -> None:
        skew = self.draw.choice([0.0, 0.0, HOUR, -HOUR])
        engine = ENGINES[self.draw.random() < 0.1]
        # Calm, the platform is patient: a job that is busy is met again when it is free.
        self.theatre.deliver(key, times=8 if self.calm else 3, skew=skew, engine=engine)

    def _later(self, seconds: float, work: Callable[[], object]) -> None:
        self.world.spawn(work, self.platform, self.draw.uniform(0, seconds))

    def _sweep(self, plan: NoFaults | None = None) -> bool:
        """One run of the sweeper as a worker of its own; say whether nothing was left to do."""
        host = self.theatre.host("s")
        runtime = self.theatre.runtime(host, plan=plan)
        task = self.world.spawn(lambda: sweep.run(runtime, grace=0.0), host)
        self.world.pause(float("inf"), lambda: task.done)
        if task.error:
            self.theatre.unexpected(task.error)
            return False
        assert isinstance(task.result, Sweep)
        return not task.result.open

    def _settle(self) -> int:
        """The storm is over: how many rounds of the sweeper until nothing is left to do."""
        quiet = NoFaults(self.theatre.watcher, self.world)
        if self.calm:
            if not self.has_reference:
                self.world.now += WAIT_S
            else:
                self.theatre.watcher.settled(self.theatre.quiet_runtime(), self._manifests())
        for number in range(1, 20):
            task = self.world.spawn(lambda: self._sweep(quiet), self.platform)
            self.world.run()
            if task.result:
                return number
            self.world.now += LEASE if number < 10 else WAIT_S
        raise AssertionError("the sweeper never came to an end")

    def _manifests(self) -> list[str]:
        return [key for key in self.theatre.buckets["inbox"].objects if key.startswith("jobs/")]

    def _judge(self, key: str, result: Result) -> None:
        """Nothing may fail that no fault explains."""
        code = result.error.code if result.error else ""
        if code == "RETRIES_EXHAUSTED":
            assert self.plan.struck >= self.theatre.max_attempts, "given up without enough faults"
            return
        if not self.has_reference:
            items = self.theatre.watcher.items(result)
            codes = {item.error.code if item.error else "" for item in items}
            assert codes == {"REF_NOT_FOUND"}, key
            return
        if any(
            i.error and i.error.code == "RETRIES_EXHAUSTED"
            for i in self.theatre.watcher.items(result)
        ):
            assert self.plan.struck >= self.theatre.max_attempts, "given up without enough faults"
            return
        assert result.status == "succeeded", f"{key} ended as {result.status}: {result.items}"
