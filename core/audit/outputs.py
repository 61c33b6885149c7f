"""Checks 2 to 7 on one output, from the sealed object to the watermark in its audio."""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Mapping, Sequence
from typing import BinaryIO, cast

import msgspec

import watermark
from core.audio import decoding
from core.audit import sealed
from core.audit.model import (
    C2PA,
    ENVELOPE,
    LABEL,
    OBJECT,
    PLAINTEXT,
    WATERMARK,
    CheckedItem,
    Outcome,
    attempt,
    failed,
    skipped,
)
from core.audit.sources import Sources
from core.joined import readback
from core.joined.readback import MarkedSpan
from core.label import aigc as label
from core.result.item_result import Chapter, ItemResult, LabelUsed, Watermark
from core.result.sealed_file import SealedFile, sealed_files
from core.storage.object_keys import chapter_name
from core.trace import registry


def check(item: ItemResult, job: str, sources: Sources) -> CheckedItem:
    """Check an item of a genuine result of the job `job`."""
    output, mark = item.output, item.watermark
    checked = CheckedItem(item=item.id, index=item.index, status=item.status)
    if output is None:
        return msgspec.structs.replace(checked, outcomes=_skip_all())
    stated, *subtitles = sealed_files(item, job)
    with tempfile.TemporaryFile() as file:
        opened, is_complete = sealed.check(stated, sources, file)
        plain = cast(BinaryIO, file) if is_complete else None
        marked, score = _check_mark(item, stated.owner, plain, sources)
        labelled = _check_label(item.label, plain)
    return msgspec.structs.replace(
        checked,
        duration_s=output.duration_s,
        bytes=output.bytes,
        media_type=output.media_type,
        payload=mark.payload if mark else "",
        score=score,
        outcomes=[
            *opened,
            labelled,
            skipped(C2PA, "NOT_MADE"),
            marked,
            *_check_subtitles(subtitles, sources),
        ],
    )


def check_joined(
    chapter: Chapter, job: str, marks: Mapping[str, Watermark], sources: Sources
) -> CheckedItem:
    """Check a chapter or book of a genuine result. `marks`: item id -> its watermark."""
    checked = CheckedItem(item=chapter_name(chapter.id), index=-1, status=chapter.status)
    output = chapter.output
    if output is None:
        return msgspec.structs.replace(checked, outcomes=_skip_all())
    stated, *subtitles = sealed_files(chapter, job)
    with tempfile.TemporaryFile() as file:
        opened, is_complete = sealed.check(stated, sources, file)
        plain = cast(BinaryIO, file) if is_complete else None
        marked, score = _check_joined_marks(chapter, marks, plain, sources)
        labelled = _check_label(chapter.label, plain)
    return msgspec.structs.replace(
        checked,
        duration_s=output.duration_s,
        bytes=output.bytes,
        media_type=output.media_type,
        score=score,
        outcomes=[
            *opened,
            labelled,
            skipped(C2PA, "NOT_MADE"),
            marked,
            *_check_subtitles(subtitles, sources),
        ],
    )


def check_erased(item: ItemResult, job: str, sources: Sources) -> CheckedItem:
    """Check an item whose files were erased: its mark stays, to trace clips that leaked before."""
    outcomes = _skip_all("ERASED")
    if item.watermark:
        marked, _ = _check_mark(item, (job, item.id), None, sources)
        outcomes += [marked] if marked.verdict == "fail" else []
    return CheckedItem(item=item.id, index=item.index, status=item.status, outcomes=outcomes)


def skip_erased_joined(chapter: Chapter) -> CheckedItem:
    """Return the outcomes of a joined file that was erased."""
    return CheckedItem(
        item=chapter_name(chapter.id),
        index=-1,
        status=chapter.status,
        outcomes=_skip_all("ERASED"),
    )


def _skip_all(code: str = "NO_OUTPUT") -> list[Outcome]:
    numbers = (OBJECT, ENVELOPE, PLAINTEXT, LABEL, C2PA, WATERMARK)
    return [skipped(number, code) for number in numbers]


