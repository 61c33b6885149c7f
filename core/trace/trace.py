"""Which jobs made what is heard in this recording? Marks found, and resolved in a registry.

A trace says "carries our mark" or "our mark was not found", never that a clip is fake or real: a
recording without our mark may come from anywhere.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from typing import Annotated, BinaryIO, Literal

import msgspec

from core.errors import Failed, Refused
from core.result.item_result import Problem
from core.trace.registry import Mark
from core.trace.scan import Keys, merge_detections, search_recording
from watermark import Detection

SCHEMA = "voicedrop/trace/1"

Resolve = Callable[[int], Mark | None]


class MarkedStretch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
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
    findings: list[MarkedStretch] = []
    """In the order of their beginnings."""
    error: Problem | None = None


def trace_recording(
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
        facts, found = search_recording(file, name, keys)
    except (Refused, Failed) as exc:
        meaning = f"The clip could not be read ({exc.code}): {exc.message}"
        return msgspec.structs.replace(report, meaning=meaning, error=Problem.of(exc))
    findings = [_marked_stretch(one, resolve) for one in merge_detections(found)]
    score = max((one.score for one in found), default=0.0)
    return msgspec.structs.replace(
        report,
        clip=msgspec.structs.replace(
            clip, seconds=round(facts.seconds, 3), channels=facts.channels
        ),
        marked=bool(found),
        score=round(score, 2),
        meaning=_describe(score, findings, marked=bool(found)),
        findings=findings,
    )


def _sha256(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    while part := file.read(1 << 20):
        digest.update(part)
    return digest.hexdigest()


def _marked_stretch(one: Detection, resolve: Resolve) -> MarkedStretch:
    payload = one.payload or 0
    mark = resolve(payload)
    return MarkedStretch(
        score=round(one.score, 2),
        payload=f"{payload:08x}",
        key_id=one.key_id,
        job=mark.job if mark else "",
        item=mark.item if mark else "",
        start=round(one.start, 2),
        end=round(one.end, 2),
        tempo=round(one.tempo, 4),
        pitch=round(one.pitch, 4),
    )


def _describe(score: float, findings: list[MarkedStretch], *, marked: bool) -> str:
    if not marked:
        return (
            "Our mark was not found. That does not say that the clip is genuine, nor that we did "
            "not make it: it may be too short or too damaged."
        )
    chance = f"by chance this happens less than once in 10^{min(int(score), 30)} clips"
    if not findings:
        return f"Carries our mark ({chance}), but too damaged to say of which job."
    return f"Carries our mark ({chance}): {'; '.join(map(_describe_stretch, findings))}."


def _describe_stretch(one: MarkedStretch) -> str:
    who = f"item {one.item} of job {one.job}"
    if not one.job:
        who = f"payload {one.payload}, which this registry does not know,"
    changed = []
    if abs(one.tempo - 1) > 0.004:
        changed.append(f"played {abs(one.tempo - 1):.1%} too {'fast' if one.tempo > 1 else 'slow'}")
    if abs(one.pitch - one.tempo) > 0.004:
        changed.append(f"pitched {abs(one.pitch - 1):.1%} too {'high' if one.pitch > 1 else 'low'}")
    return ", ".join([f"{who} from {one.start:.1f} to {one.end:.1f} s", *changed])
