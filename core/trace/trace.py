"""Trace a recording to the jobs that produced it: detect marks, resolve them in a registry.

A trace says "carries our mark" or "our mark was not found", never that a clip is fake or genuine: a
recording without our mark may come from anywhere.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Annotated, BinaryIO, Literal

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from core.audio import ffmpeg
from core.audio.stream import MAX_SECONDS, Facts
from core.documents import signed
from core.documents.signed import Signature
from core.errors import Failed, JobError, Refused
from core.result.item_result import Problem
from core.trace.registry import Mark
from core.trace.scan import Budget, Keys, merge_detections, search_recording
from watermark import Detection

SCHEMA = "voicedrop/trace/2"
MAX_BYTES = 64 << 20
"""Largest report that is read."""

_SILENCE_PEAK = 1e-4
"""Above the noise of the last bit of 16, and the largest sample of what is called silent."""
_COPY_AGAIN = "Copy the clip again from where you found it, or convert it to WAV or FLAC."
_ADVICE = {
    "AUDIO_UNRECOGNIZED": "Convert it to WAV or FLAC.",
    "AUDIO_EMPTY": _COPY_AGAIN,
    "AUDIO_NO_SAMPLES": _COPY_AGAIN,
    "AUDIO_HEADER_INVALID": _COPY_AGAIN,
    "AUDIO_TRUNCATED": _COPY_AGAIN,
    "AUDIO_CORRUPT": _COPY_AGAIN,
    "AUDIO_TOO_SHORT": _COPY_AGAIN,
    "AUDIO_DECODE_LIMIT": _COPY_AGAIN,
    "AUDIO_TOO_LONG": "Cut it into parts.",
}
"""Code -> what to do with a clip, where that is not what the producer of a reference has to do."""

Resolve = Callable[[int], Mark | None]


class MarkedStretch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A stretch of a recording that carries the mark of one item."""

    score: float
    """-log10 of a bound on the probability that unmarked audio scores as high anywhere in a
    recording of this length."""
    payload: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{8}\Z")]
    key_id: str
    job: str = ""
    """Empty if the payload is not registered."""
    item: str = ""
    start: float = 0.0
    """Seconds from the beginning of the recording, as is `end`."""
    end: float = 0.0
    tempo: float = 1.0
    """Factor by which the stretch is too fast."""
    pitch: float = 1.0
    """Factor by which its frequencies are too high."""


