"""The environment of all jobs (`Runtime`), an attempt at a job (`Run`) and its end (`Outcome`)."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial

from core.consent import protection
from core.consent.gate import ConsentRegister
from core.consent.protection import ProtectedVoices
from core.crypto.keys import Keyring
from core.errors import Misconfigured
from core.job.cancellation import Cancellation
from core.job.label_policy import LabelPolicy
from core.job.lanes import Concurrency, Lanes
from core.job.lease import Lease
from core.job.meter import Meter
from core.job.quota import Quota
from core.job.rates import Rates
from core.result.cost import Cost, PriceTable
from core.result.document import Result
from core.result.item_result import ItemResult
from core.settings import CacheStore, ConsentPolicy, MarkPreset, Preparation, SpeechCacheStore
from core.speech.recognise import Transcribe
from core.storage.cache import BucketCache, Cache
from core.storage.port import Store
from core.text.spoken import FrontEnd
from core.tlog import sequencer
from core.voice import Voice


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A stage of a job has begun (`seconds` is None) or ended, or an item is done (`result`)."""

    job: str
    stage: str = ""
    item: str = ""
    seconds: float | None = None
    audio_seconds: float = 0.0
    """Seconds of sound that the stage made; `seconds` / `audio_seconds` is the real-time factor."""
    result: ItemResult | None = None
    done: int = 0
    """Items of the job or shard that are done, this one included, out of `of`."""
    of: int = 0


Observer = Callable[[Step], None]
"""Called by every thread that works on a job, so it must be safe for threads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """The stores, keys, voice and limits that all jobs of a process share."""

    inbox: Store
    results: Store
    control: Store
    load_voice: Callable[[], Voice]
    """Return the voice engine; the first call loads it."""
    identify_voice: Callable[[], str] | None = None
    """Return the engine's fingerprint without loading it; None: it has to be loaded."""
    front_end: FrontEnd
    """What the engine reads, and in which language."""
    keys: Keyring
    worker: str
    """Unique name of this worker: 1 to 16 of 0-9 A-Z a-z . _ -, to fit into a lease's record."""
    mark: MarkPreset = "balanced"
    consent: ConsentPolicy = "required"
    prepare: Preparation = "best"
    """How recordings are prepared, unless the manifest says it."""
    producer: str = ""
    """Provider code for the AIGC label, unless the manifest gives one."""
    labels: LabelPolicy = field(default=LabelPolicy())
    lease_seconds: float = 30.0
    max_attempts: int = 5
    quota: Quota = field(default=Quota())
    trace_seconds: float = 360.0
    """Seconds that the trace of a clip may take."""
    shard_items: int = 200
    """Items per shard; a job with more items is cut into shards."""
    lanes: int = 0
    """Items of a job that are made at once; 0: as many as the engine can use (`Voice.callers`)."""
    concurrency: Concurrency = field(default_factory=Concurrency)
    redis: Cache | None = None
    """None: nothing is kept in a Redis."""
    voice_cache: CacheStore = "bucket"
    """Where voiceprints are kept."""
    speech_cache: SpeechCacheStore = "off"
    """Where spoken items are kept."""
    cache_seconds: float = 86_400.0
    """Lifetime of a spoken item that is kept."""
    price: float = 0.0
    """Price of a minute of speech; 0: estimates give none."""
    prices: PriceTable | None = None
    """What seconds and calls cost; None: results state no cost."""
    meter: Meter = field(default_factory=Meter)
    rates: Rates = field(default_factory=Rates)
    hear_statement: Transcribe | None = None
    """Speech recogniser for recorded statements of consent; None: their words are not compared."""
    transcribe: Transcribe | None = None
    """Speech recogniser that compares recordings with their transcripts; None: not compared."""
    observe: Observer = field(default=lambda step: None)
    tell: Callable[[str, bytes], str] | None = None
    """Try to tell the operator's web server about an event (`handlers.webhook.deliver`), given the
    name of the queued delivery and the event; None: there is no such server."""

    @property
    def voice(self) -> Voice:
        return self.load_voice()

    @property
    def languages(self) -> frozenset[str]:
        """The languages that the engine speaks."""
        return self.front_end.languages

    @property
    def fingerprint(self) -> str:
        """`voice.fingerprint`, without loading the engine if possible."""
        return self.identify_voice() if self.identify_voice else self.voice.fingerprint

    @property
    def caches(self) -> list[Cache]:
        """Where something may be kept of voices."""
        return [BucketCache(self.control), *([self.redis] if self.redis else [])]

    @property
    def voiceprints(self) -> Cache:
        """Where voiceprints are kept."""
        return self._find_cache(self.voice_cache)

    @property
    def spoken(self) -> Cache | None:
        """Where spoken items are kept; None: nowhere."""
        return None if self.speech_cache == "off" else self._find_cache(self.speech_cache)

    def _find_cache(self, store: CacheStore) -> Cache:
        return self.redis if self.redis and store == "redis" else BucketCache(self.control)

    @property
    def consents(self) -> ConsentRegister:
        return ConsentRegister(
            inbox=self.inbox,
            results=self.results,
            control=self.control,
            caches=self.caches,
            keys=self.keys,
            policy=self.consent,
            front_end=self.front_end,
            queue=partial(
                sequencer.enqueue_withdrawal,
                results=self.results,
                control=self.control,
                keys=self.keys.verifying.values(),
            ),
        )

    def protected_voices(self) -> ProtectedVoices:
        """The protections that are in force now."""
        return protection.read_protected_voices(self.control, self.keys)

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[0-9A-Za-z._-]{1,16}", self.worker):
            message = f"A worker's name must be 1 to 16 of 0-9 A-Z a-z . _ -, not {self.worker!r}."
            raise Misconfigured("SETTING_INVALID", message)


