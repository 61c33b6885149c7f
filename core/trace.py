"""Which jobs made what is heard in this recording? Marks found, and resolved in a registry.

A trace says "carries our mark" or "our mark was not found", never that a clip is fake or real: a
recording without our mark may come from anywhere.

The whole recording is read in windows as it streams by, so that several jobs joined in one clip are
told apart, with their places. What that leaves unexplained is searched for changed speed, tempo or
pitch: all of it in a recording of up to a minute, eight samples of a longer one.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Annotated, BinaryIO, Literal

import msgspec
import numpy as np

import watermark
from core.audio import Samples
from core.errors import Failed, Refused
from core.recording import Facts, Recording
from core.registry import Mark
from core.result import Problem
from watermark import Detection
from watermark.embed import RATES

SCHEMA = "voicedrop/trace/1"
THOROUGH_S = 60.0
"""Seconds up to which a recording is searched everywhere for changed speed, tempo and pitch."""
_SAMPLES, _SAMPLE_S = 8, 8.0
_APART = 0.01
"""Channels that differ by more than this share of their power are listened to one by one."""
_WINDOW_S = 3.0
"""Every how many seconds `watermark.scan` looks: each look is one more chance to err."""
_GAP_S = 6.0
"""Two stretches of one job that are nearer than this are one."""

Keys = Mapping[str, bytes]
Resolve = Callable[[int], Mark | None]


class Finding(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One stretch that carries the mark of one item."""

    score: float
    """-log10 of a bound on the probability that unmarked sound scores as high anywhere in a
    recording of this length."""
    payload: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{8}\Z")]
    key_id: str
    job: str = ""
    """Empty if the registry does not know the payload."""
    item: str = ""
    start: float = 0.0
    """Seconds from the beginning of the recording, as is `end`."""
    end: float = 0.0
    tempo: float = 1.0
    """How many times too fast it is played."""
    pitch: float = 1.0
    """How many times too high it is pitched."""


