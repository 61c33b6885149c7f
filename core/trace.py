"""Which job made this clip? The watermark read, and its payload resolved in the registry.

A trace says "carries our mark" or "our mark was not found", never that a clip is fake or real: a
recording without our mark may come from anywhere.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal

import msgspec

import watermark
from core import audio, reference, registry
from core.errors import Failed, Refused
from core.result import Problem, timestamp
from core.studio import Studio

SCHEMA = "voicedrop/trace/1"


class Finding(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One mark in the clip."""

    score: float
    """-log10 of a bound on the probability that unmarked sound scores as high."""
    payload: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{8}$")]
    key_id: str
    job: str = ""
    """Empty if the registry of this bucket does not know the payload."""
    item: str = ""


class Clip(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str
    """Object key or file name."""
    sha256: str
    size: int
    seconds: float = 0.0


class Trace(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    schema: Literal["voicedrop/trace/1"] = "voicedrop/trace/1"
    trace_id: str
    clip: Clip
    finished: str
    """RFC 3339, UTC."""
    marked: bool | None = None
    """None: the clip could not be read."""
    score: float = 0.0
    meaning: str
    """The same in words."""
    findings: list[Finding] = []
    error: Problem | None = None


def trace(data: bytes, name: str, studio: Studio) -> Trace:
    """Never raises Refused: a clip that cannot be read is a finding too."""
    digest = hashlib.sha256(data).hexdigest()
    clip = Clip(name=name, sha256=digest, size=len(data))
    report = Trace(
        trace_id=hashlib.sha256(f"{SCHEMA}\0{digest}".encode()).hexdigest()[:32],
        clip=clip,
        finished=timestamp(studio.results.now()),
        meaning="",
    )
    try:
        speech, _ = reference.mono(audio.decode(data, name=name), name)
    except (Refused, Failed) as exc:
        meaning = f"The clip could not be read ({exc.code}): {exc.message}"
        return msgspec.structs.replace(report, meaning=meaning, error=Problem.of(exc))
    found = watermark.detect_any(speech.samples, speech.rate, studio.keys.watermark)
    findings = [] if found.payload is None else [_resolve(found, found.payload, studio)]
    return msgspec.structs.replace(
        report,
        clip=msgspec.structs.replace(clip, seconds=round(speech.seconds, 3)),
        marked=found.marked,
        score=round(found.score, 2),
        meaning=_meaning(found, findings),
        findings=findings,
    )


def _resolve(found: watermark.Detection, payload: int, studio: Studio) -> Finding:
    mark = registry.resolve(studio.results, payload)
    return Finding(
        score=round(found.score, 2),
        payload=f"{payload:08x}",
        key_id=found.key_id,
        job=mark.job if mark else "",
        item=mark.item if mark else "",
    )


def _meaning(found: watermark.Detection, findings: list[Finding]) -> str:
    if not found.marked:
        return (
            "Our mark was not found. That does not say that the clip is genuine, nor that we did "
            "not make it: it may be too short or too damaged."
        )
    chance = f"by chance this happens less than once in 10^{min(int(found.score), 30)} clips"
    if not findings:
        return f"Carries our mark ({chance}), but too damaged to say of which job."
    one = findings[0]
    if not one.job:
        return f"Carries our mark {one.payload} ({chance}), which this bucket does not know."
    return f"Carries our mark ({chance}): item {one.item} of job {one.job}."