class Stopwatch:
    """Measures the stages of a job or item."""

    def __init__(self, runtime: Runtime, job: str, item: str = "") -> None:
        self.seconds: dict[str, float] = {}
        """Stage -> seconds spent in it."""
        self._observe, self._step = runtime.observe, Step(job=job, item=item)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure a stage. One that raises is measured, but its end is not reported: observers say
        that the voice was learned."""
        self.begin(name)
        start = time.perf_counter()
        try:
            yield
        except BaseException:
            self._count(name, time.perf_counter() - start)
            raise
        self.add(name, time.perf_counter() - start)

    def begin(self, name: str) -> None:
        """Report that a stage begins, of which `add` tells how long it took."""
        self._observe(replace(self._step, stage=name))

    def add(self, name: str, seconds: float, audio_seconds: float = 0.0) -> None:
        self._count(name, seconds)
        step = replace(self._step, stage=name, seconds=seconds, audio_seconds=audio_seconds)
        self._observe(step)

    def _count(self, name: str, seconds: float) -> None:
        self.seconds[name] = round(self.seconds.get(name, 0.0) + seconds, 4)


@dataclass(frozen=True, slots=True)
class Run:
    """One attempt at a job, or at one shard of it, by the worker that holds its lease."""

    name: str
    """Name of the lease: the job id, or `<job id>.<number>` for a shard."""
    job_id: str
    lease: Lease
    runtime: Runtime
    cancellation: Cancellation
    lanes: Lanes = field(default_factory=Lanes)

    def check(self) -> None:
        """Raises what ends work on the job: Unavailable LEASE_LOST, or Stopped if another lane of
        it has failed, or all jobs of the process end."""
        self.lease.check()
        self.lanes.check()
        self.runtime.concurrency.jobs.check()

    def stopwatch(self, item: str = "") -> Stopwatch:
        return Stopwatch(self.runtime, self.job_id, item)

    def cost(self) -> Cost | None:
        """What all attempts that are known have cost so far; None without a price table."""
        prices = self.runtime.prices
        return prices.cost(self.lease.seconds, self.lease.calls) if prices else None


@dataclass(frozen=True, slots=True)
class Finished:
    """The job has a result: it is stored, signed and queued for the log."""

    result: Result


@dataclass(frozen=True, slots=True)
class Waiting:
    """References of the job have not arrived. The job continues when they do."""

    job_id: str
    references: list[str]
    until: float
    """Deadline in Unix seconds by the store's clock."""


@dataclass(frozen=True, slots=True)
class Sharded:
    """The job was cut into shards. The worker that makes the last of them commits the job."""

    job_id: str
    shards: int


Outcome = Finished | Waiting | Sharded
