"""The voices of a job: wait for their recordings, enrol those that may be used, describe them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import msgspec

from core.errors import Failed, JobError, Refused
from core.job import kept_voice, waiting
from core.job.admission import (
    Admitted,
    admit_voices,
    engine_for_several,
    known_transcript,
    voice_context,
)
from core.job.kept_voice import KeptVoice
from core.job.runtime import Run, Runtime, Stopwatch, Waiting
from core.job.speech_cache import SpeechCache, open_speech_cache
from core.manifest import fields
from core.manifest.resolve import Job
from core.result.document import Engine, Result
from core.result.item_result import AuxUsed, Problem, VoiceUsed
from core.speech.reference import Reference
from core.voice import Voiceprint


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolled(Admitted):
    """A voice that is ready to speak."""

    voiceprint: Voiceprint
    speech: SpeechCache | None = None
    """What it has spoken before; None if that is not kept."""


def wait_for_references(job: Job, manifest: str, run: Run) -> Waiting | None:
    """Return what the job waits for; None if all its references are there or the deadline is past.

    After the deadline, voices without a reference fail with REF_NOT_FOUND. `manifest`: its key.
    """
    runtime = run.runtime
    missing = missing_references(job, runtime)
    since = [
        waiting.put_mark(runtime.control, key, run.job_id, manifest, runtime.keys)
        for key in missing
    ]
    # Checked again, because a reference that arrived before its mark was written resumed no job.
    if since and (missing := missing_references(job, runtime)):
        until = min(since) + job.wait_s
        if runtime.control.now() < until:
            return Waiting(run.job_id, missing, until)
    return None


def enrol_voices(
    job: Job, runtime: Runtime, stopwatch: Stopwatch
) -> dict[str, Enrolled | JobError]:
    """Check and enrol the voices that items use; for a voice that fails, return its error."""
    voices: dict[str, Enrolled | JobError] = {}
    for name, voice in admit_voices(job, runtime, stopwatch, to_speak=True).items():
        if isinstance(voice, JobError):
            voices[name] = voice
            continue
        try:
            voices[name] = _enrol(voice, job.voices[name], runtime, stopwatch)
        except (Refused, Failed) as exc:
            voices[name] = exc
    return voices


def add_voices(
    result: Result, job: Job, voices: Mapping[str, Enrolled | JobError], runtime: Runtime
) -> Result:
    """The result with the engine and the voices that the job uses."""
    return msgspec.structs.replace(
        result,
        engine=describe_engine(voices, runtime),
        voices=describe_voices(job, voices),
    )


def describe_voices(job: Job, voices: Mapping[str, Admitted | JobError]) -> dict[str, VoiceUsed]:
    """Voice name -> what the result states about it."""
    return {name: _describe(job.voices[name], voice) for name, voice in voices.items()}


def describe_engine(voices: Mapping[str, Admitted | JobError], runtime: Runtime) -> Engine | None:
    """What the result states about the engine; None if no voice was enrolled, because the engine
    need not be loaded to refuse a job."""
    if not any(isinstance(voice, Enrolled) for voice in voices.values()):
        return None
    return Engine(name=runtime.voice.name, fingerprint=runtime.voice.fingerprint)


def _describe(spec: fields.Voice, voice: Admitted | JobError) -> VoiceUsed:
    if isinstance(voice, JobError):
        aux = [AuxUsed(reference=key) for key in spec.aux]
        return VoiceUsed(reference=spec.reference, aux=aux, error=Problem.from_error(voice))
    return VoiceUsed(
        reference=spec.reference,
        reference_sha256=voice.sha256,
        aux=[
            AuxUsed(reference=one.key, reference_sha256=one.claim.reference_sha256)
            for one in voice.auxiliary
        ],
        prepare=voice.preparation,
        channel=spec.channel,
        window=spec.window,
        consent=voice.consent,
        match=voice.voiceprint.match if isinstance(voice, Enrolled) else {},
        notices=list(voice.notices),
    )


def missing_references(job: Job, runtime: Runtime) -> list[str]:
    """Return the keys of the recordings that the job's items need and the inbox does not have."""
    keys = {key for item in job.items for key in job.voices[item.voice].recordings}
    return sorted(key for key in keys if _is_missing(key, runtime))


def _is_missing(key: str, runtime: Runtime) -> bool:
    try:
        return runtime.inbox.head(key) is None
    except Refused:
        # A key that this store cannot hold, or a symbolic link: the voice fails with that error.
        return False


def _enrol(voice: Admitted, spec: fields.Voice, runtime: Runtime, stopwatch: Stopwatch) -> Enrolled:
    voiceprint = voice.source
    if not isinstance(voiceprint, Voiceprint):
        voiceprint = _learn(voice, voiceprint, spec, runtime, stopwatch)
    # Of several recordings each has a key, and consent to each may be withdrawn.
    is_single = not voice.auxiliary
    return Enrolled(
        sha256=voice.sha256,
        gate=voice.gate,
        consent=voice.consent,
        preparation=voice.preparation,
        source=voice.source,
        examination=voice.examination,
        notices=voice.notices,
        voiceprint=voiceprint,
        speech=open_speech_cache(voice.sha256, voiceprint, runtime) if is_single else None,
        auxiliary=voice.auxiliary,
    )


def _learn(
    voice: Admitted, source: Reference, spec: fields.Voice, runtime: Runtime, stopwatch: Stopwatch
) -> Voiceprint:
    """Return the voiceprint of the recording, which is then kept, or the one that is kept."""
    transcript = known_transcript(voice.examination, spec)
    with runtime.concurrency.learning():  # another job may need the same voice
        if voice.auxiliary:
            learner = engine_for_several(runtime, voice.auxiliary[0].key)
            recordings = [source.audio, *(one.audio for one in voice.auxiliary)]
            with _measuring_voice(runtime, stopwatch):
                return learner.enrol_several(recordings, transcript, spec.language)
        context = voice_context(voice.sha256, transcript, spec, runtime)
        if kept := kept_voice.read(context, voice.gate, runtime):
            voiceprint = kept.voiceprint
        else:
            with _measuring_voice(runtime, stopwatch):
                voiceprint = runtime.voice.enrol(source.audio, transcript, spec.language)
        made = KeptVoice(voiceprint, voice.examination)
        kept_voice.keep(made, context, voice.gate, runtime)
        return voiceprint


def is_kept(voice: Admitted, spec: fields.Voice, runtime: Runtime) -> bool:
    """Return whether a voice that was examined need not be learned, if that can be told without
    loading the engine; otherwise False."""
    if voice.auxiliary or runtime.identify_voice is None:
        return False
    transcript = known_transcript(voice.examination, spec)
    context = voice_context(voice.sha256, transcript, spec, runtime)
    with suppress(Refused):  # consent was withdrawn: the job will say so
        return kept_voice.read(context, voice.gate, runtime) is not None
    return False


@contextmanager
def _measuring_voice(runtime: Runtime, stopwatch: Stopwatch) -> Iterator[None]:
    before = stopwatch.seconds.get("enrol", 0.0)
    with stopwatch.stage("enrol"):
        yield
    runtime.rates.measure_voice(stopwatch.seconds["enrol"] - before)
