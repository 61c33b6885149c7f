"""Items joined into one file a chapter, or one book: streamed from the sealed items, put once.

The position of every item in a joined file follows from the results of the items alone
(core/joined/timeline.py), so a second worker knows it without opening the stored file. The items
keep their own watermarks; the audible label of the first and last item is that of the file.
"""

from __future__ import annotations

import hashlib
import mmap
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

import msgspec
import numpy as np

from core.audio import decoding, encoding, waveform
from core.audio.waveform import Audio, Samples
from core.crypto import sealing
from core.crypto.sealing import Context, Envelope
from core.documents import canonical
from core.errors import Failed, JobError, Notice, Refused
from core.job import admission, object_record, subtitles, withdrawn
from core.job.accept import AcceptedJob
from core.job.admission import Admitted
from core.job.object_record import ObjectRecord
from core.job.runtime import Run, Runtime
from core.joined import chapter_tags, readback
from core.joined.chapter_tags import ChapterMark
from core.joined.readback import MarkedSpan
from core.joined.timeline import Piece, Timeline, timelines
from core.label import aigc
from core.manifest.resolve import Job
from core.result import document
from core.result.item_result import (
    Chapter,
    ItemResult,
    LabelUsed,
    MarksRead,
    Output,
    Problem,
    TimeSpan,
)
from core.storage.object_keys import chapter_name, job_prefix, output_key
from core.text.annotated import to_written

LONGEST_WAV = (1 << 32) - (1 << 20)
"""Bytes of sound: a WAV file states its size in 32 bits."""
_HEAD = 1 << 20
_REVISION = 1
"""Increased whenever the same items are joined in another way."""


@dataclass(frozen=True, slots=True)
class Released:
    """What a job may release: its items, the joined files, and notices about what was deleted."""

    items: list[ItemResult]
    chapters: list[Chapter]
    notices: list[Notice]


def release(
    accepted: AcceptedJob,
    items: list[ItemResult],
    voices: Mapping[str, Admitted | JobError],
    run: Run,
) -> Released:
    """Join the items, without what was made with a voice whose consent was withdrawn meanwhile.

    Raises Unavailable, Misconfigured.
    """
    job, claims = accepted.job, withdrawn.claims_of(voices)
    for name, kept in accepted.claims.items():
        claims[name] = [*claims.get(name, []), *kept]
    chapters, notices = [], []
    if job.output.concatenate != "none":
        errors = withdrawn.find_withdrawn(voices, claims, run.runtime)
        items = withdrawn.remove_outputs(items, job, errors, run)
        chapters = join(job, items, claims, run)
    errors = withdrawn.find_withdrawn(voices, claims, run.runtime)
    items = withdrawn.remove_outputs(items, job, errors, run)
    chapters = _without_voices(chapters, job, errors)
    made: list[ItemResult | Chapter] = [*items, *chapters]
    if any(map(withdrawn.lacks_consent, made)):
        notices = _name_unclaimed(chapters, run)
    return Released(items, chapters, notices)


def _without_voices(
    chapters: list[Chapter], job: Job, errors: Mapping[str, JobError]
) -> list[Chapter]:
    """Fail the joined files in which a withdrawn voice speaks. `errors`: by voice name."""
    by_item = {item.id: errors[item.voice] for item in job.items if item.voice in errors}
    spoken = [[by_item[span.id] for span in c.items if span.id in by_item] for c in chapters]
    return [
        _failed(chapter.id, found[0], chapter.missing) if found else chapter
        for chapter, found in zip(chapters, spoken, strict=True)
    ]


def _name_unclaimed(chapters: list[Chapter], run: Run) -> list[Notice]:
    """Name the joined files of this job other than these, which are removed; some may be those of a
    dead worker."""
    kept = set(document.sealed_keys(chapters))
    stored = list(run.runtime.results.list(job_prefix(run.job_id) + chapter_name("")))
    return [withdrawn.removal(info.key) for info in stored if info.key not in kept]


def join(job: Job, items: list[ItemResult], claims: withdrawn.Claims, run: Run) -> list[Chapter]:
    """Make and store the joined files that the manifest asks for. An error fails its file alone.

    `claims`: the consent to each voice. A joined file is new speech, also of items that are kept
    from an earlier job, so it is read again for all of them. Raises Unavailable, Misconfigured.
    """
    chapters = []
    for timeline in timelines(job, items):
        run.lease.check()
        try:
            chapters.append(_join_one(timeline, job, claims, run))
        except (Refused, Failed) as exc:
            chapters.append(_failed(timeline.id, exc, timeline.missing))
        run.lease.record_outputs(len(items) + len(chapters))
    return chapters


