"""Three buckets in memory, simulated workers, and a platform that repeats and loses notifications.

The product's own code runs, from `handle` down."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any
from unittest import mock

from core.consent import records as consent
from core.crypto import keys
from core.errors import JobError
from core.job import helping, lanes, lease
from core.job.quota import Quota
from core.job.runtime import Runtime, Waiting
from core.settings import SpeechCacheStore
from core.voice import SpeechChunk, Voiceprint
from core.voice.kokoro.text import KokoroFrontend
from handlers import oss
from tests.support.events import notification
from tests.support.faults import cached_audio
from tests.support.faults.injector import Call, Fault, FaultPlan, FaultyStore
from tests.support.faults.invariants import InvariantChecker
from tests.support.faults.memory import MemoryStore
from tests.support.faults.virtual_time import Crash, Host, Scheduler, Task, virtual_threading
from tests.support.runtime import REFERENCE, BuzzVoice, consent_record

LEASE_SECONDS = 3.0
"""About as long as a job of three items takes, so that leases are renewed and also expire."""
ENGINES = ("buzz/1", "buzz/2")


@dataclass
class SimulatedVoice(BuzzVoice):
    """A voice that takes virtual time; its process may die or freeze during a sentence."""

    scheduler: Scheduler | None = None
    host: Host | None = None
    on_sentence: Callable[[Host], None] = lambda host: None

    def speak(
        self, text: str, voiceprint: Voiceprint, *, language: str, speed: float = 1.0, seed: int = 0
    ) -> Iterator[SpeechChunk]:
        assert self.scheduler
        assert self.host
        sentences = super().speak(text, voiceprint, language=language, speed=speed, seed=seed)
        for sentence in sentences:
            self.on_sentence(self.host)
            self.scheduler.pause(self.scheduler.rng.uniform(0.05, 0.6))
            yield sentence


@cache
def keyring() -> keys.Keyring:
    with tempfile.TemporaryDirectory() as folder:
        keys.create_keys(Path(folder))
        return keys.load_keyring(Path(folder))


class NoFaults:
    """A plan in which no call fails."""

    def __init__(self, checker: InvariantChecker, scheduler: Scheduler) -> None:
        self.checker, self.scheduler = checker, scheduler
        self.fault_count = 0
        self.freeze_seconds: float | None = None
        """Duration of every freeze; None: drawn at random for each."""

    def fault(self, call: Call) -> Fault | None:
        return None

    def latency(self) -> float:
        return self.scheduler.rng.uniform(0.005, 0.1)

    def freeze(self) -> float:
        if self.freeze_seconds is not None:
            return self.freeze_seconds
        return LEASE_SECONDS * self.scheduler.rng.uniform(1.1, 3)

    def before(self, call: Call) -> None:
        self.checker.before(call)

    def after(self, call: Call, answer: object) -> None:
        self.checker.after(call, answer)

    def answer_received(self, call: Call, answer: object) -> None:
        self.checker.answer_received(call, answer)


@dataclass
class Simulation:
    scheduler: Scheduler
    versioned: bool = False
    max_attempts: int = 5
    shard_items: int = 200
    lanes: int = 1
    speech_cache: SpeechCacheStore = "off"
    has_helpers: bool = False
    """Whether a worker that finds a job taken helps with it."""
    helped: int = 0
    """How often one made items of it."""
    on_shard: Callable[[str], None] = lambda key: None
    """Called with the key of every new shard, as the trigger on the control bucket is."""
    quota: Quota = field(default=Quota())
    host_count: int = 0
    on_sentence: Callable[[Host], None] = lambda host: None
    buckets: dict[str, MemoryStore] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("inbox", "results", "control"):
            versioned = self.versioned and name == "results"
            self.buckets[name] = MemoryStore(name, self.scheduler.clock, versioned=versioned)
        self.checker = InvariantChecker(self.scheduler, *self.buckets.values())
        self.checker.on_shard = lambda key: self.on_shard(key)
        self.checker.lanes = lambda: self.lanes
        self.plan: FaultPlan = NoFaults(self.checker, self.scheduler)
        self.voices: list[SimulatedVoice] = []

    def host(self, role: str, skew: float = 0.0) -> Host:
        self.host_count += 1
        return self.scheduler.host(f"{role}{self.host_count}", skew)

    def runtime(
        self, host: Host, engine: str = ENGINES[0], plan: FaultPlan | None = None
    ) -> Runtime:
        """Return the runtime of a new worker on this host."""
        self.checker.register_engine(host.name, engine)
        voice = SimulatedVoice(
            fingerprint=engine, scheduler=self.scheduler, host=host, on_sentence=self.on_sentence
        )
        self.voices.append(voice)
        stores: dict[str, Any] = {
            name: FaultyStore(store, host, self.scheduler, plan or self.plan)
            for name, store in self.buckets.items()
        }
        return Runtime(
            **stores,
            load_voice=lambda: voice,
            front_end=KokoroFrontend(),
            keys=keyring(),
            worker=host.name,
            producer="00119111000000000000010000",
            lease_seconds=LEASE_SECONDS,
            max_attempts=self.max_attempts,
            shard_items=self.shard_items,
            lanes=self.lanes,
            speech_cache=self.speech_cache,
            quota=self.quota,
        )

    def direct_runtime(self) -> Runtime:
        """Return a runtime over the same buckets without faults, latency or virtual time."""
        return Runtime(
            inbox=self.buckets["inbox"],
            results=self.buckets["results"],
            control=self.buckets["control"],
            load_voice=BuzzVoice,
            front_end=KokoroFrontend(),
            keys=keyring(),
            worker="observer",
        )

    def deliver(self, *keys_: str, times: int = 4, **worker: Any) -> list[Task]:
        """Deliver a notification as the platform does: `times` times at most, with growing pauses,
        until it succeeds. Must be called in a task. Returns the attempts."""
        body = notification(*keys_)
        attempts: list[Task] = []
        for number in range(times):
            host = self.host("w", worker.get("skew", 0.0))
            runtime = self.runtime(host, worker.get("engine", ENGINES[0]))
            attempts.append(self.scheduler.spawn(partial(oss.handle, body, runtime), host))
            self.scheduler.pause(float("inf"), lambda: attempts[-1].done)
            if attempts[-1].error is None:
                break
            self.record_unexpected(attempts[-1].error)
            if (
                getattr(attempts[-1].error, "code", "") == "JOB_BUSY"
                and keys_[0] in self.manifests()
                and self.has_helpers
            ):
                self._help(keys_[0], worker)
            self.scheduler.pause(self.scheduler.rng.uniform(0, LEASE_SECONDS) * 2**number)
        return attempts

    def _help(self, key: str, worker: dict[str, Any]) -> None:
        """Have another worker ask several times whether the job of a manifest needs help."""
        host = self.host("h", worker.get("skew", 0.0))
        runtime = self.runtime(host, worker.get("engine", ENGINES[0]))
        for _ in range(12):
            task = self.scheduler.spawn(partial(helping.help_with, key, runtime, least_s=-1), host)
            self.scheduler.pause(float("inf"), partial(getattr, task, "done"))
            if task.error:
                self.record_unexpected(task.error)
                return
            self.helped += task.result is True
            self.scheduler.pause(self.scheduler.rng.uniform(0.1, 0.6))

    def record_unexpected(self, error: BaseException) -> None:
        if not isinstance(error, JobError | Waiting | Crash):
            self.scheduler.violations.append(repr(error))

    def manifests(self) -> list[str]:
        return [key for key in self.buckets["inbox"].objects if key.startswith("jobs/")]

    def put(self, key: str, data: bytes) -> None:
        self.buckets["inbox"].put(key, data)


@contextmanager
def in_virtual_time(scheduler: Scheduler) -> Iterator[None]:
    """Let leases use virtual time, and `time.time` the clock of the calling host with its skew."""

    def skewed() -> float:
        return scheduler.now + (scheduler.current_task.host.skew if scheduler.in_task else 0.0)

    with (
        cached_audio.memoised(),
        mock.patch.object(lease, "threading", virtual_threading(scheduler)),
        mock.patch.object(lanes, "threading", virtual_threading(scheduler)),
        mock.patch("time.time", skewed),
    ):
        yield


@cache
def reference() -> bytes:
    return REFERENCE.read_bytes()


@cache
def other_reference() -> bytes:
    """Return the recording that is uploaded over the first one."""
    return REFERENCE.with_name("ref_1688.flac").read_bytes()


@cache
def consent_document() -> bytes:
    digests = [hashlib.sha256(data).hexdigest() for data in (reference(), other_reference())]
    return consent.format_consent(consent_record(reference(), ref_audio_sha256=digests))


def manifest(items: int, *, variant: int = 0, wait_s: int = 600, **fields: Any) -> bytes:
    """Return a manifest of a few short items; each `variant` has other bytes, hence another job."""
    document = {
        "schema": "voicedrop/job/1",
        "id": f"v{variant}",
        "voices": {
            "alice": {
                "reference": "refs/alice.flac",
                "language": "en",
                "consent": "consent/alice.json",
            }
        },
        "items": [{"id": f"i{n}", "text": f"hi {n}"} for n in range(items)],
        "wait_s": wait_s,
    }
    return json.dumps(document | fields).encode()
