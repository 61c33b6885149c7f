"""A results bucket of many genuine jobs, made by the parts of the pipeline without a voice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

import watermark
from core.audio import encoding
from core.audio.waveform import Audio
from core.consent import records
from core.consent.records import ConsentRef
from core.crypto import sealing
from core.crypto.sealing import Context
from core.documents import signed
from core.job.runtime import Runtime
from core.label import aigc as label
from core.manifest import resolve
from core.result.document import Engine, ManifestRef, Result, Totals, format_timestamp
from core.result.item_result import ItemResult, LabelUsed, Output, Problem, VoiceUsed, Watermark
from core.storage.object_keys import event_key, result_key
from core.tlog import log
from core.tlog.log import Leaf
from core.trace import registry
from events import outgoing
from tests.support.runtime import (
    consent_record,
    cut_job,
    finish_job,
    local_runtime,
    put_job,
    synthetic_speech,
)

RATE = 16_000
REFERENCE = b"the bytes of a recording"
BEGIN = datetime(2026, 11, 1, 8, tzinfo=UTC)


def fill(root: Path, numbers: Iterable[int], *, integrate: bool = True) -> Runtime:
    """A runtime whose results bucket holds jobs of one item: every tenth partial, every twentieth
    rejected, seven a day."""
    made = local_runtime(root)
    made.inbox.put("consent/alice.json", records.format_consent(consent_record(REFERENCE)))
    for number in numbers:
        add(made, number)
    if integrate:
        sequence(made)
    return made


def sequence(made: Runtime) -> None:
    key, origin = made.keys.signing, f"voicedrop/{made.results.name}"
    log.integrate(made.control, made.results, key, origin)


def add(made: Runtime, number: int, *, marked: bool = True) -> Result:
    """One finished job."""
    manifest = _manifest(made, number)
    name = resolve.job_id(
        manifest.bucket, manifest.key, made.inbox.get(manifest.key, limit=9999).data
    )
    at = (BEGIN + timedelta(days=number // 7, minutes=number % 7)).timestamp()
    draft = Result(
        job_id=name,
        status="rejected",
        manifest=manifest,
        processor="0.1.0",
        started=format_timestamp(at),
        finished=format_timestamp(at + 30),
        consent_policy="required",
    )
    if number % 20 != 19:
        draft = _carried_out(draft, made, number, marked=marked)
    document = signed.sign(draft, made.keys.signing)
    made.results.put_once(result_key(name), document)
    leaf = Leaf(job=name, result_sha256=hashlib.sha256(document).hexdigest())
    log.enqueue(made.control, leaf)
    event = outgoing.job_event(draft)
    made.results.put_once(event_key(name, draft.finished), event)
    return draft


def _manifest(made: Runtime, number: int) -> ManifestRef:
    document = {
        "schema": "voicedrop/job/1",
        "voices": {
            "alice": {
                "reference": "refs/alice.flac",
                "transcript": "what she says",
                "language": "en",
                "consent": "consent/alice.json",
            }
        },
        "items": [{"id": "hello", "text": f"Item {number}."}],
    }
    data = json.dumps(document).encode()
    key = f"jobs/{number}.manifest.json"
    made.inbox.put(key, data)
    digest = hashlib.sha256(data).hexdigest()
    return ManifestRef(bucket=made.inbox.name, key=key, sha256=digest, size=len(data))


def _carried_out(draft: Result, made: Runtime, number: int, *, marked: bool) -> Result:
    items = [_item(draft.job_id, "hello", made, number, marked=marked)]
    if number % 10 == 9:
        problem = Problem(code="TEXT_EMPTY", message="Nothing.", advice="Say something.")
        items.append(ItemResult(id="empty", index=1, status="failed", error=problem))
    record_ = made.inbox.get("consent/alice.json", limit=9999).data
    cited = ConsentRef(
        id="alice-1", sha256=hashlib.sha256(record_).hexdigest(), method="public-domain"
    )
    return msgspec.structs.replace(
        draft,
        status="partial" if len(items) > 1 else "succeeded",
        engine=Engine(name="buzz", fingerprint="buzz/1"),
        totals=Totals(items=len(items), succeeded=1, failed=len(items) - 1),
        voices={
            "alice": VoiceUsed(
                reference="refs/alice.flac",
                reference_sha256=hashlib.sha256(REFERENCE).hexdigest(),
                consent=cited,
            )
        },
        items=items,
    )


def _item(name: str, item: str, made: Runtime, number: int, *, marked: bool) -> ItemResult:
    key_id, key = next(iter(made.keys.watermark.items()))
    payload = registry.register(made.results, key, name, item)
    sound = _speech(number % 5)
    if marked:
        sound = watermark.embed(sound, RATE, payload, key)
    encoded = encoding.encode(Audio(sound, RATE), "wav")
    used, _ = label.make_label(made.producer, f"{name}/{item}")
    plain = label.add_label(encoded.data, used)
    context = Context(job=name, item=item, mt=encoded.media_type)
    sealed = sealing.seal(plain, context, made.keys.wrapping)
    place = f"out/{name}/{item}.wav.sealed"
    made.results.put_once(place, sealed.body, metadata=sealing.envelope_metadata(sealed.envelope))
    return ItemResult(
        id=item,
        index=0,
        status="succeeded",
        voice="alice",
        output=Output(
            key=place,
            bytes=len(sealed.body),
            sealed_sha256=sealed.envelope.ct_sha256,
            plain_sha256=sealed.envelope.pt_sha256,
            media_type=encoded.media_type,
            duration_s=round(len(sound) / RATE, 3),
            sample_rate=RATE,
        ),
        watermark=Watermark(
            scheme="voicedrop/mark/1", key_id=key_id, payload=f"{payload:08x}", score=100.0
        ),
        label=LabelUsed(
            profile="cn",
            cue="none",
            producer=made.producer,
            produce_id=used.produce_id,
        ),
        envelope=sealed.envelope,
    )


def fill_joined(root: Path) -> None:
    """What the pipeline itself makes of many items: see the fixture `joined`."""
    from handlers.jobs import carry_out_shard

    made = local_runtime(root)
    asked: dict[str, Any] = {
        "output": {"concatenate": "chapters"},
        "defaults": {"subtitle": ["srt"]},
    }
    words = "Some words of speech that are long enough to carry a mark, number"
    rows = [{"id": f"i{n}", "text": f"{words} {n}."} for n in range(4)]
    placed = [row | {"chapter": f"c{n // 2}"} for n, row in enumerate(rows)]
    spoiled = [*placed[:3], placed[3] | {"text": "!silence"}]
    first = finish_job(put_job(made, name="first", items=spoiled, **asked), made)
    finish_job(put_job(made, name="again", items=placed, retry_of=first.job_id, **asked), made)
    cut = put_job(made, name="cut", items=[row | {"subtitle": ["srt"]} for row in rows])
    cut_job(cut, replace(made, shard_items=2))
    for info in [i for i in made.control.list("work/") if i.key.endswith(".jsonl")]:
        carry_out_shard(info.key, made)
    sequence(made)


@cache
def _speech(kind: int) -> np.ndarray:
    return synthetic_speech(1.5 + 0.25 * kind, RATE, kind)
