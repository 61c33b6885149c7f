"""What a job needs that outlives it, and what it tells while it runs."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from core.crypto.keys import Keyring
from core.errors import Misconfigured
from core.job.quota import Quota
from core.settings import ConsentPolicy, MarkPreset
from core.speech.recognise import Transcribe
from core.storage.port import Store
from core.voice import Voice


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A stage of a job has begun (`seconds` is None) or ended."""

    job: str
    stage: str
    item: str = ""
    seconds: float | None = None
    audio_seconds: float = 0.0
    """Sound made by this stage, where it makes any: with `seconds` this is the real-time factor."""


Observer = Callable[[Step], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """Built in `handlers/wiring.py`; a test builds its own."""

    inbox: Store
    results: Store
    control: Store
    voice: Voice
    keys: Keyring
    worker: str
    """1 to 16 of 0-9 A-Z a-z . _ -, unique to this run: it must fit into a lease's record."""
    mark: MarkPreset = "balanced"
    consent: ConsentPolicy = "required"
    producer: str = ""
    """Provider code for the AIGC label, where the manifest gives none."""
    lease_seconds: float = 30.0
    max_attempts: int = 5
    quota: Quota = field(default=Quota())
    shard_items: int = 200
    """Jobs of more items are cut into shards."""
    price: float = 0.0
    """Of a minute of speech; 0: not known."""
    transcribe: Transcribe | None = None
    """A recogniser, to compare recordings with their transcripts."""
    observe: Observer = field(default=lambda step: None)

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[0-9A-Za-z._-]{1,16}", self.worker):
            message = f"A worker's name has 1 to 16 of 0-9 A-Z a-z . _ -, unlike {self.worker!r}."
            raise Misconfigured("SETTING_INVALID", message)


class Stopwatch:
    """Seconds spent in each stage of one job or item."""

    def __init__(self, runtime: Runtime, job: str, item: str = "") -> None:
        self.seconds: dict[str, float] = {}
        self._observe, self._job, self._item = runtime.observe, job, item

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        self._observe(Step(job=self._job, stage=name, item=self._item))
        start = time.perf_counter()
        try:
            yield
        finally:
            self.add(name, time.perf_counter() - start)

    def add(self, name: str, seconds: float, audio_seconds: float = 0.0) -> None:
        self.seconds[name] = round(self.seconds.get(name, 0.0) + seconds, 4)
        self._observe(
            Step(
                job=self._job,
                stage=name,
                item=self._item,
                seconds=seconds,
                audio_seconds=audio_seconds,
            )
        )
