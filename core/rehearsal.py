"""A dry run: everything that can be wrong is looked at, what speaking would come to is estimated,
and no engine is loaded, no voice learned, nothing spoken.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container
from dataclasses import dataclass, replace

from core import enrolment
from core.enrolment import Admitted
from core.errors import Failed, JobError, Refused
from core.job import Item, Job
from core.result import Estimate, Expected, ItemResult, Problem, VoiceUsed
from core.studio import Stopwatch, Studio

RATES = {"en": 14.0, "zh": 4.5, "yue": 4.5, "ja": 7.0, "ko": 6.5}
"""Characters a second of finished speech at speed 1. Measured: docs/performance.md."""
OTHER = 14.0
"""Of a language that is not measured."""


@dataclass(frozen=True, slots=True)
class Rehearsed:
    items: list[ItemResult]
    voices: dict[str, VoiceUsed]
    estimate: Estimate


Verdicts = dict[tuple[str, str], JobError | None]


def rehearse(job: Job, kept: Container[str], studio: Studio, watch: Stopwatch) -> Rehearsed:
    """`kept`: ids of items that an earlier job has made: they cost nothing and need no voice."""
    asked = replace(job, items=[item for item in job.items if item.id not in kept])
    voices, used = _admit(asked, studio, watch)
    verdicts = _verdicts(asked, voices, studio)
    wanted: list[Item] = []
    items = [
        ItemResult(id=e.id, index=e.index, status="failed", error=Problem.of(e.error))
        for e in job.errors
    ]
    for item in job.items:
        problem = None if item.id in kept else verdicts[item.voice, item.language]
        if item.id not in kept and problem is None:
            wanted.append(item)
        items.append(
            ItemResult(
                id=item.id,
                index=item.index,
                status="failed" if problem else "validated",
                error=Problem.of(problem) if problem else None,
                voice=item.voice,
                notices=list(item.notices),
                meta=item.meta,
            )
        )
    items.sort(key=lambda one: one.index)
    return Rehearsed(items, used, estimate(wanted, studio.price))


def estimate(items: list[Item], price: float) -> Estimate:
    """By the speaking rate of each language. `price`: of a minute of speech; 0: not known."""
    groups: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        groups[item.language].append(item)
    languages = {
        language: Expected(
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


def _admit(
    job: Job, studio: Studio, watch: Stopwatch
) -> tuple[dict[str, Admitted | JobError], dict[str, VoiceUsed]]:
    voices: dict[str, Admitted | JobError] = {}
    used: dict[str, VoiceUsed] = {}
    for name, spec in job.voices.items():
        languages = sorted({item.language for item in job.items if item.voice == name})
        if not languages:
            continue
        try:
            voices[name] = voice = enrolment.admit(name, spec, languages, studio, watch)
        except (Refused, Failed) as exc:
            voices[name] = exc
            used[name] = VoiceUsed(reference=spec.reference, error=Problem.of(exc))
            continue
        used[name] = VoiceUsed(
            reference=spec.reference,
            reference_sha256=voice.sha256,
            consent=voice.consent,
            notices=list(voice.notices),
        )
    return voices, used


def _verdicts(job: Job, voices: dict[str, Admitted | JobError], studio: Studio) -> Verdicts:
    """Voice and language -> why items of them cannot be spoken; None if they can."""
    asked = {(item.voice, item.language) for item in job.items if item.voice in voices}
    return {pair: _verdict(voices[pair[0]], pair[1], studio) for pair in asked}


def _verdict(voice: Admitted | JobError, language: str, studio: Studio) -> JobError | None:
    if isinstance(voice, JobError):
        return voice
    if language not in studio.voice.languages:
        spoken = ", ".join(sorted(studio.voice.languages))
        return Refused("LANGUAGE_UNSUPPORTED", f"The engine speaks {spoken}.")
    try:
        voice.gate.admit(language)
    except Refused as exc:
        return exc
    return None