def _failed(chapter: str, error: JobError, missing: list[int]) -> Chapter:
    return Chapter(id=chapter, status="failed", error=Problem.from_error(error), missing=missing)


def _join_one(timeline: Timeline, job: Job, claims: withdrawn.Claims, run: Run) -> Chapter:
    if not timeline.pieces:
        raise Failed("CHAPTER_EMPTY")
    if timeline.format == "wav" and timeline.seconds * timeline.rate * 2 > LONGEST_WAV:
        raise Refused("CHAPTER_TOO_LONG", pointer="/output")
    owner = (run.job_id, chapter_name(timeline.name))
    key = output_key(*owner, timeline.format)
    # First, because the record may have been replaced since a worker stored the file.
    _refuse_without_consent(timeline, claims, run.runtime)
    stored = object_record.adopt(key, Chapter, run.runtime)
    record, envelope = stored or _make_and_store(key, timeline, job, claims, run)
    if record.fingerprint != _fingerprint(timeline):
        raise Refused("OUTPUT_EXISTS", f"{key} was joined from other items or in another way.")
    lines = [
        line
        for piece in timeline.pieces
        for line in subtitles.timed_sentences(
            to_written(piece.item.text), piece.result.sentences, piece.start - piece.skip
        )
    ]
    return msgspec.structs.replace(
        record.entry,
        envelope=envelope,
        label=record.entry.label and record.entry.label.with_waiver(job.label.waiver),
        subtitles=subtitles.store(
            lines, job.subtitle, owner, _recordings(timeline, claims), run.runtime
        ),
        items=[TimeSpan(id=p.item.id, start=p.start, end=p.end) for p in timeline.pieces],
        chapters=timeline.chapters,
        missing=timeline.missing,
    )


def _fingerprint(timeline: Timeline) -> str:
    parts: dict[str, Any] = {
        "revision": _REVISION,
        "format": timeline.format,
        "missing": timeline.missing,
        "pieces": [
            [p.item.id, p.result.output.sealed_sha256 if p.result.output else "", p.start, p.end]
            for p in timeline.pieces
        ],
    }
    return hashlib.sha256(canonical.dump(parts)).hexdigest()


def _make_and_store(
    key: str, timeline: Timeline, job: Job, claims: withdrawn.Claims, run: Run
) -> tuple[ObjectRecord[Chapter], Envelope]:
    name = chapter_name(timeline.name)
    stopwatch = run.stopwatch(name)
    with tempfile.TemporaryFile() as plain, tempfile.TemporaryFile() as sealed:
        with tempfile.TemporaryFile() as encoded:
            with stopwatch.stage("join"):
                rate = _encode(timeline, cast(BinaryIO, encoded), run)
            with stopwatch.stage("verify"):
                marks = _read_marks(timeline, cast(BinaryIO, encoded), run.runtime)
            with stopwatch.stage("label"):
                label = _label(timeline, job, run, cast(BinaryIO, encoded), plain, rate)
        with stopwatch.stage("seal"):
            media_type = encoding.media_type(timeline.format)
            context = Context(job=run.job_id, item=name, mt=media_type)
            plain.seek(0)
            envelope = sealing.seal_stream(plain, sealed, context, run.runtime.keys.wrapping)
        output = Output(
            key=key,
            bytes=envelope.ct_len,
            sealed_sha256=envelope.ct_sha256,
            plain_sha256=envelope.pt_sha256,
            media_type=media_type,
            duration_s=round(timeline.seconds, 3),
            sample_rate=rate,
        )
        chapter = Chapter(
            id=timeline.id,
            status="partial" if timeline.missing else "succeeded",
            output=output,
            label=label,
            marks=marks,
            timings=stopwatch.seconds,
        )
        record = ObjectRecord(key=key, fingerprint=_fingerprint(timeline), entry=chapter)
        run.lease.check()
        _refuse_without_consent(timeline, claims, run.runtime)
        return object_record.put_or_adopt(
            cast(BinaryIO, sealed),
            record,
            envelope,
            run.runtime,
            recordings=_recordings(timeline, claims),
            labelled=label.profile != "none",
        )


def _recordings(timeline: Timeline, claims: withdrawn.Claims) -> set[str]:
    """Return the SHA-256 of the recordings whose voices speak in a joined file."""
    return {claim.reference_sha256 for p in timeline.pieces for claim in claims[p.item.voice]}


