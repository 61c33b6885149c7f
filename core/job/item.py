"""One item: a text in, a sealed object out. Nothing is released that was not read back.

The object carries its own signed record (core/job/object_record.py), so that a worker that takes
over a job adopts what is finished instead of speaking it again.
"""

from __future__ import annotations

import hashlib
import time

import msgspec

import watermark
from core.audio import decoding, encoding, loudness, waveform
from core.audio.encoding import Encoded
from core.audio.waveform import Audio
from core.crypto import sealing
from core.crypto.sealing import Context, Envelope
from core.documents import canonical
from core.errors import Failed, Notice
from core.job import object_record, reuse, subtitles
from core.job.enrolment import Enrolled
from core.job.object_record import ObjectRecord
from core.job.runtime import Runtime, Stopwatch
from core.label import aigc as label
from core.manifest.resolve import Item, Job
from core.result.item_result import ItemResult, LabelUsed, Output, Watermark
from core.storage.object_keys import output_key
from core.trace import registry
from core.version import VERSION
from core.voice import SpeechChunk

SCHEME = "voicedrop/mark/1"
SENTENCE_PAUSE = 0.25
"""Seconds of silence between sentences."""
STRENGTHS = (watermark.QUIET, watermark.DEFAULT, watermark.ROBUST, 4.5)
"""Decibels, tried in turn from the preset's on; the last is for a word alone, half a second."""


def make(item: Item, voice: Enrolled, job: Job, job_id: str, runtime: Runtime) -> ItemResult:
    """Speak, mark, label, seal, store, and the subtitles after it. Raises Refused or Failed for
    what costs this item alone."""
    made = _spoken(item, voice, job, job_id, runtime)
    if job.output.concatenate == "none":
        made = subtitles.of_item(made, item, job_id, runtime)
    return as_asked(made, item, job, runtime)


def as_asked(made: ItemResult, item: Item, job: Job, runtime: Runtime) -> ItemResult:
    """With what the manifest says of it."""
    asked = reuse.asked(item, job, _mark_key(runtime))
    return msgspec.structs.replace(made, meta=item.meta, asked=asked)


def _spoken(item: Item, voice: Enrolled, job: Job, job_id: str, runtime: Runtime) -> ItemResult:
    key = output_key(job_id, item.id, item.format)
    fingerprint = fingerprint_of(item, voice.sha256, runtime.voice.fingerprint)
    if finished := adopt(key, fingerprint, item, runtime):
        return finished
    watch = Stopwatch(runtime, job_id, item.id)
    voice.gate.admit(item.language)
    spoken = _speak(item, voice, job_id, runtime, watch)
    sentences = subtitles.times(item.text, spoken, SENTENCE_PAUSE)
    speech = _shape(waveform.join(spoken, SENTENCE_PAUSE), item, job, watch)
    payload = registry.register(runtime.results, _mark_key(runtime), job_id, item.id)
    encoded, mark = _mark(speech, payload, item, runtime, watch)
    with watch.stage("label"):
        plain, used, waived = _label(encoded, item, job, job_id, runtime)
    with watch.stage("seal"):
        context = Context(job=job_id, item=item.id, mt=encoded.media_type)
        sealed = sealing.seal(plain, context, runtime.keys.wrapping)
    done = ItemResult(
        id=item.id,
        index=item.index,
        status="succeeded",
        output=_output(key, sealed.envelope, speech, encoded),
        watermark=mark,
        label=used,
        voice=item.voice,
        redrawn=sum(len(sentence.retry_reasons) for sentence in spoken),
        timings=watch.seconds,
        notices=[*item.notices, *waived],
        sentences=subtitles.shifted(sentences, label.lead_seconds(job.label.cue))
        if item.subtitle
        else [],
    )
    with watch.stage("store"):
        labelled = used.profile != "none"
        record = ObjectRecord(key=key, fingerprint=fingerprint, made=done)
        found = object_record.put_or_adopt(
            sealed.body, record, sealed.envelope, runtime, labelled=labelled
        )
    return _as_stored(found, fingerprint, item)


def _speak(
    item: Item, voice: Enrolled, job_id: str, runtime: Runtime, watch: Stopwatch
) -> list[SpeechChunk]:
    seed = _seed(job_id, item) if item.seed is None else item.seed
    sentences: list[SpeechChunk] = []
    start = time.perf_counter()
    for sentence in runtime.voice.speak(
        item.text, voice.voiceprint, language=item.language, speed=item.speed, seed=seed
    ):
        now = time.perf_counter()
        watch.add("speak", now - start, sentence.seconds)
        sentences.append(sentence)
        start = now
    if not sentences:
        raise Failed("OUTPUT_SILENT", pointer=item.pointer)
    return sentences


