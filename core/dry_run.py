"""A dry run: check everything that can be wrong, and estimate length and cost.

No engine is loaded, no voice is enrolled and nothing is spoken.
"""

from __future__ import annotations

import gc
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import msgspec

from core.batch import parts
from core.errors import JobError, Refused
from core.job import admission, enrolment
from core.job.accept import AcceptedJob
from core.job.admission import Admitted
from core.job.each_item import failed_item, refuse_language
from core.job.runtime import Runtime, Stopwatch
from core.manifest.resolve import Item, Job
from core.result import document
from core.result.document import Estimate, LanguageEstimate, Part, Result
from core.result.item_result import ItemResult

RATES = {"en": 14.0, "zh": 4.5, "yue": 4.5, "ja": 7.0, "ko": 6.5}
"""Approximate characters per second of finished speech at speed 1, by language."""
OTHER_RATE = 14.0
"""The same for any other language."""


class _Use(NamedTuple):
    voice: str
    language: str
    """As stated."""
    spoken: Collection[str]
    """The languages in which the text is spoken."""


def validate(
    result: Result, accepted: AcceptedJob, stopwatch: Stopwatch, runtime: Runtime
) -> Result:
    """The result of a dry run. Items that an earlier job made cost nothing and need no voice."""
    job, to_make = accepted.job, accepted.to_make
    voices = admission.admit_voices(to_make, runtime, stopwatch)
    errors = _errors_by_item(to_make, voices, runtime)
    speakable = [item for item in to_make.items if errors[item.index] is None]
    result = msgspec.structs.replace(
        result,
        voices=enrolment.describe_voices(job, voices),
        estimate=estimate(speakable, runtime.price),
        stages=stopwatch.seconds,
    )
    with _without_garbage_collection():
        items = [failed_item(bad.id, bad.index, bad.error) for bad in job.errors]
        items += [_validated(item, errors.get(item.index)) for item in job.items]
        items.sort(key=lambda item: item.index)
        return _add_items(result, items, runtime)


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """The block makes hundreds of thousands of objects and no reference cycles; searching them for
    cycles took a fifth of the processor time of a dry run."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _validated(item: Item, error: JobError | None) -> ItemResult:
    if error:
        return failed_item(item.id, item.index, error, item)
    return ItemResult(
        id=item.id,
        index=item.index,
        status="validated",
        voice=item.voice,
        notices=list(item.notices),
        meta=item.meta,
    )


def _add_items(result: Result, items: list[ItemResult], runtime: Runtime) -> Result:
    """The result with its items, or with parts if they are too many for one document."""
    totals = document.count_totals(items, {})
    if len(items) <= runtime.shard_items:
        status = document.overall_status(totals, dry=True)
        return msgspec.structs.replace(result, totals=totals, status=status, items=items)
    # Larger than those of shards, because every object costs and nobody waits for one of these.
    most = 10 * runtime.shard_items
    count = parts.read_part_count(result.job_id, runtime) or -(-len(items) // most)
    for number in range(count):
        some = items[slice(*(n * len(items) // count for n in (number, number + 1)))]
        totals = document.count_totals(some, {})
        part = Part(job_id=result.job_id, number=number, of=count, totals=totals, items=some)
        parts.put_part(part, runtime)
    gathered, attachments = parts.gather_parts(result.job_id, count, runtime)
    return msgspec.structs.replace(
        result,
        status=document.overall_status(gathered.totals, dry=True),
        totals=gathered.totals,
        parts=gathered.refs,
        attachments=attachments,
    )


def estimate(items: list[Item], price: float) -> Estimate:
    """Length and cost by the speaking rate of each language.

    `price`: of a minute of speech, in any currency; 0: unknown.
    """
    by_language: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        by_language[item.language].append(item)
    languages = {
        language: LanguageEstimate(
            items=len(group),
            characters=sum(len(item.text) for item in group),
            audio_s=round(sum(map(estimated_seconds, group)), 1),
        )
        for language, group in sorted(by_language.items())
    }
    audio_s = round(sum(expected.audio_s for expected in languages.values()), 1)
    return Estimate(
        items=len(items),
        characters=sum(expected.characters for expected in languages.values()),
        audio_s=audio_s,
        languages=languages,
        cost=round(audio_s / 60 * price, 4) if price else None,
    )


def estimated_seconds(item: Item) -> float:
    """The estimated length of an item, with the pause after it."""
    rate = RATES.get(item.language, OTHER_RATE)
    return len(item.text) / rate / item.speed + item.pause_ms / 1000


def _errors_by_item(
    job: Job, voices: Mapping[str, Admitted | JobError], runtime: Runtime
) -> dict[int, JobError | None]:
    """Index of an item -> why it cannot be spoken; None if it can."""
    known: dict[_Use, JobError | None] = {}
    errors: dict[int, JobError | None] = {}
    for item in job.items:
        voice = voices[item.voice]
        if isinstance(voice, JobError):
            errors[item.index] = voice
            continue
        spoken = voice.gate.spoken_languages(item.text, item.language)
        use = _Use(item.voice, item.language, spoken)
        if use not in known:
            known[use] = _error(voice, use, runtime)
        errors[item.index] = known[use]
    return errors


def _error(voice: Admitted, use: _Use, runtime: Runtime) -> JobError | None:
    try:
        refuse_language(use.language, runtime)
        voice.gate.admit(*use.spoken)
    except Refused as exc:
        return exc
    return None