def _check_subtitles(subtitles: Sequence[SealedFile], sources: Sources) -> list[Outcome]:
    outcomes = []
    for subtitle in subtitles:
        with tempfile.TemporaryFile() as file:
            outcomes += sealed.check(subtitle, sources, cast(BinaryIO, file))[0]
    return outcomes


def _check_joined_marks(
    chapter: Chapter, marks: Mapping[str, Watermark], plain: BinaryIO | None, sources: Sources
) -> tuple[Outcome, float | None]:
    """Run check 7 on a joined file: detect the watermark of each item in it. The registry is
    checked with the items themselves."""
    score = chapter.marks.weakest if chapter.marks else None
    unknown = [placed.id for placed in chapter.items if placed.id not in marks]
    if unknown or not chapter.items:
        message = f"The result states no watermark for {unknown[0] if unknown else 'any item'}."
        return failed(WATERMARK, "WATERMARK_VERIFY_FAILED", message), score
    keys = sources.keys.watermark
    if plain is None or any(marks[placed.id].key_id not in keys for placed in chapter.items):
        code = "NO_KEY" if plain or sources.keys.wrapping is None else "NOT_OPENED"
        return skipped(WATERMARK, code), score
    with attempt(WATERMARK) as checking:
        detected = readback.read_marks(
            plain,
            [
                MarkedSpan(p.start, p.end, int(marks[p.id].payload, 16), keys[marks[p.id].key_id])
                for p in chapter.items
            ],
        )
        score = detected.weakest
        if not detected.is_enough:
            message = f"Watermarks were detected in only {detected.share:.0%} of the speech."
            checking.outcome = failed(WATERMARK, "WATERMARK_VERIFY_FAILED", message)
    return checking.outcome, score


def _check_label(used: LabelUsed | None, plain: BinaryIO | None) -> Outcome:
    if plain is None:
        return skipped(LABEL, "NOT_OPENED")
    with attempt(LABEL) as checking, mmap.mmap(plain.fileno(), 0, access=mmap.ACCESS_READ) as view:
        labels = label.read_labels(cast(bytes, view))
        if used is None or used.profile == "none":
            checking.outcome = skipped(LABEL, "WAIVED")
            expected = []
        else:
            expected = [label.make_label(used.producer, used.produce_id)[0]]
        if labels != expected:
            message = f"It carries {len(labels)} labels; expected: {len(expected)}."
            checking.outcome = failed(LABEL, "LABEL_MISMATCH", message)
    return checking.outcome


def _check_mark(
    item: ItemResult, owner: tuple[str, str], plain: BinaryIO | None, sources: Sources
) -> tuple[Outcome, float | None]:
    """Run check 7; return its outcome and the score: measured, or else the one in the result."""
    stated = item.watermark
    if stated is None:
        message = "The result states no watermark."
        return failed(WATERMARK, "WATERMARK_VERIFY_FAILED", message), None
    stored = registry.read(sources.results, int(stated.payload, 16), sources.keys.verifying)
    mark = stored.mark if stored and not stored.is_altered else None
    if mark is None or (mark.job, mark.item) != owner:
        found = f"item {mark.item} of job {mark.job}" if mark else "no item"
        message = f"The registry assigns payload {stated.payload} to {found}."
        return failed(WATERMARK, "MARK_UNREGISTERED", message), stated.score
    key = sources.keys.watermark.get(stated.key_id)
    if plain is None or key is None:
        code = "NO_KEY" if key is None or sources.keys.wrapping is None else "NOT_OPENED"
        return skipped(WATERMARK, code), stated.score
    plain.seek(0)
    return _verify_mark(stated, plain.read(), key)


def _verify_mark(stated: Watermark, plain: bytes, key: bytes) -> tuple[Outcome, float]:
    score = 0.0
    with attempt(WATERMARK) as checking:
        audio = decoding.decode_trusted(plain)
        payload = int(stated.payload, 16)
        detection = watermark.verify(audio.samples, audio.rate, payload, key, thorough=False)
        score = round(detection.score, 2)
        if detection.payload != payload:
            message = f"Payload {stated.payload} scores {score}, which is below the threshold."
            checking.outcome = failed(WATERMARK, "WATERMARK_VERIFY_FAILED", message)
    return checking.outcome, score
