"""Which voices of a job may be used: fetch the recording, check consent, prepare and examine it.

A recording whose voice is kept (`core.job.kept_voice`) is recognised by its digest: it is neither
decoded nor learned again. Its digest and the consent to it are always checked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

import msgspec

import watermark
from core.audio import decoding
from core.audio.waveform import Audio
from core.consent.gate import Gate
from core.consent.protection import ProtectedVoices
from core.consent.records import NEW_RECORD, ConsentClaim, ConsentRef
from core.crypto.sealing import Context
from core.errors import Failed, JobError, Misconfigured, Notice, Refused
from core.job import kept_voice, protected, statement_check
from core.job.kept_voice import Asked, Examination
from core.job.own_mark import refuse_own_output
from core.job.runtime import Runtime, Stopwatch
from core.manifest import fields
from core.manifest.resolve import Item, Job
from core.manifest.validate import join_pointer
from core.settings import Preparation
from core.speech import recognise, reference, speaker_change
from core.speech.reference import PREPARATIONS, Reference
from core.storage.port import Object
from core.version import VERSION
from core.voice import LearnsFromSeveral, Voiceprint

_DETECTOR = f"{watermark.DETECTOR} thorough"
"""Version and depth of the search for our mark in a recording."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Auxiliary:
    """A further recording of a voice, which may be used."""

    key: str
    claim: ConsentClaim
    audio: Audio
    notices: tuple[Notice, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """A voice that may be used: its recording is good, and the consent policy allows it."""

    sha256: str
    """Of the recording."""
    gate: Gate
    consent: ConsentRef | None
    preparation: Preparation
    source: Reference | Voiceprint
    """The prepared recording, or the voiceprint that is kept."""
    examination: Examination
    notices: tuple[Notice, ...]
    auxiliary: tuple[Auxiliary, ...] = ()

    @property
    def claims(self) -> list[ConsentClaim]:
        """The recordings, with the records that are named for them."""
        return [self.gate.claim, *(one.claim for one in self.auxiliary)]


def admit_voices(
    job: Job, runtime: Runtime, stopwatch: Stopwatch, *, to_speak: bool = False
) -> dict[str, Admitted | JobError]:
    """Check the voices that items use; for a voice that may not be used, return its error.

    A voice without items needs neither a consent record nor the time to check it. With `to_speak`,
    voices that are kept for the engine are not examined again.
    """
    voices: dict[str, Admitted | JobError] = {}
    for name, spec in job.voices.items():
        items = [item for item in job.items if item.voice == name]
        if items:
            try:
                voices[name] = _admit(name, spec, items, runtime, stopwatch, to_speak)
            except (Refused, Failed) as exc:
                voices[name] = exc
    return voices


def _admit(
    name: str,
    spec: fields.Voice,
    items: Collection[Item],
    runtime: Runtime,
    stopwatch: Stopwatch,
    to_speak: bool,
) -> Admitted:
    """Fetch and check the recording of a voice that is to speak `items`; prepare it if it is new.

    Consent comes before decoding: a recording that nobody allowed is not even opened.
    Raises Refused with a code of the recording or consent families, REF_NOT_FOUND.
    """
    pointer = join_pointer("/voices", name)
    with stopwatch.stage("fetch"):
        recording = _fetch(spec.reference, runtime, join_pointer(pointer, "reference"))
    digest = hashlib.sha256(recording.data).hexdigest()
    if spec.sha256 and spec.sha256.lower() != digest:
        raise Refused("REF_HASH_MISMATCH", pointer=join_pointer(pointer, "sha256"))
    with stopwatch.stage("consent"):
        gate = runtime.consents.open_gate(ConsentClaim.of(spec, 0, digest, pointer))
        cited, notices = _first_admitted(gate, items)
        cited, remarks = _verify_statement(cited, gate, runtime)
    with stopwatch.stage("prepare"):
        compared = runtime.protected_voices()
        kept = _find_kept(digest, spec, gate, runtime, compared) if to_speak else None
    if spec.aux and to_speak:
        engine_for_several(runtime, f"{pointer}/aux")
    auxiliary = tuple(_admit_auxiliary(spec, items, runtime, stopwatch, pointer, compared))
    source, examination = kept or _prepare(recording, spec, runtime, stopwatch, to_speak, compared)
    waived = protected.admit(examination.protected, compared, gate, spec.reference)
    return Admitted(
        sha256=digest,
        gate=gate,
        consent=cited,
        preparation=spec.prepare or runtime.prepare,
        source=source,
        examination=examination,
        notices=(
            *notices,
            *remarks,
            *waived,
            *_list_notices(examination, spec, pointer),
            *(notice for one in auxiliary for notice in one.notices),
        ),
        auxiliary=auxiliary,
    )


def admit_again(items: Collection[Item], claims: Iterable[ConsentClaim], runtime: Runtime) -> None:
    """Read consent to the recordings of a voice again, for the items that it speaks.

    Raises Refused with a code of the consent family.
    """
    for claim in claims:
        gate = runtime.consents.open_gate(claim)
        cited: ConsentRef | None = None
        for item in items:
            cited, _ = gate.admit(*gate.spoken_languages(item.text, item.language))
        if runtime.consent == "verified":
            _verify_statement(cited, gate, runtime)


def _admit_auxiliary(
    spec: fields.Voice,
    items: Collection[Item],
    runtime: Runtime,
    stopwatch: Stopwatch,
    pointer: str,
    compared: ProtectedVoices,
) -> Iterator[Auxiliary]:
    """Fetch, check and prepare the further recordings of a voice, like its reference."""
    for index, key in enumerate(spec.aux):
        with stopwatch.stage("fetch"):
            data = _fetch(key, runtime, f"{pointer}/aux/{index}").data
        digest = hashlib.sha256(data).hexdigest()
        with stopwatch.stage("consent"):
            claim = ConsentClaim.of(spec, index + 1, digest, pointer)
            cited, _ = _first_admitted(gate := runtime.consents.open_gate(claim), items)
            _, remarks = _verify_statement(cited, gate, runtime)
        with stopwatch.stage("prepare"):
            prepared = _prepare_recording(data, key, spec, runtime)
            codes = _check_speech(prepared, key, runtime)
            matches = protected.find_matches(prepared.audio, compared)
            waived = protected.admit(matches, compared, gate, key)
        notices = [*waived, *(Notice(code, pointer=key) for code in codes)]
        notices += (Notice(remark.code, remark.message, key) for remark in remarks)
        yield Auxiliary(key=key, claim=claim, audio=prepared.audio, notices=tuple(notices))


def _fetch(key: str, runtime: Runtime, pointer: str) -> Object:
    try:
        return runtime.inbox.get(key, limit=decoding.BYTES_LIMIT)
    except Refused as exc:
        codes = {"OBJECT_MISSING": "REF_NOT_FOUND", "OBJECT_TOO_LARGE": "AUDIO_TOO_LARGE"}
        code = codes.get(exc.code, exc.code)
        message = exc.message if code == exc.code else f"{key}: {Refused(code).advice}"
        raise Refused(code, message, pointer=pointer) from exc


def _first_admitted(gate: Gate, items: Iterable[Item]) -> tuple[ConsentRef | None, list[Notice]]:
    """The consent to the first allowed item. Each item asks again for itself."""
    refused: Refused | None = None
    for item in items:
        try:
            return gate.admit(*gate.spoken_languages(item.text, item.language))
        except Refused as exc:
            refused = refused or exc
            if exc.code != "CONSENT_SCOPE" or not gate.limits_languages:
                break
    raise refused or Refused("CONSENT_SCOPE", "No item speaks with this voice.")


def _verify_statement(
    cited: ConsentRef | None, gate: Gate, runtime: Runtime
) -> tuple[ConsentRef | None, list[Notice]]:
    """Add the outcome for a recorded statement. Raises Refused CONSENT_UNVERIFIED where the policy
    demands that it is verified."""
    check = statement_check.check_statement(gate, runtime) if cited else None
    if check is None or not check.verified:
        reason = check.reason if check else "The record names no recorded statement."
        if runtime.consent == "verified":
            raise Refused("CONSENT_UNVERIFIED", reason, pointer=gate.claim.pointer)
    if cited is None or check is None:
        return cited, []
    remarks = [] if check.verified else [Notice("STATEMENT_UNVERIFIED", reason, gate.claim.pointer)]
    return msgspec.structs.replace(cited, statement=check), remarks


def _find_kept(
    digest: str, spec: fields.Voice, gate: Gate, runtime: Runtime, compared: ProtectedVoices
) -> tuple[Voiceprint, Examination] | None:
    """Return what is kept of the voice, if its examination answered all that is asked now."""
    if spec.aux:
        # It is not kept, because it would be sealed under the key of one of its recordings only.
        return None
    asked = _questions(spec, runtime, compared)
    # Without a transcript, the voice of a recording that was trimmed, whatever its transcript.
    for transcript in dict.fromkeys((spec.transcript, "")):
        kept = kept_voice.read(voice_context(digest, transcript, spec, runtime), gate, runtime)
        examination = kept and kept.examination
        if (
            kept
            and examination
            and examination.asked.covers(asked)
            and (transcript == spec.transcript or examination.is_trimmed)
        ):
            return kept.voiceprint, examination
    return None


def _prepare(
    recording: Object,
    spec: fields.Voice,
    runtime: Runtime,
    stopwatch: Stopwatch,
    to_speak: bool,
    compared: ProtectedVoices,
) -> tuple[Reference, Examination]:
    if to_speak:
        reference.start()
        with suppress(Misconfigured):  # it is raised when the engine is used
            runtime.load_voice()  # while that process becomes ready
    with runtime.concurrency.learning(), stopwatch.stage("prepare"):
        prepared = _prepare_recording(recording.data, spec.reference, spec, runtime)
        return prepared, _examine(prepared, spec, runtime, compared)


def _prepare_recording(data: bytes, key: str, spec: fields.Voice, runtime: Runtime) -> Reference:
    steps = PREPARATIONS[spec.prepare or runtime.prepare]
    try:
        return reference.prepare(data, key, steps, channel=spec.channel, window=spec.window)
    except Refused as exc:
        if exc.code != "AUDIO_CODEC_UNSUPPORTED":
            raise
        raise Refused(exc.code, f"{exc.message} {NEW_RECORD}", pointer=exc.pointer) from exc


def _questions(spec: fields.Voice, runtime: Runtime, compared: ProtectedVoices) -> Asked:
    return Asked(
        detector=_DETECTOR,
        mark_keys=sorted(runtime.keys.watermark),
        extensions=[spec.reference.rpartition(".")[2].lower()],
        words=runtime.transcribe is not None,
        protected=compared.digest,
    )


def _examine(
    prepared: Reference, spec: fields.Voice, runtime: Runtime, compared: ProtectedVoices
) -> Examination:
    """Raises Refused REF_IS_SYNTHETIC. Everything else is a notice, because speaker encoders and
    recognisers make mistakes."""
    codes = _check_speech(prepared, spec.reference, runtime)
    examination = Examination(
        asked=_questions(spec, runtime, compared),
        notices=codes,
        protected=protected.find_matches(prepared.audio, compared),
    )
    transcript = known_transcript(examination, spec)
    if runtime.transcribe and transcript and spec.language in recognise.LANGUAGES:
        heard = runtime.transcribe(prepared.audio, spec.language)
        rate = recognise.error_rate(transcript, heard, spec.language)
        differ = rate > recognise.MAX_ERROR_RATE
        examination = msgspec.structs.replace(examination, words_differ=differ)
    return examination


def _check_speech(prepared: Reference, key: str, runtime: Runtime) -> list[str]:
    """Return the codes of the notices. Raises Refused REF_IS_SYNTHETIC."""
    with ThreadPoolExecutor(1) as beside:
        several = beside.submit(speaker_change.has_several_speakers, prepared.mel)
        refuse_own_output(prepared.audio, runtime.keys.watermark, key)
        remarks = ["AUDIO_MULTI_SPEAKER"] if several.result() else []
    return [*(notice.code for notice in prepared.notices), *remarks]


def _list_notices(examination: Examination, spec: fields.Voice, pointer: str) -> Iterator[Notice]:
    yield from (Notice(code, pointer=spec.reference) for code in examination.notices)
    if examination.words_differ:
        yield Notice("TRANSCRIPT_MISMATCH", pointer=join_pointer(pointer, "transcript"))


def known_transcript(examination: Examination, spec: fields.Voice) -> str:
    # It is unknown which words of the transcript a trimmed recording still contains.
    return "" if examination.is_trimmed else spec.transcript


def engine_for_several(runtime: Runtime, pointer: str) -> LearnsFromSeveral:
    """The engine, if it learns from several recordings. Raises Refused AUX_UNSUPPORTED."""
    if isinstance(runtime.voice, LearnsFromSeveral):
        return runtime.voice
    raise Refused("AUX_UNSUPPORTED", pointer=pointer)


def voice_context(digest: str, transcript: str, spec: fields.Voice, runtime: Runtime) -> Context:
    """The context of what is kept of a voice names everything that it is learned from."""
    preparation = repr(PREPARATIONS[spec.prepare or runtime.prepare])
    cut = [spec.channel, spec.window] if spec.is_cut else []
    parts = (runtime.fingerprint, VERSION, preparation, digest, spec.language, transcript, *cut)
    name = hashlib.sha256(msgspec.json.encode(parts)).hexdigest()
    return Context(job="voiceprints", item=name, mt="application/msgpack")
