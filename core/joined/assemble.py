"""Items -> one file a chapter, or a book: made from the sealed items, streaming, put once.

Where every item lies in a joined file follows from the results of the items alone, so a worker that
comes second knows it (core/joined/timeline.py) without opening what the first one stored. The sound
is that of the items with their own marks; the audible label of the first and last item is that of
the file.
"""

from __future__ import annotations

import hashlib
import mmap
import tempfile
from collections.abc import Sequence
from typing import Any, BinaryIO, cast

import msgspec
import numpy as np

from core.audio import decoding, encoding, waveform
from core.audio.waveform import Audio, Samples
from core.crypto import sealing
from core.crypto.sealing import Context, Envelope
from core.documents import canonical
from core.errors import Failed, Refused
from core.job import object_record, subtitles
from core.job.lease import Lease
from core.job.object_record import ObjectRecord
from core.job.runtime import Runtime, Stopwatch
from core.joined import chapter_tags, readback
from core.joined.chapter_tags import Bookmark
from core.joined.readback import Marked
from core.joined.timeline import Piece, Plan, plans
from core.label import aigc as label
from core.manifest.resolve import Job
from core.result.item_result import (
    Chapter,
    ItemResult,
    LabelUsed,
    MarksRead,
    Output,
    Problem,
    TimeSpan,
)
from core.storage.object_keys import chapter_name, output_key

LONGEST_WAV = (1 << 32) - (1 << 20)
_HEAD = 1 << 20
_REVISION = 1
"""Raised whenever the same items are joined in another way."""


def join(
    job: Job, made: Sequence[ItemResult], job_id: str, lease: Lease, runtime: Runtime
) -> list[Chapter]:
    """The joined files that the manifest asks for, stored. Raises Unavailable, Misconfigured."""
    chapters = []
    for one in plans(job, made):
        lease.check()
        try:
            chapters.append(_make(one, job, job_id, lease, runtime))
        except (Refused, Failed) as exc:
            chapters.append(
                Chapter(
                    id=one.id, status="failed", error=Problem.from_error(exc), missing=one.missing
                )
            )
        lease.progress(len(made) + len(chapters))
    return chapters


def _make(one: Plan, job: Job, job_id: str, lease: Lease, runtime: Runtime) -> Chapter:
    if not one.pieces:
        raise Failed("CHAPTER_EMPTY")
    if one.format == "wav" and one.seconds * one.rate * 2 > LONGEST_WAV:
        raise Refused("CHAPTER_TOO_LONG", pointer="/output")
    owner = (job_id, chapter_name(one.name))
    key = output_key(*owner, one.format)
    found = object_record.adopt(key, Chapter, runtime)
    made = _as_stored(found or _made(key, one, job, job_id, lease, runtime), one)
    said = [
        line
        for piece in one.pieces
        for line in subtitles.lines(piece.item.text, piece.made.sentences, piece.start - piece.skip)
    ]
    return msgspec.structs.replace(
        made,
        subtitles=subtitles.store(said, job.subtitle, owner, runtime),
        items=[TimeSpan(id=p.item.id, start=p.start, end=p.end) for p in one.pieces],
        chapters=one.chapters,
        missing=one.missing,
    )


def _as_stored(found: tuple[ObjectRecord[Chapter], Envelope], one: Plan) -> Chapter:
    record, envelope = found
    if record.fingerprint != _fingerprint(one):
        raise Refused(
            "OUTPUT_EXISTS", f"{record.key} was joined from other items or in another way."
        )
    return msgspec.structs.replace(record.made, envelope=envelope)


def _fingerprint(one: Plan) -> str:
    parts: dict[str, Any] = {
        "revision": _REVISION,
        "format": one.format,
        "missing": one.missing,
        "pieces": [
            [p.item.id, p.made.output.sealed_sha256 if p.made.output else "", p.start, p.end]
            for p in one.pieces
        ],
    }
    return hashlib.sha256(canonical.dump(parts)).hexdigest()


