"""One item: a text in, a sealed object out. Its watermark is read back before it is released.

The object carries its own signed record (core/job/object_record.py), so that a worker that takes
over a job adopts what is finished instead of speaking it again.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import msgspec

import watermark
from core.audio import decoding, encoding, loudness, waveform
from core.audio.encoding import Encoded
from core.audio.waveform import Audio
from core.crypto import sealing
from core.crypto.sealing import Context, Envelope
from core.documents import canonical
from core.errors import Failed, Notice, Refused
from core.job import admission, object_record, protected, reuse, subtitles
from core.job.enrolment import Enrolled
from core.job.object_record import ObjectRecord
from core.job.runtime import Run, Runtime, Stopwatch
from core.job.speech_cache import Spoken
from core.label import aigc
from core.label.aigc import Aigc
from core.manifest.resolve import Item, Job
from core.result.item_result import ItemResult, LabelUsed, Output, Streamed, Watermark
from core.storage.object_keys import output_key
from core.text.annotated import to_written
from core.text.spoken import check_speakable
from core.trace import registry
from core.version import VERSION
from core.voice import SpeechChunk
from core.voice.pauses import speak_with_pauses

SCHEME = "voicedrop/mark/1"
_SENTENCE_PAUSE = 0.25
"""Seconds of silence between sentences at speed 1."""
TRIED_STRENGTHS = (watermark.QUIET, watermark.DEFAULT, watermark.ROBUST, 4.5)
"""Strengths of the watermark in dB, tried upwards from that of the preset (`VOICEDROP_MARK`); the
last is for single words of half a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkedSpeech:
    """Speech of an item in a file, with a watermark that was read back from it."""

    seconds: float
    encoded: Encoded
    watermark: Watermark
    chunks: Sequence[SpeechChunk]
    """As the engine gave them: of each sentence, or of a part of it."""
    cached: bool = False
    streamed: Streamed | None = None
    notices: Sequence[Notice] = ()


def make_item(item: Item, voice: Enrolled, job: Job, run: Run) -> ItemResult:
    """Speak, watermark, label, seal and store one item, then its subtitles.

    An item that a worker stored before is adopted instead. Raises Refused or Failed for an error
    that fails this item alone.
    """
    result = _stored_item(item, voice, job, run)
    if job.output.concatenate == "none":
        recordings = [claim.reference_sha256 for claim in voice.claims]
        result = subtitles.add_to_item(result, item, run.job_id, recordings, run.runtime)
    return add_request(result, item, job, run.runtime)


def add_request(result: ItemResult, item: Item, job: Job, runtime: Runtime) -> ItemResult:
    """The result with the `meta` of the item and a digest of what the manifest asks for."""
    digest = reuse.request_digest(item, job, watermark_key(runtime))
    return msgspec.structs.replace(result, meta=item.meta, asked=digest)


def adopt(
    item: Item, recordings: Sequence[str], engine: str, job: Job, job_id: str, runtime: Runtime
) -> ItemResult | None:
    """Return the result of the item if a worker has stored its output; otherwise None.

    `recordings`: SHA-256 of those that the voice has now, `engine`: the fingerprint of the voice
    engine. Raises Refused OUTPUT_EXISTS if the object was not written by us, CONSENT_REVOKED if it
    was made from another recording that was withdrawn since.
    """
    key = output_key(job_id, item.id, item.format)
    stored = object_record.adopt(key, ItemResult, runtime)
    if stored is None:
        return None
    info = runtime.results.head(key)
    made_from = object_record.recordings_of(info, runtime) if info else []
    if any(map(runtime.consents.find_withdrawals, set(made_from).difference(recordings))):
        raise Refused("CONSENT_REVOKED", pointer=key)
    return _from_record(*stored, fingerprint_of(item, recordings, engine), item, job)