class Clip(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The recording that was traced."""

    name: str
    """Object key or file name."""
    sha256: str
    size: int
    seconds: float = 0.0
    """If the trace is not complete: what was searched at least once."""
    channels: int = 0


class Trace(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The report on one recording. Reports are signed where they are stored; those of version
    0.1.0 (`voicedrop/trace/1`) were not."""

    schema: Literal["voicedrop/trace/2"] = "voicedrop/trace/2"
    trace_id: str
    clip: Clip
    finished: str
    """RFC 3339, UTC."""
    marked: bool | None = None
    """None: the clip could not be read."""
    score: float = 0.0
    """The highest score of a detection."""
    meaning: str
    """The result as a sentence."""
    findings: list[MarkedStretch] = []
    """Ordered by start."""
    complete: bool = True
    """False: the time for a trace was used up before everything was searched."""
    error: Problem | None = None
    signature: Signature | None = None


def trace_recording(
    file: BinaryIO,
    name: str,
    keys: Keys,
    resolve: Resolve,
    finished: str,
    *,
    seconds: float = math.inf,
) -> Trace:
    """Trace one recording and return the report, also for a clip that cannot be decoded.

    file: must have a descriptor. keys: watermark keys by key id. resolve: returns the item of a
    payload, or None. finished: the time for the report. seconds: the time that the search may take;
    it ends at most a few seconds later, and the report says if it is not complete.
    """
    digest = _sha256(file)
    clip = Clip(name=name, sha256=digest, size=os.fstat(file.fileno()).st_size)
    report = Trace(
        trace_id=id_of_clip(digest),
        clip=clip,
        finished=finished,
        meaning="",
    )
    try:
        budget = Budget(seconds)
        with ffmpeg.converted(
            file, max_seconds=MAX_SECONDS, name=name, max_cpu_s=seconds
        ) as readable:
            facts, detections = search_recording(readable, name, keys, budget)
    except (Refused, Failed) as exc:
        error = _explain(exc)
        meaning = f"The clip could not be decoded ({error.code}): {error.message}"
        return msgspec.structs.replace(report, meaning=meaning, error=error)
    findings = [_marked_stretch(stretch, resolve) for stretch in merge_detections(detections)]
    score = max((stretch.score for stretch in detections), default=0.0)
    return msgspec.structs.replace(
        report,
        clip=msgspec.structs.replace(
            clip, seconds=round(facts.seconds, 3), channels=facts.channels
        ),
        marked=bool(detections),
        score=round(score, 2),
        meaning=_describe(score, findings, facts, marked=bool(detections))
        + (_describe_limit(budget, facts) if budget.was_used_up else ""),
        findings=findings,
        complete=not budget.was_used_up,
    )


def read_report(
    data: bytes, trace_id: str, verifying: Mapping[str, Ed25519PublicKey]
) -> Trace | None:
    """Return the report if we signed it for this trace."""
    with suppress(Refused):
        report = signed.read(data, Trace, verifying)
        return report if report.trace_id == trace_id else None
    return None


def is_unsigned(data: bytes) -> bool:
    """Return whether a report says that it is of version 0.1.0, which nobody can verify."""
    return b'"schema":"voicedrop/trace/1"' in data


def id_of_clip(sha256: str) -> str:
    """Return the id of the trace of a clip with this digest, the same for every copy of it."""
    return hashlib.sha256(f"{SCHEMA}\0{sha256}".encode()).hexdigest()[:32]


def _sha256(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    while part := file.read(1 << 20):
        digest.update(part)
    return digest.hexdigest()


def _marked_stretch(stretch: Detection, resolve: Resolve) -> MarkedStretch:
    payload = stretch.payload or 0
    mark = resolve(payload)
    return MarkedStretch(
        score=round(stretch.score, 2),
        payload=f"{payload:08x}",
        key_id=stretch.key_id,
        job=mark.job if mark else "",
        item=mark.item if mark else "",
        start=round(stretch.start, 2),
        end=round(stretch.end, 2),
        tempo=round(stretch.tempo, 4),
        pitch=round(stretch.pitch, 4),
    )


def _describe_limit(budget: Budget, facts: Facts) -> str:
    return (
        f" The search is not complete: the {budget.seconds:g} s that a trace may take were used "
        f"up. It covers {facts.seconds:.0f} s of the recording, but not each channel and change of "
        "speed. Cut the clip into parts, or use `voicedrop trace`."
    )


def _explain(error: JobError) -> Problem:
    """Return the error of a clip, which nobody can record again."""
    problem = Problem.from_error(error)
    if advice := _ADVICE.get(error.code, ""):
        fact = error.message.partition(": ")[0].removesuffix(".")
        return msgspec.structs.replace(problem, message=f"{fact}. {advice}", advice=advice)
    return problem


def _describe(score: float, findings: list[MarkedStretch], facts: Facts, *, marked: bool) -> str:
    if not marked and facts.peak < _SILENCE_PEAK:
        return "Our mark was not found: the clip is silent."
    if not marked:
        return (
            "Our mark was not found. This does not show that the clip is genuine, nor that we did "
            "not produce it: it may be too short or too damaged."
        )
    chance = f"by chance this happens less than once in 10^{min(int(score), 30)} clips"
    if not findings:
        return f"Carries our mark ({chance}), but too damaged to read which job produced it."
    return f"Carries our mark ({chance}): {'; '.join(map(_describe_stretch, findings))}."


def _describe_stretch(stretch: MarkedStretch) -> str:
    tempo, pitch = stretch.tempo, stretch.pitch
    source = f"item {stretch.item} of job {stretch.job}"
    if not stretch.job:
        source = f"unregistered payload {stretch.payload}"
    parts = [f"{source} from {stretch.start:.1f} to {stretch.end:.1f} s"]
    if abs(tempo - 1) > 0.004:
        parts.append(f"played {abs(tempo - 1):.1%} too {'fast' if tempo > 1 else 'slow'}")
    if min(abs(pitch - tempo), abs(pitch - 1)) > 0.004:  # a resampled clip is only too fast
        parts.append(f"pitched {abs(pitch - 1):.1%} too {'high' if pitch > 1 else 'low'}")
    return ", ".join(parts)
