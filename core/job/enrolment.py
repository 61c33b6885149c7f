"""From a key in the inbox to a voice that may be used: fetch, gates, preparation, voiceprint.

A voiceprint costs half a minute, so it is kept in the control bucket under a name made of all that
it depends on. It describes a person: it is sealed like any output.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

import msgspec

import watermark
from core.audio import decoding
from core.audio.waveform import Audio
from core.consent import records
from core.consent.records import ConsentRef
from core.crypto import sealing
from core.crypto.sealing import Context
from core.errors import Failed, JobError, Misconfigured, Notice, Refused
from core.job.runtime import Runtime, Stopwatch
from core.manifest import fields as manifest
from core.manifest.resolve import Job
from core.manifest.validate import join_pointer
from core.result.document import Engine
from core.result.item_result import Problem, VoiceUsed
from core.settings import ConsentPolicy
from core.speech import recognise, reference, speaker_change
from core.speech.reference import Reference
from core.storage.object_keys import voiceprint_key
from core.storage.port import Object
from core.version import VERSION
from core.voice import Voiceprint

VOICEPRINT_LIMIT = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Gate:
    """The consent record of one voice, asked once for each language it shall speak."""

    policy: ConsentPolicy
    record: bytes | None
    digest: str
    at: datetime
    revoked: bool
    pointer: str

    def admit(self, language: str) -> tuple[ConsentRef | None, list[Notice]]:
        """Refused with a code of the consent family."""
        return records.apply_policy(
            self.policy,
            self.record,
            reference_sha256=self.digest,
            language=language,
            at=self.at,
            revoked=self.revoked,
            pointer=self.pointer,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolled:
    """A voice of a job, ready to speak."""

    sha256: str
    """Of the recording."""
    gate: Gate
    consent: ConsentRef | None
    voiceprint: Voiceprint
    notices: tuple[Notice, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """A voice that may be learned: its recording fits, and somebody allowed it."""

    sha256: str
    gate: Gate
    consent: ConsentRef | None
    prepared: Reference
    notices: tuple[Notice, ...]


V = TypeVar("V", bound=Admitted | Enrolled)


def of_job(
    job: Job,
    learn: Callable[[str, manifest.Voice, list[str], Runtime, Stopwatch], V],
    runtime: Runtime,
    watch: Stopwatch,
) -> tuple[dict[str, V | JobError], dict[str, VoiceUsed]]:
    """The voices that have something to say, and what the result says of them.

    `learn`: `admit` or `enrol`."""
    voices: dict[str, V | JobError] = {}
    used: dict[str, VoiceUsed] = {}
    for name, spec in job.voices.items():
        languages = sorted({item.language for item in job.items if item.voice == name})
        if not languages:
            continue  # A voice that says nothing needs neither consent nor half a minute.
        try:
            voice = learn(name, spec, languages, runtime, watch)
        except (Refused, Failed) as exc:
            voices[name] = exc
            used[name] = VoiceUsed(reference=spec.reference, error=Problem.from_error(exc))
            continue
        voices[name] = voice
        used[name] = VoiceUsed(
            reference=spec.reference,
            reference_sha256=voice.sha256,
            consent=voice.consent,
            match=voice.voiceprint.match if isinstance(voice, Enrolled) else {},
            notices=list(voice.notices),
        )
    return voices, used


def engine_of(voices: Mapping[str, Enrolled | JobError], runtime: Runtime) -> Engine | None:
    """None if no voice got as far as the engine: it need not be there to refuse a job."""
    if not any(isinstance(voice, Enrolled) for voice in voices.values()):
        return None
    return Engine(name=runtime.voice.name, fingerprint=runtime.voice.fingerprint)


def admit(
    name: str, spec: manifest.Voice, languages: Iterable[str], runtime: Runtime, watch: Stopwatch
) -> Admitted:
    """Everything but learning the voice. `languages`: those its items speak. Consent comes before
    decoding: what nobody allowed is not even opened. Raises Refused with a code of the recording or
    consent families; REF_NOT_FOUND."""
    pointer = join_pointer("/voices", name)
    with watch.stage("fetch"):
        recording = _fetch(spec, runtime, join_pointer(pointer, "reference"))
    digest = hashlib.sha256(recording.data).hexdigest()
    if spec.sha256 and spec.sha256.lower() != digest:
        raise Refused("REF_HASH_MISMATCH", pointer=join_pointer(pointer, "sha256"))
    with watch.stage("consent"):
        gate = _gate(spec, digest, runtime, join_pointer(pointer, "consent"))
        cited, notices = _first_admitted(gate, languages)
    with watch.stage("prepare"):
        prepared = reference.prepare(recording.data, spec.reference)
        _refuse_synthetic(prepared.audio, runtime, spec.reference)
        remarks = tuple(_remarks(prepared, spec, runtime, pointer))
    return Admitted(
        sha256=digest,
        gate=gate,
        consent=cited,
        prepared=prepared,
        notices=(*notices, *prepared.notices, *remarks),
    )


def enrol(
    name: str, spec: manifest.Voice, languages: Iterable[str], runtime: Runtime, watch: Stopwatch
) -> Enrolled:
    """A voice ready to speak. Raises what `admit` raises."""
    found = admit(name, spec, languages, runtime, watch)
    return Enrolled(
        sha256=found.sha256,
        gate=found.gate,
        consent=found.consent,
        voiceprint=_voiceprint(found.prepared, spec, runtime, watch),
        notices=found.notices,
    )


def missing(job: Job, runtime: Runtime) -> list[str]:
    """Keys of references that have not arrived, of voices that have something to say."""
    keys = {job.voices[item.voice].reference for item in job.items}
    return sorted(key for key in keys if _absent(key, runtime))


def _absent(key: str, runtime: Runtime) -> bool:
    try:
        return runtime.inbox.head(key) is None
    except Refused:
        # A name that this store cannot hold, a symbolic link: the voice says so, in the result.
        return False


def _fetch(spec: manifest.Voice, runtime: Runtime, pointer: str) -> Object:
    try:
        return runtime.inbox.get(spec.reference, limit=decoding.BYTES_LIMIT)
    except Refused as exc:
        codes = {"OBJECT_MISSING": "REF_NOT_FOUND", "OBJECT_TOO_LARGE": "AUDIO_TOO_LARGE"}
        code = codes.get(exc.code, exc.code)
        message = exc.message if code == exc.code else f"{spec.reference}: {Refused(code).advice}"
        raise Refused(code, message, pointer=pointer) from exc


def _first_admitted(gate: Gate, languages: Iterable[str]) -> tuple[ConsentRef | None, list[Notice]]:
    """What the voice may rest on, if any of its languages is allowed; items ask for their own."""
    refused: Refused | None = None
    for language in languages:
        try:
            return gate.admit(language)
        except Refused as exc:
            refused = refused or exc
    raise refused or Refused("CONSENT_SCOPE", "No item speaks with this voice.")


def _gate(spec: manifest.Voice, digest: str, runtime: Runtime, pointer: str) -> Gate:
    now = datetime.fromtimestamp(runtime.inbox.now(), UTC)
    if spec.consent is None:
        return Gate(runtime.consent, None, digest, now, False, pointer)
    try:
        record = runtime.inbox.get(spec.consent, limit=records.MAX_BYTES).data
    except Refused as exc:
        # A record that is named must hold, whatever the policy: no typing error opens the gate.
        code = "CONSENT_INVALID" if exc.code == "OBJECT_TOO_LARGE" else "CONSENT_MISSING"
        raise Refused(code, f"{spec.consent}: {exc.message}", pointer=pointer) from exc
    revoked = runtime.inbox.head(spec.consent + records.REVOKED_SUFFIX) is not None
    return Gate(runtime.consent, record, digest, now, revoked, pointer)


def _refuse_synthetic(speech: Audio, runtime: Runtime, key: str) -> None:
    """A clone of a clone would launder a voice past its consent."""
    found = watermark.detect_any(
        speech.samples, speech.rate, runtime.keys.watermark, thorough=False
    )
    if found.payload is not None:
        raise Refused("REF_IS_SYNTHETIC", pointer=key)


def _remarks(
    prepared: Reference, spec: manifest.Voice, runtime: Runtime, pointer: str
) -> Iterator[Notice]:
    """Remarks and no refusals, for encoders and recognisers err."""
    if speaker_change.has_several_speakers(prepared.audio):
        yield Notice("AUDIO_MULTI_SPEAKER", pointer=spec.reference)
    transcript = _transcript(prepared, spec)
    if runtime.transcribe and transcript and spec.language in recognise.LANGUAGES:
        heard = runtime.transcribe(prepared.audio, spec.language)
        if recognise.error_rate(transcript, heard, spec.language) > recognise.MAX_ERROR_RATE:
            yield Notice("TRANSCRIPT_MISMATCH", pointer=join_pointer(pointer, "transcript"))


def _transcript(prepared: Reference, spec: manifest.Voice) -> str:
    # A part of the recording says a part of the transcript, and nobody told us which.
    whole = all(notice.code != "TRIMMED" for notice in prepared.notices)
    return spec.transcript if whole else ""


def _voiceprint(
    prepared: Reference, spec: manifest.Voice, runtime: Runtime, watch: Stopwatch
) -> Voiceprint:
    transcript = _transcript(prepared, spec)
    context = _context(prepared.sha256, transcript, spec.language, runtime.voice.fingerprint)
    key = voiceprint_key(context.item)
    if kept := _kept(key, context, runtime):
        return kept
    with watch.stage("enrol"):
        voiceprint = runtime.voice.enrol(prepared.audio, transcript, spec.language)
    sealed = sealing.seal(voiceprint.dump(), context, runtime.keys.wrapping)
    runtime.control.put(key, sealed.body, metadata=sealing.envelope_metadata(sealed.envelope))
    return voiceprint


def _kept(key: str, context: Context, runtime: Runtime) -> Voiceprint | None:
    try:
        stored = runtime.control.get(key, limit=VOICEPRINT_LIMIT)
        envelope = sealing.envelope_from_metadata(stored.info.metadata)
        if envelope.ctx != context:
            return None
        data = sealing.open_sealed(stored.data, envelope, runtime.keys.wrapping)
        return Voiceprint.parse(data)
    except (Refused, Misconfigured, msgspec.DecodeError):
        # Not there, damaged, or sealed with a key that was destroyed: made anew and replaced.
        return None


def _context(digest: str, transcript: str, language: str, fingerprint: str) -> Context:
    """Names a voiceprint by all that it was made from."""
    parts = (fingerprint, VERSION, repr(reference.Steps()), digest, language, transcript)
    name = hashlib.sha256(msgspec.json.encode(parts)).hexdigest()
    return Context(job="voiceprints", item=name, mt="application/msgpack")