def _from_record(
    record: ObjectRecord[ItemResult], envelope: Envelope, fingerprint: str, item: Item, job: Job
) -> ItemResult:
    """The result of the item. What the manifest contains is added here, because it would be too
    much for the metadata of an object."""
    entry = record.entry
    made = [notice for notice in entry.notices if notice not in item.notices]
    changed = [Notice("ENGINE_CHANGED")] if record.fingerprint != fingerprint else []
    return msgspec.structs.replace(
        entry,
        envelope=envelope,
        label=entry.label and entry.label.with_waiver(job.label.waiver),
        meta=item.meta,
        notices=[*item.notices, *made, *changed],
    )


def _stored_item(item: Item, voice: Enrolled, job: Job, run: Run) -> ItemResult:
    runtime = run.runtime
    recordings = [claim.reference_sha256 for claim in voice.claims]
    engine = runtime.voice.fingerprint
    # First, because the record may have been replaced since a worker stored the output.
    voice.gate.admit(*voice.gate.spoken_languages(item.text, item.language))
    if stored := adopt(item, recordings, engine, job, run.job_id, runtime):
        return stored
    stopwatch = run.stopwatch(item.id)
    left_out = check_speakable(item.text, item.language, runtime.front_end, item.pointer + "/text")
    seed = choose_seed(item, recordings)
    cached = voice.speech.read(item, seed, stopwatch) if voice.speech else None
    spoken = cached or _speak(item, voice, seed, run, stopwatch)
    with stopwatch.stage("consent"):
        refuse_protected(spoken.chunks, item, voice, runtime)
    speech = _shape(spoken, item, job, stopwatch)
    payload = registry.register(runtime.results, runtime.keys, run.job_id, item.id)
    encoded, mark = _watermark(speech, payload, item, runtime, stopwatch)
    made = MarkedSpeech(
        seconds=speech.seconds,
        encoded=encoded,
        watermark=mark,
        chunks=spoken.chunks,
        cached=cached is not None,
        notices=left_out,
    )
    store = voice.speech if cached is None else None
    keeping = store.keeping(item, seed, spoken, stopwatch) if store else nullcontext()
    return release(made, item, voice, job, run, stopwatch, keeping)


def release(
    made: MarkedSpeech,
    item: Item,
    voice: Enrolled,
    job: Job,
    run: Run,
    stopwatch: Stopwatch,
    keeping: AbstractContextManager[None],
) -> ItemResult:
    """Label, seal and store marked speech, if consent to the voice is still given; return the
    result of the item, or that of the object which another worker stored first.

    `keeping`: is entered while consent is read. Raises Refused and Failed as `make_item` does.
    """
    runtime, key = run.runtime, output_key(run.job_id, item.id, item.format)
    recordings = [claim.reference_sha256 for claim in voice.claims]
    fingerprint = fingerprint_of(item, recordings, runtime.voice.fingerprint)
    sentences = subtitles.sentence_times(to_written(item.text), made.chunks, sentence_pause(item))
    with stopwatch.stage("label"):
        plain, label, waived = _label(made.encoded, item, job, run)
    with stopwatch.stage("seal"):
        context = Context(job=run.job_id, item=item.id, mt=made.encoded.media_type)
        sealed = sealing.seal(plain, context, runtime.keys.wrapping)
    lead = aigc.lead_seconds(job.label.cue)
    result = ItemResult(
        id=item.id,
        index=item.index,
        status="succeeded",
        output=_output(key, sealed.envelope, made),
        watermark=made.watermark,
        label=label,
        voice=item.voice,
        cached=made.cached,
        streamed=made.streamed,
        redrawn=sum(len(sentence.retry_reasons) for sentence in made.chunks),
        timings=stopwatch.seconds,
        notices=[*made.notices, *waived],
        sentences=subtitles.shift_sentences(sentences, lead) if item.subtitle else [],
    )
    with keeping, stopwatch.stage("consent"):
        # It may have been withdrawn while the item was spoken.
        admission.admit_again([item], voice.claims, runtime)
    with stopwatch.stage("store"):
        record = ObjectRecord(key=key, fingerprint=fingerprint, entry=result)
        stored_record, envelope = object_record.put_or_adopt(
            sealed.body,
            record,
            sealed.envelope,
            runtime,
            recordings=recordings,
            labelled=label.profile != "none",
        )
    return _from_record(stored_record, envelope, fingerprint, item, job)