def _refuse_without_consent(timeline: Timeline, claims: withdrawn.Claims, runtime: Runtime) -> None:
    """Raises Refused with a code of the consent family."""
    for voice in sorted({piece.item.voice for piece in timeline.pieces}):
        items = [piece.item for piece in timeline.pieces if piece.item.voice == voice]
        admission.admit_again(items, dict.fromkeys(claims[voice]), runtime)


def _encode(timeline: Timeline, file: BinaryIO, run: Run) -> int:
    """Write the joined sound in its container, one item in memory at a time; return the sample rate
    of the file in Hz."""
    with encoding.open_writer(file, timeline.rate, timeline.format) as sound:
        rate = int(sound.samplerate)
        position = 0
        for piece in timeline.pieces:
            run.lease.check()
            position += _write_silence(sound, round(piece.start * rate) - position)
            samples = _fit(_open_item(piece.result, run.runtime), piece, rate)
            for i in range(0, len(samples), rate):
                sound.write(samples[i : i + rate])
            position += len(samples)
        _write_silence(sound, round(timeline.seconds * rate) - position)
    return rate


def _write_silence(sound: Any, count: int) -> int:
    for start in range(0, count, int(sound.samplerate)):
        sound.write(np.zeros(min(int(sound.samplerate), count - start), np.float32))
    return max(count, 0)


def _open_item(item: ItemResult, runtime: Runtime) -> Audio:
    if item.output is None or item.envelope is None:
        raise Failed("INTERNAL", "An item of the chapter has no sound.")
    body = runtime.results.get(item.output.key, limit=object_record.LIMIT).data
    return decoding.decode_trusted(sealing.open_sealed(body, item.envelope, runtime.keys.wrapping))


def _fit(audio: Audio, piece: Piece, rate: int) -> Samples:
    """Exactly as many samples as the timeline gives the item."""
    audio = waveform.resample(audio, rate)
    count = round(piece.end * rate) - round(piece.start * rate)
    part = audio.samples[round(piece.skip * rate) :][:count]
    return np.clip(np.pad(part, (0, count - len(part))), -1.0, 1.0)


def _read_marks(timeline: Timeline, file: BinaryIO, runtime: Runtime) -> MarksRead:
    keys = runtime.keys.watermark
    current = next(iter(keys))
    # An item that is kept from an earlier job may have been marked with an earlier key.
    found = readback.read_marks(
        file,
        [
            MarkedSpan(p.start, p.end, int(m.payload, 16), keys.get(m.key_id, keys[current]))
            for p in timeline.pieces
            if (m := p.result.watermark)
        ],
    )
    if not found.is_enough:
        message = f"Watermarks were read in only {found.share:.0%} of the joined sound."
        raise Failed("WATERMARK_VERIFY_FAILED", message)
    return MarksRead(
        key_id=current,
        read=len(found.scores),
        share=round(found.share, 3),
        weakest=found.weakest,
    )


def _label(
    timeline: Timeline, job: Job, run: Run, encoded: BinaryIO, plain: Any, rate: int
) -> LabelUsed:
    """Copy the file into `plain` with its label and chapter marks, and read the label back."""
    asked = job.label
    label, field = None, None
    used = LabelUsed(profile="none", cue=asked.cue)
    if asked.profile != "none":
        producer = run.runtime.producer if asked.producer is None else asked.producer
        label, _ = aigc.make_label(producer, f"{run.job_id}/{chapter_name(timeline.name)}")
        field = (aigc.FIELD, msgspec.json.encode(label).decode())
        used = LabelUsed(
            profile=asked.profile, cue=asked.cue, producer=producer, produce_id=label.produce_id
        )
    titles = job.output.titles
    marks = [ChapterMark(c.start, c.end, c.id, titles.get(c.id, c.id)) for c in timeline.chapters]
    size = encoded.seek(0, 2)
    encoded.seek(0)
    edit = chapter_tags.splice(encoded.read(_HEAD), size, rate, field, marks)
    plain.write(edit.head)
    encoded.seek(edit.start)
    while part := encoded.read(_HEAD):
        plain.write(part)
    plain.write(edit.tail)
    plain.flush()
    with mmap.mmap(plain.fileno(), 0, access=mmap.ACCESS_READ) as view:
        if aigc.read_labels(cast(bytes, view)) != ([label] if label else []):
            raise Failed("LABEL_VERIFY_FAILED")
    return used