def _shape(speech: Audio, item: Item, job: Job, watch: Stopwatch) -> Audio:
    """Loudness, rate, the pause after it and the audible label around it."""
    with watch.stage("shape"):
        rate = item.sample_rate or speech.rate
        speech = waveform.resample(loudness.normalise_loudness(speech), rate)
        if item.pause_ms:
            speech = waveform.join([speech, waveform.silence(item.pause_ms / 1000, rate)])
        return label.add_cue(speech, job.label.cue)


def _mark(
    speech: Audio, payload: int, item: Item, runtime: Runtime, watch: Stopwatch
) -> tuple[Encoded, Watermark]:
    """The encoded speech with a mark that reads; a second of sound needs a stronger one."""
    first = watermark.STRENGTHS[runtime.mark]
    for strength in STRENGTHS[STRENGTHS.index(first) :]:
        with watch.stage("watermark"):
            marked = watermark.embed(
                speech.samples, speech.rate, payload, _mark_key(runtime), strength=strength
            )
        with watch.stage("encode"):
            encoded = encoding.encode(Audio(marked, speech.rate), item.format)
        with watch.stage("verify"):
            found = _read_back(encoded, payload, runtime, claimed=strength > first)
        if found.payload == payload:
            key_id, score = next(iter(runtime.keys.watermark)), round(found.score, 2)
            return encoded, Watermark(
                scheme=SCHEME, key_id=key_id, payload=f"{payload:08x}", score=score
            )
    message = f"The mark reads with score {found.score:.1f} in {speech.seconds:.1f} s of sound."
    raise Failed("WATERMARK_VERIFY_FAILED", message, pointer=item.pointer)


def _read_back(
    encoded: Encoded, payload: int, runtime: Runtime, *, claimed: bool
) -> watermark.Detection:
    """Detect the mark in the finished file, as anybody who finds it would; `claimed`: or at least
    as an auditor who asks whether it is this one, with the same bound on chance."""
    heard = decoding.decode_trusted(encoded.data)
    key = _mark_key(runtime)
    found = watermark.detect(heard.samples, heard.rate, key, thorough=False)
    if found.payload != payload and claimed:
        found = watermark.verify(heard.samples, heard.rate, payload, key, thorough=False)
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


def adopt(key: str, fingerprint: str, item: Item, runtime: Runtime) -> ItemResult | None:
    """The finished item, if a worker of ours has stored it. Refused OUTPUT_EXISTS if what lies
    there is not ours."""
    found = object_record.adopt(key, ItemResult, runtime)
    return _as_stored(found, fingerprint, item) if found else None


def _as_stored(
    found: tuple[ObjectRecord[ItemResult], Envelope], fingerprint: str, item: Item
) -> ItemResult:
    record, envelope = found
    changed = [Notice("ENGINE_CHANGED")] if record.fingerprint != fingerprint else []
    notices = [*record.made.notices, *changed]
    return msgspec.structs.replace(record.made, envelope=envelope, meta=item.meta, notices=notices)


def _label(
    encoded: Encoded, item: Item, job: Job, job_id: str, runtime: Runtime
) -> tuple[bytes, LabelUsed, list[Notice]]:
    """The file with the label that law asks for, read back; and what the result says of it."""
    asked = job.label
    if asked.profile == "none":
        used = LabelUsed(profile="none", cue=asked.cue, waiver=asked.waiver)
        return encoded.data, used, [Notice("LABEL_WAIVED")]
    producer = runtime.producer if asked.producer is None else asked.producer
    made, remarks = label.make_label(producer, f"{job_id}/{item.id}")
    used = LabelUsed(
        profile=asked.profile, cue=asked.cue, producer=producer, produce_id=made.produce_id
    )
    return label.add_label(encoded.data, made), used, remarks


def _mark_key(runtime: Runtime) -> bytes:
    return next(iter(runtime.keys.watermark.values()))


def _seed(job_id: str, item: Item) -> int:
    """From what the item is, so that a repeated job draws the same."""
    return int.from_bytes(hashlib.sha256(f"{job_id}/{item.id}".encode()).digest()[:4], "big")


def fingerprint_of(item: Item, reference_sha256: str, engine: str) -> str:
    """Two outputs with the same fingerprint were made from the same things in the same way.

    `engine`: the fingerprint of the voice engine.
    """
    parts = {
        "item": [item.text, item.language, item.format, item.sample_rate, item.speed, item.seed],
        "pause_ms": item.pause_ms,
        "reference": reference_sha256,
        "engine": engine,
        "processor": VERSION,
    }
    return hashlib.sha256(canonical.dump(parts)).hexdigest()