def _speak(item: Item, voice: Enrolled, seed: int, run: Run, stopwatch: Stopwatch) -> Spoken:
    sentences: list[SpeechChunk] = []
    stopwatch.begin("speak")
    start = time.perf_counter()

    def speak(part: str, number: int) -> Iterator[SpeechChunk]:
        return run.runtime.voice.speak(
            part,
            voice.voiceprint,
            language=item.language,
            speed=item.speed,
            seed=(seed + number) % 2**32,
        )

    for sentence in speak_with_pauses(item.text, speak):
        run.check()
        now = time.perf_counter()
        stopwatch.add("speak", now - start, sentence.seconds)
        sentences.append(sentence)
        start = now
    if not sentences:
        raise Failed("OUTPUT_SILENT", pointer=item.pointer)
    with stopwatch.stage("shape"):
        return Spoken(sentences, loudness.find_gain(_join(sentences, item)))


def _join(chunks: Sequence[SpeechChunk], item: Item) -> Audio:
    pauses = [0.0 if chunk.is_joined else sentence_pause(item) for chunk in chunks[1:]]
    return waveform.join(chunks, pauses)


def refuse_protected(
    spoken: Sequence[SpeechChunk], item: Item, voice: Enrolled, runtime: Runtime
) -> None:
    """Raises Refused VOICE_PROTECTED if the recording or the speech is in a protected voice whose
    owner the record, as it is now, does not name."""
    compared = runtime.protected_voices()
    if compared.voices:
        gate = runtime.consents.open_gate(voice.gate.claim)
        protected.admit(voice.examination.protected, compared, gate, gate.claim.recording)
        protected.withhold(spoken, compared, gate, item.pointer)


def _shape(spoken: Spoken, item: Item, job: Job, stopwatch: Stopwatch) -> Audio:
    """Set loudness and sample rate; add the pause after the item and the audible label, if any."""
    with stopwatch.stage("shape"):
        speech = loudness.scale(_join(spoken.chunks, item), spoken.gain)
        rate = item.sample_rate or speech.rate
        speech = waveform.resample(speech, rate)
        if item.pause_ms:
            speech = waveform.join([speech, waveform.silence(item.pause_ms / 1000, rate)])
        return aigc.add_cue(speech, job.label.cue)


def _watermark(
    speech: Audio, payload: int, item: Item, runtime: Runtime, stopwatch: Stopwatch
) -> tuple[Encoded, Watermark]:
    """Encode the speech with a watermark that can be read back.

    Very short speech needs a stronger watermark than the preset's, so stronger ones are tried until
    one can be read back.
    """
    first = watermark.STRENGTHS[runtime.mark]
    for strength in TRIED_STRENGTHS[TRIED_STRENGTHS.index(first) :]:
        with stopwatch.stage("watermark"):
            marked = watermark.embed(
                speech.samples, speech.rate, payload, watermark_key(runtime), strength=strength
            )
        with stopwatch.stage("encode"):
            encoded = encoding.encode(Audio(marked, speech.rate), item.format)
        with stopwatch.stage("verify"):
            found = read_back(encoded, payload, runtime, expected=strength > first)
        if found.payload == payload:
            return encoded, describe_mark(found, runtime)
    raise unreadable_mark(found, speech.seconds, item)


def describe_mark(found: watermark.Detection, runtime: Runtime) -> Watermark:
    """What the result states about a mark that was read back."""
    return Watermark(
        scheme=SCHEME,
        key_id=next(iter(runtime.keys.watermark)),
        payload=f"{found.payload:08x}",
        score=round(found.score, 2),
    )