def _made(
    key: str, one: Plan, job: Job, job_id: str, lease: Lease, runtime: Runtime
) -> tuple[ObjectRecord[Chapter], Envelope]:
    watch = Stopwatch(runtime, job_id, chapter_name(one.name))
    with tempfile.TemporaryFile() as plain, tempfile.TemporaryFile() as sealed:
        with tempfile.TemporaryFile() as encoded:
            with watch.stage("join"):
                rate = _encode(one, cast(BinaryIO, encoded), lease, runtime)
            with watch.stage("verify"):
                heard = _read_marks(one, cast(BinaryIO, encoded), runtime)
            with watch.stage("label"):
                used = _label(one, job, job_id, cast(BinaryIO, encoded), plain, runtime, rate)
        with watch.stage("seal"):
            media = encoding.media_type(one.format)
            context = Context(job=job_id, item=chapter_name(one.name), mt=media)
            plain.seek(0)
            envelope = sealing.seal_stream(plain, sealed, context, runtime.keys.wrapping)
        output = Output(
            key=key,
            bytes=envelope.ct_len,
            sealed_sha256=envelope.ct_sha256,
            plain_sha256=envelope.pt_sha256,
            media_type=media,
            duration_s=round(one.seconds, 3),
            sample_rate=rate,
        )
        made = Chapter(
            id=one.id,
            status="partial" if one.missing else "succeeded",
            output=output,
            label=used,
            marks=heard,
            timings=watch.seconds,
        )
        record = ObjectRecord(key=key, fingerprint=_fingerprint(one), made=made)
        lease.check()
        labelled = used.profile != "none"
        return object_record.put_or_adopt(
            cast(BinaryIO, sealed), record, envelope, runtime, labelled=labelled
        )


def _encode(one: Plan, file: BinaryIO, lease: Lease, runtime: Runtime) -> int:
    """The joined sound in its container, one item in memory at a time; the rate of the file."""
    with encoding.open_writer(file, one.rate, one.format) as sound:
        rate = int(sound.samplerate)
        at = 0
        for piece in one.pieces:
            lease.check()
            at += _silence(sound, round(piece.start * rate) - at)
            samples = _fitted(_opened(piece.made, runtime), piece, rate)
            for i in range(0, len(samples), rate):
                sound.write(samples[i : i + rate])
            at += len(samples)
        _silence(sound, round(one.seconds * rate) - at)
    return rate


def _silence(sound: Any, count: int) -> int:
    for start in range(0, count, int(sound.samplerate)):
        sound.write(np.zeros(min(int(sound.samplerate), count - start), np.float32))
    return max(count, 0)


def _opened(made: ItemResult, runtime: Runtime) -> Audio:
    if made.output is None or made.envelope is None:
        raise Failed("INTERNAL", "an item without sound in a chapter")
    body = runtime.results.get(made.output.key, limit=object_record.LIMIT).data
    return decoding.decode_trusted(sealing.open_sealed(body, made.envelope, runtime.keys.wrapping))


def _fitted(heard: Audio, piece: Piece, rate: int) -> Samples:
    """Exactly the samples that the plan gives the item."""
    heard = waveform.resample(heard, rate)
    count = round(piece.end * rate) - round(piece.start * rate)
    part = heard.samples[round(piece.skip * rate) :][:count]
    return np.clip(np.pad(part, (0, count - len(part))), -1.0, 1.0)


def _read_marks(one: Plan, file: BinaryIO, runtime: Runtime) -> MarksRead:
    keys = runtime.keys.watermark
    current = next(iter(keys))
    # An item that is kept from an earlier job may carry the mark of an earlier key.
    stated = [(piece, piece.made.watermark) for piece in one.pieces if piece.made.watermark]
    found = readback.read(
        file,
        [
            Marked(p.start, p.end, int(m.payload, 16), keys.get(m.key_id, keys[current]))
            for p, m in stated
        ],
    )
    if not found.enough:
        message = f"The marks of {found.share:.0%} of the joined sound read."
        raise Failed("WATERMARK_VERIFY_FAILED", message)
    return MarksRead(
        key_id=current,
        read=len(found.scores),
        share=round(found.share, 3),
        weakest=found.weakest,
    )


def _label(
    one: Plan, job: Job, job_id: str, encoded: BinaryIO, plain: Any, runtime: Runtime, rate: int
) -> LabelUsed:
    """The file with its label and chapter marks, into `plain`, read back."""
    asked = job.label
    made, field = None, None
    used = LabelUsed(profile="none", cue=asked.cue, waiver=asked.waiver)
    if asked.profile != "none":
        producer = runtime.producer if asked.producer is None else asked.producer
        made, _ = label.make_label(producer, f"{job_id}/{chapter_name(one.name)}")
        field = (label.FIELD, msgspec.json.encode(made).decode())
        used = LabelUsed(
            profile=asked.profile, cue=asked.cue, producer=producer, produce_id=made.produce_id
        )
    titles = job.output.titles
    marks = [Bookmark(c.start, c.end, c.id, titles.get(c.id, c.id)) for c in one.chapters]
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
        if label.read_labels(cast(bytes, view)) != ([made] if made else []):
            raise Failed("LABEL_VERIFY_FAILED")
    return used
