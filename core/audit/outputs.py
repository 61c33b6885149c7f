"""Checks 2 to 7: one output, from the sealed object to the mark in its sound."""

from __future__ import annotations

import hashlib

import msgspec

import watermark
from core import audio, crypto, label, registry
from core.audit.model import (
    C2PA,
    ENVELOPE,
    LABEL,
    OBJECT,
    PLAINTEXT,
    WATERMARK,
    ItemChecked,
    Outcome,
    attempt,
    failed,
    passed,
    skipped,
)
from core.audit.sources import Sources
from core.errors import Refused
from core.outcome import ItemResult, LabelUsed, Output, Watermark

_LIMIT = 4 << 30


def check(item: ItemResult, job: str, sources: Sources) -> ItemChecked:
    """`item` is one that a genuine result names."""
    made, mark = item.output, item.watermark
    row = ItemChecked(item=item.id, index=item.index, status=item.status)
    if made is None:
        numbers = (OBJECT, ENVELOPE, PLAINTEXT, LABEL, C2PA, WATERMARK)
        none = [skipped(number, "NO_OUTPUT") for number in numbers]
        return msgspec.structs.replace(row, outcomes=none)
    body, stored = _object(made, sources)
    plain, opened = _open(item, job, body, sources)
    marked, score = _mark(item, job, plain, sources)
    return msgspec.structs.replace(
        row,
        duration_s=made.duration_s,
        bytes=made.bytes,
        media_type=made.media_type,
        payload=mark.payload if mark else "",
        score=score,
        outcomes=[
            stored,
            *opened,
            _labelled(item.label, plain),
            skipped(C2PA, "NOT_MADE"),
            marked,
        ],
    )


def _object(made: Output, sources: Sources) -> tuple[bytes | None, Outcome]:
    body = None
    with attempt(OBJECT, made.key) as result:
        body = sources.results.get(made.key, limit=_LIMIT).data
        if len(body) != made.bytes or hashlib.sha256(body).hexdigest() != made.sealed_sha256:
            raise Refused("OBJECT_CHANGED", "Its digest is not the one that the result states.")
    return body, result.outcome


def _open(
    item: ItemResult, job: str, body: bytes | None, sources: Sources
) -> tuple[bytes | None, list[Outcome]]:
    """The audio, and checks 3 and 4."""
    key = item.output.key if item.output else ""
    wrapping, envelope = sources.keys.wrapping, item.envelope
    if wrapping is None:
        return None, [skipped(ENVELOPE, "NO_KEY"), skipped(PLAINTEXT, "NO_KEY")]
    with attempt(ENVELOPE, key) as opening:
        if envelope is None or (envelope.ctx.job, envelope.ctx.item) != (job, item.id):
            raise Refused("SEAL_INVALID", "The envelope is of another item.")
        crypto.data_key(envelope, wrapping)
    if opening.outcome.verdict != "pass" or body is None:
        return None, [opening.outcome, skipped(PLAINTEXT, "NOT_OPENED")]
    plain = None
    with attempt(PLAINTEXT, key) as reading:
        plain = crypto.open_sealed(body, envelope, wrapping)
        if item.output and hashlib.sha256(plain).hexdigest() != item.output.plain_sha256:
            raise Refused("SEAL_INVALID", "The audio is not the one that the result states.")
    return plain, [opening.outcome, reading.outcome]


def _labelled(used: LabelUsed | None, plain: bytes | None) -> Outcome:
    if plain is None:
        return skipped(LABEL, "NOT_OPENED")
    with attempt(LABEL) as made:
        found = label.read(plain)
        if used is None or used.profile == "none":
            made.outcome = skipped(LABEL, "WAIVED")
            wanted = []
        else:
            wanted = [label.aigc(used.producer, used.produce_id)[0]]
        if found != wanted:
            made.outcome = failed(LABEL, "LABEL_MISMATCH", f"It carries {len(found)} labels.")
    return made.outcome


def _mark(
    item: ItemResult, job: str, plain: bytes | None, sources: Sources
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
    return _measure(stated, plain, key)


def _measure(stated: Watermark, plain: bytes, key: bytes) -> tuple[Outcome, float]:
    score = 0.0
    with attempt(WATERMARK) as made:
        heard = audio.decode_own(plain)
        payload = int(stated.payload, 16)
        found = watermark.verify(heard.samples, heard.rate, payload, key, thorough=False)
        score = round(found.score, 2)
        made.outcome = passed(WATERMARK)
        if found.payload != payload:
            said = f"{stated.payload} reads with score {score}, which proves nothing."
            made.outcome = failed(WATERMARK, "WATERMARK_VERIFY_FAILED", said)
    return made.outcome, score