class Clip(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str
    """Object key or file name."""
    sha256: str
    size: int
    seconds: float = 0.0
    channels: int = 0


class Trace(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    schema: Literal["voicedrop/trace/1"] = "voicedrop/trace/1"
    trace_id: str
    clip: Clip
    finished: str
    """RFC 3339, UTC."""
    marked: bool | None = None
    """None: the clip could not be read."""
    score: float = 0.0
    """The highest found."""
    meaning: str
    """The same in words."""
    findings: list[Finding] = []
    """In the order of their beginnings."""
    error: Problem | None = None


def trace(
    file: BinaryIO,
    name: str,
    keys: Keys,
    resolve: Resolve,
    finished: str,
) -> Trace:
    """`file`: one with a descriptor. `keys`: key id -> watermark key. `resolve`: a payload's item.

    Never raises Refused: a clip that cannot be read is a finding too.
    """
    digest = _sha256(file)
    clip = Clip(name=name, sha256=digest, size=os.fstat(file.fileno()).st_size)
    report = Trace(
        trace_id=hashlib.sha256(f"{SCHEMA}\0{digest}".encode()).hexdigest()[:32],
        clip=clip,
        finished=finished,
        meaning="",
    )
    try:
        facts, found = _search(file, name, keys)
    except (Refused, Failed) as exc:
        meaning = f"The clip could not be read ({exc.code}): {exc.message}"
        return msgspec.structs.replace(report, meaning=meaning, error=Problem.of(exc))
    findings = [_finding(one, facts, resolve) for one in _joined(found)]
    score = max((one.score - _tries(facts) for one in found), default=0.0)
    return msgspec.structs.replace(
        report,
        clip=msgspec.structs.replace(
            clip, seconds=round(facts.seconds, 3), channels=facts.channels
        ),
        marked=bool(found),
        score=round(score, 2),
        meaning=_meaning(score, findings, marked=bool(found)),
        findings=findings,
    )


def _sha256(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    while part := file.read(1 << 20):
        digest.update(part)
    return digest.hexdigest()


def _search(file: BinaryIO, name: str, keys: Keys) -> tuple[Facts, list[Detection]]:
    """Every marked stretch. Raises Refused, Failed."""
    held: list[Samples] = []
    rate, facts, found = _pass(file, name, keys, held=held)
    if facts.channels > 1 and facts.apart > _APART:
        for channel in range(facts.channels):
            found += _pass(file, name, keys, channel=channel)[2]
    if facts.seconds <= THOROUGH_S:
        found += _thorough(np.concatenate(held), rate, keys, found)
    elif not found:
        found += _sampled(file, name, keys, facts)
    found = [one for one in found if one.score - _tries(facts) >= watermark.CLAIM]
    if facts.damaged and not found:
        raise Refused("AUDIO_CORRUPT", f"Damaged after {facts.seconds:.1f} s.", pointer=name)
    return facts, found


def _pass(
    file: BinaryIO,
    name: str,
    keys: Keys,
    *,
    channel: int | None = None,
    tempo: float = 1.0,
    held: list[Samples] | None = None,
) -> tuple[int, Facts, list[Detection]]:
    """Read the recording once, in windows. `tempo`: how many times too fast it is played; `held`
    is given its first minute."""
    recording = Recording(file, name=name, channel=channel)
    rate = recording.rate
    blocks = recording if held is None else _tapped(recording, held, int(THOROUGH_S * rate) + 1)
    found = [
        replace(run, start=run.start / tempo, end=run.end / tempo, tempo=run.tempo * tempo)
        for _, _, run in watermark.scan(blocks, round(rate / tempo), keys)
    ]
    return rate, recording.facts, found


def _tapped(blocks: Iterable[Samples], held: list[Samples], most: int) -> Iterator[Samples]:
    for block in blocks:
        if most > 0:
            held.append(block[:most])
            most -= len(block)
        yield block


def _thorough(whole: Samples, rate: int, keys: Keys, found: list[Detection]) -> list[Detection]:
    """What is warped in the parts of a short recording in which nothing was found."""
    more = []
    for start, end in _gaps(found, len(whole) / rate):
        part = whole[int(start * rate) : int(end * rate)]
        runs = [run for _, _, run in watermark.scan([part], rate, keys, thorough=True)]
        more += [replace(run, start=run.start + start, end=run.end + start) for run in runs]
    if found or more:
        return more
    # Weaker marks show where longer windows are looked at.
    best = watermark.detect_any(whole, rate, keys, thorough=True)
    return [best] if best.marked else []


def _gaps(found: list[Detection], seconds: float) -> Iterator[tuple[float, float]]:
    """Parts long enough to carry a mark that can be read."""
    at = 0.0
    for one in sorted(found, key=lambda one: one.start):
        if one.start - at >= _WINDOW_S:
            yield at, one.start
        at = max(at, one.end)
    if seconds - at >= _WINDOW_S or at == 0.0:
        yield at, seconds


def _sampled(file: BinaryIO, name: str, keys: Keys, facts: Facts) -> list[Detection]:
    """A long recording in which nothing was found: is it warped as a whole?"""
    for start, part, rate in _samples(file, name, facts):
        best = watermark.detect_any(part, rate, keys, thorough=True)
        if best.marked:
            readable = round(rate / best.tempo) in RATES
            if abs(best.tempo - best.pitch) < 0.003 and readable:
                # Played too fast or too slowly: undone, all of it can be read.
                return _pass(file, name, keys, tempo=best.tempo)[2]
            return [replace(best, start=best.start + start, end=best.end + start)]
    return []


def _samples(file: BinaryIO, name: str, facts: Facts) -> list[tuple[float, Samples, int]]:
    """Eight parts of 8 s, evenly spread: (start, samples, rate)."""
    recording = Recording(file, name=name)
    rate = recording.rate
    starts = np.linspace(0, facts.seconds - _SAMPLE_S, _SAMPLES)
    parts: list[list[Samples]] = [[] for _ in starts]
    at = 0
    for block in recording:
        for start, part in zip(starts, parts, strict=True):
            first = int(start * rate) - at
            cut = block[max(first, 0) : max(first + int(_SAMPLE_S * rate), 0)]
            part.append(cut.copy())
        at += len(block)
    joined = (np.concatenate(part) for part in parts)
    return [(float(start), part, rate) for start, part in zip(starts, joined, strict=True)]


def _joined(found: list[Detection]) -> list[Detection]:
    """One for each stretch of one item, however often it was found."""
    made: list[Detection] = []
    for one in sorted((f for f in found if f.payload is not None), key=lambda f: f.start):
        last = next((i for i, m in enumerate(made) if _continues(m, one)), None)
        if last is None:
            made.append(one)
        else:
            louder = max(made[last], one, key=lambda f: f.score)
            start, end = made[last].start, max(made[last].end, one.end)
            made[last] = replace(louder, start=start, end=end)
    return made


def _continues(one: Detection, other: Detection) -> bool:
    same = (one.key_id, one.payload) == (other.key_id, other.payload)
    return same and other.start - one.end < _GAP_S


def _tries(facts: Facts) -> float:
    """log10 of how often chance could have misled us, beyond what each score accounts for."""
    views = 1 + (facts.channels if facts.apart > _APART else 0)
    return math.log10(max(1.0, facts.seconds / _WINDOW_S) * views)


def _finding(one: Detection, facts: Facts, resolve: Resolve) -> Finding:
    payload = one.payload or 0
    mark = resolve(payload)
    return Finding(
        score=round(one.score - _tries(facts), 2),
        payload=f"{payload:08x}",
        key_id=one.key_id,
        job=mark.job if mark else "",
        item=mark.item if mark else "",
        start=round(one.start, 2),
        end=round(one.end, 2),
        tempo=round(one.tempo, 4),
        pitch=round(one.pitch, 4),
    )


def _meaning(score: float, findings: list[Finding], *, marked: bool) -> str:
    if not marked:
        return (
            "Our mark was not found. That does not say that the clip is genuine, nor that we did "
            "not make it: it may be too short or too damaged."
        )
    chance = f"by chance this happens less than once in 10^{min(int(score), 30)} clips"
    if not findings:
        return f"Carries our mark ({chance}), but too damaged to say of which job."
    return f"Carries our mark ({chance}): {'; '.join(map(_place, findings))}."


def _place(one: Finding) -> str:
    who = f"item {one.item} of job {one.job}"
    if not one.job:
        who = f"payload {one.payload}, which this registry does not know,"
    changed = []
    if abs(one.tempo - 1) > 0.004:
        changed.append(f"played {abs(one.tempo - 1):.1%} too {'fast' if one.tempo > 1 else 'slow'}")
    if abs(one.pitch - one.tempo) > 0.004:
        changed.append(f"pitched {abs(one.pitch - 1):.1%} too {'high' if one.pitch > 1 else 'low'}")
    return ", ".join([f"{who} from {one.start:.1f} to {one.end:.1f} s", *changed])
