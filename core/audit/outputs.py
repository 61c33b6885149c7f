"""Checks 2 to 7: one output, from the sealed object to the mark in its sound."""

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
    passed,
    skipped,
)
from core.audit.sources import Sources
from core.joined import readback
from core.joined.readback import Marked
from core.label import aigc as label
from core.result.item_result import Chapter, ItemResult, LabelUsed, Subtitled, Watermark
from core.storage.object_keys import chapter_name
from core.trace import registry


def check(item: ItemResult, job: str, sources: Sources) -> CheckedItem:
    """`item` is one that a genuine result names; `job` made it."""
    made, mark = item.output, item.watermark
    row = CheckedItem(item=item.id, index=item.index, status=item.status)
    if made is None:
        return msgspec.structs.replace(row, outcomes=_skip_all())
    owner = (job, item.id)
    with tempfile.TemporaryFile() as file:
        opened, whole = sealed.check(sealed.of_output(made, item.envelope, owner), sources, file)
        plain = cast(BinaryIO, file) if whole else None
        marked, score = _check_mark(item, job, plain, sources)
        labelled = _check_label(item.label, plain)
    return msgspec.structs.replace(
        row,
        duration_s=made.duration_s,
        bytes=made.bytes,
        media_type=made.media_type,
        payload=mark.payload if mark else "",
        score=score,
        outcomes=[
            *opened,
            labelled,
            skipped(C2PA, "NOT_MADE"),
            marked,
            *_check_subtitles(item.subtitles, owner, sources),
        ],
    )


def check_joined(
    one: Chapter, job: str, stated: Mapping[str, Watermark], sources: Sources
) -> CheckedItem:
    """A chapter or a book that a genuine result names. `stated`: id -> the mark of each item."""
    row = CheckedItem(item=chapter_name(one.id), index=-1, status=one.status)
    made = one.output
    if made is None:
        return msgspec.structs.replace(row, outcomes=_skip_all())
    # The name of a file in which items are missing says so: it is not the chapter's.
    name = made.key.rpartition("/")[2].removesuffix(".sealed").rpartition(".")[0]
    owner = (job, chapter_name(name))
    with tempfile.TemporaryFile() as file:
        opened, whole = sealed.check(sealed.of_output(made, one.envelope, owner), sources, file)
        plain = cast(BinaryIO, file) if whole else None
        marked, score = _check_joined_marks(one, stated, plain, sources)
        labelled = _check_label(one.label, plain)
    return msgspec.structs.replace(
        row,
        duration_s=made.duration_s,
        bytes=made.bytes,
        media_type=made.media_type,
        score=score,
        outcomes=[
            *opened,
            labelled,
            skipped(C2PA, "NOT_MADE"),
            marked,
            *_check_subtitles(one.subtitles, owner, sources),
        ],
    )


def _skip_all() -> list[Outcome]:
    numbers = (OBJECT, ENVELOPE, PLAINTEXT, LABEL, C2PA, WATERMARK)
    return [skipped(number, "NO_OUTPUT") for number in numbers]


def _check_subtitles(
    made: Sequence[Subtitled], owner: tuple[str, str], sources: Sources
) -> list[Outcome]:
    outcomes = []
    for one in made:
        with tempfile.TemporaryFile() as file:
            stated = sealed.of_subtitle(one, owner)
            outcomes += sealed.check(stated, sources, cast(BinaryIO, file))[0]
    return outcomes


def _check_joined_marks(
    one: Chapter, stated: Mapping[str, Watermark], plain: BinaryIO | None, sources: Sources
) -> tuple[Outcome, float | None]:
    """Check 7: the marks of the items read in it. The items themselves say whose they are."""
    score = one.marks.weakest if one.marks else None
    unknown = [placed.id for placed in one.items if placed.id not in stated]
    if unknown or not one.items:
        said = f"The result states no mark of {unknown[0] if unknown else 'any item'}."
        return failed(WATERMARK, "WATERMARK_VERIFY_FAILED", said), score
    keys = sources.keys.watermark
    if plain is None or any(stated[placed.id].key_id not in keys for placed in one.items):
        code = "NO_KEY" if plain or sources.keys.wrapping is None else "NOT_OPENED"
        return skipped(WATERMARK, code), score
    with attempt(WATERMARK) as made:
        found = readback.read(
            plain,
            [
                Marked(p.start, p.end, int(stated[p.id].payload, 16), keys[stated[p.id].key_id])
                for p in one.items
            ],
        )
        score = found.weakest
        made.outcome = passed(WATERMARK)
        if not found.enough:
            said = f"The marks of {found.share:.0%} of the joined sound read."
            made.outcome = failed(WATERMARK, "WATERMARK_VERIFY_FAILED", said)
    return made.outcome, score


def _check_label(used: LabelUsed | None, plain: BinaryIO | None) -> Outcome:
    if plain is None:
        return skipped(LABEL, "NOT_OPENED")
    with attempt(LABEL) as made, mmap.mmap(plain.fileno(), 0, access=mmap.ACCESS_READ) as view:
        found = label.read_labels(cast(bytes, view))
        if used is None or used.profile == "none":
            made.outcome = skipped(LABEL, "WAIVED")
            wanted = []
        else:
            wanted = [label.make_label(used.producer, used.produce_id)[0]]
        if found != wanted:
            made.outcome = failed(LABEL, "LABEL_MISMATCH", f"It carries {len(found)} labels.")
    return made.outcome


def _check_mark(
    item: ItemResult, job: str, plain: BinaryIO | None, sources: Sources
) -> tuple[Outcome, float | None]:
    """Check 7, and the score: measured, or else as the result states it."""
    stated = item.watermark
    if stated is None:
        return failed(WATERMARK, "WATERMARK_VERIFY_FAILED", "The result states no mark."), None
    known = registry.resolve(sources.results, int(stated.payload, 16))
    if known is None or (known.job, known.item) != (job, item.id):
        said = f"{stated.payload} is of {known.item} of {known.job}." if known else "Not there."
        return failed(WATERMARK, "MARK_UNREGISTERED", said), stated.score
    key = sources.keys.watermark.get(stated.key_id)
    if plain is None or key is None:
        code = "NO_KEY" if key is None or sources.keys.wrapping is None else "NOT_OPENED"
        return skipped(WATERMARK, code), stated.score
    plain.seek(0)
    return _verify_mark(stated, plain.read(), key)


def _verify_mark(stated: Watermark, plain: bytes, key: bytes) -> tuple[Outcome, float]:
    score = 0.0
    with attempt(WATERMARK) as made:
        heard = decoding.decode_trusted(plain)
        payload = int(stated.payload, 16)
        found = watermark.verify(heard.samples, heard.rate, payload, key, thorough=False)
        score = round(found.score, 2)
        made.outcome = passed(WATERMARK)
        if found.payload != payload:
            said = f"{stated.payload} reads with score {score}, which proves nothing."
            made.outcome = failed(WATERMARK, "WATERMARK_VERIFY_FAILED", said)
    return made.outcome, score
