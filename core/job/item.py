"""One item: a text in, a sealed object out. Its watermark is read back before it is released.

The object carries its own signed record (core/job/object_record.py), so that a worker that takes
over a job adopts what is finished instead of speaking it again.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from contextlib import nullcontext

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
from core.manifest.resolve import Item, Job
from core.result.item_result import ItemResult, LabelUsed, Output, Watermark
from core.storage.object_keys import output_key
from core.text.spoken import check_speakable
from core.trace import registry
from core.version import VERSION
from core.voice import SpeechChunk

SCHEME = "voicedrop/mark/1"
SENTENCE_PAUSE = 0.25
"""Seconds of silence between sentences."""
TRIED_STRENGTHS = (watermark.QUIET, watermark.DEFAULT, watermark.ROBUST, 4.5)
"""Strengths of the watermark in dB, tried upwards from that of the preset (`VOICEDROP_MARK`); the
last is for single words of half a second."""


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
    digest = reuse.request_digest(item, job, _watermark_key(runtime))
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
    key = output_key(run.job_id, item.id, item.format)
    recordings = [claim.reference_sha256 for claim in voice.claims]
    engine = runtime.voice.fingerprint
    # First, because the record may have been replaced since a worker stored the output.
    voice.gate.admit(*voice.gate.spoken_languages(item.text, item.language))
    if stored := adopt(item, recordings, engine, job, run.job_id, runtime):
        return stored
    fingerprint = fingerprint_of(item, recordings, engine)
    stopwatch = run.stopwatch(item.id)
    left_out = check_speakable(item.text, item.language, runtime.front_end, item.pointer + "/text")
    seed = _seed(item, recordings)
    cached = voice.speech.read(item, seed, stopwatch) if voice.speech else None
    spoken = cached or _speak(item, voice, seed, run, stopwatch)
    with stopwatch.stage("consent"):
        _refuse_protected(spoken.chunks, item, voice, runtime)
    sentences = subtitles.sentence_times(item.text, spoken.chunks, SENTENCE_PAUSE)
    speech = _shape(spoken, item, job, stopwatch)
    payload = registry.register(runtime.results, runtime.keys, run.job_id, item.id)
    encoded, mark = _watermark(speech, payload, item, runtime, stopwatch)
    with stopwatch.stage("label"):
        plain, label, waived = _label(encoded, item, job, run)
    with stopwatch.stage("seal"):
        context = Context(job=run.job_id, item=item.id, mt=encoded.media_type)
        sealed = sealing.seal(plain, context, runtime.keys.wrapping)
    lead = aigc.lead_seconds(job.label.cue)
    result = ItemResult(
        id=item.id,
        index=item.index,
        status="succeeded",
        output=_output(key, sealed.envelope, speech, encoded),
        watermark=mark,
        label=label,
        voice=item.voice,
        cached=cached is not None,
        redrawn=sum(len(sentence.retry_reasons) for sentence in spoken.chunks),
        timings=stopwatch.seconds,
        notices=[*left_out, *waived],
        sentences=subtitles.shift_sentences(sentences, lead) if item.subtitle else [],
    )
    store = voice.speech if cached is None else None
    keeping = store.keeping(item, seed, spoken, stopwatch) if store else nullcontext()
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
    for sentence in run.runtime.voice.speak(
        item.text, voice.voiceprint, language=item.language, speed=item.speed, seed=seed
    ):
        run.check()
        now = time.perf_counter()
        stopwatch.add("speak", now - start, sentence.seconds)
        sentences.append(sentence)
        start = now
    if not sentences:
        raise Failed("OUTPUT_SILENT", pointer=item.pointer)
    with stopwatch.stage("shape"):
        return Spoken(sentences, loudness.find_gain(waveform.join(sentences, SENTENCE_PAUSE)))


def _refuse_protected(
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
        speech = loudness.scale(waveform.join(spoken.chunks, SENTENCE_PAUSE), spoken.gain)
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
                speech.samples, speech.rate, payload, _watermark_key(runtime), strength=strength
            )
        with stopwatch.stage("encode"):
            encoded = encoding.encode(Audio(marked, speech.rate), item.format)
        with stopwatch.stage("verify"):
            found = _read_back(encoded, payload, runtime, expected=strength > first)
        if found.payload == payload:
            key_id, score = next(iter(runtime.keys.watermark)), round(found.score, 2)
            return encoded, Watermark(
                scheme=SCHEME, key_id=key_id, payload=f"{payload:08x}", score=score
            )
    message = (
        f"The watermark was read back with a score of only {found.score:.1f} "
        f"from {speech.seconds:.1f} s of sound."
    )
    raise Failed("WATERMARK_VERIFY_FAILED", message, pointer=item.pointer)


def _read_back(
    encoded: Encoded, payload: int, runtime: Runtime, *, expected: bool
) -> watermark.Detection:
    """Detect the watermark in the finished file without knowing its payload, as a finder would.

    `expected`: if that fails, test for this payload alone, as an auditor does who knows which one
    to expect; the bound on false positives is the same.
    """
    decoded = decoding.decode_trusted(encoded.data)
    key = _watermark_key(runtime)
    found = watermark.detect(decoded.samples, decoded.rate, key, thorough=False)
    if found.payload != payload and expected:
        found = watermark.verify(decoded.samples, decoded.rate, payload, key, thorough=False)
    return found


def _output(key: str, envelope: Envelope, speech: Audio, encoded: Encoded) -> Output:
    return Output(
        key=key,
        bytes=envelope.ct_len,
        sealed_sha256=envelope.ct_sha256,
        plain_sha256=envelope.pt_sha256,
        media_type=encoded.media_type,
        duration_s=round(speech.seconds, 3),
        sample_rate=encoded.rate,
    )


def _label(
    encoded: Encoded, item: Item, job: Job, run: Run
) -> tuple[bytes, LabelUsed, list[Notice]]:
    """Write the metadata label that the law requires; return what the result states about it."""
    asked = job.label
    if asked.profile == "none":
        used = LabelUsed(profile="none", cue=asked.cue)
        return encoded.data, used, [Notice("LABEL_WAIVED")]
    producer = run.runtime.producer if asked.producer is None else asked.producer
    made, remarks = aigc.make_label(producer, f"{run.job_id}/{item.id}")
    used = LabelUsed(
        profile=asked.profile, cue=asked.cue, producer=producer, produce_id=made.produce_id
    )
    return aigc.add_label(encoded.data, made), used, remarks


def _watermark_key(runtime: Runtime) -> bytes:
    return next(iter(runtime.keys.watermark.values()))


def _seed(item: Item, recordings: Sequence[str]) -> int:
    """Return the seed of the manifest, or one that is drawn from the voice and the words, so that
    the same words are spoken in the same way in every job."""
    if item.seed is not None:
        return item.seed
    drawn_from = canonical.dump([recordings, item.text, item.language, item.speed])
    return int.from_bytes(hashlib.sha256(drawn_from).digest()[:4], "big")


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
