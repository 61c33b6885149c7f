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
from core.errors import JobError, Notice, Refused
from core.job import admission, enrolment
from core.job.accept import AcceptedJob
from core.job.admission import Admitted
from core.job.each_item import failed_item, refuse_language
from core.job.rates import Learned
from core.job.runtime import Runtime, Stopwatch
from core.label import aigc
from core.manifest.resolve import Item, Job
from core.result import document
from core.result.document import Estimate, LanguageEstimate, Part, Result
from core.result.item_result import ItemResult
from core.text.annotated import count_spoken, pause_seconds
from core.text.spoken import check_speakable

RATES = {"en": 14.0, "zh": 4.5, "yue": 4.5, "ja": 7.0, "ko": 6.5}
"""Approximate characters per second of finished speech at speed 1, by language; like the next three
until that was measured here (`core.job.rates`)."""
OTHER_RATE = 14.0
"""The same for any other language."""
REAL_TIME_FACTOR = 0.4
"""Seconds of work for a second of speech: the embedded voice on one core (docs/performance.md)."""
VOICE_S = 15.0
"""Seconds in which the embedded voice is learned."""


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
    errors, left_out = _errors_by_item(to_make, voices, runtime)
    result = msgspec.structs.replace(
        result,
        voices=enrolment.describe_voices(job, voices),
        estimate=_estimate(accepted, voices, errors, runtime),
        stages=stopwatch.seconds,
    )
    with _without_garbage_collection():
        items = [failed_item(bad.id, bad.index, bad.error) for bad in job.errors]
        items += [
            _validated(item, errors.get(item.index), left_out.get(item.index, []))
            for item in job.items
        ]
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


def _validated(item: Item, error: JobError | None, left_out: list[Notice]) -> ItemResult:
    if error:
        return failed_item(item.id, item.index, error, item)
    return ItemResult(
        id=item.id,
        index=item.index,
        status="validated",
        voice=item.voice,
        notices=[*item.notices, *left_out],
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


def _estimate(
    accepted: AcceptedJob,
    voices: Mapping[str, Admitted | JobError],
    errors: Mapping[int, JobError | None],
    runtime: Runtime,
) -> Estimate:
    """Speech, work and cost of the items without error, by the rates that were learned here."""
    job, learned = accepted.to_make, runtime.rates.read(runtime.control, runtime.keys)
    by_language: dict[str, list[Item]] = defaultdict(list)
    for item in job.items:
        if errors[item.index] is None:
            by_language[item.language].append(item)
    languages = {
        language: _estimate_language(group, job, learned)
        for language, group in sorted(by_language.items())
    }
    speaking = {item.voice for group in by_language.values() for item in group}
    new = [
        name
        for name, voice in voices.items()
        if name in speaking
        and isinstance(voice, Admitted)
        and not enrolment.is_kept(voice, job.voices[name], runtime)
    ]
    voice_s = learned.voice_s()
    seconds = len(new) * (VOICE_S if voice_s is None else voice_s)
    seconds += sum(one.audio_s * (one.real_time_factor or 0) for one in languages.values())
    is_measured = bool(languages) and all(one.measured for one in languages.values())
    made = Estimate(
        items=sum(one.items for one in languages.values()),
        characters=sum(one.characters for one in languages.values()),
        audio_s=round(sum(one.audio_s for one in languages.values()), 1),
        languages=languages,
        basis="measured" if is_measured else "default",
        voices=len(new),
        seconds=round(seconds, 1),
    )
    return _add_cost(made, accepted.count, runtime)


def _add_cost(estimate: Estimate, count: int, runtime: Runtime) -> Estimate:
    """The price of a minute of speech counts where the work cannot be priced, or was not measured.

    `count`: items in the manifest.
    """
    table, minute = runtime.prices, runtime.price
    if minute and (table is None or estimate.basis == "default"):
        return msgspec.structs.replace(estimate, cost=round(estimate.audio_s / 60 * minute, 4))
    if table is None:
        return estimate
    shards = -(-count // runtime.shard_items) if count > runtime.shard_items else 0
    cost = table.cost(estimate.seconds or 0.0, 1 + shards)
    return msgspec.structs.replace(estimate, cost=cost.amount, currency=cost.currency)


def _estimate_language(items: list[Item], job: Job, learned: Learned) -> LanguageEstimate:
    """Speech in one stated language, with pauses after items and audible labels."""
    language = items[0].language
    rate = learned.characters_per_s(language) or RATES.get(language, OTHER_RATE)
    factor = learned.real_time_factor(language)
    silent_s = sum(item.pause_ms / 1000 + pause_seconds(item.text) for item in items)
    silent_s += (aigc.lead_seconds(job.label.cue) + aigc.trail_seconds(job.label.cue)) * len(items)
    return LanguageEstimate(
        items=len(items),
        characters=sum(count_spoken(item.text) for item in items),
        audio_s=round(
            sum(count_spoken(item.text) / item.speed for item in items) / rate + silent_s, 1
        ),
        measured=learned.items.get(language, 0),
        characters_per_s=round(rate, 3),
        real_time_factor=round(REAL_TIME_FACTOR if factor is None else factor, 4),
    )


def _errors_by_item(
    job: Job, voices: Mapping[str, Admitted | JobError], runtime: Runtime
) -> tuple[dict[int, JobError | None], dict[int, list[Notice]]]:
    """Index of an item -> why it cannot be spoken, None if it can; and what is left out of it."""
    known: dict[_Use, JobError | None] = {}
    errors: dict[int, JobError | None] = {}
    left_out: dict[int, list[Notice]] = {}
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
        if known[use] is None:
            try:
                pointer = item.pointer + "/text"
                notices = check_speakable(item.text, item.language, runtime.front_end, pointer)
            except Refused as exc:
                errors[item.index] = exc
            else:
                left_out |= {item.index: notices} if notices else {}
    return errors, left_out


def _error(voice: Admitted, use: _Use, runtime: Runtime) -> JobError | None:
    try:
        refuse_language(use.language, runtime.languages)
        voice.gate.admit(*use.spoken)
    except Refused as exc:
        return exc
    return None
