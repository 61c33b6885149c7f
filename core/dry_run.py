"""A dry run: everything that can be wrong is looked at, what speaking would come to is estimated,
and no engine is loaded, no voice learned, nothing spoken.
"""

from __future__ import annotations

import gc
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager

import msgspec

from core.batch import parts
from core.errors import JobError, Refused
from core.job import enrolment
from core.job.each_item import failed
from core.job.enrolment import Admitted
from core.job.reuse import without
from core.job.runtime import Runtime, Stopwatch
from core.manifest.resolve import Item, Job
from core.result import document
from core.result.document import Estimate, LanguageEstimate, Part, Result
from core.result.item_result import ItemResult

RATES = {"en": 14.0, "zh": 4.5, "yue": 4.5, "ja": 7.0, "ko": 6.5}
"""Characters a second of finished speech at speed 1. Measured: docs/performance.md."""
OTHER = 14.0
"""Of a language that is not measured."""


Verdicts = dict[tuple[str, str], JobError | None]


def rehearse(
    draft: Result, job: Job, kept: Collection[str], watch: Stopwatch, runtime: Runtime
) -> Result:
    """What the draft says once everything was looked at. `kept`: ids of items that an earlier job
    has made: they cost nothing and need no voice."""
    asked = without(job, kept)
    voices, used = enrolment.of_job(asked, enrolment.admit, runtime, watch)
    verdicts = _verdicts(asked, voices, runtime)
    good = [one for one in asked.items if verdicts[one.voice, one.language] is None]
    draft = msgspec.structs.replace(
        draft, voices=used, estimate=estimate(good, runtime.price), stages=watch.seconds
    )
    with _uncollected():
        items = [failed(e.id, e.index, e.error) for e in job.errors]
        items += [
            _looked_at(one, None if one.id in kept else verdicts[one.voice, one.language])
            for one in job.items
        ]
        items.sort(key=lambda one: one.index)
        return _with_items(draft, items, runtime)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Hundreds of thousands of objects are made here and none of them in a circle: looking through
    all of them for circles, again and again, took a fifth of the processor time of a dry run."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


def _looked_at(item: Item, problem: JobError | None) -> ItemResult:
    if problem:
        return failed(item.id, item.index, problem, item)
    return ItemResult(
        id=item.id,
        index=item.index,
        status="validated",
        voice=item.voice,
        notices=list(item.notices),
        meta=item.meta,
    )


def _with_items(draft: Result, items: list[ItemResult], runtime: Runtime) -> Result:
    """Many items go into parts, for they are too many for one document."""
    totals = document.count_totals(items, {})
    draft = msgspec.structs.replace(
        draft, totals=totals, status=document.overall_status(totals, dry=True)
    )
    if len(items) <= runtime.shard_items:
        return msgspec.structs.replace(draft, items=items)
    # Nobody waits for a part of a dry run, and every file costs.
    fit = 10 * runtime.shard_items
    count = parts.count(draft.job_id, runtime) or -(-len(items) // fit)
    for number in range(count):
        some = items[slice(*(n * len(items) // count for n in (number, number + 1)))]
        totals = document.count_totals(some, {})
        part = Part(job_id=draft.job_id, number=number, of=count, totals=totals, items=some)
        parts.put(part, runtime)
    found, attachments = parts.gather(draft.job_id, count, runtime)
    return msgspec.structs.replace(
        draft,
        status=document.overall_status(found.totals, dry=True),
        totals=found.totals,
        parts=found.refs,
        attachments=attachments,
    )


def estimate(items: list[Item], price: float) -> Estimate:
    """By the speaking rate of each language. `price`: of a minute of speech; 0: not known."""
    groups: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        groups[item.language].append(item)
    languages = {
        language: LanguageEstimate(
            items=len(group),
            characters=sum(len(item.text) for item in group),
            audio_s=round(sum(map(seconds, group)), 1),
        )
        for language, group in sorted(groups.items())
    }
    audio_s = round(sum(one.audio_s for one in languages.values()), 1)
    return Estimate(
        items=len(items),
        characters=sum(one.characters for one in languages.values()),
        audio_s=audio_s,
        languages=languages,
        cost=round(audio_s / 60 * price, 4) if price else None,
    )


def seconds(item: Item) -> float:
    """About how long the item will be."""
    return len(item.text) / RATES.get(item.language, OTHER) / item.speed + item.pause_ms / 1000


def _verdicts(job: Job, voices: Mapping[str, Admitted | JobError], runtime: Runtime) -> Verdicts:
    """Voice and language -> why items of them cannot be spoken; None if they can."""
    asked = {(item.voice, item.language) for item in job.items if item.voice in voices}
    return {pair: _verdict(voices[pair[0]], pair[1], runtime) for pair in asked}


def _verdict(voice: Admitted | JobError, language: str, runtime: Runtime) -> JobError | None:
    if isinstance(voice, JobError):
        return voice
    if language not in runtime.voice.languages:
        spoken = ", ".join(sorted(runtime.voice.languages))
        return Refused("LANGUAGE_UNSUPPORTED", f"The engine speaks {spoken}.")
    try:
        voice.gate.admit(language)
    except Refused as exc:
        return exc
    return None