def unreadable_mark(found: watermark.Detection, seconds: float, item: Item) -> Failed:
    message = (
        f"The watermark was read back with a score of only {found.score:.1f} "
        f"from {seconds:.1f} s of sound."
    )
    return Failed("WATERMARK_VERIFY_FAILED", message, pointer=item.pointer)


def read_back(
    encoded: Encoded, payload: int, runtime: Runtime, *, expected: bool
) -> watermark.Detection:
    """Detect the watermark in the finished file without knowing its payload, as a finder would.

    `expected`: if that fails, test for this payload alone, as an auditor does who knows which one
    to expect; the bound on false positives is the same.
    """
    decoded = decoding.decode_trusted(encoded.data)
    key = watermark_key(runtime)
    found = watermark.detect(decoded.samples, decoded.rate, key, thorough=False)
    if found.payload != payload and expected:
        found = watermark.verify(decoded.samples, decoded.rate, payload, key, thorough=False)
    return found


def _output(key: str, envelope: Envelope, made: MarkedSpeech) -> Output:
    return Output(
        key=key,
        bytes=envelope.ct_len,
        sealed_sha256=envelope.ct_sha256,
        plain_sha256=envelope.pt_sha256,
        media_type=made.encoded.media_type,
        duration_s=round(made.seconds, 3),
        sample_rate=made.encoded.rate,
    )


def _label(
    encoded: Encoded, item: Item, job: Job, run: Run
) -> tuple[bytes, LabelUsed, list[Notice]]:
    """Write the metadata label that the law requires; return what the result states about it."""
    asked = job.label
    made, remarks = make_label(item, job, run)
    if made is None:
        return encoded.data, LabelUsed(profile="none", cue=asked.cue), remarks
    used = LabelUsed(
        profile=asked.profile,
        cue=asked.cue,
        producer=made.content_producer,
        produce_id=made.produce_id,
    )
    return aigc.add_label(encoded.data, made), used, remarks


def make_label(item: Item, job: Job, run: Run) -> tuple[Aigc | None, list[Notice]]:
    """The label that the law requires for an item, None if it is waived, and remarks about it.
    Raises Refused LABEL_CHARSET."""
    if job.label.profile == "none":
        return None, [Notice("LABEL_WAIVED")]
    asked = job.label.producer
    producer = run.runtime.producer if asked is None else asked
    return aigc.make_label(producer, f"{run.job_id}/{item.id}")


def watermark_key(runtime: Runtime) -> bytes:
    return next(iter(runtime.keys.watermark.values()))


def choose_seed(item: Item, recordings: Sequence[str]) -> int:
    """Return the seed of the manifest, or one that is drawn from the voice and the words, so that
    the same words are spoken in the same way in every job."""
    if item.seed is not None:
        return item.seed
    drawn_from = canonical.dump([recordings, item.text, item.language, item.speed])
    return int.from_bytes(hashlib.sha256(drawn_from).digest()[:4], "big")


def sentence_pause(item: Item) -> float:
    """Return the seconds of silence between sentences at the speed of the item."""
    return _SENTENCE_PAUSE / item.speed


def fingerprint_of(item: Item, recordings: Sequence[str], engine: str) -> str:
    """Two outputs with the same fingerprint were made from the same things in the same way.

    `recordings`: their SHA-256, that of the reference first. `engine`: the fingerprint of the voice
    engine.
    """
    reference, *aux = recordings
    parts = {
        "item": [item.text, item.language, item.format, item.sample_rate, item.speed, item.seed],
        "pause_ms": item.pause_ms,
        "reference": reference,
        "engine": engine,
        "processor": VERSION,
        **({"aux": aux} if aux else {}),  # fingerprints of earlier versions stay valid
    }
    return hashlib.sha256(canonical.dump(parts)).hexdigest()
