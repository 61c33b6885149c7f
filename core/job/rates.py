"""How fast an engine works here: learned from the items that were made, for dry runs to estimate.

    control  rates/<engine>.json  signed; each process replaces it at most once a minute

Of two processes that replace it at the same time, one loses what it measured in that minute: rates
are medians over many jobs, and a lock would cost a request more than that is worth. They contain
numbers by language, and nothing about who spoke or what was said.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Literal, TypeVar

import msgspec

from core.crypto.keys import Keyring
from core.documents import signed
from core.documents.signed import Signature
from core.errors import JobError, Refused
from core.label import aigc
from core.manifest.resolve import Item, Job
from core.result.item_result import ItemResult
from core.settings import Engine
from core.storage.object_keys import rates_key
from core.storage.port import Store
from core.text.annotated import count_spoken, pause_seconds

log = logging.getLogger("voicedrop.rates")
T = TypeVar("T")

KEPT = 25
"""Samples that count, the newest ones, so that a changed machine is learned after some jobs."""
INTERVAL_S = 60.0
"""Between two replacements by one process: requests cost, too."""
_LIMIT = 1 << 20


class Sample(msgspec.Struct, frozen=True, array_like=True):
    """What was measured of items in one language, between two replacements."""

    items: int = 0
    characters: int = 0
    speech_s: float = 0.0
    """Seconds of speech at normal speed, without pauses after items and audible labels."""
    work_s: float = 0.0
    """Charged seconds (core/job/meter.py), without those of learning voices."""

    def __add__(self, other: Sample) -> Sample:
        return Sample(
            self.items + other.items,
            self.characters + other.characters,
            round(self.speech_s + other.speech_s, 3),
            round(self.work_s + other.work_s, 3),
        )


class Learned(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The rates of an engine, as they are stored."""

    schema: Literal["voicedrop/rates/1"] = "voicedrop/rates/1"
    engine: str
    items: dict[str, int] = {}
    """Stated language -> items that were ever measured."""
    samples: dict[str, list[Sample]] = {}
    """Stated language -> samples, the newest last."""
    voices_s: list[float] = []
    """Seconds in which a voice was learned, the newest last."""
    signature: Signature | None = None

    def characters_per_s(self, language: str) -> float | None:
        """Return the characters in a second of speech; None if the language was not measured."""
        samples = self.samples.get(language, [])
        return _median(samples, lambda one: one.characters / one.speech_s, lambda one: one.speech_s)

    def real_time_factor(self, language: str) -> float | None:
        """Return the seconds of work for a second of speech; None as above."""
        samples = self.samples.get(language, [])
        return _median(samples, lambda one: one.work_s / one.speech_s, lambda one: one.speech_s)

    def voice_s(self) -> float | None:
        """Return the seconds in which a voice is learned; None if that was not measured."""
        return _median(self.voices_s, lambda seconds: seconds, lambda seconds: 1.0)


class Rates:
    """The rates of one engine, and what this process has measured and not yet stored."""

    def __init__(self, engine: Engine = "kokoro") -> None:
        self.engine = engine
        self._lock = threading.Lock()
        self._measured: dict[str, Sample] = {}
        self._voices_s: list[float] = []
        self._next = 0.0
        """When what is measured may be stored, by the clock of this process."""

    def measure_items(self, job: Job, results: Iterable[ItemResult], work_s: float) -> None:
        """Learn from items that were made in `work_s` charged seconds.

        An item's share of these seconds is that of its stages, so it does not matter whether items
        were made one after the other.
        """
        items, listed = {item.id: item for item in job.items}, list(results)
        made = [
            (items[one.id], one.output.duration_s, one.timings)
            for one in listed
            if one.output and "speak" in one.timings  # neither kept nor taken from a cache
        ]
        in_stages = sum(sum(one.timings.values()) for one in listed)
        cue_s = aigc.lead_seconds(job.label.cue) + aigc.trail_seconds(job.label.cue)
        with self._lock:
            for item, length_s, timings in made:
                silent_s = item.pause_ms / 1000 + pause_seconds(item.text) + cue_s
                speech_s = (length_s - silent_s) * item.speed
                share_s = work_s * sum(timings.values()) / max(in_stages, 1e-4)
                if speech_s > 0.01:  # less is no speech, and would be rounded to none
                    self._add(item, Sample(1, count_spoken(item.text), speech_s, share_s))

    def _add(self, item: Item, sample: Sample) -> None:
        language = item.language
        self._measured[language] = self._measured.get(language, Sample()) + sample

    def measure_voice(self, seconds: float) -> None:
        """Learn from a voice that was learned in so many seconds."""
        with self._lock:
            self._voices_s.append(round(seconds, 3))

    def store(self, control: Store, keys: Keyring) -> None:
        """Store what was measured, unless this process has stored something a moment ago. A job
        does not fail because its rates cannot be stored."""
        with self._lock:
            if time.monotonic() < self._next or not (self._measured or self._voices_s):
                return
            self._next = time.monotonic() + INTERVAL_S
            measured, self._measured = self._measured, {}
            voices_s, self._voices_s = self._voices_s, []
        try:
            learned = _add_samples(self.read(control, keys), measured, voices_s)
            control.put(rates_key(self.engine), signed.sign(learned, keys.signing))
        except JobError as exc:
            log.warning("Rates are not stored.", extra={"code": exc.code, "error": exc.message})

    def read(self, control: Store, keys: Keyring) -> Learned:
        """Return what is stored; without rates if there is nothing that we signed for this
        engine."""
        with suppress(Refused):
            data = control.get(rates_key(self.engine), limit=_LIMIT).data
            learned = signed.read(data, Learned, keys.verifying)
            if learned.engine == self.engine:
                return learned
        return Learned(engine=self.engine)


def _add_samples(
    learned: Learned, measured: Mapping[str, Sample], voices_s: Sequence[float]
) -> Learned:
    items, samples = dict(learned.items), dict(learned.samples)
    for language, sample in measured.items():
        items[language] = items.get(language, 0) + sample.items
        samples[language] = [*samples.get(language, []), sample][-KEPT:]
    voices = [*learned.voices_s, *voices_s][-KEPT:]
    return msgspec.structs.replace(learned, items=items, samples=samples, voices_s=voices)


def _median(
    samples: Iterable[T], value: Callable[[T], float], weight: Callable[[T], float]
) -> float | None:
    """The weighted median: half of the weight is below it. A job that was disturbed, or that was
    the first after a start, does not move it as it would move a mean."""
    ordered = sorted((value(one), weight(one)) for one in samples)
    half, below = sum(part for _, part in ordered) / 2, 0.0
    for found, part in ordered:
        below += part
        if below >= half:
            return found
    return None
