"""Where histories are played: three buckets in memory, workers that come and go, a platform that
repeats and loses notifications. What runs is the product's own code, from `handle` down."""

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
from core.job import lease
from core.job.quota import Quota
from core.job.runtime import Runtime, Waiting
from core.storage.port import Store
from core.voice import SpeechChunk, Voiceprint
from handlers import oss
from tests.support.faults import cached_audio
from tests.support.faults.injector import Call, Fault, FaultyStore, Plan
from tests.support.faults.invariants import Watcher
from tests.support.faults.memory import MemoryStore
from tests.support.faults.virtual_time import Crash, Host, Task, World, threads
from tests.support.runtime import REFERENCE, BuzzVoice, consent_record

LEASE = 3.0
"""Seconds; a job of three items takes about as long, so leases are renewed and do run out."""
ENGINES = ("buzz/1", "buzz/2")


@dataclass
class Humming(BuzzVoice):
    """A voice that takes time, and during whose sentences a process may die or freeze."""

    world: World | None = None
    host: Host | None = None
    trouble: Callable[[Host], None] = lambda host: None

    def speak(
        self, text: str, voiceprint: Voiceprint, *, language: str, speed: float = 1.0, seed: int = 0
    ) -> Iterator[SpeechChunk]:
        assert self.world
        assert self.host
        said = super().speak(text, voiceprint, language=language, speed=speed, seed=seed)
        for sentence in said:
            self.trouble(self.host)
            self.world.pause(self.world.draw.uniform(0.05, 0.6))
            yield sentence


@cache
def keyring() -> keys.Keyring:
    with tempfile.TemporaryDirectory() as folder:
        keys.create_keys(Path(folder))
        return keys.load_keyring(Path(folder))


class NoFaults:
    """A plan under which everything works."""

    def __init__(self, watcher: Watcher, world: World) -> None:
        self.watcher, self.world = watcher, world
        self.struck = 0
        self.frozen_for: float | None = None
        """Seconds of every freeze; None: drawn anew for each."""

    def fault(self, call: Call) -> Fault | None:
        return None

    def latency(self) -> float:
        return self.world.draw.uniform(0.005, 0.1)

    def freeze(self) -> float:
        if self.frozen_for is not None:
            return self.frozen_for
        return LEASE * self.world.draw.uniform(1.1, 3)

    def before(self, call: Call) -> None:
        self.watcher.before(call)

    def after(self, call: Call, answer: object) -> None:
        self.watcher.after(call, answer)

    def heard(self, call: Call, answer: object) -> None:
        self.watcher.heard(call, answer)


Wrap = Callable[[Store, Host], Store]


@dataclass
class Theatre:
    world: World
    versioned: bool = False
    max_attempts: int = 5
    shard_items: int = 200
    on_work: Callable[[str], None] = lambda key: None
    """What the platform does when a shard is put."""
    quota: Quota = field(default=Quota())
    names: int = 0
    trouble: Callable[[Host], None] = lambda host: None
    buckets: dict[str, MemoryStore] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("inbox", "results", "control"):
            versioned = self.versioned and name == "results"
            self.buckets[name] = MemoryStore(name, self.world.clock, versioned=versioned)
        self.watcher = Watcher(self.world, *self.buckets.values())
        self.watcher.on_work = lambda key: self.on_work(key)
        self.plan: Plan = NoFaults(self.watcher, self.world)
        self.voices: list[Humming] = []

    def host(self, role: str, skew: float = 0.0) -> Host:
        self.names += 1
        return self.world.host(f"{role}{self.names}", skew)

    def runtime(self, host: Host, engine: str = ENGINES[0], plan: Plan | None = None) -> Runtime:
        """As a fresh worker on this host builds it."""
        self.watcher.engine(host.name, engine)
        voice = Humming(fingerprint=engine, world=self.world, host=host, trouble=self.trouble)
        self.voices.append(voice)
        stores: dict[str, Any] = {
            name: FaultyStore(store, host, self.world, plan or self.plan)
            for name, store in self.buckets.items()
        }
        return Runtime(
            **stores,
            load_voice=lambda: voice,
            languages=voice.languages,
            keys=keyring(),
            worker=host.name,
            producer="00119111000000000000010000",
            lease_seconds=LEASE,
            max_attempts=self.max_attempts,
            shard_items=self.shard_items,
            quota=self.quota,
        )

    def quiet_runtime(self) -> Runtime:
        """To look at the buckets from outside of time."""
        return Runtime(
            inbox=self.buckets["inbox"],
            results=self.buckets["results"],
            control=self.buckets["control"],
            load_voice=BuzzVoice,
            languages=BuzzVoice().languages,
            keys=keyring(),
            worker="onlooker",
        )

    def deliver(self, *keys_: str, times: int = 4, **worker: Any) -> list[Task]:
        """As the platform does: again after every error, with growing pauses, then no more.
        To be called in a task. Returns the attempts."""
        body = notification(*keys_)
        attempts: list[Task] = []
        for number in range(times):
            host = self.host("w", worker.get("skew", 0.0))
            runtime = self.runtime(host, worker.get("engine", ENGINES[0]))
            attempts.append(self.world.spawn(partial(oss.handle, body, runtime), host))
            self.world.pause(float("inf"), lambda: attempts[-1].done)
            if attempts[-1].error is None:
                break
            self.unexpected(attempts[-1].error)
            self.world.pause(self.world.draw.uniform(0, LEASE) * 2**number)
        return attempts

    def unexpected(self, error: BaseException) -> None:
        if not isinstance(error, JobError | Waiting | Crash):
            self.world.violations.append(repr(error))

    def put(self, key: str, data: bytes) -> None:
        self.buckets["inbox"].put(key, data)


@contextmanager
def playing(world: World) -> Iterator[None]:
    """Inside, leases keep the world's time, and a host's own clock is as wrong as the host says."""

    def skewed() -> float:
        return world.now + (world.me.host.skew if world.inside else 0.0)

    with (
        cached_audio.remembered(),
        mock.patch.object(lease, "threading", threads(world)),
        mock.patch("time.time", skewed),
    ):
        yield


def notification(*keys_: str) -> bytes:
    records = [
        {
            "eventName": "ObjectCreated:PutObject",
            "eventSource": "acs:oss",
            "oss": {
                "bucket": {"name": "control" if key.startswith("work/") else "inbox"},
                "object": {"key": key},
            },
        }
        for key in keys_
    ]
    return json.dumps({"events": records}).encode()


@cache
def reference() -> bytes:
    return REFERENCE.read_bytes()


@cache
def other_reference() -> bytes:
    """What somebody uploads over it."""
    return REFERENCE.with_name("ref_1688.flac").read_bytes()


@cache
def consent_document() -> bytes:
    digests = [hashlib.sha256(data).hexdigest() for data in (reference(), other_reference())]
    return consent.format_consent(consent_record(reference(), ref_audio_sha256=digests))


def manifest(items: int, *, variant: int = 0, wait_s: int = 600, **fields: Any) -> bytes:
    """A document of a few short items; `variant` makes it other bytes at the same key."""
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
